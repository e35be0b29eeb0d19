//! The contribution of each block of a checkpoint: means over the pre-train seeds of an arm.

use recipe::report::{BlockProbe, ProbeReport};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::facts::{Facts, TrialStatus};
use crate::statistics::mean;

/// Probes of one arm's checkpoints on held-out data, with all blocks open. The numbers are means over the checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProbeArm {
    pub arm: String,
    /// Number of probed checkpoints, one per pre-train seed.
    pub n: u32,
    /// Validation loss of the unchanged model on the probed sequences.
    pub validation_loss: f64,
    /// Increase of the validation loss with all blocks in a random order, averaged over the orders. Absent if none was
    /// tried.
    pub shuffled_adds: Option<f64>,
    /// The blocks from first to last.
    pub blocks: Vec<BlockMeans>,
}

/// The contribution of one block: means over the checkpoints of an arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BlockMeans {
    /// Number of the block, counted from 1.
    pub block: u32,
    /// Increase of the validation loss without this block.
    pub removed_adds: f64,
    /// Increase of the validation loss with this block and the next one swapped. Absent for the last block.
    pub swapped_adds: Option<f64>,
    /// Cosine of the angle between a token's vector before the block and after it, averaged over tokens.
    pub cosine: f64,
    /// L2 distance between these two vectors, averaged over tokens.
    pub distance: f64,
    /// L2 norm of the gradient of the mean loss with respect to the block's weights.
    pub gradient_norm: f64,
}

/// One entry per arm with a probed checkpoint, in the order of the job.
pub(crate) fn probes(facts: &Facts) -> Vec<ProbeArm> {
    facts.arms.iter().filter_map(|arm| probe_arm(facts, arm)).collect()
}

fn probe_arm(facts: &Facts, arm: &str) -> Option<ProbeArm> {
    let reports: Vec<&ProbeReport> = facts
        .trials_of(arm)
        .filter_map(|trial| match &trial.status {
            TrialStatus::Succeeded(recipe::TrialReport::Probe(report)) => Some(report),
            _ => None,
        })
        .collect();
    // All checkpoints of an arm have the same number of blocks.
    let blocks = reports.first()?.blocks.len();
    let mean_over = |value: &dyn Fn(&ProbeReport) -> Option<f64>| {
        mean(&reports.iter().filter_map(|report| value(report)).collect::<Vec<f64>>())
    };
    let block = |index: usize| {
        let mean_of = |value: &dyn Fn(&BlockProbe, f64) -> Option<f64>| {
            mean_over(&|report| value(report.blocks.get(index)?, report.validation_loss))
        };
        Some(BlockMeans {
            block: index as u32 + 1,
            removed_adds: mean_of(&|block, loss| Some(block.removed_loss - loss))?,
            swapped_adds: mean_of(&|block, loss| Some(block.swapped_loss? - loss)),
            cosine: mean_of(&|block, _| Some(block.state.cosine))?,
            distance: mean_of(&|block, _| Some(block.state.distance))?,
            gradient_norm: mean_of(&|block, _| Some(block.state.gradient_norm))?,
        })
    };
    Some(ProbeArm {
        arm: arm.to_owned(),
        n: reports.len() as u32,
        validation_loss: mean_over(&|report| Some(report.validation_loss))?,
        shuffled_adds: mean_over(&|report| Some(mean(&report.shuffled_losses)? - report.validation_loss)),
        blocks: (0..blocks).filter_map(block).collect(),
    })
}
