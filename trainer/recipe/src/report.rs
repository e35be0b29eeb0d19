//! What a finished trial reports: facts, not statistics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stage::{Stage, Timing};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
// A job's report is another type of the same name.
#[cfg_attr(feature = "schema", schema(as = TrialReport))]
pub enum Report {
    Timing(TimingReport),
    Pretrain(PretrainReport),
    Finetune(FinetuneReport),
    Probe(ProbeReport),
}

impl Report {
    pub const fn stage(&self) -> Stage {
        match self {
            Report::Timing(_) => Stage::Timing,
            Report::Pretrain(_) => Stage::Pretrain,
            Report::Finetune(_) => Stage::Finetune,
            Report::Probe(_) => Stage::Probe,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TimingReport {
    pub arms: Vec<ArmTiming>,
}

impl TimingReport {
    /// The first arm of `timing` that it has no steps of: nothing can be compared with it, nor is a budget in its seconds worth
    /// anything.
    pub fn lacks<'a>(&self, timing: &'a Timing) -> Option<&'a str> {
        let is_timed = |name: &str| {
            let arm = self.arms.iter().find(|arm| arm.name == name);
            arm.is_some_and(|arm| {
                !arm.turns.is_empty() && arm.turns.iter().all(|seconds| seconds.is_finite() && *seconds > 0.0)
            })
        };
        timing.arms.iter().map(|arm| arm.name.as_str()).find(|name| !is_timed(name))
    }
}

/// The timed steps of one arm. Steps are drawn evenly over the whole run's schedule, so their mean is the run's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ArmTiming {
    pub name: String,
    pub blocks: u32,
    /// Mean seconds per step of each turn, in the order in which they ran.
    pub turns: Vec<f64>,
    /// Timed steps by number of open blocks.
    pub by_open: Vec<OpenTiming>,
    /// Tokens per step, for tokens per second.
    pub tokens_per_step: u64,
    /// Absent where there are no warm-up steps to measure it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ArmMemory>,
    /// Sequences in the largest batch whose fullest step fits into the memory; absent where it was not looked for, 0 where
    /// not even the smallest one fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_batch: Option<u32>,
}

/// Memory of an arm's steps, as libtorch's allocator hands it out, measured in steps that are not timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ArmMemory {
    /// Weights, moments and gradients: what is there between two steps.
    pub state_bytes: u64,
    /// The most in any of these steps, with the state.
    pub peak_bytes: u64,
    /// Averaged over the time of each step, then over the steps; with the state.
    pub mean_bytes: u64,
    pub by_open: Vec<OpenMemory>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OpenMemory {
    /// Twice the blocks' worth of work per step: the number of open sublayers.
    pub open_sublayers: u32,
    pub steps: u32,
    /// The most in any of these steps, with the state.
    pub peak_bytes: u64,
    /// Mean over the time of these steps, with the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OpenTiming {
    /// Blocks' worth of work per step: half the number of open sublayers, rounded to halves.
    pub open_blocks: f64,
    pub steps: u32,
    /// Summed over these steps.
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PretrainReport {
    pub steps: u64,
    /// Wall time of training steps only, over all attempts.
    pub trained_seconds: f64,
    pub tokens: u64,
    pub validation_loss: f64,
    /// Share of the held-out images whose class is found; of a classifier of images alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// Hex sha256 chained over (step, loss bits) of every step: equal chains, equal runs.
    pub digest: String,
    /// Hex sha256 of the final checkpoint's manifest.
    pub checkpoint: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FinetuneReport {
    pub steps: u64,
    pub trained_seconds: f64,
    /// Each metric of the task on dev after the last epoch, as a fraction (0.53, not 53). MNLI's mismatched dev file,
    /// where there is one, adds `accuracy_mismatched`.
    pub metrics: BTreeMap<String, f64>,
    /// Mean of the metrics.
    pub score: f64,
    /// The same on the part of train that was set apart; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection_score: Option<f64>,
    /// The same score for a constant guess of the majority class (0 for a regression task). At or below it the run failed.
    pub majority_score: f64,
    pub digest: String,
    /// Answers to the task's test files, as the GLUE server wants them; empty where the data have no test file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predictions: Vec<PredictionFile>,
}

/// What a probe finds on held-out sequences, every block open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ProbeReport {
    /// Training step of the checkpoint.
    pub step: u64,
    /// How many held-out sequences it looked at.
    pub sequences: u32,
    /// Of the model as it is.
    pub validation_loss: f64,
    /// From the first block to the last. In an order of sublayers of one's own, a block is two that follow each other.
    pub blocks: Vec<BlockProbe>,
    /// Validation losses with the blocks in a random order, one draw each.
    pub shuffled_losses: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BlockProbe {
    #[serde(flatten)]
    pub state: BlockState,
    /// Validation loss without this block.
    pub removed_loss: f64,
    /// Validation loss with this block and the next in each other's place; absent for the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped_loss: Option<f64>,
}

/// What one block does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BlockState {
    /// From 1.
    pub block: u32,
    /// Cosine of a token's vector before and after the block; the mean over tokens.
    pub cosine: f64,
    /// L2 distance between the two; the mean over tokens.
    pub distance: f64,
    /// L2 norm of the gradient of the mean loss by the block's weights.
    pub gradient_norm: f64,
}

impl BlockState {
    /// As points of a curve: `block_3_cosine`, `block_3_distance`, `block_3_gradient_norm`.
    pub fn points(&self) -> [(String, f64); 3] {
        let values = [("cosine", self.cosine), ("distance", self.distance), ("gradient_norm", self.gradient_norm)];
        values.map(|(name, value)| (format!("block_{}_{name}", self.block), value))
    }
}

/// Folder of answers to test files, under the trainer's `--out`.
pub const PREDICTIONS: &str = "predictions";

/// A file in the folder [`PREDICTIONS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PredictionFile {
    /// Its name in a submission, such as `RTE.tsv`.
    pub name: String,
    /// Answers in it.
    pub rows: u64,
    /// Hex sha256 of its bytes.
    pub sha256: String,
    pub bytes: u64,
}
