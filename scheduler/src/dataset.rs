//! Registered folders and files: what counts as one, and its digest.
//!
//! A dataset is identified by the sha256 of its manifest, which is this text, with the files in the order of their paths:
//!
//! ```text
//! lamina dataset 1
//! corpus
//! <sha256 of the file> <bytes> <path>
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use chrono::{DateTime, Utc};
use recipe::published::{self, CONFIG, MODEL, TOKENIZER, VOCABULARY};
use recipe::{Model, Task};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::protocol::{DatasetFile, DatasetFiles};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "dataset_kind", rename_all = "snake_case")]
pub enum DatasetKind {
    /// Text: `.txt` files, plain or compressed with xz, gzip or zstd.
    Corpus,
    /// One `vocab.txt`.
    Vocabulary,
    /// GLUE in its official layout, one folder a task.
    Glue,
    /// A model of the BERT family in Hugging Face's layout: `config.json`, `model.safetensors`, `vocab.txt`.
    Checkpoint,
}

/// Why a folder or file cannot be registered, or can no longer be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {what}", path.display())]
    Unfit { path: PathBuf, what: String },
    #[error("{} is not what was registered: {what}", path.display())]
    Changed { path: PathBuf, what: String },
}

/// What a plan needs to know without reading the files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DatasetFacts {
    Corpus,
    Vocabulary {
        tokens: u64,
    },
    Glue {
        /// Training examples by task, as far as they can be told from the number of lines.
        examples: BTreeMap<Task, u64>,
    },
    Checkpoint {
        /// As its `config.json` says.
        #[schema(value_type = Object)]
        model: Model,
        /// Of its vocabulary.
        tokens: u64,
    },
}

/// A folder or file that was read and found fit: what registering it stores.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    pub name: String,
    pub folder: PathBuf,
    pub digest: String,
    pub facts: DatasetFacts,
    pub files: Vec<ScannedFile>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedFile {
    pub file: DatasetFile,
    /// Modification time in nanoseconds since 1970.
    pub modified_ns: i64,
}

/// A dataset as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetView {
    pub name: String,
    pub kind: DatasetKind,
    pub path: String,
    pub digest: String,
    pub files: u64,
    pub bytes: u64,
    pub facts: DatasetFacts,
    pub registered_at: DateTime<Utc>,
}

impl Scan {
    pub const fn kind(&self) -> DatasetKind {
        match self.facts {
            DatasetFacts::Corpus => DatasetKind::Corpus,
            DatasetFacts::Vocabulary { .. } => DatasetKind::Vocabulary,
            DatasetFacts::Glue { .. } => DatasetKind::Glue,
            DatasetFacts::Checkpoint { .. } => DatasetKind::Checkpoint,
        }
    }

    /// That of a checkpoint.
    pub const fn model(&self) -> Option<&Model> {
        match &self.facts {
            DatasetFacts::Checkpoint { model, .. } => Some(model),
            DatasetFacts::Corpus | DatasetFacts::Vocabulary { .. } | DatasetFacts::Glue { .. } => None,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|scanned| scanned.file.bytes).sum()
    }

    /// As an agent is told to bring it.
    pub fn to_files(&self) -> DatasetFiles {
        DatasetFiles {
            name: self.name.clone(),
            digest: self.digest.clone(),
            files: self.files.iter().map(|scanned| scanned.file.clone()).collect(),
        }
    }

    /// Fails unless the files are still what was registered. Blocking I/O.
    pub fn verify(&self) -> Result<(), DatasetError> {
        self.files.iter().try_for_each(|file| file.verify(&self.folder))
    }
}

impl ScannedFile {
    /// Fails unless the file under `folder` is still what was registered. Equal size and modification time count as
    /// equal; otherwise the file is read again. Blocking I/O.
    pub fn verify(&self, folder: &Path) -> Result<(), DatasetError> {
        let Self { file, modified_ns } = self;
        let path = folder.join(&file.path);
        let changed = |what: &str| DatasetError::Changed { path: path.clone(), what: what.into() };
        let metadata = fs::metadata(&path).map_err(|error| changed(&error.to_string()))?;
        if metadata.len() != file.bytes {
            return Err(changed(&format!("it has {} bytes, not {}", metadata.len(), file.bytes)));
        }
        if modified(&metadata) != *modified_ns && hash(&path)? != file.sha256 {
            return Err(changed("its content differs"));
        }
        Ok(())
    }
}

/// Reads a folder or file as a dataset of that kind. Blocking I/O: reads every byte.
pub fn scan(kind: DatasetKind, name: &str, path: &Path) -> Result<Scan, DatasetError> {
    let root = fs::canonicalize(path).map_err(|source| DatasetError::Io { path: path.into(), source })?;
    let (folder, paths) = if root.is_dir() {
        let mut paths = Vec::new();
        walk(&root, &root, &mut paths)?;
        (root.clone(), paths)
    } else {
        let file = PathBuf::from(root.file_name().unwrap_or_default());
        (root.parent().unwrap_or(Path::new("/")).to_path_buf(), vec![text(&file)?.to_owned()])
    };
    let mut paths = match kind {
        DatasetKind::Corpus => corpus_files(paths),
        DatasetKind::Vocabulary => vocabulary_file(paths),
        DatasetKind::Glue => glue_files(&root, &paths)?,
        DatasetKind::Checkpoint => checkpoint_files(&root, paths)?,
    };
    paths.sort();
    let unfit = |what: &str| DatasetError::Unfit { path: root.clone(), what: what.into() };
    let files = paths.iter().map(|path| scan_file(&folder, path)).collect::<Result<Vec<_>, _>>()?;
    let facts = match kind {
        DatasetKind::Corpus => DatasetFacts::Corpus,
        DatasetKind::Vocabulary => match files.as_slice() {
            [one] => DatasetFacts::Vocabulary { tokens: vocabulary_tokens(&folder.join(&one.file.path))? },
            _ => return Err(unfit("a vocabulary is one file of tokens, or a folder that holds vocab.txt")),
        },
        DatasetKind::Glue => DatasetFacts::Glue { examples: glue_examples(&folder, &paths)? },
        DatasetKind::Checkpoint => checkpoint_facts(&folder)?,
    };
    if files.iter().all(|scanned| scanned.file.bytes == 0) {
        return Err(unfit(match kind {
            DatasetKind::Corpus => "no text here: a corpus is .txt files, plain or as .xz, .gz or .zst",
            DatasetKind::Vocabulary => "the vocabulary is empty",
            DatasetKind::Glue => "no GLUE task here: a task is a folder such as RTE with train.tsv and dev.tsv",
            DatasetKind::Checkpoint => "its files are empty",
        }));
    }
    let digest = digest(kind, files.iter().map(|scanned| &scanned.file));
    Ok(Scan { name: name.into(), folder, digest, facts, files })
}

/// Hex sha256 of the manifest. `files` in the order of their paths.
fn digest<'a>(kind: DatasetKind, files: impl Iterator<Item = &'a DatasetFile>) -> String {
    let kind = match kind {
        DatasetKind::Corpus => "corpus",
        DatasetKind::Vocabulary => "vocabulary",
        DatasetKind::Glue => "glue",
        DatasetKind::Checkpoint => "checkpoint",
    };
    let mut hasher = Sha256::new();
    hasher.update(format!("lamina dataset 1\n{kind}\n"));
    for DatasetFile { path, sha256, bytes } in files {
        hasher.update(format!("{sha256} {bytes} {path}\n"));
    }
    hex::encode(hasher.finalize())
}

/// Paths of all files under `folder`, relative to `root`. Hidden files are not data.
fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<(), DatasetError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| DatasetError::Io { path, source }
    };
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let entry = entry.map_err(io(folder))?;
        let path = entry.path();
        if text(Path::new(&entry.file_name()))?.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(io(&path))?;
        if kind.is_dir() {
            walk(root, &path, found)?;
            continue;
        }
        if kind.is_symlink() {
            let target = fs::canonicalize(&path).map_err(io(&path))?;
            if !target.starts_with(root) || !target.is_file() {
                let what = format!("a link to {}, which is not a file inside the folder", target.display());
                return Err(DatasetError::Unfit { path, what });
            }
        } else if !kind.is_file() {
            return Err(DatasetError::Unfit { path, what: "neither a file nor a folder".into() });
        }
        found.push(text(path.strip_prefix(root).unwrap_or(&path))?.to_owned());
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str, DatasetError> {
    let unfit = |what: &str| DatasetError::Unfit { path: path.into(), what: what.into() };
    let name = path.to_str().ok_or_else(|| unfit("the name is not UTF-8"))?;
    if name.chars().any(char::is_control) { Err(unfit("the name holds a control character")) } else { Ok(name) }
}

fn corpus_files(paths: Vec<String>) -> Vec<String> {
    let suffixes = [".txt", ".xz", ".gz", ".zst"];
    paths.into_iter().filter(|path| suffixes.iter().any(|suffix| path.ends_with(suffix))).collect()
}

fn vocabulary_file(paths: Vec<String>) -> Vec<String> {
    if paths.len() == 1 { paths } else { paths.into_iter().filter(|path| path == "vocab.txt").collect() }
}

/// The files of the tasks that are whole: train and the first dev file, and what there is of a second dev file and of
/// test files. Official archives come without some files (a task's training part is not always to be had), so a task
/// that lacks one of the first two is left out, and a job that asks for it is told so; a folder without any whole task
/// is refused.
fn glue_files(root: &Path, paths: &[String]) -> Result<Vec<String>, DatasetError> {
    let (mut files, mut lacking) = (Vec::new(), Vec::new());
    for row in Task::rows() {
        let wanted = ["train.tsv", row.dev].map(|file| format!("{}/{file}", row.folder));
        match wanted.iter().filter(|path| !paths.contains(path)).map(String::as_str).collect::<Vec<_>>()[..] {
            [] => {
                files.extend(wanted);
                let mismatched = row.mismatched.map(|file| format!("{}/{file}", row.folder));
                let optional = mismatched.into_iter().chain(row.tests.iter().map(|set| set.path.to_owned()));
                files.extend(optional.filter(|path| paths.contains(path)));
            }
            [missing] => lacking.push(format!("{} lacks {missing}", row.name)),
            _ => {}
        }
    }
    if files.is_empty() && !lacking.is_empty() {
        return Err(DatasetError::Unfit {
            path: root.into(),
            what: format!("no task is whole: {}", lacking.join(", ")),
        });
    }
    Ok(files)
}

/// The files that a fine-tune reads. Whatever else a published folder holds is left alone.
fn checkpoint_files(root: &Path, paths: Vec<String>) -> Result<Vec<String>, DatasetError> {
    for wanted in [CONFIG, MODEL, VOCABULARY] {
        if !paths.iter().any(|path| path == wanted) {
            let what = format!("it lacks {wanted}: a checkpoint is a folder with {CONFIG}, {MODEL} and {VOCABULARY}");
            return Err(DatasetError::Unfit { path: root.into(), what });
        }
    }
    let read = [CONFIG, MODEL, VOCABULARY, TOKENIZER];
    Ok(paths.into_iter().filter(|path| read.contains(&path.as_str())).collect())
}

/// What a checkpoint says of itself, where that is a model that can be trained here. Its weights are not looked at.
fn checkpoint_facts(folder: &Path) -> Result<DatasetFacts, DatasetError> {
    let read = |file: &str| {
        let path = folder.join(file);
        fs::read(&path).map_err(|source| DatasetError::Io { path, source })
    };
    let tokenizer = folder.join(TOKENIZER).exists().then(|| read(TOKENIZER)).transpose()?;
    let tokens = vocabulary_tokens(&folder.join(VOCABULARY))?;
    let config = published::check(&read(CONFIG)?, tokenizer.as_deref(), tokens)
        .map_err(|published::Unfit { file, why }| DatasetError::Unfit { path: folder.join(file), what: why })?;
    Ok(DatasetFacts::Checkpoint { model: config.model, tokens })
}

fn scan_file(folder: &Path, relative: &str) -> Result<ScannedFile, DatasetError> {
    let path = folder.join(relative);
    let metadata = fs::metadata(&path).map_err(|source| DatasetError::Io { path: path.clone(), source })?;
    let file = DatasetFile { path: relative.into(), sha256: hash(&path)?, bytes: metadata.len() };
    Ok(ScannedFile { file, modified_ns: modified(&metadata) })
}

/// Nanoseconds since 1970; 0 where the file system keeps no time, so that the content decides.
fn modified(metadata: &fs::Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or(0)
}

fn hash(path: &Path) -> Result<String, DatasetError> {
    let io = |source| DatasetError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Number of tokens of a `vocab.txt`, which must hold the five that BERT cannot do without.
fn vocabulary_tokens(path: &Path) -> Result<u64, DatasetError> {
    let mut missing = vec!["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let mut tokens = 0;
    for line in lines(path)? {
        let line = line?;
        missing.retain(|token| *token != line);
        tokens += 1;
    }
    if missing.is_empty() {
        return Ok(tokens);
    }
    Err(DatasetError::Unfit { path: path.into(), what: format!("the vocabulary lacks {}", missing.join(", ")) })
}

fn glue_examples(folder: &Path, paths: &[String]) -> Result<BTreeMap<Task, u64>, DatasetError> {
    let mut examples = BTreeMap::new();
    for row in Task::rows() {
        let train = format!("{}/train.tsv", row.folder);
        if paths.contains(&train) {
            let mut count = 0u64;
            for line in lines(&folder.join(&train))? {
                line?;
                count += 1;
            }
            examples.insert(row.task, count.saturating_sub(u64::from(row.header)));
        }
    }
    Ok(examples)
}

/// The lines of a UTF-8 text without their ends; an error names the line.
fn lines(path: &Path) -> Result<impl Iterator<Item = Result<String, DatasetError>>, DatasetError> {
    let path = path.to_path_buf();
    let file = File::open(&path).map_err(|source| DatasetError::Io { path: path.clone(), source })?;
    Ok(BufReader::new(file).split(b'\n').enumerate().map(move |(index, line)| {
        let line = line.map_err(|source| DatasetError::Io { path: path.clone(), source })?;
        let line = String::from_utf8(line).map_err(|_| DatasetError::Unfit {
            path: path.clone(),
            what: format!("line {} is not UTF-8", index + 1),
        })?;
        Ok(line.trim_end_matches('\r').to_owned())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn refusal(kind: DatasetKind, path: &Path) -> String {
        scan(kind, "n", path).unwrap_err().to_string()
    }

    #[test]
    fn the_digest_sees_content_and_paths_but_neither_name_nor_place() {
        let digest = |files: &[(&str, &str)]| {
            let folder = folder(files);
            scan(DatasetKind::Corpus, "n", folder.path()).unwrap().digest
        };
        let one = digest(&[("a.txt", "x\n"), ("deep/b.txt", "y\n")]);
        assert_eq!(
            one,
            digest(&[("deep/b.txt", "y\n"), ("a.txt", "x\n"), ("README", "not text"), (".hidden.txt", "z")])
        );
        assert_ne!(one, digest(&[("a.txt", "x\n"), ("deep/b.txt", "z\n")]));
        assert_ne!(one, digest(&[("a.txt", "x\n"), ("deep/c.txt", "y\n")]));
    }

    #[test]
    fn the_manifests_form_is_pinned() {
        let folder = folder(&[("a.txt", "x\n")]);
        let sha = hex::encode(Sha256::digest(b"x\n"));
        let manifest = format!("lamina dataset 1\ncorpus\n{sha} 2 a.txt\n");
        let scanned = scan(DatasetKind::Corpus, "n", &folder.path().join("a.txt")).unwrap();
        assert_eq!(scanned.digest, hex::encode(Sha256::digest(manifest)));
    }

    #[test]
    fn an_empty_corpus_is_refused() {
        assert!(refusal(DatasetKind::Corpus, folder(&[]).path()).contains("no text here"));
        assert!(refusal(DatasetKind::Corpus, folder(&[("a.txt", "")]).path()).contains("no text here"));
        assert!(refusal(DatasetKind::Corpus, Path::new("/nowhere")).contains("/nowhere"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_folder_is_refused_and_one_inside_is_read() {
        let outside = folder(&[("secret.txt", "s\n")]);
        let inside = folder(&[("a.txt", "x\n")]);
        std::os::unix::fs::symlink(inside.path().join("a.txt"), inside.path().join("b.txt")).unwrap();
        assert_eq!(scan(DatasetKind::Corpus, "n", inside.path()).unwrap().files.len(), 2);
        std::os::unix::fs::symlink(outside.path().join("secret.txt"), inside.path().join("c.txt")).unwrap();
        assert!(refusal(DatasetKind::Corpus, inside.path()).contains("not a file inside"));
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_utf8_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let folder = folder(&[("a.txt", "x\n")]);
        fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff.txt")), "y\n").unwrap();
        assert!(refusal(DatasetKind::Corpus, folder.path()).contains("not UTF-8"));
    }

    #[test]
    fn a_vocabulary_has_its_special_tokens() {
        let good = folder(&[("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n")]);
        let scanned = scan(DatasetKind::Vocabulary, "v", good.path()).unwrap();
        assert_eq!(scanned.facts, DatasetFacts::Vocabulary { tokens: 6 });
        let bad = folder(&[("vocab.txt", "[PAD]\n[CLS]\n[SEP]\nthe\n")]);
        assert!(refusal(DatasetKind::Vocabulary, bad.path()).contains("lacks [UNK], [MASK]"));
    }

    #[test]
    fn glue_takes_the_files_of_the_tasks_that_are_there() {
        let header = "index\tsentence1\tsentence2\tlabel\n";
        let train = format!("{header}0\ta\tb\tentailment\n1\ta\tb\tentailment\n");
        let good = folder(&[("RTE/train.tsv", &train), ("RTE/dev.tsv", &train), ("RTE/test.tsv", header), ("x", "y")]);
        let scanned = scan(DatasetKind::Glue, "g", good.path()).unwrap();
        assert_eq!(
            scanned.files.iter().map(|f| f.file.path.as_str()).collect::<Vec<_>>(),
            ["RTE/dev.tsv", "RTE/test.tsv", "RTE/train.tsv"]
        );
        assert_eq!(scanned.facts, DatasetFacts::Glue { examples: [(Task::Rte, 2)].into() });
        assert!(
            refusal(DatasetKind::Glue, folder(&[("RTE/train.tsv", &train)]).path()).contains("rte lacks RTE/dev.tsv")
        );
        assert!(refusal(DatasetKind::Glue, folder(&[("other/train.tsv", "x")]).path()).contains("no GLUE task"));
        let broken = folder(&[("RTE/dev.tsv", header)]);
        fs::write(broken.path().join("RTE/train.tsv"), b"a\n\xff\n").unwrap();
        assert!(refusal(DatasetKind::Glue, broken.path()).contains("line 2 is not UTF-8"));
    }

    #[test]
    fn glue_takes_second_dev_files_and_test_files_where_their_task_is_whole() {
        let files = |paths: &[&str]| {
            let folder = folder(&paths.iter().map(|path| (*path, "x\n")).collect::<Vec<_>>());
            let scanned = scan(DatasetKind::Glue, "g", folder.path()).unwrap();
            scanned.files.into_iter().map(|scanned| scanned.file.path).collect::<Vec<_>>()
        };
        let all = [
            "MNLI/dev_matched.tsv",
            "MNLI/dev_mismatched.tsv",
            "MNLI/test_matched.tsv",
            "MNLI/test_mismatched.tsv",
            "MNLI/train.tsv",
            "diagnostic/diagnostic.tsv",
        ];
        assert_eq!(files(&all), all);
        let least = ["MNLI/dev_matched.tsv", "MNLI/train.tsv"];
        assert_eq!(files(&least), least);
        let rte = ["RTE/dev.tsv", "RTE/train.tsv"];
        assert_eq!(files(&[&all[..4], &all[5..], &rte].concat()), rte, "without its training part MNLI is not here");
    }

    #[test]
    fn a_checkpoint_is_a_model_that_can_be_trained_here() {
        let config = r#"{"model_type": "bert", "vocab_size": 6, "hidden_size": 8, "num_hidden_layers": 3,
            "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64}"#;
        let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n";
        let files = [
            ("config.json", config),
            ("model.safetensors", "weights"),
            ("vocab.txt", vocabulary),
            ("pytorch_model.bin", "x"),
        ];
        let scanned = scan(DatasetKind::Checkpoint, "c", folder(&files).path()).unwrap();
        let paths: Vec<&str> = scanned.files.iter().map(|scanned| scanned.file.path.as_str()).collect();
        assert_eq!(paths, ["config.json", "model.safetensors", "vocab.txt"]);
        let model = scanned.model().unwrap();
        assert_eq!((model.blocks, model.positions, model.norm), (3, 64, recipe::Norm::Post));
        assert_eq!(scanned.kind(), DatasetKind::Checkpoint);

        let with = |path: &'static str, text: &'static str| {
            let mut files = files.to_vec();
            files.retain(|(name, _)| *name != path);
            files.push((path, text));
            refusal(DatasetKind::Checkpoint, folder(&files).path())
        };
        assert!(with("config.json", "{").contains("config.json: "));
        assert!(with("config.json", r#"{"model_type": "gpt2"}"#).contains("config.json: "));
        assert!(with("tokenizer_config.json", r#"{"do_lower_case": false}"#).contains("do_lower_case is false"));
        assert!(
            with("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n")
                .contains("7 tokens, where the model embeds 6")
        );
        assert!(refusal(DatasetKind::Checkpoint, folder(&files[..2]).path()).contains("it lacks vocab.txt"));
    }

    #[test]
    fn a_change_is_seen_and_a_touch_is_not_one() {
        let folder = folder(&[("a.txt", "old\n")]);
        let path = folder.path().join("a.txt");
        let scanned = scan(DatasetKind::Corpus, "n", folder.path()).unwrap();
        scanned.verify().unwrap();
        // Same content, another time.
        let touched = |seconds| {
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(UNIX_EPOCH + std::time::Duration::from_secs(seconds))
                .unwrap();
        };
        touched(1);
        scanned.verify().unwrap();
        fs::write(&path, "new\n").unwrap();
        touched(2);
        assert!(scanned.verify().unwrap_err().to_string().contains("content differs"));
        fs::write(&path, "longer\n").unwrap();
        assert!(scanned.verify().unwrap_err().to_string().contains("7 bytes, not 4"));
        fs::remove_file(&path).unwrap();
        assert!(matches!(scanned.verify(), Err(DatasetError::Changed { .. })));
    }
}
