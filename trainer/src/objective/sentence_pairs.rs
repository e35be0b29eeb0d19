//! Masked language modelling on pairs of texts, and next-sentence prediction beside it (Devlin et al. 2019).

use recipe::{Gate, Model};
use tch::{Reduction, Tensor, no_grad};

use super::loss::{LossContext, Mean, Objective, Uploader, correct, cross_entropy, evaluation};
use crate::bert::encoder::at;
use crate::bert::{Encoder, Family, Input, MlmHead, NextSentenceHead, Weights};
use crate::data::pretrain_batch::{PairBatch, PretrainBatch};
use crate::evaluation::Evaluation;
use crate::recompute::Tape;

#[derive(Debug)]
pub struct SentencePairs {
    encoder: Encoder,
    words: MlmHead,
    pairs: NextSentenceHead,
    uploader: Uploader,
}

impl SentencePairs {
    pub fn new(weights: &Weights, model: &Model, padding: i64, uploader: Uploader) -> Self {
        Self {
            encoder: Encoder::new(weights, Family::Bert, model, padding),
            words: MlmHead::new(weights),
            pairs: NextSentenceHead::new(weights),
            uploader,
        }
    }

    /// `scale` times the summed loss of the masked tokens in the last hidden state `[B, S, H]`.
    fn words_loss(&self, hidden: &Tensor, batch: &PairBatch, scale: f64) -> Tensor {
        let tokens = at(hidden, &self.uploader.numbers(&batch.masked.positions));
        self.words.loss(&tokens, &self.uploader.numbers(&batch.masked.labels), scale)
    }
}

impl Objective for SentencePairs {
    fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    fn encoder_mut(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    fn input(&self, batch: &PretrainBatch) -> Input {
        let PairBatch { masked, types, .. } = batch.pairs();
        Input::packed(self.uploader.sequences(&masked.ids), Some(self.uploader.sequences(types)))
    }

    fn loss(&self, batch: &PretrainBatch, gates: &[Gate], context: &LossContext, tape: Option<&mut Tape>) -> Tensor {
        let pairs = batch.pairs();
        let hidden = self.encoder.forward_recorded(&self.input(batch), gates, context.noise.as_ref(), tape);
        let apart = cross_entropy(&self.pairs.forward(&hidden), &self.uploader.numbers(&pairs.apart), Reduction::Mean);
        // A whole batch needs no product.
        let apart = if context.micro_batches == 1 { apart } else { apart * context.share() };
        self.words_loss(&hidden, pairs, context.per_label()) + apart
    }

    /// The headline is the loss of the masked tokens alone, so that it can be compared with that of single texts.
    fn evaluate(&self, batches: &mut dyn Iterator<Item = PretrainBatch>, gates: &[Gate]) -> Evaluation {
        let (mut loss, mut accuracy) = (Mean::default(), Mean::default());
        for batch in batches {
            let pairs = batch.pairs();
            no_grad(|| {
                let hidden = self.encoder.forward(&self.input(&batch), gates, None);
                loss.add(&self.words_loss(&hidden, pairs, 1.0), pairs.masked.labels.len());
                let correct = correct(&self.pairs.forward(&hidden), &self.uploader.numbers(&pairs.apart));
                accuracy.add(&correct, pairs.apart.len());
            });
        }
        evaluation(loss.value(), [("next_sentence_accuracy", accuracy.value())])
    }

    /// The headline leaves the pairs out.
    fn guess_loss(&self) -> f64 {
        f64::from(self.words.outputs()).ln()
    }
}
