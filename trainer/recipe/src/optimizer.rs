//! AdamW (Loshchilov & Hutter 2019) and LAMB (You et al. 2020), both with bias correction, and how they treat a closed
//! block.

use serde::{Deserialize, Serialize};

use crate::json::is_default;
use crate::problem::Problems;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Algorithm {
    #[default]
    #[serde(rename = "adamw")]
    AdamW,
    /// The step of AdamW with its decay, multiplied for each weight tensor by the norm of the weights over the norm of
    /// the step (You et al. 2020, algorithm 2).
    Lamb,
}

/// The weights to which weight decay applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum DecayOn {
    /// Weights of two dimensions or more, as in BERT: neither biases nor LayerNorm.
    #[default]
    Matrices,
    All,
}

/// How the optimiser treats the weights of a block that is closed at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ClosedBlocks {
    /// Leaves them as they are: no gradient, no update, no decay. Their moments and their step count for bias
    /// correction do not change either.
    #[default]
    Skip,
    /// Applies weight decay alone.
    Decay,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Optimizer {
    #[serde(skip_serializing_if = "is_default")]
    pub algorithm: Algorithm,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
    pub decay_on: DecayOn,
    pub closed_blocks: ClosedBlocks,
    /// Upper bound on the global gradient norm, to which larger gradients are clipped; `null` for no clipping.
    pub clip_norm: Option<f64>,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            decay_on: DecayOn::default(),
            closed_blocks: ClosedBlocks::default(),
            clip_norm: Some(1.0),
        }
    }
}

impl Optimizer {
    pub fn check(&self, problems: &mut Problems) {
        for (field, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            problems.require((0.0..1.0).contains(&value), field, || {
                format!("{value}: choose a number of at least 0 and below 1")
            });
        }
        problems.require(self.epsilon > 0.0 && self.epsilon < 1.0, "epsilon", || {
            format!("{}: choose a number above 0 and below 1", self.epsilon)
        });
        problems.require((0.0..1.0).contains(&self.weight_decay), "weight_decay", || {
            format!("{}: choose a number of at least 0 and below 1", self.weight_decay)
        });
        if let Some(norm) = self.clip_norm {
            problems.require(norm > 0.0 && norm.is_finite(), "clip_norm", || {
                format!("{norm}: choose a positive number, or null for no clipping")
            });
        }
    }
}
