//! The embeddings of token sequences: words, positions and segments.

use recipe::Model;
use tch::Tensor;

use super::dropout::dropout;
use super::input::Input;
use super::layout::Family;
use super::linear::LayerNorm;
use super::weights::Weights;
use crate::kernel::{self, Matrix, Noise};

#[derive(Debug)]
pub struct Embeddings {
    /// `[V, E]`, shared with the decoder of the MLM head. E is H, unless the recipe of ELECTRA narrows it.
    words: Matrix,
    /// `[positions, E]`
    positions: Tensor,
    /// `[2, E]`; images have no segments.
    types: Option<Tensor>,
    norm: Option<LayerNorm>,
    dropout: f64,
    /// The dropout site of the embeddings.
    site: u32,
    /// The id of `[PAD]`, or -1 if there is none. Its row gets no gradient from the embeddings, as in the published
    /// models.
    padding: i64,
}

impl Embeddings {
    pub(super) fn new(weights: &Weights, family: Family, model: &Model, padding: i64) -> Self {
        let prefix = family.embeddings();
        let leaf = |name: &str| weights.leaf(&format!("{prefix}.{name}.weight"));
        Self {
            words: weights.matrix(&format!("{prefix}.word_embeddings.weight")),
            positions: leaf("position_embeddings"),
            types: (family != Family::Pixels).then(|| leaf("token_type_embeddings")),
            norm: model.embedding_norm.then(|| LayerNorm::new(weights, &format!("{prefix}.LayerNorm"))),
            dropout: model.dropout,
            site: family.first_site(),
            padding,
        }
    }

    /// `[B, S]` ids to `[B, S, E]`.
    pub(super) fn forward(&self, input: &Input, noise: Option<&Noise>) -> Tensor {
        let length = input.shown.size()[1];
        // The rows of the positions and of the first segment are the same for every sequence: they are summed once, as
        // [S, E], and broadcast.
        let places = self.positions.narrow(0, 0, length);
        let places = match (&self.types, &input.types) {
            (None, _) => places,
            (Some(rows), None) => places + rows.get(0),
            (Some(rows), Some(types)) => Tensor::embedding(rows, types, -1, false, false) + places,
        };
        let x = kernel::embed(&input.shown, &self.words, self.padding) + places;
        let x = match &self.norm {
            Some(norm) => norm.forward(&x),
            None => x,
        };
        dropout(&x, noise.map(|noise| noise.at(self.site, self.dropout)))
    }
}
