//! Learning rate as a pure function of the step.

use serde::{Deserialize, Serialize};

use crate::problem::Problems;

/// The shape of the way down after the warm-up. Both end at zero at the end of the budget.
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
    /// Share of the budget spent warming up.
    #[serde(default = "default_warmup")]
    pub warmup: f64,
    #[serde(default)]
    pub decay: Decay,
}

fn default_warmup() -> f64 {
    0.02
}

impl LearningRate {
    pub fn check(&self, problems: &mut Problems) {
        problems
            .require(self.peak > 0.0 && self.peak <= 10.0, "peak", || format!("{}: above 0, at most 10", self.peak));
        problems.require((0.0..1.0).contains(&self.warmup), "warmup", || {
            format!("{}: a share of the budget from 0 up to, not including, 1", self.warmup)
        });
    }

    /// The rate of the update made at `step` (from 0) of `total`. Rises by equal amounts to `peak`, which the last
    /// warm-up step reaches, then falls; it would reach zero at `step == total`.
    pub fn at(&self, step: u64, total: u64) -> f64 {
        let warmup = (self.warmup * total as f64).ceil() as u64;
        if step < warmup {
            return self.peak * ((step + 1) as f64 / warmup as f64);
        }
        let done = (step - warmup) as f64 / (total.saturating_sub(warmup)).max(1) as f64;
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
            let values: Vec<f64> = (0..total).map(|t| rate.at(t, total)).collect();
            let top = values.iter().copied().fold(0.0, f64::max);
            prop_assert!((top - 3e-4).abs() < 1e-12);
            let summit = values.iter().position(|v| (v - top).abs() < 1e-15).unwrap();
            prop_assert!(values[..summit].windows(2).all(|w| w[0] < w[1]));
            prop_assert!(values[summit..].windows(2).all(|w| w[0] >= w[1]));
            prop_assert!(rate.at(total, total) < 1e-15);
        }
    }
}
