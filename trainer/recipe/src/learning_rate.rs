//! The learning rate, as a pure function of the moment.

use serde::{Deserialize, Serialize};

use crate::problem::Problems;
use crate::schedule::Moment;

/// How the rate falls after the warm-up. Each reaches zero at the end of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Decay {
    #[default]
    Linear,
    Cosine,
}

/// Linear warm-up to `peak`, then full decay over the rest of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LearningRate {
    pub peak: f64,
    /// Share of the budget that the warm-up takes.
    #[serde(default = "default_warmup")]
    pub warmup: f64,
    #[serde(default)]
    pub decay: Decay,
}

fn default_warmup() -> f64 {
    LearningRate::DEFAULT_WARMUP
}

impl LearningRate {
    pub const DEFAULT_WARMUP: f64 = 0.02;

    pub fn check(&self, problems: &mut Problems) {
        problems.require(self.peak > 0.0 && self.peak <= 10.0, "peak", || {
            format!("a learning rate of {}: choose one above 0 and at most 10", self.peak)
        });
        problems.require((0.0..1.0).contains(&self.warmup), "warmup", || {
            format!("a warm-up of {}: choose a share of the budget of at least 0 and below 1", self.warmup)
        });
    }

    /// The rate of the update at `moment`. It rises by equal amounts to `peak`, which the last warm-up step reaches,
    /// and then falls towards zero at the end of the budget.
    pub fn at(&self, moment: &Moment) -> f64 {
        // The warm-up takes whole steps, and leaves at least one step for the decay. Rounding errors of the quotient
        // must not add a step, so a small number is subtracted first.
        let steps = (self.warmup / moment.width - 1e-9).ceil().min(1.0 / moment.width - 1.0).max(0.0);
        let warmup = steps * moment.width;
        let end = moment.share + moment.width;
        if end < warmup - 0.5 * moment.width {
            return self.peak * end / warmup;
        }
        let done = (moment.share - warmup).max(0.0) / (1.0 - warmup);
        match self.decay {
            Decay::Linear => self.peak * (1.0 - done).max(0.0),
            Decay::Cosine => self.peak * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rises_to_the_peak_once_and_decays_fully(total in 2u64..5000, warmup in 0.0f64..0.9, cosine: bool) {
            let rate = LearningRate { peak: 3e-4, warmup, decay: if cosine { Decay::Cosine } else { Decay::Linear } };
            let values: Vec<f64> = (0..total).map(|t| rate.at(&Moment::of_step(t, total))).collect();
            let top = values.iter().copied().fold(0.0, f64::max);
            prop_assert!((top - 3e-4).abs() < 1e-12);
            let summit = values.iter().position(|v| (v - top).abs() < 1e-15).unwrap();
            prop_assert!(values[..summit].windows(2).all(|w| w[0] < w[1]));
            prop_assert!(values[summit..].windows(2).all(|w| w[0] >= w[1]));
            prop_assert!(rate.at(&Moment::of_step(total, total)) < 1e-15);
        }
    }

    #[test]
    fn a_warm_up_that_rounds_to_the_whole_budget_leaves_one_step_for_the_decay() {
        for decay in [Decay::Linear, Decay::Cosine] {
            let rate = LearningRate { peak: 1.0, warmup: 0.804, decay };
            assert_eq!([0, 1, 2].map(|step| rate.at(&Moment::of_step(step, 2))), [1.0, 1.0, 0.0]);
            assert_eq!([0, 1].map(|step| rate.at(&Moment::of_step(step, 1))), [1.0, 0.0]);
        }
    }
}
