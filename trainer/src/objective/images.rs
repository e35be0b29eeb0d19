//! Learning from images: the class of an image from its patches, or each intensity from those before it.

use recipe::{Gate, Model};
use tch::{Tensor, no_grad};

use super::loss::{LossContext, Mean, Objective, Uploader, VALIDATION_ACCURACY, correct, evaluation};
use crate::bert::{Encoder, Family, Input, LabelHead, Weights};
use crate::data::pretrain_batch::{PixelBatch, PretrainBatch};
use crate::device::upload;
use crate::evaluation::Evaluation;
use crate::kernel::Noise;
use crate::recompute::Tape;

/// Neither patches nor intensities are padded.
const NO_PADDING: i64 = -1;

/// Classifies an image by its first token (Dosovitskiy et al. 2021).
#[derive(Debug)]
pub struct ImageClass {
    encoder: Encoder,
    head: LabelHead,
    uploader: Uploader,
}

impl ImageClass {
    pub fn new(weights: &Weights, model: &Model, uploader: Uploader) -> Self {
        let encoder = Encoder::new(weights, Family::Patches, model, NO_PADDING);
        Self { encoder, head: LabelHead::new(weights), uploader }
    }

    /// The last hidden state of each image's class token, `[B, H]`.
    fn class_tokens(
        &self,
        batch: &PretrainBatch,
        gates: &[Gate],
        noise: Option<&Noise>,
        tape: Option<&mut Tape>,
    ) -> Tensor {
        let images = batch.patches().classes.len() as i64;
        let positions: Vec<i64> = (0..images).map(|image| image * self.uploader.length).collect();
        self.encoder.forward_at(&self.input(batch), gates, &self.uploader.numbers(&positions), noise, tape)
    }
}

impl Objective for ImageClass {
    fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    fn encoder_mut(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    fn input(&self, batch: &PretrainBatch) -> Input {
        let batch = batch.patches();
        let shape = [batch.classes.len() as i64, self.uploader.length - 1, -1];
        Input::patches(upload(&batch.values, self.uploader.device).view(shape))
    }

    fn loss(&self, batch: &PretrainBatch, gates: &[Gate], context: &LossContext, tape: Option<&mut Tape>) -> Tensor {
        let tokens = self.class_tokens(batch, gates, context.noise.as_ref(), tape);
        self.head.loss(&tokens, &self.uploader.numbers(&batch.patches().classes), context.per_label())
    }

    fn evaluate(&self, batches: &mut dyn Iterator<Item = PretrainBatch>, gates: &[Gate]) -> Evaluation {
        let (mut loss, mut accuracy) = (Mean::default(), Mean::default());
        for batch in batches {
            let classes = &batch.patches().classes;
            no_grad(|| {
                let tokens = self.class_tokens(&batch, gates, None, None);
                let labels = self.uploader.numbers(classes);
                loss.add(&self.head.loss(&tokens, &labels, 1.0), classes.len());
                accuracy.add(&correct(&self.head.forward(&tokens), &labels), classes.len());
            });
        }
        evaluation(loss.value(), [(VALIDATION_ACCURACY, accuracy.value())])
    }

    fn guess_loss(&self) -> f64 {
        f64::from(self.head.outputs()).ln()
    }
}

/// Predicts each intensity of an image from those before it, with a causal encoder (Chen et al. 2020).
#[derive(Debug)]
pub struct Intensities {
    encoder: Encoder,
    head: LabelHead,
    uploader: Uploader,
}

impl Intensities {
    pub fn new(weights: &Weights, model: &Model, uploader: Uploader) -> Self {
        let encoder = Encoder::new(weights, Family::Pixels, model, NO_PADDING);
        Self { encoder, head: LabelHead::new(weights), uploader }
    }
}

impl Objective for Intensities {
    fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    fn encoder_mut(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    fn input(&self, batch: &PretrainBatch) -> Input {
        Input::packed(self.uploader.sequences(&batch.pixels().ids), None)
    }

    fn loss(&self, batch: &PretrainBatch, gates: &[Gate], context: &LossContext, tape: Option<&mut Tape>) -> Tensor {
        let hidden = self.encoder.forward_recorded(&self.input(batch), gates, context.noise.as_ref(), tape);
        let levels = self.uploader.numbers(&batch.pixels().levels);
        self.head.loss(&hidden.flatten(0, 1), &levels, context.per_label())
    }

    fn evaluate(&self, batches: &mut dyn Iterator<Item = PretrainBatch>, gates: &[Gate]) -> Evaluation {
        let mut loss = Mean::default();
        for batch in batches {
            let PixelBatch { levels, .. } = batch.pixels();
            let sum = no_grad(|| {
                let hidden = self.encoder.forward(&self.input(&batch), gates, None);
                self.head.loss(&hidden.flatten(0, 1), &self.uploader.numbers(levels), 1.0)
            });
            loss.add(&sum, levels.len());
        }
        evaluation(loss.value(), [])
    }

    fn guess_loss(&self) -> f64 {
        f64::from(self.head.outputs()).ln()
    }
}
