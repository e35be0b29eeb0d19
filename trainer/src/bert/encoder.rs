//! Embeddings, blocks, and the last LayerNorm of Pre-LN.

use recipe::{Gate, Model, Norm};
use tch::{Kind, Tensor};

use super::block::Block;
use super::embeddings::Embeddings;
use super::linear::LayerNorm;
use super::weights::Weights;

/// A batch of token ids.
#[derive(Debug)]
pub struct Input {
    /// `[B, S]`, int64.
    pub ids: Tensor,
    /// `[B, S]`, int64: the segment of each token; absent where all are of the first.
    pub types: Option<Tensor>,
    /// `[B, 1, 1, S]`, true at tokens, false at padding; absent where there is no padding.
    mask: Option<Tensor>,
}

impl Input {
    /// Sequences of one segment without padding.
    pub fn packed(ids: Tensor) -> Self {
        Self { ids, types: None, mask: None }
    }

    /// `ids`, `types` and `mask` `[B, S]`, int64; `mask` is 1 at tokens and 0 at padding.
    pub fn padded(ids: Tensor, types: Tensor, mask: &Tensor) -> Self {
        let [b, s] = mask.size()[..] else { unreachable!("a mask is [B, S]") };
        Self { ids, types: Some(types), mask: Some(mask.to_kind(Kind::Bool).view([b, 1, 1, s])) }
    }
}

#[derive(Debug)]
pub struct Encoder {
    embeddings: Embeddings,
    blocks: Vec<Block>,
    /// Pre-LN leaves its sum unnormalised; one more LayerNorm ends the stack.
    norm: Option<LayerNorm>,
}

impl Encoder {
    /// `padding` is the id of `[PAD]`.
    pub fn new(weights: &Weights, model: &Model, padding: i64) -> Self {
        Self {
            embeddings: Embeddings::new(weights, model, padding),
            blocks: (1..=model.blocks).map(|block| Block::new(weights, block, model)).collect(),
            norm: (model.norm == Norm::Pre).then(|| LayerNorm::new(weights, "bert.encoder.ln")),
        }
    }

    /// Last hidden state, `[B, S, H]`. `gates` holds one gate per block, first block first; `train` turns dropout on.
    pub fn forward(&self, input: &Input, gates: &[Gate], train: bool) -> Tensor {
        self.forward_seen(input, gates, train, &mut |_| ())
    }

    /// As [`Encoder::forward`]; shows `seen` the output of the embeddings and then of each block, before the last
    /// LayerNorm.
    pub fn forward_seen(&self, input: &Input, gates: &[Gate], train: bool, seen: &mut dyn FnMut(&Tensor)) -> Tensor {
        assert_eq!(gates.len(), self.blocks.len(), "one gate per block");
        let mut x = self.embeddings.forward(input, train);
        seen(&x);
        for (block, &gate) in self.blocks.iter().zip(gates) {
            x = block.forward(x, input.mask.as_ref(), gate, train);
            seen(&x);
        }
        match &self.norm {
            Some(norm) => norm.forward(&x),
            None => x,
        }
    }
}
