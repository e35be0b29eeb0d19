//! The files that an arm hands in to the GLUE server: one file per test set, each with the predictions of one fine-tune trial.
//!
//! [`files`] decides from the facts of the job which trial provides which file. The predictions themselves are
//! artifacts, which the caller reads and has checked by [`SubmissionFile::check`].

use std::fmt;

use recipe::report::{FinetuneReport, PredictionFile};
use recipe::task::{ANSWERS_HEADER, Target, TestSet};
use recipe::{Finetune, Recipe, Task, TrialReport};

use crate::facts::{Facts, TrialFacts, TrialStatus};
use crate::glue::{Selection, selections};

/// A file of a submission.
#[derive(Debug, Clone, PartialEq)]
pub struct SubmissionFile {
    pub task: Task,
    pub set: &'static TestSet,
    pub answers: Answers,
}

/// Where the answers in a file come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// The predictions of a trial, which are stored as an artifact.
    Predicted(PredictionFile),
    /// One constant answer on every line.
    Constant,
}

/// A file that cannot be made, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// Name of the file in a submission.
    pub file: &'static str,
    pub kind: FileErrorKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileErrorKind {
    /// The arm has no fine-tune trial on the task.
    NoTrials { task: &'static str },
    /// This many trials on the task have not ended.
    Unfinished { task: &'static str, trials: usize },
    /// No trial on the task has a score.
    NoScore { task: &'static str },
    /// The arm was fine-tuned at several learning rates, none of which is selected.
    NoSelection { task: &'static str },
    /// The trial stored no predictions for the test file at `path`.
    NoPredictions { path: &'static str },
    /// The number of answers is not that of the official test file.
    WrongRows { found: u64, expected: u64 },
    /// The bytes are not a file that the server reads.
    Malformed { message: String },
}

impl FileErrorKind {
    /// True if a constant may replace the predictions: no trial will provide them, and none has provided others.
    const fn allows_constant(&self) -> bool {
        matches!(self, Self::NoTrials { .. } | Self::NoScore { .. } | Self::NoPredictions { .. })
    }
}

impl fmt::Display for FileErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTrials { task } => write!(f, "the arm was not fine-tuned on {task}"),
            Self::Unfinished { task, trials: 1 } => write!(f, "1 fine-tune trial on {task} has not ended yet"),
            Self::Unfinished { task, trials } => write!(f, "{trials} fine-tune trials on {task} have not ended yet"),
            Self::NoScore { task } => write!(f, "no fine-tune trial on {task} has a score"),
            Self::NoSelection { task } => write!(
                f,
                "{task} was fine-tuned at several learning rates, and none is selected: submit the job with a \
                 `glue.selection` share"
            ),
            Self::NoPredictions { path } => write!(
                f,
                "the selected trial stored no predictions: its GLUE dataset has no {path}, or storing them failed"
            ),
            Self::WrongRows { found, expected } => write!(
                f,
                "the file has {found} answers, the server expects {expected}: the test data are not the official ones"
            ),
            Self::Malformed { message } => f.write_str(message),
        }
    }
}

/// The files of `arm`, sorted by name. On each task, the trial with the best score on the selection part (without such
/// a part, on dev) among those at the arm's selected learning rate provides the predictions; of equal scores, the one
/// with the lowest seeds. With `fill`, a constant replaces predictions that no trial will provide.
///
/// # Errors
/// All files that cannot be made.
pub fn files(facts: &Facts, arm: &str, fill: bool) -> Result<Vec<SubmissionFile>, Vec<FileError>> {
    let selections = selections(facts, arm);
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for task in Task::ALL {
        let report = best_trial(facts, arm, task, selections.get(&task));
        for set in task.row().tests {
            match report.clone().and_then(|report| predictions(report, set)) {
                Ok(file) => files.push(SubmissionFile { task, set, answers: Answers::Predicted(file) }),
                Err(kind) if fill && kind.allows_constant() => {
                    files.push(SubmissionFile { task, set, answers: Answers::Constant });
                }
                Err(kind) => errors.push(FileError { file: set.answers, kind }),
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    files.sort_by_key(|file| file.set.answers);
    Ok(files)
}

/// The report of the trial whose predictions are handed in for `task`.
fn best_trial<'a>(
    facts: &'a Facts,
    arm: &str,
    task: Task,
    selection: Option<&Selection>,
) -> Result<&'a FinetuneReport, FileErrorKind> {
    let name = task.name();
    let trials: Vec<(&TrialFacts, &Finetune)> = facts
        .trials_of(arm)
        .filter_map(|trial| match &*trial.recipe {
            Recipe::Finetune(recipe) if recipe.task == task => Some((trial, recipe)),
            _ => None,
        })
        .collect();
    if trials.is_empty() {
        return Err(FileErrorKind::NoTrials { task: name });
    }
    let unfinished = trials.iter().filter(|(trial, _)| trial.status == TrialStatus::Unfinished).count();
    if unfinished > 0 {
        return Err(FileErrorKind::Unfinished { task: name, trials: unfinished });
    }
    let scored: Vec<(&TrialFacts, &Finetune, &FinetuneReport)> = trials
        .into_iter()
        .filter_map(|(trial, recipe)| match &trial.status {
            TrialStatus::Succeeded(TrialReport::Finetune(report)) if report.score.is_finite() => {
                Some((trial, recipe, report))
            }
            _ => None,
        })
        .collect();
    if scored.is_empty() {
        return Err(FileErrorKind::NoScore { task: name });
    }
    let selection = selection.ok_or(FileErrorKind::NoSelection { task: name })?;
    let selected = scored.into_iter().filter(|(_, recipe, _)| selection.includes(recipe));
    let best = selected.max_by(|(trial_a, recipe_a, a), (trial_b, recipe_b, b)| {
        let seeds = |trial: &TrialFacts, recipe: &Finetune| (recipe.from_seeds.init, trial.seeds.head);
        let by_score = selection_score(a).total_cmp(&selection_score(b));
        by_score.then_with(|| seeds(trial_b, recipe_b).cmp(&seeds(trial_a, recipe_a)))
    });
    best.map(|(_, _, report)| report).ok_or(FileErrorKind::NoScore { task: name })
}

/// The score on the selection part, or on dev if there is no such part.
fn selection_score(report: &FinetuneReport) -> f64 {
    report.selection_score.filter(|score| score.is_finite()).unwrap_or(report.score)
}

fn predictions(report: &FinetuneReport, set: &TestSet) -> Result<PredictionFile, FileErrorKind> {
    let file = report.predictions.iter().find(|file| file.name == set.answers);
    let file = file.ok_or(FileErrorKind::NoPredictions { path: set.path })?;
    match file.rows == set.rows {
        true => Ok(file.clone()),
        false => Err(FileErrorKind::WrongRows { found: file.rows, expected: set.rows }),
    }
}

impl SubmissionFile {
    /// The text of a file with one answer on every line: the most frequent label of the training set, or the middle of
    /// the score's range.
    pub fn constant(&self) -> String {
        let answer = self.task.row().constant;
        let lines = (0..self.set.rows).map(|index| format!("{index}\t{answer}\n"));
        std::iter::once(format!("{ANSWERS_HEADER}\n")).chain(lines).collect()
    }

    /// Checks that the server can read `bytes`: a header; then one line per example of the official test file, with its
    /// number (from 0), a tab, and a label of the task or a score in its range.
    ///
    /// # Errors
    /// The first line that is wrong, or the wrong number of lines.
    pub fn check(&self, bytes: &[u8]) -> Result<(), FileError> {
        let text = str::from_utf8(bytes).map_err(|_| self.malformed("the file is not UTF-8".into()))?;
        let mut lines = text.lines();
        if lines.next() != Some(ANSWERS_HEADER) {
            return Err(self.malformed(format!("line 1 is not the header {ANSWERS_HEADER:?}")));
        }
        let mut found = 0;
        for line in lines {
            let is_valid = line
                .split_once('\t')
                .is_some_and(|(index, answer)| index.parse() == Ok(found) && is_answer(self.task.row().target, answer));
            if !is_valid {
                let number = found + 2;
                return Err(self.malformed(format!("line {number} is not {found}, a tab and an answer of the task")));
            }
            found += 1;
        }
        match found == self.set.rows {
            true => Ok(()),
            false => Err(self.error(FileErrorKind::WrongRows { found, expected: self.set.rows })),
        }
    }

    /// The error that this file cannot be used for the reason in `message`.
    pub fn malformed(&self, message: String) -> FileError {
        self.error(FileErrorKind::Malformed { message })
    }

    const fn error(&self, kind: FileErrorKind) -> FileError {
        FileError { file: self.set.answers, kind }
    }
}

fn is_answer(target: Target, answer: &str) -> bool {
    match target {
        Target::Classes(classes) => classes.contains(&answer),
        Target::Score { low, high } => {
            answer.parse::<f64>().is_ok_and(|score| (f64::from(low)..=f64::from(high)).contains(&score))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> SubmissionFile {
        let (task, set) = Task::test_sets().find(|(_, set)| set.answers == name).unwrap();
        SubmissionFile { task, set, answers: Answers::Constant }
    }

    #[test]
    fn the_constant_file_of_every_task_passes_the_check() {
        for (_, set) in Task::test_sets() {
            let file = file(set.answers);
            let text = file.constant();
            file.check(text.as_bytes()).unwrap();
            assert!(text.starts_with("index\tprediction\n0\t") && text.ends_with('\n'), "{}", set.answers);
            assert_eq!(text.lines().count() as u64, set.rows + 1, "{}", set.answers);
        }
    }

    #[test]
    fn the_check_names_the_first_line_that_is_wrong() {
        let wnli = file("WNLI.tsv");
        let good = wnli.constant();
        let error = |text: &str| wnli.check(text.as_bytes()).unwrap_err().kind.to_string();
        assert!(error(&good.replacen("prediction", "label", 1)).starts_with("line 1 "));
        assert!(error(&good.replacen("\n3\t0", "\n3\tentailment", 1)).starts_with("line 5 "));
        assert!(error(&good.replacen("\n3\t0", "\n4\t0", 1)).starts_with("line 5 "));
        assert_eq!(
            error(good.strip_suffix("145\t0\n").unwrap()),
            "the file has 145 answers, the server expects 146: the test data are not the official ones"
        );
        assert!(wnli.check(b"index\tprediction\n0\t\xff\n").is_err());
        let sts_b = file("STS-B.tsv");
        assert!(sts_b.check(sts_b.constant().replacen("2.500", "5.001", 1).as_bytes()).is_err());
    }
}
