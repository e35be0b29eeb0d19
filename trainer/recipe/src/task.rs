//! The nine GLUE tasks (Wang et al. 2019). A new task is a variant of [`Task`] and its row in [`Task::row`].

use crate::named_enum;

named_enum! {
    /// A GLUE task.
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
    pub enum Task {
        Cola = "cola",
        Sst2 = "sst-2",
        Mrpc = "mrpc",
        StsB = "sts-b",
        Qqp = "qqp",
        Mnli = "mnli",
        Qnli = "qnli",
        Rte = "rte",
        Wnli = "wnli",
    }
}

named_enum! {
    /// A rule that turns predictions into a number.
    pub enum Metric {
        Accuracy = "accuracy",
        F1 = "f1",
        Matthews = "matthews",
        Pearson = "pearson",
        Spearman = "spearman",
    }
}

/// The place of a field in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The column with this name in the file's header.
    Named(&'static str),
    /// The column with this number (from 0) of a file without a header.
    At(usize),
}

/// The values that a task's labels and answers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The texts of the labels, in the order of their class numbers.
    Classes(&'static [&'static str]),
    /// A real number in this range.
    Score { low: u8, high: u8 },
}

/// Everything that distinguishes one task from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Name of the task's folder in the official layout.
    pub folder: &'static str,
    /// True if `train.tsv` and the dev files start with a header line.
    pub header: bool,
    /// True if the official files have a few truncated lines, which are skipped as in every published loader.
    pub has_truncated_lines: bool,
    pub first: Column,
    /// The second text of a pair; `None` if the task has single texts.
    pub second: Option<Column>,
    pub label: Column,
    pub target: Target,
    /// Name of the dev file.
    pub dev: &'static str,
    /// Name of a second dev file. If the data have it, it counts as much as the first.
    pub mismatched: Option<&'static str>,
    /// The score of the task is the mean of these.
    pub metrics: &'static [Metric],
    /// The files for which the GLUE server wants answers.
    pub tests: &'static [TestSet],
    /// An answer that uses no model: the most frequent label of train, or the middle of a score's range. The classes of
    /// MNLI and QNLI are almost equally frequent; there it is the first label.
    pub constant: &'static str,
}

/// A file of examples without labels. It starts with a header line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestSet {
    /// Path inside the GLUE folder.
    pub path: &'static str,
    /// Name of the column that numbers the lines.
    pub index: &'static str,
    /// Name of the file with the answers in a submission.
    pub answers: &'static str,
    /// Number of examples in the official file, numbered from 0; the server refuses any other number of answers.
    pub rows: u64,
}

/// First line of every file of a submission.
pub const ANSWERS_HEADER: &str = "index\tprediction";

use Column::{At, Named};
use Metric::{Accuracy, F1, Matthews, Pearson, Spearman};

const BINARY: Target = Target::Classes(&["0", "1"]);
/// Class 1 is `not_entailment`, as in published results.
const ENTAILMENT: Target = Target::Classes(&["entailment", "not_entailment"]);

/// The settings that most tasks share: pairs of sentences in two classes, judged by accuracy.
const PAIRS: Row = Row {
    folder: "",
    header: true,
    has_truncated_lines: false,
    first: Named("sentence1"),
    second: Some(Named("sentence2")),
    label: Named("label"),
    target: BINARY,
    dev: "dev.tsv",
    mismatched: None,
    metrics: &[Accuracy],
    tests: &[],
    constant: "0",
};

impl Task {
    pub const fn row(self) -> &'static Row {
        match self {
            Task::Cola => &Row {
                folder: "CoLA",
                header: false,
                first: At(3),
                second: None,
                label: At(1),
                metrics: &[Matthews],
                tests: &[TestSet { path: "CoLA/test.tsv", index: "index", answers: "CoLA.tsv", rows: 1063 }],
                constant: "1",
                ..PAIRS
            },
            Task::Sst2 => &Row {
                folder: "SST-2",
                first: Named("sentence"),
                second: None,
                tests: &[TestSet { path: "SST-2/test.tsv", index: "index", answers: "SST-2.tsv", rows: 1821 }],
                constant: "1",
                ..PAIRS
            },
            Task::Mrpc => &Row {
                folder: "MRPC",
                first: Named("#1 String"),
                second: Some(Named("#2 String")),
                label: Named("Quality"),
                metrics: &[F1, Accuracy],
                tests: &[TestSet { path: "MRPC/test.tsv", index: "index", answers: "MRPC.tsv", rows: 1725 }],
                constant: "1",
                ..PAIRS
            },
            Task::StsB => &Row {
                folder: "STS-B",
                label: Named("score"),
                target: Target::Score { low: 0, high: 5 },
                metrics: &[Pearson, Spearman],
                tests: &[TestSet { path: "STS-B/test.tsv", index: "index", answers: "STS-B.tsv", rows: 1379 }],
                constant: "2.500",
                ..PAIRS
            },
            Task::Qqp => &Row {
                folder: "QQP",
                has_truncated_lines: true,
                first: Named("question1"),
                second: Some(Named("question2")),
                label: Named("is_duplicate"),
                metrics: &[F1, Accuracy],
                tests: &[TestSet { path: "QQP/test.tsv", index: "id", answers: "QQP.tsv", rows: 390_965 }],
                ..PAIRS
            },
            Task::Mnli => &Row {
                folder: "MNLI",
                label: Named("gold_label"),
                target: Target::Classes(&["contradiction", "entailment", "neutral"]),
                dev: "dev_matched.tsv",
                mismatched: Some("dev_mismatched.tsv"),
                tests: &[
                    TestSet { path: "MNLI/test_matched.tsv", index: "index", answers: "MNLI-m.tsv", rows: 9796 },
                    TestSet { path: "MNLI/test_mismatched.tsv", index: "index", answers: "MNLI-mm.tsv", rows: 9847 },
                    TestSet { path: "diagnostic/diagnostic.tsv", index: "index", answers: "AX.tsv", rows: 1104 },
                ],
                constant: "contradiction",
                ..PAIRS
            },
            Task::Qnli => &Row {
                folder: "QNLI",
                first: Named("question"),
                second: Some(Named("sentence")),
                target: ENTAILMENT,
                tests: &[TestSet { path: "QNLI/test.tsv", index: "index", answers: "QNLI.tsv", rows: 5463 }],
                constant: "entailment",
                ..PAIRS
            },
            Task::Rte => &Row {
                folder: "RTE",
                target: ENTAILMENT,
                tests: &[TestSet { path: "RTE/test.tsv", index: "index", answers: "RTE.tsv", rows: 3000 }],
                constant: "entailment",
                ..PAIRS
            },
            Task::Wnli => &Row {
                folder: "WNLI",
                tests: &[TestSet { path: "WNLI/test.tsv", index: "index", answers: "WNLI.tsv", rows: 146 }],
                ..PAIRS
            },
        }
    }

    /// All files of a submission, each with its task, in the order of the tasks.
    pub fn test_sets() -> impl Iterator<Item = (Task, &'static TestSet)> {
        Task::ALL.into_iter().flat_map(|task| task.row().tests.iter().map(move |set| (task, set)))
    }

    /// Number of outputs of the fine-tuning head: one per class, or 1 for a real number.
    pub const fn outputs(self) -> usize {
        match self.row().target {
            Target::Classes(classes) => classes.len(),
            Target::Score { .. } => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_answer_of_each_task_is_one_that_its_target_allows() {
        for task in Task::ALL {
            let &Row { target, constant, .. } = task.row();
            match target {
                Target::Classes(classes) => assert!(classes.contains(&constant), "{}", task.name()),
                Target::Score { .. } => assert_eq!(constant, "2.500"),
            }
        }
    }

    #[test]
    fn every_task_has_a_folder_of_its_own() {
        let mut folders: Vec<&str> = Task::ALL.iter().map(|task| task.row().folder).collect();
        folders.sort_unstable();
        folders.dedup();
        assert_eq!(folders.len(), Task::ALL.len());
    }

    #[test]
    fn a_submission_has_the_files_that_the_server_wants() {
        let files: Vec<&str> = Task::test_sets().map(|(_, set)| set.answers).collect();
        assert_eq!(
            files,
            [
                "CoLA.tsv",
                "SST-2.tsv",
                "MRPC.tsv",
                "STS-B.tsv",
                "QQP.tsv",
                "MNLI-m.tsv",
                "MNLI-mm.tsv",
                "AX.tsv",
                "QNLI.tsv",
                "RTE.tsv",
                "WNLI.tsv"
            ]
        );
    }
}
