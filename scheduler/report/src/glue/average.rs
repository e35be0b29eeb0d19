//! The mean over tasks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use recipe::{KeptBlocks, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::selection::SelectedScore;
use super::tasks::GlueReport;
use crate::comparison::{CheckpointPair, Runs, Shared, by_checkpoint};
use crate::statistics::{mean, spread_within, t_interval};

/// Mean of an arm's dev scores over tasks at its selected learning rates, as on the GLUE leaderboard: each task counts
/// once, with the mean of its metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueAverage {
    pub arm: String,
    /// Which blocks of the checkpoint were kept.
    pub keep: KeptBlocks,
    /// Number of blocks that were kept.
    pub blocks: u32,
    /// The tasks in the mean: those on which every arm with this choice of blocks has a score at a selected learning
    /// rate, so that the means of all arms are over equal tasks.
    pub tasks: Vec<Task>,
    /// Mean over `tasks` of the arm's mean dev score, as a fraction.
    pub mean: f64,
    /// 95 % t interval of the mean over pre-train seeds, `[low, high]`. Absent for one pre-train seed.
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
}

/// One entry per arm and choice of blocks that has a score on every common task: arms in the order of the job, then
/// most blocks first.
pub(crate) fn averages(arms: &[String], reports: &[GlueReport]) -> Vec<GlueAverage> {
    let scores = || reports.iter().flat_map(|report| report.selected.iter().map(move |score| (report, score)));
    let mut common: BTreeMap<KeptBlocks, BTreeMap<&str, BTreeSet<Task>>> = BTreeMap::new();
    for (report, score) in scores() {
        common.entry(score.keep).or_default().entry(&score.arm).or_default().insert(report.task);
    }
    let common: BTreeMap<KeptBlocks, BTreeSet<Task>> = common
        .into_iter()
        .filter_map(|(keep, arms)| {
            Some((keep, arms.into_values().reduce(|all, own| all.intersection(&own).copied().collect())?))
        })
        .collect();
    let mut averages = Vec::new();
    for arm in arms {
        let choices: BTreeSet<(Reverse<u32>, KeptBlocks)> = scores()
            .filter(|(_, score)| score.arm == *arm)
            .map(|(_, score)| (Reverse(score.blocks), score.keep))
            .collect();
        for (Reverse(blocks), keep) in choices {
            let is_common = |task: &Task| common.get(&keep).is_some_and(|tasks| tasks.contains(task));
            let counted: Vec<(&GlueReport, &SelectedScore)> = scores()
                .filter(|(report, score)| score.arm == *arm && score.keep == keep && is_common(&report.task))
                .collect();
            let Some(mean) = mean(&counted.iter().map(|(_, score)| score.mean).collect::<Vec<f64>>()) else { continue };
            let tasks = counted.iter().map(|(report, _)| report.task).collect();
            let means = checkpoint_means(counted.iter().map(|(report, score)| report.runs_of(score)));
            let interval = t_interval(&means).map(|ends| ends.map(|end| end.clamp(-1.0, 1.0)));
            averages.push(GlueAverage { arm: arm.clone(), keep, blocks, tasks, mean, interval });
        }
    }
    averages
}

/// The mean over all tasks of each pre-train seed that has runs in each of them, from the runs of each task. Empty for
/// one pre-train seed.
fn checkpoint_means(tasks: impl Iterator<Item = Option<Runs>>) -> Vec<f64> {
    let tasks: Vec<Runs> = tasks.flatten().collect();
    let mut seeds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for runs in &tasks {
        for (seed, values) in by_checkpoint(runs) {
            seeds.entry(seed).or_default().extend(mean(&values));
        }
    }
    let means: Vec<f64> =
        seeds.values().filter(|means| means.len() == tasks.len()).filter_map(|means| mean(means)).collect();
    if means.len() > 1 { means } else { Vec::new() }
}

/// An arm against the baseline in the mean over the tasks on which both can be compared.
pub(crate) struct AveragePair {
    /// Mean score over tasks of each pre-train seed, `(baseline, arm)`.
    pub(crate) pairs: Vec<(f64, f64)>,
    /// Logarithm of the ratio of spreads within the checkpoint of each pre-train seed, as the mean over tasks.
    pub(crate) spreads: Vec<f64>,
}

/// `None` if there is no such task.
pub(crate) fn average_pair(reports: &[GlueReport], arm: &str, baseline: &str) -> Option<AveragePair> {
    let shared: Vec<Shared> = reports.iter().filter_map(|report| report.selected_pair(arm, baseline)).collect();
    let tasks = shared.len();
    let mut seeds: BTreeMap<u64, Vec<CheckpointPair>> = BTreeMap::new();
    for task in &shared {
        for (seed, values) in task.checkpoints() {
            seeds.entry(seed).or_default().push(values);
        }
    }
    // A seed that lacks a task would compare different tasks.
    let whole: Vec<Vec<CheckpointPair>> = seeds.into_values().filter(|values| values.len() == tasks).collect();
    let pair = |values: &Vec<CheckpointPair>| {
        let side = |side: fn(&CheckpointPair) -> &Vec<f64>| {
            mean(&values.iter().map(|task| mean(side(task))).collect::<Option<Vec<f64>>>()?)
        };
        Some((side(|task| &task.0)?, side(|task| &task.1)?))
    };
    let spread = |values: &Vec<CheckpointPair>| spread_within(values).map(|spread| spread.centre);
    (tasks > 0).then(|| AveragePair {
        pairs: whole.iter().filter_map(pair).collect(),
        spreads: whole.iter().filter_map(spread).collect(),
    })
}
