//! The mean over tasks.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use recipe::{Keep, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tasks::GlueReport;
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

/// One entry per arm and choice of blocks that has a score: arms in the order of the job, the deepest first.
pub(crate) fn averages(arms: &[String], reports: &[GlueReport]) -> Vec<GlueAverage> {
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
