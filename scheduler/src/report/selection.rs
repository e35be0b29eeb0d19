//! What each arm reaches at the learning rate that the part set apart from train picks, per task and over the tasks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use recipe::{Finetune, Keep, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Facts;
use super::glue::{GlueArm, GlueReport, selected_rows};
use crate::statistics::mean;

/// Mean over tasks, as on the GLUE leaderboard: of each task the mean of its metrics (MNLI counts once), at the selected
/// learning rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueAverage {
    pub arm: String,
    /// Which blocks of the checkpoint were kept.
    #[serde(default)]
    pub keep: Keep,
    /// How many these are.
    #[serde(default)]
    pub blocks: u32,
    /// The tasks that the mean is over: those with a score of this arm and, where several rates ran, a selection.
    pub tasks: Vec<Task>,
    /// Mean over `tasks` of the mean dev score, a fraction.
    pub mean: f64,
}

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

/// Marks in `rows`, those of one task, the rate of highest mean selection score of each arm and choice of blocks, the lower
/// rate of two equal ones. A rate at which a run diverged comes after all at which none did: what is left of its runs says
/// too much good of it. A lone rate needs no selection. Where a row of several has a run that ended and no selection score,
/// nothing is selected.
pub(super) fn select(rows: &mut [GlueArm]) {
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

/// One entry per arm and choice of blocks that has a score: arms in the order of the job, the deepest first.
pub(super) fn averages(arms: &[String], reports: &[GlueReport]) -> Vec<GlueAverage> {
    let rows = || reports.iter().flat_map(|report| report.arms.iter().map(move |row| (report.task, row)));
    let mut averages = Vec::new();
    for arm in arms {
        let of_arm = || rows().filter(|(_, row)| row.arm == *arm);
        let depths: BTreeSet<(Reverse<u32>, Keep)> = of_arm().map(|(_, row)| (Reverse(row.blocks), row.keep)).collect();
        for (Reverse(blocks), keep) in depths {
            let selected = of_arm().filter(|(_, row)| row.keep == keep && row.selected);
            let (tasks, scores): (Vec<Task>, Vec<f64>) =
                selected.filter_map(|(task, row)| Some((task, row.mean?))).unzip();
            averages.extend(mean(&scores).map(|mean| GlueAverage { arm: arm.clone(), keep, blocks, tasks, mean }));
        }
    }
    averages
}
