//! This module sorts fine-tune runs into rows, one per task, arm, choice of kept blocks and learning rate.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use recipe::{KeptBlocks, Metric, Recipe, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::{Run, Runs, by_checkpoint, failures_by_checkpoint, independent_values, within};
use crate::facts::{Facts, TrialStatus};
use crate::statistics::{
    expected_maximum, mean, median, nested_rate_interval, nesting, standard_deviation, t_interval,
};

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
    /// Mean dev score: with several pre-train seeds the mean of the means of their checkpoints, else that of all runs. A
    /// run that diverged counts with the score of the majority class, here and in `sd`, `median`, `min`, `max` and
    /// `best_of`.
    pub mean: Option<f64>,
    /// 95 % t interval of the mean over the `independent` values, `[low, high]`, within the range of the metric. Absent
    /// for a single value, and if all are equal. It holds for runs that do not fail: where some do, or may, the mean
    /// without failures and the share of failed runs say more.
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
    /// Number of independent values behind `mean` and `interval`: with several pre-train seeds one value per seed (the
    /// mean of its runs), else one value per run.
    pub independent: usize,
    /// Mean dev score of the runs that did not fail. Absent if none failed, or all did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub mean_without_failures: Option<f64>,
    /// Sample standard deviation of all runs (divisor n - 1).
    pub sd: Option<f64>,
    /// Share of the variance of a run that lies between checkpoints, 0 to 1. Absent unless there are several
    /// checkpoints, one of them with several runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub between_checkpoints: Option<f64>,
    /// Number of independent runs that would tell as much about the mean. Absent where `between_checkpoints` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub effective_n: Option<f64>,
    pub median: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Number of failed runs: those that scored at or below a constant guess of the majority class, or diverged.
    pub failed: usize,
    /// 95 % interval of the share of failed runs, `[low, high]`: Wilson's, with runs of one checkpoint counted as fewer
    /// where they are alike (Korn and Graubard 1998).
    #[schema(min_items = 2, max_items = 2)]
    pub failed_interval: Option<[f64; 2]>,
    /// Number of runs that diverged. They count as failed.
    pub diverged: usize,
    /// Mean wall time of training in hours, over the runs whose trial succeeded.
    pub hours: Option<f64>,
    /// Expected best score of 2, 5, 10, 20 and 50 runs, as far as there are more runs than that.
    pub best_of: Vec<ExpectedBest>,
    /// The runs, sorted by pre-train seed, then by seed.
    pub scores: Vec<GlueScore>,
}

/// The score that the best of several runs is expected to have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExpectedBest {
    /// Number of runs, k.
    pub runs: u32,
    /// Expected maximum of k of the row's n scores, drawn without replacement (Tang et al. 2020):
    /// `sum_i v_i C(i-1, k-1) / C(n, k)` over the scores in rising order.
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
        // A run with a score that no metric has counts as diverged.
        let is_score = |score: &f64| (-1.0..=1.0).contains(score);
        let score = report.map(|report| report.score).filter(is_score);
        let run = GlueScore {
            seed: trial.seeds.head,
            pretrain_seed: recipe.from_seeds.init,
            score,
            selection: report.and_then(|report| report.selection_score).filter(is_score),
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

/// What the rows of a task share.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) task: Task,
    /// Score of the majority class. Absent until a run has succeeded.
    pub(super) majority: Option<f64>,
}

impl Scale {
    /// The range of the score.
    pub(super) fn range(self) -> [f64; 2] {
        let is_correlation = |metric: &Metric| matches!(metric, Metric::Matthews | Metric::Pearson | Metric::Spearman);
        [if self.task.row().metrics.iter().any(is_correlation) { -1.0 } else { 0.0 }, 1.0]
    }

    /// The differences that two scores can have.
    pub(super) fn differences(self) -> [f64; 2] {
        let [least, most] = self.range();
        [least - most, most - least]
    }

    /// The runs by their seeds. A run that diverged has the score of the majority class.
    pub(super) fn runs(self, scores: &[GlueScore]) -> Runs {
        let run = |run: &GlueScore| {
            let value = run.score.or(self.majority)?;
            Some(((run.pretrain_seed, run.seed), Run { value, failed: run.failed }))
        };
        scores.iter().filter_map(run).collect()
    }
}

/// Returns the rows of an arm on a task: most blocks first, then by choice of kept blocks, then by rising rate. None of
/// them is selected yet.
pub(super) fn rows(scale: Scale, arm: &str, runs: &RunsByRow<'_>) -> Vec<GlueRow> {
    let of_arm = runs.iter().filter(|(key, _)| key.task == scale.task && key.arm == arm);
    of_arm.map(|(key, runs)| row(scale, key, runs)).collect()
}

fn row(scale: Scale, key: &RowKey<'_>, scores: &[GlueScore]) -> GlueRow {
    let runs = scale.runs(scores);
    let values: Vec<f64> = runs.values().map(|run| run.value).collect();
    let sound: Vec<f64> = runs.values().filter(|run| !run.failed).map(|run| run.value).collect();
    let independent = independent_values(&runs);
    let failed = scores.iter().filter(|run| run.failed).count();
    let nested = nesting(&by_checkpoint(&runs).into_values().collect::<Vec<_>>());
    let mean_of = |measure: fn(&GlueScore) -> Option<f64>| mean(&scores.iter().filter_map(measure).collect::<Vec<_>>());
    let expected_best = |count: u32| Some(ExpectedBest { runs: count, expected: expected_maximum(&values, count)? });
    // The best of all runs is their maximum, of which one sample says nothing more.
    let counts = BEST_OF_COUNTS.into_iter().filter(|&count| (count as usize) < values.len());
    GlueRow {
        arm: key.arm.to_owned(),
        keep: key.keep,
        blocks: key.blocks.0,
        learning_rate: f64::from_bits(key.rate),
        selection: mean_of(|run| run.selection),
        selected: false,
        n: scores.len(),
        mean: mean(&independent),
        interval: t_interval(&independent).map(|interval| within(interval, Some(scale.range()))),
        independent: independent.len(),
        mean_without_failures: mean(&sound).filter(|_| failed > 0),
        sd: standard_deviation(&values),
        between_checkpoints: nested.map(|nested| nested.correlation),
        effective_n: nested.map(|nested| nested.effective_n),
        median: median(&values),
        min: values.iter().copied().min_by(f64::total_cmp),
        max: values.iter().copied().max_by(f64::total_cmp),
        failed,
        failed_interval: nested_rate_interval(&failures_by_checkpoint(&all_runs(scores))),
        diverged: scores.iter().filter(|run| run.score.is_none()).count(),
        hours: mean_of(|run| run.hours),
        best_of: counts.filter_map(expected_best).collect(),
        scores: scores.to_vec(),
    }
}

/// All runs, also those that diverged where no score of the majority class is known. Only whether they failed counts.
fn all_runs(scores: &[GlueScore]) -> Runs {
    let run = |run: &GlueScore| ((run.pretrain_seed, run.seed), Run { value: 0.0, failed: run.failed });
    scores.iter().map(run).collect()
}
