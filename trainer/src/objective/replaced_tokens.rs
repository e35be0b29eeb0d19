//! Replaced-token detection (ELECTRA, Clark et al. 2020): a small generator fills in the masked tokens, and the model
//! detects which tokens were replaced.

use recipe::seeds::{generator, uniform};
use recipe::{Electra, Gate, Model, Purpose};
use tch::{Kind, Reduction, Tensor, no_grad};

use super::loss::{LossContext, Mean, Objective, ReplacementKey, Uploader, cross_entropy, evaluation};
use crate::bert::{Detector, Encoder, Family, Input, MlmHead, Weights};
use crate::data::pretrain_batch::{MaskedBatch, PretrainBatch};
use crate::device::upload;
use crate::evaluation::Evaluation;
use crate::kernel::Noise;
use crate::recompute::Tape;

#[derive(Debug)]
pub struct ReplacedTokens {
    rule: Electra,
    generator: Encoder,
    generator_head: MlmHead,
    encoder: Encoder,
    detector: Detector,
    uploader: Uploader,
}

/// The output of the generator and of the detector for one batch.
struct Outputs {
    /// Logits of the generator at the masked positions, `[M, V]`.
    generated: Tensor,
    /// Logits of the detector, `[B, S]`.
    detected: Tensor,
    /// 1 at each token that was replaced, else 0, `[B, S]`, float32.
    replaced: Tensor,
}

impl Outputs {
    fn detection_loss(&self, reduction: Reduction) -> Tensor {
        self.detected.binary_cross_entropy_with_logits::<Tensor>(&self.replaced, None, None, reduction)
    }
}

impl ReplacedTokens {
    pub fn new(rule: Electra, weights: &Weights, model: &Model, padding: i64, uploader: Uploader) -> Self {
        Self {
            rule,
            generator: Encoder::new(weights, Family::Generator, &rule.generator(model), padding),
            generator_head: MlmHead::of_generator(weights),
            encoder: Encoder::new(weights, Family::Electra, model, padding),
            detector: Detector::new(weights),
            uploader,
        }
    }

    fn forward(
        &self,
        batch: &PretrainBatch,
        gates: &[Gate],
        noise: Option<&Noise>,
        key: ReplacementKey,
        mut tape: Option<&mut Tape>,
    ) -> Outputs {
        let MaskedBatch { ids, positions, labels } = batch.masked();
        let positions = self.uploader.numbers(positions);
        let hidden = self.generator.forward_recorded(&self.input(batch), gates, noise, tape.as_deref_mut());
        let generated = self.generator_head.forward(&hidden, &positions);
        let (ids, replaced) = no_grad(|| {
            let drawn = sample(&generated, key);
            let ids = self.uploader.numbers(ids).index_copy(0, &positions, &drawn);
            let replaced = drawn.not_equal_tensor(&self.uploader.numbers(labels)).to_kind(Kind::Float);
            let replaced = ids.zeros_like().to_kind(Kind::Float).index_copy(0, &positions, &replaced);
            (ids.view([-1, self.uploader.length]), replaced.view([-1, self.uploader.length]))
        });
        let hidden = self.encoder.forward_recorded(&Input::packed(ids, None), gates, noise, tape);
        Outputs { generated, detected: self.detector.forward(&hidden), replaced }
    }
}

impl Objective for ReplacedTokens {
    fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    fn encoder_mut(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// The masked text, which the generator sees in training.
    fn input(&self, batch: &PretrainBatch) -> Input {
        Input::packed(self.uploader.sequences(&batch.masked().ids), None)
    }

    fn loss(&self, batch: &PretrainBatch, gates: &[Gate], context: &LossContext, tape: Option<&mut Tape>) -> Tensor {
        let outputs = self.forward(batch, gates, context.noise.as_ref(), context.replacements, tape);
        let labels = self.uploader.numbers(&batch.masked().labels);
        cross_entropy(&outputs.generated, &labels, Reduction::Sum) * context.per_label()
            + outputs.detection_loss(Reduction::Mean) * (self.rule.weight * context.share())
    }

    fn evaluate(&self, batches: &mut dyn Iterator<Item = PretrainBatch>, gates: &[Gate]) -> Evaluation {
        let (mut generated, mut detected) = (Mean::default(), Mean::default());
        for (micro_batch, batch) in (0..).zip(batches) {
            // Every evaluation of every trial draws the same replacements.
            let key = ReplacementKey { seed: 0, step: u64::MAX, micro_batch };
            let MaskedBatch { ids, labels, .. } = batch.masked();
            no_grad(|| {
                let outputs = self.forward(&batch, gates, None, key, None);
                let sum = cross_entropy(&outputs.generated, &self.uploader.numbers(labels), Reduction::Sum);
                generated.add(&sum, labels.len());
                detected.add(&outputs.detection_loss(Reduction::Sum), ids.len());
            });
        }
        let (generated, detected) = (generated.value(), detected.value());
        let others = [("generator_loss", generated), ("detection_loss", detected)];
        evaluation(generated + self.rule.weight * detected, others)
    }

    /// ln V of the generator, and the weight times ln 2 of the detector.
    fn guess_loss(&self) -> f64 {
        f64::from(self.generator_head.outputs()).ln() + self.rule.weight * f64::ln(2.0)
    }
}

/// One draw from the softmax of each row of `logits` `[M, V]`: `[M]`, int64. It inverts the cumulative probabilities,
/// so that a row takes one random number.
pub(super) fn sample(logits: &Tensor, key: ReplacementKey) -> Tensor {
    let mut draws = generator(key.seed, Purpose::Replace, key.step, key.micro_batch);
    let draws: Vec<f32> = (0..logits.size()[0]).map(|_| uniform(&mut draws) as f32).collect();
    let cumulative = logits.softmax(-1, Kind::Float).cumsum(-1, Kind::Float);
    let last = logits.size()[1] - 1;
    // Rounding leaves the last sum a little off 1.
    let at = upload(&draws, logits.device()).view([-1, 1]) * cumulative.narrow(1, last, 1);
    at.searchsorted(&cumulative, false, true, "right", None::<Tensor>).squeeze_dim(1).clamp_max(last)
}
