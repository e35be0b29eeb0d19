//! Embeddings, sublayers, and the last LayerNorm of Pre-LN.

use recipe::{Gate, Model, Norm};
use tch::{Kind, Tensor};

use super::embeddings::Embeddings;
use super::layout::{Family, places};
use super::linear::{LayerNorm, Linear};
use super::sublayer::Sublayer;
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
    /// Sequences without padding; `types` `[B, S]`, int64, where they have two segments.
    pub fn packed(ids: Tensor, types: Option<Tensor>) -> Self {
        Self { ids, types, mask: None }
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
    /// From the embeddings' width to the encoder's, where these differ.
    project: Option<Linear>,
    sublayers: Vec<Sublayer>,
    /// Pre-LN leaves its sum unnormalised; one more LayerNorm ends the stack.
    norm: Option<LayerNorm>,
}

impl Encoder {
    /// `padding` is the id of `[PAD]`.
    pub fn new(weights: &Weights, family: Family, model: &Model, padding: i64) -> Self {
        let prefix = family.prefix();
        let projects = model.embedding_width() != model.hidden;
        Self {
            embeddings: Embeddings::new(weights, family, model, padding),
            project: projects.then(|| Linear::new(weights, &format!("{prefix}.embeddings_project"))),
            sublayers: places(model)
                .map(|(block, half)| Sublayer::new(weights, &family.block(block), half, model))
                .collect(),
            norm: (model.norm == Norm::Pre).then(|| LayerNorm::new(weights, &format!("{prefix}.encoder.ln"))),
        }
    }

    /// Last hidden state, `[B, S, H]`. `gates` holds one gate per sublayer, in forward order; `train` turns dropout on.
    pub fn forward(&self, input: &Input, gates: &[Gate], train: bool) -> Tensor {
        self.forward_seen(input, gates, train, &mut |_| ())
    }

    /// As [`Encoder::forward`]; shows `seen` what comes into the first sublayer and then the output of each, before the last
    /// LayerNorm.
    pub fn forward_seen(&self, input: &Input, gates: &[Gate], train: bool, seen: &mut dyn FnMut(&Tensor)) -> Tensor {
        assert_eq!(gates.len(), self.sublayers.len(), "one gate per sublayer");
        let mut x = self.embeddings.forward(input, train);
        if let Some(project) = &self.project {
            x = project.forward(&x);
        }
        seen(&x);
        for (sublayer, gate) in self.sublayers.iter().zip(gates) {
            x = sublayer.forward(x, input.mask.as_ref(), gate, train);
            seen(&x);
        }
        match &self.norm {
            Some(norm) => norm.forward(&x),
            None => x,
        }
    }
}
