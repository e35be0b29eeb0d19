//! Fine-tuning: the dev scores over seeds, per task, arm, kept blocks and learning rate.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use recipe::{Keep, Recipe, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::comparison::{Runs, compare, units};
use super::selection::select;
use super::{Comparison, Facts, TrialEnd};
use crate::statistics::{expected_maximum, holm, mean, median, standard_deviation, t_interval, wilson_interval};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueReport {
    pub task: Task,
    /// The score is the mean of these.
    pub metrics: Vec<String>,
    /// Score of a constant guess of the majority class: a run at or below it failed. Absent while no run has a score.
    pub majority_score: Option<f64>,
    /// One row per arm, choice of kept blocks and learning rate that has a run: arms in the order of the job, the deepest
    /// first, rates rising.
    pub arms: Vec<GlueArm>,
    /// Each other arm against the baseline at the same learning rate and choice of blocks.
    pub comparisons: Vec<Comparison>,
    /// Each other arm at its selected learning rate against the baseline at its own, at the same choice of blocks.
    #[serde(default)]
    pub selected_comparisons: Vec<Comparison>,
}

/// Scores are fractions. A run failed when it scored at or below the majority classifier, or diverged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueArm {
    pub arm: String,
    /// Which blocks of the checkpoint were kept.
    #[serde(default)]
    pub keep: Keep,
    /// How many these are.
    #[serde(default)]
    pub blocks: u32,
    pub learning_rate: f64,
    /// Mean score on the part of train that was set apart, over the runs that have one.
    pub selection: Option<f64>,
    /// Whether this is the rate to report: the arm's only one with these blocks, or the one of highest `selection`.
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
    /// Wall time of training, mean over the runs that came to their end.
    #[serde(default)]
    pub hours: Option<f64>,
    /// What the best of several runs is expected to score, over the runs that have a score.
    #[serde(default)]
    pub best_of: Vec<BestOf>,
    /// By pre-train seed, then seed.
    pub scores: Vec<GlueScore>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BestOf {
    /// At most as many as there are.
    pub runs: u32,
    /// See [`expected_maximum`].
    pub expected: f64,
}

/// For how many runs the expected best is told.
pub(super) const BEST_OF: [u32; 5] = [2, 5, 10, 20, 50];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueScore {
    pub seed: u64,
    pub pretrain_seed: u64,
    /// Absent where the run diverged.
    pub score: Option<f64>,
    /// On the part of train that was set apart; absent where none was.
    pub selection: Option<f64>,
    pub failed: bool,
    /// Wall time of training.
    #[serde(default)]
    pub hours: Option<f64>,
}

pub(super) fn glue(facts: &Facts) -> Vec<GlueReport> {
    let cells = cells(facts);
    let mut reports: Vec<GlueReport> =
        Task::rows().iter().filter_map(|row| task_report(facts, row.task, &cells)).collect();
    correct(&mut reports);
    reports
}

/// What runs of one row share. Cells sort as their rows stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cell<'a> {
    task: Task,
    arm: &'a str,
    blocks: Reverse<u32>,
    keep: Keep,
    /// By its bits, which sort as the positive numbers do.
    rate: u64,
}

impl Cell<'_> {
    fn learning_rate(&self) -> f64 {
        f64::from_bits(self.rate)
    }
}

type Cells<'a> = BTreeMap<Cell<'a>, Vec<GlueScore>>;

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
        let (selection, hours) = match &trial.end {
            TrialEnd::Succeeded(recipe::Report::Finetune(report)) => {
                (report.selection_score.filter(|s| s.is_finite()), Some(report.trained_seconds / 3600.0))
            }
            _ => (None, None),
        };
        let pretrain_seed = recipe.from_seeds.init;
        let run = GlueScore { seed: trial.spec.seeds.head, pretrain_seed, score, selection, failed, hours };
        let cell = Cell {
            task: recipe.task,
            arm,
            blocks: Reverse(recipe.model().blocks),
            keep: recipe.keep,
            rate: recipe.learning_rate.peak.to_bits(),
        };
        cells.entry(cell).or_default().push(run);
    }
    for runs in cells.values_mut() {
        runs.sort_by_key(|run| (run.pretrain_seed, run.seed));
    }
    cells
}

/// The row of each task at the learning rate that is selected for `arm`, that of the deepest model where there are several;
/// none for a task whose rate is not selected.
pub(super) fn selected_rows(facts: &Facts, arm: &str) -> BTreeMap<Task, GlueArm> {
    let cells = cells(facts);
    let deepest = |task: Task| {
        let rows = arm_rows(task, arm, &cells);
        let keep = rows.first()?.keep;
        rows.into_iter().find(|row| row.selected && row.keep == keep)
    };
    Task::rows().iter().filter_map(|row| Some((row.task, deepest(row.task)?))).collect()
}

fn arm_rows(task: Task, arm: &str, cells: &Cells<'_>) -> Vec<GlueArm> {
    let mut rows: Vec<GlueArm> = of_arm(task, arm, cells).map(|(cell, runs)| glue_arm(cell, runs)).collect();
    select(&mut rows);
    rows
}

fn of_arm<'a>(task: Task, arm: &str, cells: &'a Cells<'_>) -> impl Iterator<Item = (&'a Cell<'a>, &'a Vec<GlueScore>)> {
    cells.iter().filter(move |(cell, _)| cell.task == task && cell.arm == arm)
}

fn task_report(facts: &Facts, task: Task, cells: &Cells<'_>) -> Option<GlueReport> {
    let arms: Vec<GlueArm> = facts.arms.iter().flat_map(|arm| arm_rows(task, arm, cells)).collect();
    if arms.is_empty() {
        return None;
    }
    let baseline = || arms.iter().filter(|row| row.arm == facts.baseline);
    let others = || arms.iter().filter(|row| row.arm != facts.baseline);
    let comparisons = others().filter_map(|row| {
        let is_equal = |base: &&GlueArm| base.keep == row.keep && base.learning_rate == row.learning_rate;
        row.against(baseline().find(is_equal)?)
    });
    let selected_comparisons = others().filter(|row| row.selected).filter_map(|row| {
        let is_selected = |base: &&GlueArm| base.keep == row.keep && base.selected;
        row.against(baseline().find(is_selected)?)
    });
    Some(GlueReport {
        task,
        metrics: task.row().metrics.iter().map(|metric| metric.name().to_owned()).collect(),
        majority_score: majority_score(facts, task),
        comparisons: comparisons.collect(),
        selected_comparisons: selected_comparisons.collect(),
        arms,
    })
}

impl GlueArm {
    fn against(&self, baseline: &Self) -> Option<Comparison> {
        let comparison = compare(&self.arm, &scored(&self.scores), &scored(&baseline.scores))?;
        Some(Comparison {
            keep: Some(self.keep),
            blocks: Some(self.blocks),
            learning_rate: Some(self.learning_rate),
            baseline_learning_rate: Some(baseline.learning_rate),
            ..comparison
        })
    }
}

fn glue_arm(cell: &Cell<'_>, runs: &[GlueScore]) -> GlueArm {
    let scored = scored(runs);
    let scores: Vec<f64> = scored.values().copied().collect();
    let independent = units(&scored);
    let failed = runs.iter().filter(|run| run.failed).count();
    GlueArm {
        arm: cell.arm.to_owned(),
        keep: cell.keep,
        blocks: cell.blocks.0,
        learning_rate: cell.learning_rate(),
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
        hours: mean(&runs.iter().filter_map(|run| run.hours).collect::<Vec<_>>()),
        best_of: BEST_OF
            .into_iter()
            .filter(|&runs| runs as usize <= scores.len())
            .filter_map(|runs| Some(BestOf { runs, expected: expected_maximum(&scores, runs)? }))
            .collect(),
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

/// Holm's correction over the tasks: one family per arm, choice of blocks and learning rate; of the comparisons at selected
/// rates one per arm and choice of blocks.
fn correct(reports: &mut [GlueReport]) {
    correct_families(reports.iter_mut().flat_map(|report| &mut report.comparisons), |comparison| {
        (comparison.arm.clone(), comparison.keep, comparison.learning_rate.map(f64::to_bits))
    });
    correct_families(reports.iter_mut().flat_map(|report| &mut report.selected_comparisons), |comparison| {
        (comparison.arm.clone(), comparison.keep)
    });
}

fn correct_families<'a, F: Ord>(comparisons: impl Iterator<Item = &'a mut Comparison>, family: fn(&Comparison) -> F) {
    let mut families: BTreeMap<F, Vec<&mut Comparison>> = BTreeMap::new();
    for comparison in comparisons.filter(|comparison| comparison.p_paired_t.is_some()) {
        families.entry(family(comparison)).or_default().push(comparison);
    }
    for family in families.values_mut() {
        let p: Vec<f64> = family.iter().filter_map(|comparison| comparison.p_paired_t).collect();
        for (comparison, adjusted) in family.iter_mut().zip(holm(&p)) {
            comparison.p_holm = Some(adjusted);
        }
    }
}
