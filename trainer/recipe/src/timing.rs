//! A timing trial: the speed of several arms on one device, side by side.

use serde::{Deserialize, Serialize};

use crate::pretrain::Pretrain;
use crate::problem::Problems;

/// Runs its arms in turns on one device, in a fresh random order each round, and times their steps.
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
    /// Name of the arm that this one repeats. What the trial measures between two equal arms shows how far its other
    /// figures can be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<String>,
}

impl Timing {
    /// Turns of each arm: with more, a mean is no more certain than the machine is steady.
    pub const MOST_ROUNDS: u32 = 10_000;
    /// Timed steps of a turn, and untimed ones.
    pub const MOST_STEPS_PER_TURN: u32 = 100_000;
    /// Steps of all turns of all arms, each of which the report of the trial lists: it then has some megabytes.
    pub const MOST_STEPS: u64 = 100_000;

    /// Steps of all turns of all arms, warm-up included.
    pub fn total_steps(&self) -> u64 {
        let turn = u64::from(self.steps_per_turn) + u64::from(self.warmup_steps);
        (self.arms.len() as u64).saturating_mul(u64::from(self.rounds)).saturating_mul(turn)
    }

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
        problems.require(self.total_steps() <= Self::MOST_STEPS, "rounds", || {
            format!(
                "{} steps in all turns of {} arms: at most {} are allowed, so take fewer rounds or shorter turns",
                self.total_steps(),
                self.arms.len(),
                Self::MOST_STEPS
            )
        });
        problems.within("largest_batch", |problems| {
            let limit = self.largest_batch.and_then(|search| search.limit_bytes);
            problems.require(limit != Some(0), "limit_bytes", || {
                "0 bytes: choose a positive number, or leave it out to use all free memory".into()
            });
        });
        problems.within("arms", |problems| {
            for (index, arm) in self.arms.iter().enumerate() {
                problems.within(index, |problems| {
                    problems.within("recipe", |p| arm.recipe.check(p));
                    if let Some(name) = &arm.repeats {
                        let is_equal = |other: &TimingArm| other.name == *name && other.recipe == arm.recipe;
                        problems.require(self.arms[..index].iter().any(is_equal), "repeats", || {
                            format!("no arm before this one is called {name:?} and has the same recipe")
                        });
                    }
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Recipe, TrialSpec};

    fn example() -> Timing {
        let text = include_str!("../../../examples/recipes/timing.json");
        let spec: TrialSpec = serde_json::from_str(text).unwrap();
        let Recipe::Timing(timing) = spec.recipe else { panic!("{:?}", spec.recipe) };
        timing
    }

    fn pointers(timing: &Timing) -> Vec<String> {
        let mut problems = Problems::default();
        timing.check(&mut problems);
        problems.into_vec().into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn all_turns_together_have_a_bound() {
        // Three arms, with three steps in a turn.
        assert_eq!(example().total_steps(), 3 * 32 * 3);
        for (rounds, refused) in [(10_000, vec![]), (10_001, vec!["/rounds"])] {
            assert_eq!(pointers(&Timing { rounds, ..example() }), refused, "{rounds}");
        }
        assert_eq!(pointers(&Timing { rounds: 10_000, warmup_steps: 2, ..example() }), ["/rounds"]);
    }

    #[test]
    fn an_arm_repeats_an_earlier_arm_with_the_same_recipe() {
        for name in ["pld", "pre-ln (again)", "none"] {
            let mut timing = example();
            timing.arms[2].repeats = Some(name.into());
            assert_eq!(pointers(&timing), ["/arms/2/repeats"], "{name}");
        }
    }
}
