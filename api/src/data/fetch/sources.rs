//! What `lamina data fetch` can fetch: the one table of addresses, licences, sizes and digests.
//!
//! Each digest was published by somebody else than the host of the file, so that a file that changes on its host is
//! refused. Those of GLUE and WikiText are in the `dataset_infos.json` of the Hugging Face `datasets` library; that of
//! the vocabulary is the one of `vocab.txt` in revision 86b5e09 of `google-bert/bert-base-uncased`.

use recipe::Task;

/// A file or folder of the data folder, and the files that it is made from.
pub(super) struct Source {
    /// The data set that it belongs to: its name on the command line, and the one under which `lamina data import`
    /// registers it.
    pub(super) dataset: &'static str,
    pub(super) about: &'static str,
    pub(super) licence: &'static str,
    /// True if it is fetched when the command line names nothing.
    pub(super) by_default: bool,
    pub(super) content: Content,
    pub(super) files: &'static [Remote],
}

/// How the downloaded files become data.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// The file is the vocabulary.
    Vocabulary,
    /// A zip archive with this file, which has the articles of WikiText.
    WikiText { member: &'static str },
    /// The archive of a task, or the three files of MRPC.
    Task(Task),
}

/// A file to download.
pub(super) struct Remote {
    /// Where it lies on a mirror (`--base-url`), and its key in a lock file.
    pub(super) path: &'static str,
    /// Where it lies in public, the best host first.
    pub(super) urls: &'static [&'static str],
    pub(super) sha256: &'static str,
    pub(super) bytes: u64,
}

impl Source {
    /// Where the data goes, relative to the data folder.
    pub(super) fn target(&self) -> String {
        match self.content {
            Content::Vocabulary => format!("vocab/{}-vocab.txt", self.dataset),
            Content::WikiText { .. } => format!("corpus/{}.txt", self.dataset),
            Content::Task(task) => format!("glue/{}", task.row().folder),
        }
    }

    /// The name in messages: that of the task for one of GLUE's.
    pub(super) fn label(&self) -> &'static str {
        match self.content {
            Content::Task(task) => task.name(),
            _ => self.dataset,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Remote {
    /// The name of the file, which is unique in the table.
    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// A file on the host of GLUE's own download script.
macro_rules! glue_file {
    ($path:literal, $sha256:literal, $bytes:literal) => {
        Remote {
            path: $path,
            urls: &[concat!("https://dl.fbaipublicfiles.com/", $path)],
            sha256: $sha256,
            bytes: $bytes,
        }
    };
}

const fn task(task: Task, about: &'static str, files: &'static [Remote]) -> Source {
    let licence = "the task's own, see gluebenchmark.com/tasks";
    Source { dataset: "glue", about, licence, by_default: true, content: Content::Task(task), files }
}

const fn wikitext(
    dataset: &'static str,
    about: &'static str,
    by_default: bool,
    member: &'static str,
    files: &'static [Remote],
) -> Source {
    let licence = "CC BY-SA 3.0 and 4.0, GFDL";
    Source { dataset, about, licence, by_default, content: Content::WikiText { member }, files }
}

/// The table. The order is that of the downloads: what a first job cannot do without comes first.
pub(super) static SOURCES: [Source; 12] = [
    Source {
        dataset: "bert-base-uncased",
        about: "the 30,522 WordPiece tokens of BERT-base",
        licence: "Apache-2.0",
        by_default: true,
        content: Content::Vocabulary,
        files: &[Remote {
            path: "bert-base-uncased/vocab.txt",
            urls: &[
                "https://huggingface.co/google-bert/bert-base-uncased/resolve/86b5e0934494bd15c9632b12f734a8a67f723594/vocab.txt",
                "https://s3.amazonaws.com/models.huggingface.co/bert/bert-base-uncased-vocab.txt",
            ],
            sha256: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            bytes: 231_508,
        }],
    },
    wikitext(
        "wikitext-2",
        "WikiText-2 raw, train: 2 million words of Wikipedia's best articles, for trials of the set-up",
        false,
        "wikitext-2-raw/wiki.train.raw",
        &[Remote {
            path: "wikitext/wikitext-2-raw-v1.zip",
            urls: &[
                "https://huggingface.co/datasets/ggml-org/ci/resolve/927b3642933080f1b0e811e2f916e14c292992f9/wikitext-2-raw-v1.zip",
                "https://wikitext.smerity.com/wikitext-2-raw-v1.zip",
            ],
            sha256: "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
            bytes: 4_721_645,
        }],
    ),
    wikitext(
        "wikitext-103",
        "WikiText-103 raw, train: 100 million words of Wikipedia's best articles",
        true,
        "wikitext-103-raw/wiki.train.raw",
        &[Remote {
            path: "wikitext/wikitext-103-raw-v1.zip",
            urls: &[
                "https://huggingface.co/datasets/mattdangerw/wikitext-103-raw/resolve/3555105b17ae31cc619a136fac72dbe2865c3738/wikitext-103-raw-v1.zip",
                "https://wikitext.smerity.com/wikitext-103-raw-v1.zip",
            ],
            sha256: "91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
            bytes: 191_984_949,
        }],
    ),
    task(
        Task::Cola,
        "acceptability of sentences",
        &[glue_file!(
            "glue/data/CoLA.zip",
            "f212fcd832b8f7b435fb991f101abf89f96b933ab400603bf198960dfc32cbff",
            376_971
        )],
    ),
    task(
        Task::Sst2,
        "sentiment of film reviews",
        &[glue_file!(
            "glue/data/SST-2.zip",
            "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
            7_439_277
        )],
    ),
    task(
        Task::Mrpc,
        "paraphrases in the news",
        &[
            glue_file!(
                "senteval/senteval_data/msr_paraphrase_train.txt",
                "60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89",
                1_047_044
            ),
            glue_file!(
                "senteval/senteval_data/msr_paraphrase_test.txt",
                "a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784",
                441_275
            ),
            glue_file!(
                "glue/data/mrpc_dev_ids.tsv",
                "971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7",
                6_222
            ),
        ],
    ),
    task(
        Task::StsB,
        "similarity of sentences",
        &[glue_file!(
            "glue/data/STS-B.zip",
            "e60a6393de5a8b5b9bac5020a1554b54e3691f9d600b775bd131e613ac179c85",
            802_872
        )],
    ),
    task(
        Task::Qqp,
        "duplicate questions of Quora",
        &[glue_file!(
            "glue/data/QQP-clean.zip",
            "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0",
            41_696_084
        )],
    ),
    task(
        Task::Mnli,
        "inference over ten genres",
        &[glue_file!(
            "glue/data/MNLI.zip",
            "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633",
            312_783_507
        )],
    ),
    task(
        Task::Qnli,
        "does a sentence answer the question",
        &[glue_file!(
            "glue/data/QNLIv2.zip",
            "e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5",
            10_627_589
        )],
    ),
    task(
        Task::Rte,
        "recognising textual entailment",
        &[glue_file!("glue/data/RTE.zip", "6bf86de103ecd335f3441bd43574d23fef87ecc695977a63b82d5efb206556ee", 697_150)],
    ),
    task(
        Task::Wnli,
        "pronouns, from the Winograd schemas",
        &[glue_file!("glue/data/WNLI.zip", "ae0e8e4d16f4d46d4a0a566ec7ecceccfd3fbfaa4a7a4b4e02848c0f2561ac46", 28_999)],
    ),
];

/// The names of the data sets, each once.
pub(super) fn datasets() -> Vec<&'static str> {
    let mut names: Vec<_> = SOURCES.iter().map(|source| source.dataset).collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_source_has_a_licence_and_every_file_addresses_a_size_and_a_digest() {
        for source in &SOURCES {
            assert!(!source.licence.is_empty() && !source.about.is_empty() && !source.files.is_empty());
            for file in source.files {
                let is_digest =
                    file.sha256.len() == 64 && file.sha256.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
                assert!(is_digest && file.bytes > 0, "{}", file.path);
                assert!(
                    !file.urls.is_empty() && file.urls.iter().all(|url| url.starts_with("https://")),
                    "{}",
                    file.path
                );
            }
        }
    }

    #[test]
    fn every_task_has_one_source_and_no_two_files_or_targets_share_a_name() {
        let tasks = SOURCES.iter().filter(|source| matches!(source.content, Content::Task(_)));
        assert_eq!(tasks.map(Source::label).collect::<Vec<_>>(), Task::ALL.map(Task::name));
        let names: Vec<_> = SOURCES.iter().flat_map(|source| source.files).map(Remote::name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        let targets: Vec<_> = SOURCES.iter().map(Source::target).collect();
        assert_eq!(targets.iter().collect::<BTreeSet<_>>().len(), targets.len(), "{targets:?}");
    }

    #[test]
    fn the_vocabulary_has_the_digest_of_the_file_at_hand() {
        let Some(data) = std::env::var_os("LAMINA_DATA") else {
            println!(
                "skipped: the_vocabulary_has_the_digest_of_the_file_at_hand needs real data and LAMINA_DATA is not set"
            );
            return;
        };
        let bytes = std::fs::read(std::path::Path::new(&data).join("vocab/bert-base-uncased-vocab.txt")).unwrap();
        use sha2::Digest;
        let file = &SOURCES[0].files[0];
        assert_eq!((hex::encode(sha2::Sha256::digest(&bytes)).as_str(), bytes.len() as u64), (file.sha256, file.bytes));
    }

    #[test]
    fn the_example_jobs_name_what_is_fetched_or_generated() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/jobs");
        let known =
            [datasets(), vec!["generated-text", "generated-words", "generated-glue", "generated-shapes"]].concat();
        let mut names = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let job: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for pointer in ["/corpus", "/vocabulary", "/glue/dataset"] {
                let Some(name) = job.pointer(pointer) else { continue };
                assert!(known.iter().any(|known| *known == name), "{}: {name}", path.display());
                names += 1;
            }
        }
        assert!(names > 6);
    }

    #[test]
    fn a_job_that_names_no_data_takes_what_is_fetched_by_default() {
        let job = serde_json::json!({"name": "n", "arms": [{"name": "a"}], "glue": {"tasks": ["rte"]}});
        let job: scheduler::job::JobSpec = serde_json::from_value(job).unwrap();
        let job = serde_json::to_value(job.filled_in()).unwrap();
        for pointer in ["/corpus", "/vocabulary", "/glue/dataset"] {
            let name = job.pointer(pointer).unwrap();
            assert!(SOURCES.iter().any(|source| source.by_default && source.dataset == name), "{pointer}: {name}");
        }
    }

    /// The page must name what the command fetches, with its licence and its digest.
    #[test]
    fn the_page_about_data_names_every_source() {
        let page = include_str!("../../../../docs/data.md");
        for source in &SOURCES {
            for text in [source.label(), source.licence] {
                assert!(page.contains(text), "docs/data.md does not name {text}");
            }
            // GLUE has eleven files; the page leaves their digests to `--list`.
            let is_task = matches!(source.content, Content::Task(_));
            for file in source.files.iter().filter(|_| !is_task) {
                assert!(page.contains(file.sha256), "docs/data.md lacks the digest of {}", file.path);
            }
        }
    }
}
