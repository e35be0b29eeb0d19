//! The trials that a job becomes, and what they cost.

use std::collections::BTreeMap;

use recipe::{Stage, Task, TrialSpec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dataset::Scan;

/// The registered datasets that a job names. One that the job needs is absent only if it is not registered, and such a
/// job is refused.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Datasets {
    /// Text or images; needed if an arm pre-trains or anything is probed.
    pub corpus: Option<Scan>,
    /// Needed unless the vocabulary is trained.
    pub vocabulary: Option<Scan>,
    /// Needed in a job with fine-tuning.
    pub glue: Option<Scan>,
    /// Published checkpoints by their names.
    pub checkpoints: BTreeMap<String, Scan>,
}

/// The trials of a job, in the order in which they are to be served, and their cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Expansion {
    pub trials: Vec<NewTrial>,
    pub plan: Plan,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewTrial {
    pub arm: Option<String>,
    pub task: Option<Task>,
    /// Peak of a fine-tune trial's learning rate.
    pub learning_rate: Option<f64>,
    pub spec: TrialSpec,
    /// Place in the expansion of the trial that this one waits for: the pre-train trial whose checkpoint it starts
    /// from, or the timing trial that decides how many steps its budget allows. Absent if it starts from a published
    /// checkpoint.
    pub waits_for: Option<usize>,
    /// Expected training FLOPs.
    pub work: f64,
    /// An estimate for fine-tuning, until the trainer has read the data.
    pub total_steps: u64,
}

/// The cost of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    pub trials: PlannedTrials,
    /// Optimiser updates of all trials.
    pub steps: u64,
    /// Expected training FLOPs of all trials (a multiply-add is 2; backward counts as twice forward).
    pub flops: f64,
    pub arms: Vec<ArmPlan>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct PlannedTrials {
    pub timing: u64,
    pub pretrain: u64,
    pub finetune: u64,
    pub probe: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArmPlan {
    pub name: String,
    /// Expected training FLOPs of one pre-train trial. With a budget in seconds, the FLOPs of a device of 100 GFLOP/s.
    /// This and both savings are 0 for an arm that starts from a published checkpoint.
    pub pretrain_flops: f64,
    /// Closed-form share of the encoder's work that layer drop or growth saves.
    pub encoder_saving: f64,
    /// The same as a share of all training FLOPs, the head on the masked positions included.
    pub flop_saving: f64,
    /// The theta limit of an arm with layer drop, as given or as solved to match another arm.
    pub theta_limit: Option<f64>,
}

impl PlannedTrials {
    pub fn total(&self) -> u64 {
        self.timing.saturating_add(self.pretrain).saturating_add(self.finetune).saturating_add(self.probe)
    }
}

impl NewTrial {
    pub const fn stage(&self) -> Stage {
        self.spec.recipe.stage()
    }
}
