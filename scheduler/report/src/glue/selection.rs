//! Selection of the learning rate that is reported for an arm on a task.

use std::collections::BTreeMap;

use recipe::{Finetune, KeptBlocks, Task};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rows::{GlueRow, GlueScore, RunsByRow, Scale, rows, runs_by_row};
use super::tasks::scale;
use crate::comparison::{Runs, independent_values, within};
use crate::facts::Facts;
use crate::statistics::{mean, t_interval};

/// An arm on a task at the learning rate that represents it. Where several rates were tried, the score is cross-fitted:
/// one half of the seeds selects the rate at which the other half is scored, and the other way round, so that the luck
/// of a run counts only once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SelectedScore {
    pub arm: String,
    /// Which blocks of the checkpoint were kept.
    pub keep: KeptBlocks,
    /// Number of blocks that were kept.
    pub blocks: u32,
    /// The learning rates that the halves selected, in rising order; one if there was one to select, or both halves
    /// selected the same.
    pub learning_rates: Vec<f64>,
    /// Number of learning rates that were tried.
    pub tried: usize,
    /// Number of runs.
    pub n: usize,
    /// Mean dev score: with several pre-train seeds the mean of the means of their checkpoints, else that of all runs.
    pub mean: f64,
    /// 95 % t interval of the mean, `[low, high]`, within the range of the metric.
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
}

/// The setting whose fine-tune runs represent an arm on a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Selection {
    keep: KeptBlocks,
    learning_rate: f64,
}

impl Selection {
    pub(crate) fn includes(&self, recipe: &Finetune) -> bool {
        self.keep == recipe.keep && self.learning_rate == recipe.learning_rate.peak
    }
}

/// The selection of `arm` on each task: the selected rate of the rows that keep most blocks. A task is missing if the
/// arm has no run with a result on it, or several rates of which none is selected.
pub(crate) fn selections(facts: &Facts, arm: &str) -> BTreeMap<Task, Selection> {
    let runs = runs_by_row(facts);
    let selection = |task: Task| {
        let rows = rows_of_arm(scale(facts, task), arm, &runs);
        let keep = rows.first()?.keep;
        let row = rows.into_iter().find(|row| row.selected && row.keep == keep)?;
        Some(Selection { keep, learning_rate: row.learning_rate })
    };
    Task::ALL.into_iter().filter_map(|task| Some((task, selection(task)?))).collect()
}

/// The rows of an arm on a task, with the selected ones marked.
pub(super) fn rows_of_arm(scale: Scale, arm: &str, runs: &RunsByRow<'_>) -> Vec<GlueRow> {
    let mut rows = rows(scale, arm, runs);
    for rates in rows.chunk_by_mut(|a, b| a.keep == b.keep) {
        if let Some(best) = select(&rates.iter().map(|row| row.scores.as_slice()).collect::<Vec<_>>()) {
            rates[best].selected = true;
        }
    }
    rows
}

/// The score of each choice of kept blocks among `rows`, which are those of one arm and task, at the learning rate that
/// represents the arm. A choice with several rates is missing if they cannot be selected from, or if it has one seed
/// only, which has no halves.
pub(super) fn selected_scores(scale: Scale, rows: &[GlueRow]) -> Vec<SelectedScore> {
    let score = |rates: &[GlueRow]| {
        let (chosen, runs) = cross_fitted(scale, rates)?;
        let independent = independent_values(&runs);
        let mut learning_rates: Vec<f64> = chosen.iter().map(|row| row.learning_rate).collect();
        learning_rates.sort_by(f64::total_cmp);
        learning_rates.dedup();
        Some(SelectedScore {
            arm: rates[0].arm.clone(),
            keep: rates[0].keep,
            blocks: rates[0].blocks,
            learning_rates,
            tried: rates.len(),
            n: runs.len(),
            mean: mean(&independent)?,
            interval: t_interval(&independent).map(|interval| within(interval, Some(scale.range()))),
        })
    };
    rows.chunk_by(|a, b| a.keep == b.keep).filter_map(score).collect()
}

/// The rows that the halves of the seeds select among `rates`, those of one arm, task and choice of kept blocks, and the
/// runs that each half has in the row of the other's choice.
pub(super) fn cross_fitted(scale: Scale, rates: &[GlueRow]) -> Option<(Vec<&GlueRow>, Runs)> {
    if let [only] = rates {
        return Some((vec![only], scale.runs(&only.scores)));
    }
    let mut seeds: Vec<(u64, u64)> =
        rates.iter().flat_map(|row| row.scores.iter().map(|run| (run.pretrain_seed, run.seed))).collect();
    seeds.sort_unstable();
    seeds.dedup();
    // Each checkpoint gives every other seed to a half, and the number of a checkpoint decides which half begins, so
    // that checkpoints of one run are halved as well.
    let mut is_first: BTreeMap<(u64, u64), bool> = BTreeMap::new();
    for (number, checkpoint) in seeds.chunk_by(|a, b| a.0 == b.0).enumerate() {
        is_first.extend(checkpoint.iter().enumerate().map(|(place, seeds)| (*seeds, (number + place) % 2 == 0)));
    }
    let half = |row: &GlueRow, first: bool| -> Vec<GlueScore> {
        let is_of_half = |run: &&GlueScore| is_first.get(&(run.pretrain_seed, run.seed)) == Some(&first);
        row.scores.iter().filter(is_of_half).cloned().collect()
    };
    let (mut chosen, mut runs) = (Vec::new(), Runs::new());
    for first in [true, false] {
        let selecting: Vec<Vec<GlueScore>> = rates.iter().map(|row| half(row, first)).collect();
        if selecting.iter().any(Vec::is_empty) {
            return None;
        }
        let row = &rates[select(&selecting.iter().map(Vec::as_slice).collect::<Vec<_>>())?];
        runs.extend(scale.runs(&half(row, !first)));
        chosen.push(row);
    }
    Some((chosen, runs))
}

/// The index of the rate to report, among the runs of each rate in rising order: the one with the highest mean
/// selection score, or the lower of two equal ones. A single rate needs no selection score. With several rates, none is
/// selected if one of them has a run that did not diverge and no selection score.
fn select(rates: &[&[GlueScore]]) -> Option<usize> {
    if rates.len() == 1 {
        return Some(0);
    }
    // Rates at which no run diverged come before all others, because the runs that are left at the others are the
    // luckier ones.
    let rank = |runs: &&[GlueScore]| {
        let diverged = runs.iter().filter(|run| run.score.is_none()).count();
        match mean(&runs.iter().filter_map(|run| run.selection).collect::<Vec<f64>>()) {
            None if diverged < runs.len() => None,
            score => Some((diverged == 0, score.unwrap_or(f64::NEG_INFINITY))),
        }
    };
    let ranks: Vec<(bool, f64)> = rates.iter().map(rank).collect::<Option<_>>()?;
    let order = |a: (bool, f64), b: (bool, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
    // Of equal maxima `max_by` takes the last; in reversed order that is the one with the lowest rate.
    (0..ranks.len()).rev().max_by(|&a, &b| order(ranks[a], ranks[b]))
}
