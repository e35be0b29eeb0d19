//! AdamW (Loshchilov & Hutter 2019) and LAMB (You et al. 2020), both with bias correction, and what they do with a block
//! that was closed.

use serde::{Deserialize, Serialize};

use crate::layer_drop::is_default;
use crate::problem::Problems;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Algorithm {
    #[default]
    #[serde(rename = "adamw")]
    AdamW,
    /// AdamW's step with its decay, per weight scaled by the norm of the weight over the norm of the step (You et al.
    /// 2020, algorithm 2).
    Lamb,
}

/// Which weights are decayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum DecayOn {
    /// Weights of two dimensions or more; biases and LayerNorm are left alone, as in BERT.
    #[default]
    Matrices,
    All,
}

/// What AdamW does with the weights of a block that was closed at this step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ClosedBlocks {
    /// Nothing: no gradient, no update, no decay; its moments and its step count for bias correction stand still.
    #[default]
    Skip,
    /// Weight decay alone is applied, as if the gradient path did not matter to it.
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
    /// Largest global gradient norm; `null` for no clipping.
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
            problems.require((0.0..1.0).contains(&value), field, || format!("{value}: from 0 up to, not including, 1"));
        }
        problems.require(self.epsilon > 0.0 && self.epsilon < 1.0, "epsilon", || {
            format!("{}: between 0 and 1", self.epsilon)
        });
        problems.require((0.0..1.0).contains(&self.weight_decay), "weight_decay", || {
            format!("{}: from 0 up to, not including, 1", self.weight_decay)
        });
        if let Some(norm) = self.clip_norm {
            problems
                .require(norm > 0.0 && norm.is_finite(), "clip_norm", || format!("{norm}: a positive number, or null"));
        }
    }
}
