//! Which learning rate of an arm is reported on a task.

use std::collections::BTreeMap;

use recipe::{Finetune, Keep, Task};

use super::rows::{Cells, GlueArm, cells, rows};
use crate::facts::Facts;

/// Which runs of an arm on a task stand for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Selected {
    /// Of several choices of blocks, the one that keeps most.
    pub keep: Keep,
    pub learning_rate: f64,
}

impl Selected {
    pub fn is_of(&self, recipe: &Finetune) -> bool {
        self.keep == recipe.keep && self.learning_rate == recipe.learning_rate.peak
    }
}

/// What is selected for `arm`, by task; nothing for a task on which it has no run, or several rates and no selection.
pub fn selected(facts: &Facts, arm: &str) -> BTreeMap<Task, Selected> {
    let rows = selected_rows(facts, arm).into_iter();
    rows.map(|(task, row)| (task, Selected { keep: row.keep, learning_rate: row.learning_rate })).collect()
}

/// The row of each task at the learning rate that is selected for `arm`, that of the deepest model where there are several;
/// none for a task whose rate is not selected.
fn selected_rows(facts: &Facts, arm: &str) -> BTreeMap<Task, GlueArm> {
    let cells = cells(facts);
    let deepest = |task: Task| {
        let rows = rows_of_arm(task, arm, &cells);
        let keep = rows.first()?.keep;
        rows.into_iter().find(|row| row.selected && row.keep == keep)
    };
    Task::rows().iter().filter_map(|row| Some((row.task, deepest(row.task)?))).collect()
}

/// The rows of an arm on a task, with the selected ones marked.
pub(super) fn rows_of_arm(task: Task, arm: &str, cells: &Cells<'_>) -> Vec<GlueArm> {
    let mut rows = rows(task, arm, cells);
    select(&mut rows);
    rows
}

/// Marks in `rows`, those of one task, the rate of highest mean selection score of each arm and choice of blocks, the lower
/// rate of two equal ones. A rate at which a run diverged comes after all at which none did: what is left of its runs says
/// too much good of it. A lone rate needs no selection. Where a row of several has a run that ended and no selection score,
/// nothing is selected.
fn select(rows: &mut [GlueArm]) {
    for run in rows.chunk_by_mut(|a, b| a.arm == b.arm && a.keep == b.keep) {
        let score = |row: &GlueArm| match row.selection {
            None if row.diverged < row.n => None,
            score => Some((row.diverged == 0, score.unwrap_or(f64::NEG_INFINITY))),
        };
        let scores: Option<Vec<(bool, f64)>> = run.iter().map(score).collect();
        let order = |a: (bool, f64), b: (bool, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
        let best = match (scores, run.len()) {
            (_, 1) => Some(0),
            (None, _) => None,
            // Rates rise, so the first of equals is the lowest.
            (Some(scores), _) => (0..scores.len()).rev().max_by(|&a, &b| order(scores[a], scores[b])),
        };
        if let Some(best) = best {
            run[best].selected = true;
        }
    }
}
