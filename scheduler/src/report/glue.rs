//! Fine-tuning: the dev scores over seeds, per task, arm and learning rate.

use std::collections::BTreeMap;

use recipe::{Recipe, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::comparison::{Runs, compare, units};
use super::selection::select;
use super::{Comparison, Facts, TrialEnd};
use crate::statistics::{holm, mean, median, standard_deviation, t_interval, wilson_interval};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueReport {
    pub task: Task,
    /// The score is the mean of these.
    pub metrics: Vec<String>,
    /// Score of a constant guess of the majority class: a run at or below it failed. Absent while no run has a score.
    pub majority_score: Option<f64>,
    /// One row per arm and learning rate that has a run, arms in the order of the job.
    pub arms: Vec<GlueArm>,
    /// Each other arm against the baseline at the same learning rate.
    pub comparisons: Vec<Comparison>,
}

/// Scores are fractions. A run failed when it scored at or below the majority classifier, or diverged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueArm {
    pub arm: String,
    pub learning_rate: f64,
    /// Mean score on the part of train that was set apart, over the runs that have one.
    pub selection: Option<f64>,
    /// Whether this is the rate to report: the arm's only one, or the one of highest `selection`.
    pub selected: bool,
    /// Runs that came to a result, diverged ones among them.
    pub n: usize,
    /// Of the runs that have a score, like `sd`, `median`, `min` and `max`.
    pub mean: Option<f64>,
    pub sd: Option<f64>,
    /// 95 % t interval of the mean over `independent` values, `[low, high]`.
    pub interval: Option<[f64; 2]>,
    /// Independent values behind the interval: pre-train seeds where there are several, else runs with a score.
    pub independent: usize,
    pub median: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub failed: usize,
    /// 95 % Wilson interval of `failed / n`.
    pub failed_interval: Option<[f64; 2]>,
    /// How many of the failed ones have no score because their loss was not finite.
    pub diverged: usize,
    /// By pre-train seed, then seed.
    pub scores: Vec<GlueScore>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueScore {
    pub seed: u64,
    pub pretrain_seed: u64,
    /// Absent where the run diverged.
    pub score: Option<f64>,
    /// On the part of train that was set apart; absent where none was.
    pub selection: Option<f64>,
    pub failed: bool,
}

pub(super) fn glue(facts: &Facts) -> Vec<GlueReport> {
    let cells = cells(facts);
    let mut reports: Vec<GlueReport> =
        Task::rows().iter().filter_map(|row| task_report(facts, row.task, &cells)).collect();
    correct(&mut reports);
    reports
}

/// Task, arm, and the learning rate by its bits, which sort as the positive numbers do.
type Cells<'a> = BTreeMap<(Task, &'a str, u64), Vec<GlueScore>>;

fn cells(facts: &Facts) -> Cells<'_> {
    let mut cells = Cells::new();
    for trial in &facts.ended {
        let (Recipe::Finetune(recipe), Some(arm)) = (&trial.spec.recipe, trial.arm.as_deref()) else { continue };
        let (score, failed) = match &trial.end {
            TrialEnd::Succeeded(recipe::Report::Finetune(report)) if report.score.is_finite() => {
                (Some(report.score), report.score <= report.majority_score)
            }
            // A metric that is not finite is no score: the run came to nothing.
            TrialEnd::Succeeded(recipe::Report::Finetune(_)) => (None, true),
            end if end.diverged() => (None, true),
            // Any other failure is no result. The notes count it.
            _ => continue,
        };
        let selection = match &trial.end {
            TrialEnd::Succeeded(recipe::Report::Finetune(report)) => report.selection_score.filter(|s| s.is_finite()),
            _ => None,
        };
        let run =
            GlueScore { seed: trial.spec.seeds.head, pretrain_seed: recipe.from_seeds.init, score, selection, failed };
        cells.entry((recipe.task, arm, recipe.learning_rate.peak.to_bits())).or_default().push(run);
    }
    for runs in cells.values_mut() {
        runs.sort_by_key(|run| (run.pretrain_seed, run.seed));
    }
    cells
}

/// The row of each task at the learning rate that is selected for `arm`; none for a task whose rate is not selected.
pub(super) fn selected_rows(facts: &Facts, arm: &str) -> BTreeMap<Task, GlueArm> {
    let cells = cells(facts);
    let selected = |task: Task| arm_rows(task, arm, &cells).into_iter().find(|row| row.selected);
    Task::rows().iter().filter_map(|row| Some((row.task, selected(row.task)?))).collect()
}

/// One row per learning rate of an arm, in rising order.
fn arm_rows(task: Task, arm: &str, cells: &Cells<'_>) -> Vec<GlueArm> {
    let mut rows: Vec<GlueArm> =
        of_arm(task, arm, cells).into_iter().map(|(rate, runs)| glue_arm(arm, rate, runs)).collect();
    select(&mut rows);
    rows
}

fn of_arm<'a>(task: Task, arm: &str, cells: &'a Cells<'_>) -> Vec<(f64, &'a Vec<GlueScore>)> {
    cells
        .iter()
        .filter(|((cell_task, cell_arm, _), _)| *cell_task == task && *cell_arm == arm)
        .map(|((_, _, rate), runs)| (f64::from_bits(*rate), runs))
        .collect()
}

fn task_report(facts: &Facts, task: Task, cells: &Cells<'_>) -> Option<GlueReport> {
    let of_arm = |arm: &str| of_arm(task, arm, cells);
    let arms: Vec<GlueArm> = facts.arms.iter().flat_map(|arm| arm_rows(task, arm, cells)).collect();
    if arms.is_empty() {
        return None;
    }
    let baseline: Vec<(f64, Runs)> =
        of_arm(&facts.baseline).into_iter().map(|(rate, runs)| (rate, scored(runs))).collect();
    let against_baseline = |arm: &String| {
        let pairs = of_arm(arm).into_iter().filter_map(|(rate, runs)| {
            let (_, base) = baseline.iter().find(|(base_rate, _)| *base_rate == rate)?;
            compare(arm, Some(rate), &scored(runs), base)
        });
        pairs.collect::<Vec<Comparison>>()
    };
    let comparisons = facts.others().flat_map(against_baseline).collect();
    let metrics = task.row().metrics.iter().map(|metric| metric.name().to_owned()).collect();
    Some(GlueReport { task, metrics, majority_score: majority_score(facts, task), arms, comparisons })
}

fn glue_arm(arm: &str, learning_rate: f64, runs: &[GlueScore]) -> GlueArm {
    let scored = scored(runs);
    let scores: Vec<f64> = scored.values().copied().collect();
    let independent = units(&scored);
    let failed = runs.iter().filter(|run| run.failed).count();
    GlueArm {
        arm: arm.to_owned(),
        learning_rate,
        selection: mean(&runs.iter().filter_map(|run| run.selection).collect::<Vec<_>>()),
        selected: false,
        n: runs.len(),
        mean: mean(&scores),
        sd: standard_deviation(&scores),
        interval: t_interval(&independent),
        independent: independent.len(),
        median: median(&scores),
        min: scores.iter().copied().min_by(f64::total_cmp),
        max: scores.iter().copied().max_by(f64::total_cmp),
        failed,
        failed_interval: wilson_interval(failed, runs.len()),
        diverged: runs.iter().filter(|run| run.score.is_none()).count(),
        scores: runs.to_vec(),
    }
}

/// The same for every run of a task, since all are scored on the same dev set.
fn majority_score(facts: &Facts, task: Task) -> Option<f64> {
    facts.ended.iter().find_map(|trial| match (&trial.spec.recipe, &trial.end) {
        (Recipe::Finetune(recipe), TrialEnd::Succeeded(recipe::Report::Finetune(report))) if recipe.task == task => {
            Some(report.majority_score)
        }
        _ => None,
    })
}

fn scored(runs: &[GlueScore]) -> Runs {
    runs.iter().filter_map(|run| Some(((run.pretrain_seed, run.seed), run.score?))).collect()
}

/// Holm's correction over the tasks: one family per arm and learning rate.
fn correct(reports: &mut [GlueReport]) {
    let mut families: BTreeMap<(String, Option<u64>), Vec<&mut Comparison>> = BTreeMap::new();
    for comparison in reports.iter_mut().flat_map(|report| &mut report.comparisons) {
        if comparison.p_paired_t.is_some() {
            let family = (comparison.arm.clone(), comparison.learning_rate.map(f64::to_bits));
            families.entry(family).or_default().push(comparison);
        }
    }
    for family in families.values_mut() {
        let p: Vec<f64> = family.iter().filter_map(|comparison| comparison.p_paired_t).collect();
        for (comparison, adjusted) in family.iter_mut().zip(holm(&p)) {
            comparison.p_holm = Some(adjusted);
        }
    }
}
