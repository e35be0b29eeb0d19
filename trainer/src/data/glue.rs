//! The examples of a GLUE task as ids. The files are read by [`texts::glue`].

use std::fs::File;
use std::path::Path;

use recipe::Task;
use recipe::task::TestSet;
use texts::glue::{Record, read_labelled, read_test};

use super::DataError;
use super::vocabulary::{Encoder, Vocabulary};

/// The labelled examples of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Glue {
    pub train: Vec<Example>,
    pub dev: Vec<Example>,
    /// The examples of the second dev file; empty if the task has none or the file is missing.
    pub mismatched: Vec<Example>,
    /// Number of truncated lines that were left out; 0 for every task except QQP.
    pub skipped: usize,
}

/// One input with its label.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// `[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]`.
    pub ids: Vec<u32>,
    /// Index in `ids` at which the second segment starts, or the number of ids if there is none.
    pub second: usize,
    /// Class number, or the score of a regression task; 0 in a test file.
    pub label: f32,
}

impl Glue {
    /// Reads `task` from the GLUE folder `dir`. Each example has at most `length` ids: a longer pair loses tokens from
    /// the end of its longer half.
    pub fn read(dir: &Path, task: Task, vocabulary: &Vocabulary, length: u32) -> Result<Self, DataError> {
        Self::read_folder(&dir.join(task.row().folder), task, vocabulary, length)
    }

    /// Reads `task` from the folder that holds its files; otherwise the same as [`Glue::read`].
    pub fn read_folder(folder: &Path, task: Task, vocabulary: &Vocabulary, length: u32) -> Result<Self, DataError> {
        let row = task.row();
        let mut encoder = vocabulary.encoder();
        let mut skipped = 0;
        let mut read = |file: &str| {
            let (path, mut examples) = (folder.join(file), Vec::new());
            let file = File::open(&path).map_err(DataError::io(&path))?;
            let counts = read_labelled(&path, file, row, |record| {
                examples.push(example(&mut encoder, record, length as usize)?);
                Ok::<_, DataError>(())
            })?;
            skipped += counts.skipped as usize;
            Ok::<_, DataError>(examples)
        };
        let (train, dev) = (read("train.tsv")?, read(row.dev)?);
        let mismatched = row.mismatched.filter(|file| folder.join(file).exists());
        let mismatched = mismatched.map_or_else(|| Ok(Vec::new()), read)?;
        Ok(Self { train, dev, mismatched, skipped })
    }

    /// The examples of each dev file that exists, with the suffix of its metrics' names.
    pub fn dev_parts(&self) -> impl Iterator<Item = (&'static str, &[Example])> {
        [("", &self.dev[..]), ("_mismatched", &self.mismatched[..])]
            .into_iter()
            .filter(|(_, examples)| !examples.is_empty())
    }

    /// Reads the test files of `task` that exist under the GLUE folder `dir`, in the order of the task's row.
    pub fn read_tests(
        dir: &Path,
        task: Task,
        vocabulary: &Vocabulary,
        length: u32,
    ) -> Result<Vec<(&'static TestSet, Vec<Example>)>, DataError> {
        let mut encoder = vocabulary.encoder();
        let row = task.row();
        let existing = row.tests.iter().filter(|set| dir.join(set.path).exists());
        existing
            .map(|set| {
                let (path, mut examples) = (dir.join(set.path), Vec::new());
                let file = File::open(&path).map_err(DataError::io(&path))?;
                read_test(&path, file, row, set, |record| {
                    examples.push(example(&mut encoder, record, length as usize)?);
                    Ok::<_, DataError>(())
                })?;
                Ok((set, examples))
            })
            .collect()
    }
}

fn example(encoder: &mut Encoder, record: Record, length: usize) -> Result<Example, DataError> {
    let Record { first, second, label } = record;
    let (cls, sep) = (encoder.vocabulary().cls(), encoder.vocabulary().sep());
    let mut ids = vec![cls];
    encoder.encode_into(first, &mut ids)?;
    let Some(second) = second else {
        ids.truncate(length.saturating_sub(1));
        ids.push(sep);
        return Ok(Example { second: ids.len(), ids, label });
    };
    let mut tail = Vec::new();
    encoder.encode_into(second, &mut tail)?;
    let (kept, tail_kept) = truncated(ids.len() - 1, tail.len(), length.saturating_sub(3));
    ids.truncate(1 + kept);
    ids.push(sep);
    let second = ids.len();
    ids.extend(&tail[..tail_kept]);
    ids.push(sep);
    Ok(Example { ids, second, label })
}

/// Number of tokens that remain of each half of a pair when both together may have `room` tokens. Tokens are removed
/// from the longer half, one at a time; from the second half if both have the same length.
fn truncated(first: usize, second: usize, room: usize) -> (usize, usize) {
    if first + second <= room {
        return (first, second);
    }
    // Removing from the longer half ends with the shorter half complete, or with two halves of equal length.
    let half = room / 2;
    match (first <= half, second <= half) {
        (true, _) => (first, room - first),
        (_, true) => (room - second, second),
        _ => (room - half, half),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use proptest::prelude::*;
    use recipe::FailureKind;
    use tempfile::TempDir;

    use super::*;
    use crate::data::vocabulary::tests::{real, small};

    /// `train.tsv` and a good dev file in the layout of `task`.
    fn folder(task: Task, train: &[u8]) -> TempDir {
        let folder = TempDir::new().unwrap();
        let row = task.row();
        fs::create_dir(folder.path().join(row.folder)).unwrap();
        fs::write(folder.path().join(row.folder).join("train.tsv"), train).unwrap();
        fs::write(folder.path().join(row.folder).join(row.dev), good(task)).unwrap();
        folder
    }

    fn good(task: Task) -> &'static [u8] {
        match task {
            Task::Cola => b"gj04\t1\t\tthe cat sat\n",
            Task::Rte => b"index\tsentence1\tsentence2\tlabel\n0\tthe cat sat\tthe dog\tentailment\n",
            Task::StsB => b"sentence1\tsentence2\tscore\nthe cat\tthe dog\t2.5\n",
            Task::Mrpc => b"Quality\t#1 String\t#2 String\n1\tthe cat\tthe dog\n",
            Task::Mnli => b"a\tsentence1\tsentence2\tlabel1\tgold_label\n0\tthe cat\tthe dog\tx\tneutral\n",
            Task::Qqp => b"id\tquestion1\tquestion2\tis_duplicate\n0\tthe cat\tthe dog\t0\n",
            _ => unreachable!("no such task in these tests"),
        }
    }

    fn read(task: Task, train: &[u8]) -> Result<Glue, DataError> {
        let folder = folder(task, train);
        Glue::read(folder.path(), task, &small(), 32)
    }

    fn message(task: Task, train: &[u8]) -> String {
        let failure = recipe::Failure::from(read(task, train).unwrap_err());
        assert_eq!(failure.kind, FailureKind::BadData);
        let (_, name) = failure.message.split_once(task.row().folder).expect("the message names the file");
        name.to_owned()
    }

    #[test]
    fn examples_are_framed_and_segmented() {
        let vocabulary = small();
        let ids = |text: &str| vocabulary.encoder().encode(text).unwrap();
        let (cls, sep) = (vocabulary.cls(), vocabulary.sep());

        let pair = &read(Task::Rte, good(Task::Rte)).unwrap().train[0];
        assert_eq!(pair.ids, [&[cls][..], &ids("the cat sat"), &[sep], &ids("the dog"), &[sep]].concat());
        assert_eq!((pair.ids[pair.second - 1], &pair.ids[pair.second..pair.second + 2]), (sep, &ids("the dog")[..]));
        assert_eq!(pair.label, 0.0);

        let single = &read(Task::Cola, good(Task::Cola)).unwrap().train[0];
        assert_eq!(single.ids, [&[cls][..], &ids("the cat sat"), &[sep]].concat());
        assert_eq!((single.second, single.label), (single.ids.len(), 1.0));
    }

    #[test]
    fn quotes_a_byte_order_mark_carriage_returns_and_a_missing_last_newline_are_accepted() {
        let quoted = "\u{feff}Quality\t#1 String\t#2 String\r\n0\t\"the cat\tsat \"the\" dog\r\n1\t\"\t\"\"";
        let glue = read(Task::Mrpc, quoted.as_bytes()).unwrap();
        assert_eq!(glue.train.iter().map(|e| e.label).collect::<Vec<_>>(), [0.0, 1.0]);
        assert_eq!((glue.train[1].ids.len(), glue.skipped), (6, 0));
    }

    #[test]
    fn columns_are_found_by_name_in_each_file() {
        let other = b"gold_label\tsentence2\tx\tsentence1\nentailment\tthe dog\t-\tthe cat\n";
        let glue = read(Task::Mnli, other).unwrap();
        assert_eq!((glue.train[0].ids.clone(), glue.train[0].label), (glue.dev[0].ids.clone(), 1.0));
        assert_eq!(glue.dev[0].label, 2.0);
    }

    #[test]
    fn scores_outside_their_range_are_refused() {
        let line = |score: &str| format!("sentence1\tsentence2\tscore\nthe cat\tthe dog\t{score}\n");
        assert_eq!(read(Task::StsB, line("3.75").as_bytes()).unwrap().train[0].label, 3.75);
        for bad in ["5.1", "-0.1", "nan", "inf", "", "four"] {
            let message = message(Task::StsB, line(bad).as_bytes());
            assert_eq!(message, format!("/train.tsv, line 2: the score {bad:?} is not a number from 0 to 5"));
        }
    }

    #[test]
    fn every_error_names_its_file_and_line() {
        assert_eq!(
            message(Task::Rte, b"index\tsentence1\tlabel\n"),
            r#"/train.tsv, line 1: no column "sentence2"; the header has "index", "sentence1", "label""#
        );
        let rte = |lines: &[u8]| message(Task::Rte, &[b"index\tsentence1\tsentence2\tlabel\n", lines].concat());
        assert_eq!(
            rte(b"0\ta\tb\tentailment\n1\ta\tentailment\n"),
            "/train.tsv, line 3: 3 columns, but 4 are expected"
        );
        assert_eq!(rte(b"0\ta\tb\tc\tentailment\n"), "/train.tsv, line 2: 5 columns, but 4 are expected");
        assert_eq!(rte(b"0\ta\tb\tentailment\n\n"), "/train.tsv, line 3: 1 columns, but 4 are expected");
        assert_eq!(rte(b"0\ta\t\xc3\x28\tentailment\n"), "/train.tsv, line 2: not UTF-8");
        assert_eq!(
            rte(b"0\ta\tb\tneutral\n"),
            r#"/train.tsv, line 2: unknown label "neutral"; allowed are "entailment", "not_entailment""#
        );
        assert_eq!(rte(b""), "/train.tsv: there are no examples in it");
        for empty in [&b""[..], b"\xef\xbb\xbf"] {
            assert_eq!(message(Task::Rte, empty), "/train.tsv: there are no examples in it");
            assert_eq!(message(Task::Cola, empty), "/train.tsv: there are no examples in it");
        }
        let folder = folder(Task::Rte, good(Task::Rte));
        fs::remove_file(folder.path().join("RTE/dev.tsv")).unwrap();
        let error = Glue::read(folder.path(), Task::Rte, &small(), 32).unwrap_err();
        assert!(error.to_string().contains("RTE/dev.tsv: No such file"), "{error}");
    }

    #[test]
    fn truncated_lines_of_qqp_are_left_out_and_counted() {
        let glue = read(Task::Qqp, b"id\tquestion1\tquestion2\tis_duplicate\n0\tthe cat\n1\tthe\tdog\t1\n").unwrap();
        assert_eq!((glue.train.len(), glue.skipped), (1, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_pair_loses_tokens_from_its_longer_half(first in 0usize..60, second in 0usize..60, room in 0usize..70) {
            let (mut a, mut b) = (first, second);
            while a + b > room {
                if a > b { a -= 1 } else { b -= 1 }
            }
            prop_assert_eq!(truncated(first, second, room), (a, b));
        }

        #[test]
        fn no_example_is_longer_than_allowed(words in prop::collection::vec("(cat|dog|the|,){1,3}", 0..40), length in 8u32..40) {
            let line = |task: &str| match task { "CoLA" => format!("x\t1\t\t{}\n", words.join(" ")), _ => format!(
                "index\tsentence1\tsentence2\tlabel\n0\t{}\t{}\tentailment\n", words.join(" "), words[..words.len() / 3].join(" ")
            )};
            for task in [Task::Cola, Task::Rte] {
                let folder = folder(task, line(task.row().folder).as_bytes());
                let glue = Glue::read(folder.path(), task, &small(), length).unwrap();
                let example = &glue.train[0];
                prop_assert!(example.ids.len() <= length as usize && example.second <= example.ids.len());
                prop_assert_eq!(example.ids.last(), Some(&small().sep()));
            }
        }

        /// Bytes drawn so that tabs, newlines, quotes, labels and broken UTF-8 are all frequent.
        #[test]
        fn no_file_makes_the_reader_panic(
            pieces in prop::collection::vec(prop::sample::select(vec![
                &b"\t"[..], b"\n", b"\r\n", b"\"", b"entailment", b"sentence1\tsentence2\tlabel\n", b"index", b"1", b"0.5",
                b"\xff", b"\xef\xbb\xbf", b"\xe2\x80", b"\0", b"the cat", b"gj04\t1\t\tthe cat\n", b"score", b"",
            ]), 0..30),
        ) {
            for task in [Task::Cola, Task::Rte, Task::StsB] {
                match read(task, &pieces.concat()) {
                    Ok(glue) => prop_assert!(!glue.train.is_empty()),
                    Err(error) => prop_assert!(error.to_string().contains("train.tsv")),
                }
            }
        }
    }

    #[test]
    fn the_official_files_have_their_official_row_counts() {
        let Some((data, vocabulary)) = real() else { return };
        let glue = data.join("glue");
        let counts = |folder: &str, task: Task| {
            let read = Glue::read_folder(&glue.join(folder), task, &vocabulary, 128).unwrap();
            assert_eq!(read.skipped, 0);
            (read.train.len(), read.dev.len())
        };
        let expected: BTreeMap<&str, (Task, (usize, usize))> = [
            ("CoLA", (Task::Cola, (8551, 1043))),
            ("SST-2", (Task::Sst2, (67349, 872))),
            ("MRPC", (Task::Mrpc, (3668, 408))),
            ("STS-B", (Task::StsB, (5749, 1500))),
            ("RTE", (Task::Rte, (2490, 277))),
            ("WNLI", (Task::Wnli, (635, 71))),
            ("QNLI-derived", (Task::Qnli, (4463, 1000))),
            ("MNLI-derived", (Task::Mnli, (7500, 9815))),
        ]
        .into();
        for (folder, (task, rows)) in expected {
            assert_eq!(counts(folder, task), rows, "{folder}");
        }
    }

    #[test]
    fn the_official_test_files_have_one_line_for_each_answer_that_the_server_expects() {
        let Some((data, vocabulary)) = real() else { return };
        let mut found = Vec::new();
        for task in Task::ALL {
            for (set, examples) in Glue::read_tests(&data.join("glue"), task, &vocabulary, 128).unwrap() {
                assert_eq!(examples.len() as u64, set.rows, "{}", set.path);
                found.push(set.answers);
            }
        }
        // The test files of QQP and MNLI are not part of the data.
        assert_eq!(
            found,
            ["CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "AX.tsv", "QNLI.tsv", "RTE.tsv", "WNLI.tsv"]
        );
    }
}
