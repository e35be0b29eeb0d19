//! The mean over tasks.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use recipe::{KeptBlocks, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tasks::GlueReport;
use crate::statistics::mean;

/// Mean of an arm's dev scores over tasks at its selected learning rates, as on the GLUE leaderboard: each task counts
/// once, with the mean of its metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueAverage {
    pub arm: String,
    /// Which blocks of the checkpoint were kept.
    pub keep: KeptBlocks,
    /// Number of blocks that were kept.
    pub blocks: u32,
    /// The tasks in the mean: those with a score of this arm at a selected learning rate.
    pub tasks: Vec<Task>,
    /// Mean over `tasks` of the arm's mean dev score, as a fraction.
    pub mean: f64,
}

/// One entry per arm and choice of blocks that has a score: arms in the order of the job, then most blocks first.
pub(crate) fn averages(arms: &[String], reports: &[GlueReport]) -> Vec<GlueAverage> {
    let rows = || reports.iter().flat_map(|report| report.arms.iter().map(move |row| (report.task, row)));
    let mut averages = Vec::new();
    for arm in arms {
        let of_arm = || rows().filter(|(_, row)| row.arm == *arm);
        let depths: BTreeSet<(Reverse<u32>, KeptBlocks)> =
            of_arm().map(|(_, row)| (Reverse(row.blocks), row.keep)).collect();
        for (Reverse(blocks), keep) in depths {
            let selected = of_arm().filter(|(_, row)| row.keep == keep && row.selected);
            let (tasks, scores): (Vec<Task>, Vec<f64>) =
                selected.filter_map(|(task, row)| Some((task, row.mean?))).unzip();
            averages.extend(mean(&scores).map(|mean| GlueAverage { arm: arm.clone(), keep, blocks, tasks, mean }));
        }
    }
    averages
}
