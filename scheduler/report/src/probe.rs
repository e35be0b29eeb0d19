//! What each block does and what the model is without it: means over the pre-train seeds of an arm.

use recipe::report::{BlockProbe, ProbeReport};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::facts::{Facts, TrialEnd};
use crate::statistics::mean;

/// The probes of one arm's checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProbeArm {
    pub arm: String,
    /// Checkpoints that were probed.
    pub n: u32,
    /// Of the model as it is, on the sequences that the probe looked at.
    pub validation_loss: f64,
    /// What random orders of the blocks add to it; absent where none was tried.
    pub shuffled_adds: Option<f64>,
    /// From the first to the last.
    pub blocks: Vec<BlockMeans>,
}

/// Means over the checkpoints of an arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BlockMeans {
    /// From 1.
    pub block: u32,
    /// What the validation loss rises by without this block.
    pub removed_adds: f64,
    /// What it rises by with this block and the next in each other's place; absent for the last.
    pub swapped_adds: Option<f64>,
    /// Cosine of a token's vector before and after the block.
    pub cosine: f64,
    /// L2 distance between the two.
    pub distance: f64,
    /// L2 norm of the gradient of the mean loss by the block's weights.
    pub gradient_norm: f64,
}

/// One row per arm that has a probe, in the order of the job.
pub(crate) fn probes(facts: &Facts) -> Vec<ProbeArm> {
    facts.arms.iter().filter_map(|arm| probe_arm(facts, arm)).collect()
}

fn probe_arm(facts: &Facts, arm: &str) -> Option<ProbeArm> {
    let found: Vec<&ProbeReport> = facts
        .ended
        .iter()
        .filter(|trial| trial.arm.as_deref() == Some(arm))
        .filter_map(|trial| match &trial.end {
            TrialEnd::Succeeded(recipe::Report::Probe(report)) => Some(report),
            _ => None,
        })
        .collect();
    // The checkpoints of an arm are of one depth.
    let blocks = found.first()?.blocks.len();
    let over = |value: &dyn Fn(&ProbeReport) -> Option<f64>| {
        mean(&found.iter().filter_map(|report| value(report)).collect::<Vec<f64>>())
    };
    let block = |index: usize| {
        let of = |value: &dyn Fn(&BlockProbe, f64) -> Option<f64>| {
            over(&|report| value(report.blocks.get(index)?, report.validation_loss))
        };
        Some(BlockMeans {
            block: index as u32 + 1,
            removed_adds: of(&|block, loss| Some(block.removed_loss - loss))?,
            swapped_adds: of(&|block, loss| Some(block.swapped_loss? - loss)),
            cosine: of(&|block, _| Some(block.state.cosine))?,
            distance: of(&|block, _| Some(block.state.distance))?,
            gradient_norm: of(&|block, _| Some(block.state.gradient_norm))?,
        })
    };
    Some(ProbeArm {
        arm: arm.to_owned(),
        n: found.len() as u32,
        validation_loss: over(&|report| Some(report.validation_loss))?,
        shuffled_adds: over(&|report| Some(mean(&report.shuffled_losses)? - report.validation_loss)),
        blocks: (0..blocks).filter_map(block).collect(),
    })
}
