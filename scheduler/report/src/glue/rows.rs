//! Rows of fine-tune runs: one row per task, arm, choice of kept blocks and learning rate.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use recipe::{Keep, Recipe, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::{Runs, units};
use crate::facts::{Facts, TrialEnd};
use crate::statistics::{expected_maximum, mean, median, standard_deviation, t_interval, wilson_interval};

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
pub(crate) const BEST_OF: [u32; 5] = [2, 5, 10, 20, 50];

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

/// What runs of one row share. Cells sort as their rows stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell<'a> {
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

pub(super) type Cells<'a> = BTreeMap<Cell<'a>, Vec<GlueScore>>;

/// Sorts the runs that came to a result into the rows that they belong to.
pub(super) fn cells(facts: &Facts) -> Cells<'_> {
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

/// The rows of an arm on a task, the deepest model first, rates rising; none of them is selected yet.
pub(super) fn rows(task: Task, arm: &str, cells: &Cells<'_>) -> Vec<GlueArm> {
    let of_arm = cells.iter().filter(|(cell, _)| cell.task == task && cell.arm == arm);
    of_arm.map(|(cell, runs)| row(cell, runs)).collect()
}

fn row(cell: &Cell<'_>, runs: &[GlueScore]) -> GlueArm {
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

/// The scores by pre-train seed and seed; a diverged run has none.
pub(super) fn scored(runs: &[GlueScore]) -> Runs {
    runs.iter().filter_map(|run| Some(((run.pretrain_seed, run.seed), run.score?))).collect()
}
