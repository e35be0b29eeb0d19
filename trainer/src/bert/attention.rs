//! Multi-head self-attention. A token attends to every token that is not padding; with causal attention, to no later
//! one.

use recipe::Model;
use tch::Tensor;

use super::linear::Linear;
use super::weights::Weights;
use crate::kernel::{self, Dropout};

#[derive(Debug)]
pub struct Attention {
    /// Query, key and value as one product: `[3H, H]`.
    qkv: Linear,
    output: Linear,
    heads: i64,
    causal: bool,
    dropout: f64,
}

impl Attention {
    /// `block` is the published prefix, such as `bert.encoder.layer.0`.
    pub(super) fn new(weights: &Weights, block: &str, model: &Model, causal: bool) -> Self {
        Self {
            // The fused weight has the name of its first part.
            qkv: Linear::new(weights, &format!("{block}.attention.self.query")),
            output: Linear::new(weights, &format!("{block}.attention.output.dense")),
            heads: i64::from(model.heads),
            causal,
            dropout: model.attention_dropout,
        }
    }

    /// `x` `[B, S, H]` to the mixed values `[B, S, H]`, and the output projection, which the caller applies to them.
    /// `mask` `[B, S]` is true at tokens and false at padding. `dropout` turns the rate of the attention weights into
    /// their dropout.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        mask: Option<&Tensor>,
        dropout: impl Fn(f64) -> Dropout,
    ) -> (Tensor, &Linear) {
        let dropout = dropout(self.dropout);
        let attention = kernel::Attention { heads: self.heads, tokens: mask, causal: self.causal, dropout };
        (attention.forward(&self.qkv.product(x), &self.qkv.bias), &self.output)
    }
}
