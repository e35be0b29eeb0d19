//! Selection of the learning rate that is reported for an arm on a task.

use std::collections::BTreeMap;

use recipe::{Finetune, KeptBlocks, Task};

use super::rows::{GlueRow, RunsByRow, rows, runs_by_row};
use crate::facts::Facts;

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
        let rows = rows_of_arm(task, arm, &runs);
        let keep = rows.first()?.keep;
        let row = rows.into_iter().find(|row| row.selected && row.keep == keep)?;
        Some(Selection { keep, learning_rate: row.learning_rate })
    };
    Task::ALL.into_iter().filter_map(|task| Some((task, selection(task)?))).collect()
}

/// The rows of an arm on a task, with the selected ones marked.
pub(super) fn rows_of_arm(task: Task, arm: &str, runs: &RunsByRow<'_>) -> Vec<GlueRow> {
    let mut rows = rows(task, arm, runs);
    select(&mut rows);
    rows
}

/// Marks in `rows`, which are those of one arm and task, one learning rate per choice of blocks: the one with the
/// highest mean selection score, or the lower of two equal ones. A single rate needs no selection score. With several
/// rates, nothing is marked if one of them has a run that did not diverge and no selection score.
fn select(rows: &mut [GlueRow]) {
    for rates in rows.chunk_by_mut(|a, b| a.keep == b.keep) {
        // Rates at which no run diverged come before all others, because the runs that are left at the others are the
        // luckier ones.
        let rank = |row: &GlueRow| match row.selection {
            None if row.diverged < row.n => None,
            score => Some((row.diverged == 0, score.unwrap_or(f64::NEG_INFINITY))),
        };
        let ranks: Option<Vec<(bool, f64)>> = rates.iter().map(rank).collect();
        let order = |a: (bool, f64), b: (bool, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
        let best = match (ranks, rates.len()) {
            (_, 1) => Some(0),
            (None, _) => None,
            // Of equal maxima `max_by` takes the last; in reversed order that is the one with the lowest rate.
            (Some(ranks), _) => (0..ranks.len()).rev().max_by(|&a, &b| order(ranks[a], ranks[b])),
        };
        if let Some(best) = best {
            rates[best].selected = true;
        }
    }
}
