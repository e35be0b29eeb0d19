//! Masked language modelling (Devlin et al. 2019): the model restores the masked tokens of a text.

use recipe::{Gate, Model};
use tch::{Tensor, no_grad};

use super::loss::{LossContext, Mean, Objective, Uploader, evaluation};
use crate::bert::encoder::at;
use crate::bert::{Encoder, Family, Input, MlmHead, Weights};
use crate::data::pretrain_batch::{MaskedBatch, PretrainBatch};
use crate::evaluation::Evaluation;
use crate::recompute::Tape;

#[derive(Debug)]
pub struct MaskedWords {
    encoder: Encoder,
    head: MlmHead,
    uploader: Uploader,
}

impl MaskedWords {
    pub fn new(weights: &Weights, model: &Model, padding: i64, uploader: Uploader) -> Self {
        Self { encoder: Encoder::new(weights, Family::Bert, model, padding), head: MlmHead::new(weights), uploader }
    }
}

impl Objective for MaskedWords {
    fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    fn encoder_mut(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    fn input(&self, batch: &PretrainBatch) -> Input {
        Input::packed(self.uploader.sequences(&batch.masked().ids), None)
    }

    fn loss(&self, batch: &PretrainBatch, gates: &[Gate], context: &LossContext, tape: Option<&mut Tape>) -> Tensor {
        let MaskedBatch { positions, labels, .. } = batch.masked();
        let (positions, labels) = (self.uploader.numbers(positions), self.uploader.numbers(labels));
        let tokens = self.encoder.forward_at(&self.input(batch), gates, &positions, context.noise.as_ref(), tape);
        self.head.loss(&tokens, &labels, context.per_label())
    }

    fn evaluate(&self, batches: &mut dyn Iterator<Item = PretrainBatch>, gates: &[Gate]) -> Evaluation {
        let mut loss = Mean::default();
        for batch in batches {
            let MaskedBatch { positions, labels, .. } = batch.masked();
            let sum = no_grad(|| {
                let hidden = self.encoder.forward(&self.input(&batch), gates, None);
                let tokens = at(&hidden, &self.uploader.numbers(positions));
                self.head.loss(&tokens, &self.uploader.numbers(labels), 1.0)
            });
            loss.add(&sum, labels.len());
        }
        evaluation(loss.value(), [])
    }

    fn guess_loss(&self) -> f64 {
        f64::from(self.head.outputs()).ln()
    }
}
