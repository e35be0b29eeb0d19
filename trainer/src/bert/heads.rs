//! What stands on the encoder: the MLM head in pre-training, pooler and classifier in fine-tuning.

use recipe::Model;
use tch::Tensor;

use super::dropout::dropout;
use super::linear::{LayerNorm, Linear};
use super::weights::Weights;

/// Predicts the token at each masked position. Its decoder is the word embedding, transposed.
#[derive(Debug)]
pub struct MlmHead {
    transform: Linear,
    norm: LayerNorm,
    decoder: Linear,
}

impl MlmHead {
    pub fn new(weights: &Weights) -> Self {
        Self {
            transform: Linear::new(weights, "cls.predictions.transform.dense"),
            norm: LayerNorm::new(weights, "cls.predictions.transform.LayerNorm"),
            decoder: Linear {
                weight: weights.leaf("bert.embeddings.word_embeddings.weight"),
                bias: weights.leaf("cls.predictions.bias"),
            },
        }
    }

    /// Logits `[M, V]` at `positions` `[M]`, int64 indexes into the `B * S` tokens of `hidden` `[B, S, H]`. The other
    /// positions cost nothing: over a vocabulary of 30,000 they would cost more than a narrow encoder.
    pub fn forward(&self, hidden: &Tensor, positions: &Tensor) -> Tensor {
        let width = hidden.size()[2];
        // [B, S, H] -> [B * S, H] -> [M, H]
        let masked = hidden.reshape([-1, width]).index_select(0, positions);
        self.decoder.forward(&self.norm.forward(&self.transform.forward(&masked).gelu("none")))
    }
}

/// Scores a whole sequence by its first token.
#[derive(Debug)]
pub struct Classifier {
    pooler: Linear,
    output: Linear,
    dropout: f64,
}

impl Classifier {
    pub fn new(weights: &Weights, model: &Model) -> Self {
        Self {
            pooler: Linear::new(weights, "bert.pooler.dense"),
            output: Linear::new(weights, "classifier"),
            dropout: model.dropout,
        }
    }

    /// `hidden` `[B, S, H]` to `[B, outputs]`.
    pub fn forward(&self, hidden: &Tensor, train: bool) -> Tensor {
        // [B, S, H] -> [B, H]: the token [CLS]
        let pooled = self.pooler.forward(&hidden.select(1, 0)).tanh();
        self.output.forward(&dropout(pooled, self.dropout, 1.0, train))
    }
}
