//! The two layers that everything else is made of: a linear map and a LayerNorm.

use recipe::model::LAYER_NORM_EPSILON;
use tch::{Kind, Tensor};

use super::weights::Weights;
use crate::kernel::{self, Matrix};

/// `x W^T + b`
#[derive(Debug)]
pub(super) struct Linear {
    /// `[out, in]`
    pub(super) weight: Matrix,
    /// `[out]`
    pub(super) bias: Tensor,
}

impl Linear {
    /// `name` is the published name without `.weight` and `.bias`.
    pub(super) fn new(weights: &Weights, name: &str) -> Self {
        Self { weight: weights.matrix(&format!("{name}.weight")), bias: weights.leaf(&format!("{name}.bias")) }
    }

    /// `[.., in]` to `[.., out]`, float32.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight.value, Some(&self.bias))
    }

    pub(super) fn outputs(&self) -> u32 {
        self.bias.size()[0] as u32
    }

    /// The product without the bias, which the next operator adds: `[.., in]` to `[.., out]`, in the type of `x`.
    pub(super) fn product(&self, x: &Tensor) -> Tensor {
        kernel::multiply(x, &self.weight)
    }
}

/// LayerNorm over the last dimension.
#[derive(Debug)]
pub(super) struct LayerNorm {
    /// `[H]`
    weight: Tensor,
    /// `[H]`
    bias: Tensor,
    /// True if matrix products take bfloat16.
    half: bool,
}

impl LayerNorm {
    /// `name` is the published name without `.weight` and `.bias`.
    pub(super) fn new(weights: &Weights, name: &str) -> Self {
        let weight = format!("{name}.weight");
        Self { weight: weights.leaf(&weight), bias: weights.leaf(&format!("{name}.bias")), half: weights.is_half() }
    }

    /// `[.., H]` to `[.., H]`, float32.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        kernel::norm(x, &self.weight, &self.bias, LAYER_NORM_EPSILON, false).0
    }

    /// The normalised `x` in the type that products take, and `x` itself for the residual path. Through these two
    /// outputs, both gradients of `x` come back in one pass.
    pub(super) fn split_residual(&self, x: &Tensor) -> (Tensor, Tensor) {
        kernel::norm(x, &self.weight, &self.bias, LAYER_NORM_EPSILON, self.half)
    }

    /// `x` in the type that products take.
    pub(super) fn product_input(&self, x: &Tensor) -> Tensor {
        if self.half { x.to_kind(Kind::BFloat16) } else { x.shallow_clone() }
    }
}
