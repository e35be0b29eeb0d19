//! The nine GLUE tasks (Wang et al. 2019), one row each.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Task {
    #[serde(rename = "cola")]
    Cola,
    #[serde(rename = "sst-2")]
    Sst2,
    #[serde(rename = "mrpc")]
    Mrpc,
    #[serde(rename = "sts-b")]
    StsB,
    #[serde(rename = "qqp")]
    Qqp,
    #[serde(rename = "mnli")]
    Mnli,
    #[serde(rename = "qnli")]
    Qnli,
    #[serde(rename = "rte")]
    Rte,
    #[serde(rename = "wnli")]
    Wnli,
}

/// A rule that turns predictions into a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Accuracy,
    F1,
    Matthews,
    Pearson,
    Spearman,
}

impl Metric {
    pub const fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::F1 => "f1",
            Metric::Matthews => "matthews",
            Metric::Pearson => "pearson",
            Metric::Spearman => "spearman",
        }
    }
}

/// Where a field stands in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Under this name in the file's header.
    Named(&'static str),
    /// At this place (from 0) of a file without header.
    At(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The label texts, in the order of their class numbers.
    Classes(&'static [&'static str]),
    /// A real number in this range.
    Score { low: u8, high: u8 },
}

/// Everything that distinguishes one task from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub task: Task,
    /// As it is written in a job.
    pub name: &'static str,
    /// Its folder in the official layout.
    pub folder: &'static str,
    /// Whether `train.tsv` and the dev files open with a header line.
    pub header: bool,
    pub first: Column,
    pub second: Option<Column>,
    pub label: Column,
    pub target: Target,
    pub dev: &'static str,
    /// A second dev file, which counts like the first where the data have it.
    pub mismatched: Option<&'static str>,
    /// The score is the mean of these.
    pub metrics: &'static [Metric],
    /// What the GLUE server wants answers to.
    pub tests: &'static [TestSet],
    /// The answer that stands for no answer: the most frequent one of train (of MNLI and QNLI, whose classes are as good
    /// as equally frequent, the first), or the middle of a score's range.
    pub constant: &'static str,
}

/// A file without labels. Each has a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestSet {
    /// Inside the GLUE folder.
    pub path: &'static str,
    /// Name of the column that numbers its lines.
    pub index: &'static str,
    /// Name of the file with its answers in a submission.
    pub answers: &'static str,
    /// Lines of the official file, numbered from 0; the server refuses any other number of answers.
    pub rows: u64,
}

use Column::{At, Named};
use Metric::{Accuracy, F1, Matthews, Pearson, Spearman};

const TWO: Target = Target::Classes(&["0", "1"]);
/// Class 1 is "not_entailment", as everywhere in the field.
const ENTAILMENT: Target = Target::Classes(&["entailment", "not_entailment"]);

#[rustfmt::skip]
const ROWS: [Row; 9] = [
    Row { task: Task::Cola, name: "cola",  folder: "CoLA",  header: false, first: At(3),                 second: None,                      label: At(1),                  target: TWO, dev: "dev.tsv", mismatched: None, metrics: &[Matthews], tests: &[TestSet { path: "CoLA/test.tsv", index: "index", answers: "CoLA.tsv", rows: 1063 }], constant: "1" },
    Row { task: Task::Sst2, name: "sst-2", folder: "SST-2", header: true,  first: Named("sentence"),     second: None,                      label: Named("label"),         target: TWO, dev: "dev.tsv", mismatched: None, metrics: &[Accuracy], tests: &[TestSet { path: "SST-2/test.tsv", index: "index", answers: "SST-2.tsv", rows: 1821 }], constant: "1" },
    Row { task: Task::Mrpc, name: "mrpc",  folder: "MRPC",  header: true,  first: Named("#1 String"),    second: Some(Named("#2 String")),  label: Named("Quality"),       target: TWO, dev: "dev.tsv", mismatched: None, metrics: &[F1, Accuracy], tests: &[TestSet { path: "MRPC/test.tsv", index: "index", answers: "MRPC.tsv", rows: 1725 }], constant: "1" },
    Row { task: Task::StsB, name: "sts-b", folder: "STS-B", header: true,  first: Named("sentence1"),    second: Some(Named("sentence2")),  label: Named("score"),         target: Target::Score { low: 0, high: 5 }, dev: "dev.tsv", mismatched: None, metrics: &[Pearson, Spearman], tests: &[TestSet { path: "STS-B/test.tsv", index: "index", answers: "STS-B.tsv", rows: 1379 }], constant: "2.500" },
    Row { task: Task::Qqp,  name: "qqp",   folder: "QQP",   header: true,  first: Named("question1"),    second: Some(Named("question2")),  label: Named("is_duplicate"),  target: TWO, dev: "dev.tsv", mismatched: None, metrics: &[F1, Accuracy], tests: &[TestSet { path: "QQP/test.tsv", index: "id", answers: "QQP.tsv", rows: 390_965 }], constant: "0" },
    Row { task: Task::Mnli, name: "mnli",  folder: "MNLI",  header: true,  first: Named("sentence1"),    second: Some(Named("sentence2")),  label: Named("gold_label"),    target: Target::Classes(&["contradiction", "entailment", "neutral"]), dev: "dev_matched.tsv", mismatched: Some("dev_mismatched.tsv"), metrics: &[Accuracy], tests: &[TestSet { path: "MNLI/test_matched.tsv", index: "index", answers: "MNLI-m.tsv", rows: 9796 }, TestSet { path: "MNLI/test_mismatched.tsv", index: "index", answers: "MNLI-mm.tsv", rows: 9847 }, TestSet { path: "diagnostic/diagnostic.tsv", index: "index", answers: "AX.tsv", rows: 1104 }], constant: "contradiction" },
    Row { task: Task::Qnli, name: "qnli",  folder: "QNLI",  header: true,  first: Named("question"),     second: Some(Named("sentence")),   label: Named("label"),         target: ENTAILMENT, dev: "dev.tsv", mismatched: None, metrics: &[Accuracy], tests: &[TestSet { path: "QNLI/test.tsv", index: "index", answers: "QNLI.tsv", rows: 5463 }], constant: "entailment" },
    Row { task: Task::Rte,  name: "rte",   folder: "RTE",   header: true,  first: Named("sentence1"),    second: Some(Named("sentence2")),  label: Named("label"),         target: ENTAILMENT, dev: "dev.tsv", mismatched: None, metrics: &[Accuracy], tests: &[TestSet { path: "RTE/test.tsv", index: "index", answers: "RTE.tsv", rows: 3000 }], constant: "entailment" },
    Row { task: Task::Wnli, name: "wnli",  folder: "WNLI",  header: true,  first: Named("sentence1"),    second: Some(Named("sentence2")),  label: Named("label"),         target: TWO, dev: "dev.tsv", mismatched: None, metrics: &[Accuracy], tests: &[TestSet { path: "WNLI/test.tsv", index: "index", answers: "WNLI.tsv", rows: 146 }], constant: "0" },
];

impl Task {
    /// All tasks with their rows.
    pub const fn rows() -> &'static [Row; 9] {
        &ROWS
    }

    pub const fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The task of that name, if there is one.
    pub fn named(name: &str) -> Option<Task> {
        ROWS.iter().find(|row| row.name == name).map(|row| row.task)
    }

    /// All files of a submission with the task that answers them, in the order of the tasks.
    pub fn test_sets() -> impl Iterator<Item = (Task, &'static TestSet)> {
        ROWS.iter().flat_map(|row| row.tests.iter().map(|set| (row.task, set)))
    }

    /// Outputs of the fine-tuning head: one per class, or 1 for a real number.
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
    fn each_row_stands_at_its_tasks_number_and_is_found_by_name() {
        for row in Task::rows() {
            assert_eq!(row.task.row(), row);
            assert_eq!(Task::named(row.name), Some(row.task));
            assert_eq!(serde_json::to_value(row.task).unwrap(), row.name);
            match row.target {
                Target::Classes(classes) => assert!(classes.contains(&row.constant), "{}", row.name),
                Target::Score { .. } => assert_eq!(row.constant, "2.500"),
            }
        }
    }

    #[test]
    fn a_submission_has_the_eleven_files_of_the_server() {
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
