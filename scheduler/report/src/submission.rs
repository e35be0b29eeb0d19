//! What an arm of a job hands in to the GLUE server: eleven files, each with the answers of one fine-tune trial.
//!
//! Pure: which trial answers which file follows from the job's facts. The answers themselves are artifacts.

use std::collections::BTreeMap;
use std::fmt;

use recipe::report::{FinetuneReport, PredictionFile};
use recipe::task::{Target, TestSet};
use recipe::{Recipe, Report, Task};

use crate::facts::{Facts, TrialEnd, TrialFacts, TrialStatus};
use crate::glue::{Selected, selected};

/// One file of a submission.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub task: Task,
    pub set: &'static TestSet,
    pub answers: Answers,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// As a trial gave them; an artifact.
    Given(PredictionFile),
    /// The same answer everywhere.
    Constant,
}

/// A file that a submission cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Its name in a submission.
    pub file: &'static str,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    NoTrials {
        task: &'static str,
    },
    Unfinished {
        task: &'static str,
        trials: usize,
    },
    NoneSucceeded {
        task: &'static str,
    },
    /// Several learning rates ran, and nothing was set apart to select one on.
    Unselected {
        task: &'static str,
    },
    /// The trial gave none: its data had no such file, or they could not be stored.
    NoAnswers {
        path: &'static str,
    },
    /// Not the answers to the official file.
    Rows {
        found: u64,
        wanted: u64,
    },
    Malformed {
        what: String,
    },
}

impl Why {
    /// Whether a constant may stand in. Not where answers may still come, or where there are some that do not fit.
    const fn may_be_filled(&self) -> bool {
        matches!(self, Self::NoTrials { .. } | Self::NoneSucceeded { .. } | Self::NoAnswers { .. })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTrials { task } => write!(f, "the arm was not fine-tuned on {task}"),
            Self::Unfinished { task, trials: 1 } => write!(f, "1 fine-tune trial on {task} has not ended yet"),
            Self::Unfinished { task, trials } => write!(f, "{trials} fine-tune trials on {task} have not ended yet"),
            Self::NoneSucceeded { task } => write!(f, "no fine-tune trial on {task} has come to a score"),
            Self::Unselected { task } => {
                write!(
                    f,
                    "{task} was fine-tuned at several learning rates, and without a selection part none is selected"
                )
            }
            Self::NoAnswers { path } => {
                write!(
                    f,
                    "the selected trial left no answers: the GLUE dataset had no {path}, or they could not be stored"
                )
            }
            Self::Rows { found, wanted } => {
                write!(f, "it has {found} answers and the server wants {wanted}: the data are not the official ones")
            }
            Self::Malformed { what } => f.write_str(what),
        }
    }
}

/// The files of `arm` in the order of their names, as the server lists them. Per task, the trial at the arm's selected
/// learning rate that is best on the selection part (on dev where there is none) answers; of equally good ones the one
/// with the lowest seeds. `fill` lets a constant stand in for answers that will not come.
///
/// # Errors
/// Every file that is lacking, with the reason.
pub fn entries(facts: &Facts, trials: &[TrialFacts], arm: &str, fill: bool) -> Result<Vec<Entry>, Vec<Lack>> {
    let rates = selected(facts, arm);
    let mut best: BTreeMap<Task, Result<&FinetuneReport, Why>> = BTreeMap::new();
    for row in Task::rows() {
        best.insert(row.task, answering(row.task, trials, arm, rates.get(&row.task)));
    }
    let (mut entries, mut lacks) = (Vec::new(), Vec::new());
    for (task, set) in Task::test_sets() {
        let given = best[&task].clone().and_then(|report| answers(report, set));
        match given {
            Ok(file) => entries.push(Entry { task, set, answers: Answers::Given(file) }),
            Err(why) if fill && why.may_be_filled() => entries.push(Entry { task, set, answers: Answers::Constant }),
            Err(why) => lacks.push(Lack { file: set.answers, why }),
        }
    }
    if !lacks.is_empty() {
        return Err(lacks);
    }
    entries.sort_by_key(|entry| entry.set.answers);
    Ok(entries)
}

/// The report of the trial that answers for the arm.
fn answering<'a>(
    task: Task,
    trials: &'a [TrialFacts],
    arm: &str,
    selected: Option<&Selected>,
) -> Result<&'a FinetuneReport, Why> {
    let name = task.name();
    let of_task: Vec<(&TrialFacts, &recipe::Finetune)> = trials
        .iter()
        .filter(|trial| trial.arm.as_deref() == Some(arm))
        .filter_map(|trial| match &trial.spec.recipe {
            Recipe::Finetune(recipe) if recipe.task == task => Some((trial, recipe)),
            _ => None,
        })
        .collect();
    if of_task.is_empty() {
        return Err(Why::NoTrials { task: name });
    }
    let open = of_task.iter().filter(|(trial, _)| trial.status == TrialStatus::Unfinished).count();
    if open > 0 {
        return Err(Why::Unfinished { task: name, trials: open });
    }
    let scored: Vec<_> = of_task
        .into_iter()
        .filter_map(|(trial, recipe)| match &trial.status {
            TrialStatus::Ended(TrialEnd::Succeeded(Report::Finetune(report))) if report.score.is_finite() => {
                Some((trial, recipe, report))
            }
            _ => None,
        })
        .collect();
    if scored.is_empty() {
        return Err(Why::NoneSucceeded { task: name });
    }
    let Some(selected) = selected else { return Err(Why::Unselected { task: name }) };
    let at_rate = scored.into_iter().filter(|(_, recipe, _)| selected.is_of(recipe));
    let best = at_rate.max_by(|(one, one_recipe, a), (other, other_recipe, b)| {
        let seeds = |trial: &TrialFacts, recipe: &recipe::Finetune| (recipe.from_seeds.init, trial.spec.seeds.head);
        let by_score = judged(a).total_cmp(&judged(b));
        by_score.then_with(|| seeds(other, other_recipe).cmp(&seeds(one, one_recipe)))
    });
    best.map(|(_, _, report)| report).ok_or(Why::NoneSucceeded { task: name })
}

/// The score by which trials are chosen.
fn judged(report: &FinetuneReport) -> f64 {
    report.selection_score.filter(|score| score.is_finite()).unwrap_or(report.score)
}

fn answers(report: &FinetuneReport, set: &TestSet) -> Result<PredictionFile, Why> {
    let file = report.predictions.iter().find(|file| file.name == set.answers);
    let file = file.ok_or(Why::NoAnswers { path: set.path })?;
    match file.rows == set.rows {
        true => Ok(file.clone()),
        false => Err(Why::Rows { found: file.rows, wanted: set.rows }),
    }
}

const HEADER: &str = "index\tprediction";

impl Entry {
    /// The file that answers alike everywhere: with the most frequent label of train, or the middle of a score's range.
    pub fn constant(&self) -> String {
        let answer = self.task.row().constant;
        let lines = (0..self.set.rows).map(|index| format!("{index}\t{answer}\n"));
        std::iter::once(format!("{HEADER}\n")).chain(lines).collect()
    }

    /// Fails unless the server would read `bytes`: a header, then on each line the number of an example, from 0, and a label of
    /// the task or a score in its range; as many lines as the official test file.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Lack> {
        let malformed =
            |line: u64| self.malformed(&format!("line {line} of its answers is not as the server wants it"));
        let text = str::from_utf8(bytes).map_err(|_| self.malformed("its answers are not UTF-8"))?;
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(malformed(1));
        }
        let mut found = 0;
        for line in lines {
            let fits = line
                .split_once('\t')
                .is_some_and(|(index, answer)| index.parse() == Ok(found) && is_answer(self.task.row().target, answer));
            if !fits {
                return Err(malformed(found + 2));
            }
            found += 1;
        }
        match found == self.set.rows {
            true => Ok(()),
            false => Err(Lack { file: self.set.answers, why: Why::Rows { found, wanted: self.set.rows } }),
        }
    }

    /// That the file cannot be used, for this reason.
    pub fn malformed(&self, what: &str) -> Lack {
        Lack { file: self.set.answers, why: Why::Malformed { what: what.into() } }
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

    fn entry(file: &str) -> Entry {
        let (task, set) = Task::test_sets().find(|(_, set)| set.answers == file).unwrap();
        Entry { task, set, answers: Answers::Constant }
    }

    #[test]
    fn a_constant_file_of_every_task_is_one_that_the_server_reads() {
        for (_, set) in Task::test_sets() {
            let entry = entry(set.answers);
            let text = entry.constant();
            entry.check(text.as_bytes()).unwrap();
            assert!(text.starts_with("index\tprediction\n0\t") && text.ends_with('\n'), "{}", set.answers);
            assert_eq!(text.lines().count() as u64, set.rows + 1, "{}", set.answers);
        }
    }

    #[test]
    fn what_the_server_would_not_read_is_named_by_its_line() {
        let entry = entry("WNLI.tsv");
        let good = entry.constant();
        let why = |text: &str| entry.check(text.as_bytes()).unwrap_err().why.to_string();
        assert!(why(&good.replacen("prediction", "label", 1)).starts_with("line 1 "));
        assert!(why(&good.replacen("\n3\t0", "\n3\tentailment", 1)).starts_with("line 5 "));
        assert!(why(&good.replacen("\n3\t0", "\n4\t0", 1)).starts_with("line 5 "));
        assert_eq!(
            why(good.strip_suffix("145\t0\n").unwrap()),
            "it has 145 answers and the server wants 146: the data are not the official ones"
        );
        assert!(entry.check(b"index\tprediction\n0\t\xff\n").is_err());
        let score = super::tests::entry("STS-B.tsv");
        assert!(score.check(score.constant().replacen("2.500", "5.001", 1).as_bytes()).is_err());
    }
}
