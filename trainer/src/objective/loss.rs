//! The interface of an objective, and the parts of a loss that the objectives share.

use std::fmt::Debug;

use recipe::Gate;
use tch::{Device, Kind, Reduction, Tensor};

use crate::bert::{Encoder, Input};
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

    /// Returns the loss of the micro-batch `batch` as a scalar with its graph. The losses of a step's micro-batches add
    /// up to the mean loss over the batch. With a `tape`, the sublayers are recomputed in the backward pass.
    fn loss(&self, batch: &PretrainBatch, gates: &[Gate], context: &LossContext, tape: Option<&mut Tape>) -> Tensor;

    /// Means over held-out batches, without dropout. The headline is the loss in nats per masked token, per image, or
    /// per intensity (a pixel, or one channel of it).
    fn evaluate(&self, batches: &mut dyn Iterator<Item = PretrainBatch>, gates: &[Gate]) -> Evaluation;

    /// The headline, in nats, of a model that gives every answer the same probability: ln n for one choice out of n.
    fn guess_loss(&self) -> f64;
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
pub struct LossContext {
    /// Number of labels in all micro-batches of the step.
    pub labels_in_step: usize,
    /// Number of micro-batches of the step.
    pub micro_batches: u32,
    /// None if nothing is dropped out.
    pub noise: Option<Noise>,
    pub replacements: ReplacementKey,
}

impl LossContext {
    /// Weight of each label in the mean over the batch. A batch has no labels if its sequences hold only special
    /// tokens.
    pub(super) fn per_label(&self) -> f64 {
        1.0 / self.labels_in_step.max(1) as f64
    }

    /// Weight of this micro-batch in the mean over the batch.
    pub(super) fn share(&self) -> f64 {
        1.0 / f64::from(self.micro_batches)
    }
}

/// Brings the plain numbers of a batch to the device.
#[derive(Debug, Clone, Copy)]
pub struct Uploader {
    /// Tokens per sequence.
    pub(super) length: i64,
    pub(super) device: Device,
}

impl Uploader {
    /// `[n]`, int64.
    pub(super) fn numbers(&self, values: &[i64]) -> Tensor {
        upload(values, self.device)
    }

    /// `[B, S]`, int64.
    pub(super) fn sequences(&self, values: &[i64]) -> Tensor {
        self.numbers(values).view([-1, self.length])
    }
}

/// A mean over all held-out batches.
#[derive(Debug, Default)]
pub(super) struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    pub(super) fn add(&mut self, sum: &Tensor, count: usize) {
        self.sum += sum.double_value(&[]);
        self.count += count as f64;
    }

    pub(super) fn value(&self) -> f64 {
        self.sum / self.count
    }
}

/// An evaluation whose headline is the loss.
pub(super) fn evaluation<const N: usize>(loss: f64, others: [(&str, f64); N]) -> Evaluation {
    let values = [(VALIDATION_LOSS, loss)].into_iter().chain(others);
    Evaluation { headline: loss, values: values.map(|(name, value)| (name.to_owned(), value)).collect() }
}

/// `logits` `[M, V]`, `labels` `[M]`.
pub(super) fn cross_entropy(logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.0)
}

/// Number of rows of `logits` `[M, K]` whose largest value is at the label, a float64 scalar.
pub(super) fn correct(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(1, false).eq_tensor(labels).sum(Kind::Double)
}
