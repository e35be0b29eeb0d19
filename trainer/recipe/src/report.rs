//! The results of a finished trial, as measured; a job's report computes statistics from them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stage::Stage;
use crate::timing::Timing;

/// The results of a trial that succeeded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum TrialReport {
    Timing(TimingReport),
    Pretrain(PretrainReport),
    Finetune(FinetuneReport),
    Probe(ProbeReport),
}

impl TrialReport {
    pub const fn stage(&self) -> Stage {
        match self {
            TrialReport::Timing(_) => Stage::Timing,
            TrialReport::Pretrain(_) => Stage::Pretrain,
            TrialReport::Finetune(_) => Stage::Finetune,
            TrialReport::Probe(_) => Stage::Probe,
        }
    }
}

/// The measurements of a timing trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TimingReport {
    pub arms: Vec<ArmTiming>,
}

impl TimingReport {
    /// The first arm of `timing` without timed steps: such an arm cannot be compared, and a budget in its seconds
    /// cannot be turned into steps.
    pub fn untimed_arm<'a>(&self, timing: &'a Timing) -> Option<&'a str> {
        let is_timed = |name: &str| {
            let arm = self.arms.iter().find(|arm| arm.name == name);
            arm.is_some_and(|arm| !arm.turns.is_empty() && arm.turns.iter().all(Turn::is_sound))
        };
        timing.arms.iter().map(|arm| arm.name.as_str()).find(|name| !is_timed(name))
    }
}

/// The steps of one arm. The timed ones are spread evenly over the schedules of a whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ArmTiming {
    pub name: String,
    pub blocks: u32,
    /// One turn per round, in the order in which they ran.
    pub turns: Vec<Turn>,
    /// Tokens per step, for tokens per second.
    pub tokens_per_step: u64,
    /// Absent if there were no warm-up steps, in which memory is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ArmMemory>,
    /// Number of sequences in the largest batch of which a step with all blocks open fits into memory; 0 if not even
    /// the smallest batch fits. Absent if it was not searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_batch: Option<u32>,
}

/// The steps that an arm made in one round, before the next arm had its turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Turn {
    /// Number of arms that had their turn before this one in the round.
    pub place: u32,
    /// Seconds of each warm-up step. Memory is measured in these steps, which makes them slower.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warmup_seconds: Vec<f64>,
    /// Seconds of each timed step.
    pub seconds: Vec<f64>,
    /// Work of each timed step, counted in blocks: half the number of open sublayers, rounded to halves.
    pub open_blocks: Vec<f64>,
}

impl Turn {
    /// True if the turn has timed steps, each with a time that a clock can show and a number of open blocks.
    pub fn is_sound(&self) -> bool {
        let is_time = |seconds: &f64| (1e-9..=1e9).contains(seconds);
        let is_number = |blocks: &f64| (0.0..=1e6).contains(blocks);
        !self.seconds.is_empty()
            && self.seconds.len() == self.open_blocks.len()
            && self.seconds.iter().all(is_time)
            && self.open_blocks.iter().all(is_number)
    }

    /// Mean seconds of the timed steps; NaN without one.
    pub fn mean_seconds(&self) -> f64 {
        self.seconds.iter().sum::<f64>() / self.seconds.len() as f64
    }
}

/// The memory of an arm's steps, as allocated by libtorch. It is measured in steps that are not timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ArmMemory {
    /// Memory that is in use between two steps: weights, moments and gradients.
    pub state_bytes: u64,
    /// The most memory in use in any of these steps, `state_bytes` included.
    pub peak_bytes: u64,
    /// Memory in use, averaged over the time of each step and then over the steps, `state_bytes` included.
    pub mean_bytes: u64,
    /// The same by number of open sublayers.
    pub by_open: Vec<OpenMemory>,
}

/// The memory of the steps with one number of open sublayers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OpenMemory {
    pub open_sublayers: u32,
    pub steps: u32,
    /// The most memory in use in any of these steps, `state_bytes` included.
    pub peak_bytes: u64,
    /// Mean memory in use over the time of these steps, `state_bytes` included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_bytes: Option<u64>,
}

/// The results of a pre-train trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PretrainReport {
    pub steps: u64,
    /// Wall time of training steps only, over all attempts.
    pub trained_seconds: f64,
    pub tokens: u64,
    pub validation_loss: f64,
    /// Validation loss of a guess that gives every answer the same probability, such as the logarithm of the number of
    /// words. A run that diverged counts with this loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guess_loss: Option<f64>,
    /// Share of the held-out images that are classified correctly; absent unless the model classifies images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// Hex sha256, chained over (step, loss bits) of every step: two runs with equal digests had equal losses at every
    /// step.
    pub digest: String,
    /// Hex sha256 of the final checkpoint's manifest.
    pub checkpoint: String,
}

/// The results of a fine-tune trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FinetuneReport {
    pub steps: u64,
    pub trained_seconds: f64,
    /// Each metric of the task on dev after the last epoch, as a fraction (0.53, not 53). The mismatched dev file of
    /// MNLI, if there is one, adds `accuracy_mismatched`.
    pub metrics: BTreeMap<String, f64>,
    /// Mean of the metrics.
    pub score: f64,
    /// The score on the part of train that was set apart; absent if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection_score: Option<f64>,
    /// The score of a constant guess of the majority class (0 for a regression task). A run at or below it has failed.
    pub majority_score: f64,
    /// Hex sha256 over the losses of all steps and the final weights and moments.
    pub digest: String,
    /// Files of answers to the task's test files, as the GLUE server wants them; empty if the data have no test file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predictions: Vec<PredictionFile>,
}

/// The results of a probe on held-out sequences. Every block is open unless a field says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ProbeReport {
    /// Training step of the checkpoint.
    pub step: u64,
    /// Number of held-out sequences.
    pub sequences: u32,
    /// Validation loss of the model as it is.
    pub validation_loss: f64,
    /// The blocks from the first to the last. If the model has its own `order`, a block is two successive sublayers.
    pub blocks: Vec<BlockProbe>,
    /// Validation losses with the blocks in random orders, one loss per order.
    pub shuffled_losses: Vec<f64>,
}

/// The results of a probe for one block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BlockProbe {
    #[serde(flatten)]
    pub state: BlockState,
    /// Validation loss without this block.
    pub removed_loss: f64,
    /// Validation loss with this block and the next one swapped; absent for the last block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped_loss: Option<f64>,
}

/// What one block does to the vectors that pass through it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BlockState {
    /// Number of the block, from 1.
    pub block: u32,
    /// Cosine between the vectors of a token before and after the block; mean over tokens.
    pub cosine: f64,
    /// L2 distance between the same two vectors; mean over tokens.
    pub distance: f64,
    /// L2 norm of the gradient of the mean loss with respect to the weights of the block.
    pub gradient_norm: f64,
}

impl BlockState {
    /// Names and values of the metric points: `block_3_cosine`, `block_3_distance`, `block_3_gradient_norm`.
    pub fn points(&self) -> [(String, f64); 3] {
        let values = [("cosine", self.cosine), ("distance", self.distance), ("gradient_norm", self.gradient_norm)];
        values.map(|(name, value)| (format!("block_{}_{name}", self.block), value))
    }
}

/// Name of the folder in the trainer's `--out` that holds the answers to test files.
pub const PREDICTIONS: &str = "predictions";

/// A file in the folder [`PREDICTIONS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PredictionFile {
    /// Name of the file in a submission, such as `RTE.tsv`.
    pub name: String,
    /// Number of answers.
    pub rows: u64,
    /// Hex sha256 of the file's bytes.
    pub sha256: String,
    pub bytes: u64,
}
