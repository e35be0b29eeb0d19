//! This module sorts fine-tune runs into rows, one per task, arm, choice of kept blocks and learning rate.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use recipe::{KeptBlocks, Recipe, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::{RunValues, independent_values};
use crate::facts::{Facts, TrialStatus};
use crate::statistics::{expected_maximum, mean, median, standard_deviation, t_interval, wilson_interval};

/// A row of the table of a task: the runs of an arm with one choice of kept blocks and one learning rate. Scores are
/// fractions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueRow {
    pub arm: String,
    /// Which blocks of the checkpoint were kept.
    pub keep: KeptBlocks,
    /// Number of blocks that were kept.
    pub blocks: u32,
    /// Peak learning rate of fine-tuning.
    pub learning_rate: f64,
    /// Mean score on the part of the training set that was held out for selection, over the runs that have one.
    pub selection: Option<f64>,
    /// True if this is the learning rate to report for the arm with these blocks. A single rate is selected. Of
    /// several, the one with the highest `selection` is: rates at which no run diverged come before the others, and the
    /// lower of two equal ones is selected. None is selected if a rate has no `selection` although a run of it did not
    /// diverge.
    pub selected: bool,
    /// Number of runs with a result: a score, or divergence.
    pub n: usize,
    /// Mean dev score. Like `sd`, `median`, `min`, `max` and `best_of` it is computed over the runs that have a score.
    pub mean: Option<f64>,
    /// Sample standard deviation (divisor n - 1).
    pub sd: Option<f64>,
    /// 95 % t interval of the mean over the `independent` values, `[low, high]`. Absent for a single value, and if all
    /// are equal.
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
    /// Number of independent values behind `interval`: with several pre-train seeds one value per seed (the mean of its
    /// runs), else one value per run.
    pub independent: usize,
    pub median: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Number of failed runs: those that scored at or below a constant guess of the majority class, or diverged.
    pub failed: usize,
    /// 95 % Wilson interval of `failed / n`, `[low, high]`.
    #[schema(min_items = 2, max_items = 2)]
    pub failed_interval: Option<[f64; 2]>,
    /// Number of runs that diverged. They count as failed and have no score.
    pub diverged: usize,
    /// Mean wall time of training in hours, over the runs whose trial succeeded.
    pub hours: Option<f64>,
    /// Expected best score of 2, 5, 10, 20 and 50 runs, as far as that many runs have a score.
    pub best_of: Vec<ExpectedBest>,
    /// The runs, sorted by pre-train seed, then by seed.
    pub scores: Vec<GlueScore>,
}

/// The score that the best of several runs is expected to have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExpectedBest {
    /// Number of runs, k.
    pub runs: u32,
    /// Expected maximum of k of the row's n scores, drawn with replacement (Dodge et al. 2019):
    /// `sum_i v_i [(i/n)^k - ((i-1)/n)^k]` over the scores in rising order.
    pub expected: f64,
}

/// Numbers of runs for which the expected best score is given.
pub(crate) const BEST_OF_COUNTS: [u32; 5] = [2, 5, 10, 20, 50];

/// A fine-tune run with a result: a score, or divergence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueScore {
    /// Seed of the fine-tuning.
    pub seed: u64,
    /// Seed of the pre-training that the run starts from; 0 for a published checkpoint.
    pub pretrain_seed: u64,
    /// Score on the dev set. Absent if the run diverged.
    pub score: Option<f64>,
    /// Score on the part of the training set that was held out for selection. Absent if none was held out.
    pub selection: Option<f64>,
    /// True if the score is at or below that of the majority class, or the run diverged.
    pub failed: bool,
    /// Wall time of training in hours. Absent if the trial failed.
    pub hours: Option<f64>,
}

/// The setting that all runs of one row share. Keys sort in the order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey<'a> {
    task: Task,
    arm: &'a str,
    blocks: Reverse<u32>,
    keep: KeptBlocks,
    /// Bits of the learning rate. The bits of positive numbers sort like the numbers.
    rate: u64,
}

pub(super) type RunsByRow<'a> = BTreeMap<RowKey<'a>, Vec<GlueScore>>;

/// The fine-tune runs with a result, sorted into rows.
pub(super) fn runs_by_row(facts: &Facts) -> RunsByRow<'_> {
    let mut rows = RunsByRow::new();
    for trial in &facts.trials {
        let (Recipe::Finetune(recipe), Some(arm)) = (&*trial.recipe, trial.arm.as_deref()) else { continue };
        let report = match &trial.status {
            TrialStatus::Succeeded(recipe::TrialReport::Finetune(report)) => Some(report),
            status if status.is_diverged() => None,
            // A trial that failed for another reason has no result. The notes count it.
            _ => continue,
        };
        // A run with a score that is not finite counts as diverged.
        let score = report.map(|report| report.score).filter(|score| score.is_finite());
        let run = GlueScore {
            seed: trial.seeds.head,
            pretrain_seed: recipe.from_seeds.init,
            score,
            selection: report.and_then(|report| report.selection_score).filter(|score| score.is_finite()),
            failed: match (score, report) {
                (Some(score), Some(report)) => score <= report.majority_score,
                // The run diverged.
                (None, _) | (_, None) => true,
            },
            hours: report.map(|report| report.trained_seconds / 3600.0),
        };
        let key = RowKey {
            task: recipe.task,
            arm,
            blocks: Reverse(recipe.model().blocks),
            keep: recipe.keep,
            rate: recipe.learning_rate.peak.to_bits(),
        };
        rows.entry(key).or_default().push(run);
    }
    for runs in rows.values_mut() {
        runs.sort_by_key(|run| (run.pretrain_seed, run.seed));
    }
    rows
}

/// Returns the rows of an arm on a task: most blocks first, then by choice of kept blocks, then by rising rate. None of
/// them is selected yet.
pub(super) fn rows(task: Task, arm: &str, runs: &RunsByRow<'_>) -> Vec<GlueRow> {
    let of_arm = runs.iter().filter(|(key, _)| key.task == task && key.arm == arm);
    of_arm.map(|(key, runs)| row(key, runs)).collect()
}

fn row(key: &RowKey<'_>, runs: &[GlueScore]) -> GlueRow {
    let scored = scores_by_seeds(runs);
    let scores: Vec<f64> = scored.values().copied().collect();
    let independent = independent_values(&scored);
    let failed = runs.iter().filter(|run| run.failed).count();
    let mean_of = |measure: fn(&GlueScore) -> Option<f64>| mean(&runs.iter().filter_map(measure).collect::<Vec<_>>());
    let expected_best = |count: u32| Some(ExpectedBest { runs: count, expected: expected_maximum(&scores, count)? });
    let counts = BEST_OF_COUNTS.into_iter().filter(|&count| count as usize <= scores.len());
    GlueRow {
        arm: key.arm.to_owned(),
        keep: key.keep,
        blocks: key.blocks.0,
        learning_rate: f64::from_bits(key.rate),
        selection: mean_of(|run| run.selection),
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
        hours: mean_of(|run| run.hours),
        best_of: counts.filter_map(expected_best).collect(),
        scores: runs.to_vec(),
    }
}

/// The dev scores of the runs that have one.
pub(super) fn scores_by_seeds(runs: &[GlueScore]) -> RunValues {
    runs.iter().filter_map(|run| Some(((run.pretrain_seed, run.seed), run.score?))).collect()
}
