//! The objectives of pre-training: each has an encoder, heads and a loss.
//!
//! | module | the model predicts | source |
//! |---|---|---|
//! | [`masked_words`] | the masked tokens of a text | Devlin et al. 2019 |
//! | [`sentence_pairs`] | masked tokens, and if one text follows another | Devlin et al. 2019 |
//! | [`replaced_tokens`] | which tokens a small generator has replaced | Clark et al. 2020 |
//! | [`images`] | the class of an image | Dosovitskiy et al. 2021 |
//! | [`images`] | each intensity of an image from those before it | Chen et al. 2020 |

pub mod images;
pub mod masked_words;
pub mod replaced_tokens;
pub mod sentence_pairs;

use std::fmt::Debug;

use recipe::{Gate, Images, Pretrain};
use tch::{Device, Kind, Reduction, Tensor};

use self::images::{ImageClass, Intensities};
use self::masked_words::MaskedWords;
use self::replaced_tokens::ReplacedTokens;
use self::sentence_pairs::SentencePairs;
use crate::bert::{Encoder, Input, Weights};
use crate::data::pretrain_batch::PretrainBatch;
use crate::device::upload;
use crate::evaluation::Evaluation;
use crate::kernel::Noise;
use crate::recompute::Tape;

const VALIDATION_LOSS: &str = "validation_loss";
/// Name of the share of held-out images that are classified correctly.
pub const VALIDATION_ACCURACY: &str = "validation_accuracy";

/// A model with its loss. An objective is given only batches that were made for its recipe.
pub trait Objective: Debug {
    /// The encoder that is trained for later use.
    fn encoder(&self) -> &Encoder;

    fn encoder_mut(&mut self) -> &mut Encoder;

    /// The input of the encoder for a batch.
    fn input(&self, batch: &PretrainBatch) -> Input;

    /// The loss of a micro-batch, a scalar with its graph. Over all micro-batches of a step it sums to the mean over
    /// the batch. With a `tape`, the sublayers are recomputed in the backward pass.
    fn loss(&self, batch: &PretrainBatch, gates: &[Gate], micro_batch: &MicroBatch, tape: Option<&mut Tape>) -> Tensor;

    /// Means over held-out batches, without dropout. The headline is the loss in nats per masked token, per image, or
    /// per intensity (a pixel, or one channel of it).
    fn evaluate(&self, batches: &mut dyn Iterator<Item = PretrainBatch>, gates: &[Gate]) -> Evaluation;
}

/// The objective of `recipe`. `padding` is the id of `[PAD]`; images have none.
pub fn objective(recipe: &Pretrain, weights: &Weights, padding: i64, device: Device) -> Box<dyn Objective> {
    let model = &recipe.model;
    let uploader = Uploader { length: i64::from(recipe.length), device };
    match (recipe.images, recipe.objective.electra) {
        (Some(Images::Classifier { .. }), _) => Box::new(ImageClass::new(weights, model, uploader)),
        (Some(Images::Pixels { .. }), _) => Box::new(Intensities::new(weights, model, uploader)),
        (None, Some(rule)) => Box::new(ReplacedTokens::new(rule, weights, model, padding, uploader)),
        (None, None) if recipe.objective.next_sentence => {
            Box::new(SentencePairs::new(weights, model, padding, uploader))
        }
        (None, None) => Box::new(MaskedWords::new(weights, model, padding, uploader)),
    }
}

/// Identifies the draws of replaced tokens: equal keys give equal draws.
#[derive(Debug, Clone, Copy)]
pub struct ReplacementKey {
    pub seed: u64,
    pub step: u64,
    pub micro_batch: u64,
}

/// The settings that the loss of a micro-batch depends on besides its tokens.
#[derive(Debug, Clone, Copy)]
pub struct MicroBatch {
    /// Labels of the whole batch.
    pub labels: usize,
    /// Number of micro-batches in the batch.
    pub count: u32,
    /// None if nothing is dropped out.
    pub noise: Option<Noise>,
    pub replacements: ReplacementKey,
}

impl MicroBatch {
    /// Weight of each label in the mean over the batch. A batch has no labels if its sequences hold only special
    /// tokens.
    fn per_label(&self) -> f64 {
        1.0 / self.labels.max(1) as f64
    }

    /// Weight of this micro-batch in the mean over the batch.
    fn share(&self) -> f64 {
        1.0 / f64::from(self.count)
    }
}

/// Brings the plain numbers of a batch to the device.
#[derive(Debug, Clone, Copy)]
pub struct Uploader {
    /// Tokens per sequence.
    length: i64,
    device: Device,
}

impl Uploader {
    /// `[n]`, int64.
    fn numbers(&self, values: &[i64]) -> Tensor {
        upload(values, self.device)
    }

    /// `[B, S]`, int64.
    fn sequences(&self, values: &[i64]) -> Tensor {
        self.numbers(values).view([-1, self.length])
    }
}

/// A mean over all held-out batches.
#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, sum: &Tensor, count: usize) {
        self.sum += sum.double_value(&[]);
        self.count += count as f64;
    }

    fn value(&self) -> f64 {
        self.sum / self.count
    }
}

/// An evaluation whose headline is the loss.
fn evaluation<const N: usize>(loss: f64, others: [(&str, f64); N]) -> Evaluation {
    let values = [(VALIDATION_LOSS, loss)].into_iter().chain(others);
    Evaluation { headline: loss, values: values.map(|(name, value)| (name.to_owned(), value)).collect() }
}

/// `logits` `[M, V]`, `labels` `[M]`.
fn cross_entropy(logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.0)
}

/// Number of rows of `logits` `[M, K]` whose largest value is at the label, a float64 scalar.
fn correct(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(1, false).eq_tensor(labels).sum(Kind::Double)
}

#[cfg(test)]
mod tests;
