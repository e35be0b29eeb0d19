//! One Transformer layer, switchable as a whole (Zhang & He 2020, section 3).

use recipe::{Gate, Model, Norm};
use tch::Tensor;

use super::attention::Attention;
use super::dropout::dropout;
use super::linear::{LayerNorm, Linear};
use super::weights::Weights;

#[derive(Debug)]
pub struct Block {
    norm: Norm,
    attention_norm: LayerNorm,
    attention: Attention,
    feed_forward_norm: LayerNorm,
    feed_forward: FeedForward,
    dropout: f64,
}

impl Block {
    /// `block` counts from 1, as everywhere but in the published names.
    pub(super) fn new(weights: &Weights, block: u32, model: &Model) -> Self {
        let prefix = format!("bert.encoder.layer.{}", block - 1);
        let (attention_norm, feed_forward_norm) = norm_names(model.norm);
        Self {
            norm: model.norm,
            attention_norm: LayerNorm::new(weights, &format!("{prefix}.{attention_norm}")),
            attention: Attention::new(weights, &prefix, model),
            feed_forward_norm: LayerNorm::new(weights, &format!("{prefix}.{feed_forward_norm}")),
            feed_forward: FeedForward::new(weights, &prefix),
            dropout: model.dropout,
        }
    }

    /// `x` `[B, S, H]` to `[B, S, H]`; `mask` as in [`Attention`]. A closed gate gives `x` back and runs nothing.
    ///
    /// Pre-LN: `h = x + G ATTN(LN x)/p`, `x' = h + G FFN(LN h)/p`. Post-LN: the same sums, each with its LayerNorm after.
    pub(super) fn forward(&self, x: Tensor, mask: Option<&Tensor>, gate: Gate, train: bool) -> Tensor {
        if !gate.open {
            return x;
        }
        let branch = |y: Tensor| dropout(y, self.dropout, gate.scale, train);
        match self.norm {
            Norm::Pre => {
                let h = &x + branch(self.attention.forward(&self.attention_norm.forward(&x), mask, train));
                &h + branch(self.feed_forward.forward(&self.feed_forward_norm.forward(&h)))
            }
            Norm::Post => {
                let h = self.attention_norm.forward(&(&x + branch(self.attention.forward(&x, mask, train))));
                self.feed_forward_norm.forward(&(&h + branch(self.feed_forward.forward(&h))))
            }
        }
    }
}

/// Published names of the attention half's and the feed-forward half's LayerNorm within a block.
pub(super) const fn norm_names(norm: Norm) -> (&'static str, &'static str) {
    match norm {
        Norm::Post => ("attention.output.LayerNorm", "output.LayerNorm"),
        Norm::Pre => ("attention.ln", "ln"),
    }
}

/// W2 gelu(W1 x), with the exact GELU.
#[derive(Debug)]
struct FeedForward {
    /// `[I, H]`
    widen: Linear,
    /// `[H, I]`
    narrow: Linear,
}

impl FeedForward {
    fn new(weights: &Weights, prefix: &str) -> Self {
        Self {
            widen: Linear::new(weights, &format!("{prefix}.intermediate.dense")),
            narrow: Linear::new(weights, &format!("{prefix}.output.dense")),
        }
    }

    /// `[B, S, H]` to `[B, S, H]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        self.narrow.forward(&self.widen.forward(x).gelu("none"))
    }
}
