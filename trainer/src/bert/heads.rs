//! The heads on top of the encoder, which make the predictions: those of the pre-training objectives, and the classifier of
//! fine-tuning.

use recipe::Model;
use tch::{Kind, Tensor};

use super::dropout::dropout;
use super::encoder::at;
use super::layout::{Family, HEAD_SITE, LABEL_HEAD, TextFamily, classifier_names};
use super::linear::{LayerNorm, Linear};
use super::weights::Weights;
use crate::kernel::{self, Noise};

/// Predicts the token at each masked position. Its decoder is the word embedding, transposed.
#[derive(Debug)]
pub struct MlmHead {
    dense: Linear,
    norm: LayerNorm,
    decoder: Linear,
}

impl MlmHead {
    /// The head of BERT.
    pub fn new(weights: &Weights) -> Self {
        Self::named(weights, Family::Bert, "cls.predictions.transform", "cls.predictions.bias")
    }

    /// The head of ELECTRA's generator.
    pub fn of_generator(weights: &Weights) -> Self {
        Self::named(weights, Family::Generator, "generator_predictions", "generator_lm_head.bias")
    }

    fn named(weights: &Weights, family: Family, transform: &str, bias: &str) -> Self {
        let words = format!("{}.word_embeddings.weight", family.embeddings());
        Self {
            dense: Linear::new(weights, &format!("{transform}.dense")),
            norm: LayerNorm::new(weights, &format!("{transform}.LayerNorm")),
            decoder: Linear { weight: weights.matrix(&words), bias: weights.leaf(bias) },
        }
    }

    /// Logits `[M, V]` at `positions` `[M]`, int64 indexes into the `B * S` tokens of `hidden` `[B, S, H]`. The logits
    /// of the other positions are not computed: with a vocabulary of 30,000 they would cost more than a narrow encoder.
    pub fn forward(&self, hidden: &Tensor, positions: &Tensor) -> Tensor {
        let logits = self.decoder.product(&self.transform(&at(hidden, positions)));
        logits.to_kind(Kind::Float) + &self.decoder.bias
    }

    /// `scale` times the summed negative log likelihood of `labels` `[M]`, int64, at the tokens `masked` `[M, H]`,
    /// without keeping their logits.
    pub fn loss(&self, masked: &Tensor, labels: &Tensor, scale: f64) -> Tensor {
        let Linear { weight, bias } = &self.decoder;
        kernel::likelihood(&self.transform(masked), weight, bias, labels, scale)
    }

    /// The size of the vocabulary, V.
    pub fn outputs(&self) -> u32 {
        self.decoder.outputs()
    }

    /// The input of the decoder, `[M, E]`.
    fn transform(&self, masked: &Tensor) -> Tensor {
        let dense = self.dense.product(&self.norm.product_input(masked));
        let dense = kernel::gelu(&dense, &self.dense.bias).to_kind(Kind::Float);
        self.norm.split_residual(&dense).0
    }
}

/// Predicts the class of an image from its first token, or the level of each intensity.
#[derive(Debug)]
pub struct LabelHead {
    /// `[K, H]`
    output: Linear,
}

impl LabelHead {
    pub fn new(weights: &Weights) -> Self {
        Self { output: Linear::new(weights, LABEL_HEAD) }
    }

    /// Logits `[M, K]` of tokens `[M, H]`.
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        self.output.forward(tokens)
    }

    /// `scale` times the summed negative log likelihood of `labels` `[M]`, int64, at `tokens` `[M, H]`.
    pub fn loss(&self, tokens: &Tensor, labels: &Tensor, scale: f64) -> Tensor {
        let Linear { weight, bias } = &self.output;
        let kind = if weight.half.is_some() { Kind::BFloat16 } else { Kind::Float };
        kernel::likelihood(&tokens.to_kind(kind), weight, bias, labels, scale)
    }

    /// The number of classes or levels, K.
    pub fn outputs(&self) -> u32 {
        self.output.outputs()
    }
}

/// Predicts for a pair of texts if the second follows the first (Devlin et al. 2019).
#[derive(Debug)]
pub struct NextSentenceHead {
    pooler: Linear,
    output: Linear,
}

impl NextSentenceHead {
    pub fn new(weights: &Weights) -> Self {
        Self { pooler: Linear::new(weights, "bert.pooler.dense"), output: Linear::new(weights, "cls.seq_relationship") }
    }

    /// `hidden` `[B, S, H]` to logits `[B, 2]`: class 0 if the second text follows the first, class 1 if it does not.
    pub fn forward(&self, hidden: &Tensor) -> Tensor {
        self.output.forward(&self.pooler.forward(&hidden.select(1, 0)).tanh())
    }
}

/// Predicts for each token if it was replaced (Clark et al. 2020).
#[derive(Debug)]
pub struct Detector {
    dense: Linear,
    output: Linear,
}

impl Detector {
    pub fn new(weights: &Weights) -> Self {
        Self {
            dense: Linear::new(weights, "discriminator_predictions.dense"),
            output: Linear::new(weights, "discriminator_predictions.dense_prediction"),
        }
    }

    /// `hidden` `[B, S, H]` to logits `[B, S]`.
    pub fn forward(&self, hidden: &Tensor) -> Tensor {
        self.output.forward(&self.dense.forward(hidden).gelu("none")).squeeze_dim(-1)
    }
}

/// Classifies or scores a whole sequence by its first token.
#[derive(Debug)]
pub struct Classifier {
    dense: Linear,
    output: Linear,
    family: TextFamily,
    dropout: f64,
}

impl Classifier {
    pub fn new(weights: &Weights, family: TextFamily, model: &Model) -> Self {
        let (dense, output) = classifier_names(family);
        Self {
            dense: Linear::new(weights, dense),
            output: Linear::new(weights, output),
            family,
            dropout: model.dropout,
        }
    }

    pub const fn family(&self) -> TextFamily {
        self.family
    }

    /// `hidden` `[B, S, H]` to `[B, outputs]`; without `noise`, nothing is dropped out.
    pub fn forward(&self, hidden: &Tensor, noise: Option<&Noise>) -> Tensor {
        let dropped = |site: u32, x: &Tensor| dropout(x, noise.map(|noise| noise.at(HEAD_SITE + site, self.dropout)));
        // [B, S, H] -> [B, H]: the token [CLS].
        let first = hidden.select(1, 0);
        let pooled = match self.family {
            TextFamily::Bert => self.dense.forward(&first).tanh(),
            TextFamily::Electra => self.dense.forward(&dropped(0, &first)).gelu("none"),
        };
        self.output.forward(&dropped(1, &pooled))
    }
}
