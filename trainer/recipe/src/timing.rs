//! A timing trial: the speed of several arms on one device, side by side.

use serde::{Deserialize, Serialize};

use crate::pretrain::Pretrain;
use crate::problem::Problems;

/// Runs its arms in turns on one device (A B B A ...) and times their steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    pub arms: Vec<TimingArm>,
    /// Number of turns of each arm.
    pub rounds: u32,
    /// Timed steps in one turn.
    pub steps_per_turn: u32,
    /// Untimed steps at the start of each turn; memory is measured in them.
    pub warmup_steps: u32,
    /// If present, the largest batch of each arm that fits into memory is searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_batch: Option<LargestBatch>,
}

/// A search for the largest batch, by bisection: each candidate makes one step on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LargestBatch {
    /// Memory that the trainer may use; by default all that is free on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
}

/// A pre-training whose steps are timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingArm {
    pub name: String,
    pub recipe: Pretrain,
}

impl Timing {
    /// Turns of each arm: with more, a mean is no more certain than the machine is steady.
    pub const MOST_ROUNDS: u32 = 10_000;
    /// Timed steps of a turn, and untimed ones.
    pub const MOST_STEPS_PER_TURN: u32 = 100_000;

    pub fn check(&self, problems: &mut Problems) {
        problems.require(!self.arms.is_empty(), "arms", || "there is no arm to time: name at least one".into());
        for (field, count, least, most) in [
            ("rounds", self.rounds, 1, Self::MOST_ROUNDS),
            ("steps_per_turn", self.steps_per_turn, 1, Self::MOST_STEPS_PER_TURN),
            ("warmup_steps", self.warmup_steps, 0, Self::MOST_STEPS_PER_TURN),
        ] {
            problems
                .require((least..=most).contains(&count), field, || format!("{count}: {least} to {most} are allowed"));
        }
        problems.within("largest_batch", |problems| {
            let limit = self.largest_batch.and_then(|search| search.limit_bytes);
            problems.require(limit != Some(0), "limit_bytes", || {
                "0 bytes: choose a positive number, or leave it out to use all free memory".into()
            });
        });
        problems.within("arms", |problems| {
            for (index, arm) in self.arms.iter().enumerate() {
                problems.within(index, |problems| problems.within("recipe", |p| arm.recipe.check(p)));
            }
        });
    }
}
