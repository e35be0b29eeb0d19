//! Words, positions and segments.

use recipe::Model;
use tch::Tensor;

use super::dropout::dropout;
use super::encoder::Input;
use super::linear::LayerNorm;
use super::weights::Weights;

#[derive(Debug)]
pub struct Embeddings {
    /// `[V, H]`, shared with the decoder of the MLM head.
    words: Tensor,
    /// `[positions, H]`
    positions: Tensor,
    /// `[2, H]`
    types: Tensor,
    norm: Option<LayerNorm>,
    dropout: f64,
    /// The id of `[PAD]`, whose row gets no gradient from here, as in the published models.
    padding: i64,
}

impl Embeddings {
    pub(super) fn new(weights: &Weights, model: &Model, padding: i64) -> Self {
        Self {
            words: weights.leaf("bert.embeddings.word_embeddings.weight"),
            positions: weights.leaf("bert.embeddings.position_embeddings.weight"),
            types: weights.leaf("bert.embeddings.token_type_embeddings.weight"),
            norm: model.embedding_norm.then(|| LayerNorm::new(weights, "bert.embeddings.LayerNorm")),
            dropout: model.dropout,
            padding,
        }
    }

    /// `[B, S]` ids to `[B, S, H]`.
    pub(super) fn forward(&self, input: &Input, train: bool) -> Tensor {
        let length = input.ids.size()[1];
        // The position and first-segment rows are the same for every sequence: summed once as [S, H], then broadcast.
        let places = self.positions.narrow(0, 0, length);
        let places = match &input.types {
            None => places + self.types.get(0),
            Some(types) => Tensor::embedding(&self.types, types, -1, false, false) + places,
        };
        let x = Tensor::embedding(&self.words, &input.ids, self.padding, false, false) + places;
        let x = match &self.norm {
            Some(norm) => norm.forward(&x),
            None => x,
        };
        dropout(x, self.dropout, 1.0, train)
    }
}
