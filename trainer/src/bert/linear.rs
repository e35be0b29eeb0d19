//! The two boxes that everything else is made of.

use recipe::model::LAYER_NORM_EPSILON;
use tch::Tensor;

use super::weights::Weights;

/// x W^T + b.
#[derive(Debug)]
pub(super) struct Linear {
    /// `[out, in]`
    pub(super) weight: Tensor,
    /// `[out]`
    pub(super) bias: Tensor,
}

impl Linear {
    /// `name` is the published one, without `.weight` and `.bias`.
    pub(super) fn new(weights: &Weights, name: &str) -> Self {
        Self { weight: weights.leaf(&format!("{name}.weight")), bias: weights.leaf(&format!("{name}.bias")) }
    }

    /// `[.., in]` to `[.., out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// LayerNorm over the last dimension.
#[derive(Debug)]
pub(super) struct LayerNorm {
    /// `[H]`
    weight: Tensor,
    /// `[H]`
    bias: Tensor,
}

impl LayerNorm {
    /// `name` is the published one, without `.weight` and `.bias`.
    pub(super) fn new(weights: &Weights, name: &str) -> Self {
        Self { weight: weights.leaf(&format!("{name}.weight")), bias: weights.leaf(&format!("{name}.bias")) }
    }

    /// `[.., H]` to `[.., H]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), LAYER_NORM_EPSILON, true)
    }
}
