//! What a pre-trained model learns to do: its encoder, its heads and its loss.

use recipe::seeds::{generator, uniform};
use recipe::{Electra, Gate, Images, Pretrain, Purpose};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

use crate::bert::encoder::at;
use crate::bert::{Detector, Encoder, Family, Input, LabelHead, MlmHead, NextSentenceHead, Weights};
use crate::data::batch::PretrainBatch;
use crate::device::upload;
use crate::kernel::Noise;
use crate::recompute::Tape;

/// What the share of images is called whose class was said rightly.
pub const VALIDATION_ACCURACY: &str = "validation_accuracy";

/// A model with what its loss needs.
#[derive(Debug)]
pub struct Objective {
    length: i64,
    device: Device,
    kind: Kinds,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a run")]
enum Kinds {
    Mlm { encoder: Encoder, head: MlmHead, next_sentence: Option<NextSentenceHead> },
    Electra { rule: Electra, generator: Encoder, filler: MlmHead, encoder: Encoder, detector: Detector },
    Images { rule: Images, encoder: Encoder, head: LabelHead },
}

/// What a batch of held-out sequences adds to the sums of an evaluation.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    /// Negative log likelihood of the masked tokens, of classes or of intensities, and their number.
    masked: (f64, f64),
    /// Images whose class was said rightly, and their number.
    classes: (f64, f64),
    /// Pairs that were judged rightly, and their number.
    pairs: (f64, f64),
    /// Binary cross-entropy of the detector, and the number of tokens.
    detected: (f64, f64),
}

/// One number that decides where a generator's draws come from.
#[derive(Debug, Clone, Copy)]
pub struct Replacement {
    pub seed: u64,
    pub step: u64,
    /// Which part of the step's batch.
    pub part: u64,
}

/// What the loss of one of a batch's equal parts needs beside its tokens.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Labels of the whole batch.
    pub labels: usize,
    /// Parts of the whole batch.
    pub parts: u32,
    /// Absent where nothing is to be dropped.
    pub noise: Option<Noise>,
    pub draws: Replacement,
}

impl Objective {
    pub fn new(recipe: &Pretrain, weights: &Weights, padding: i64, device: Device) -> Self {
        let model = &recipe.model;
        let kind = match (recipe.images, recipe.objective.electra) {
            (Some(rule), _) => Kinds::Images {
                rule,
                // Neither patches nor intensities are padded.
                encoder: Encoder::new(weights, Family::of(recipe), model, -1),
                head: LabelHead::new(weights),
            },
            (None, None) => Kinds::Mlm {
                encoder: Encoder::new(weights, Family::Bert, model, padding),
                head: MlmHead::new(weights, Family::Bert),
                next_sentence: recipe.objective.next_sentence.then(|| NextSentenceHead::new(weights)),
            },
            (None, Some(rule)) => Kinds::Electra {
                rule,
                generator: Encoder::new(weights, Family::Generator, &rule.generator(model), padding),
                filler: MlmHead::new(weights, Family::Generator),
                encoder: Encoder::new(weights, Family::Electra, model, padding),
                detector: Detector::new(weights),
            },
        };
        Self { length: i64::from(recipe.length), device, kind }
    }

    /// The encoder that is trained for others to use.
    pub fn encoder(&self) -> &Encoder {
        match &self.kind {
            Kinds::Mlm { encoder, .. } | Kinds::Electra { encoder, .. } | Kinds::Images { encoder, .. } => encoder,
        }
    }

    /// The same, to go through its sublayers in another order.
    pub fn encoder_mut(&mut self) -> &mut Encoder {
        match &mut self.kind {
            Kinds::Mlm { encoder, .. } | Kinds::Electra { encoder, .. } | Kinds::Images { encoder, .. } => encoder,
        }
    }

    /// What the encoder is shown of a batch.
    pub fn shown(&self, batch: &PretrainBatch) -> Input {
        self.input(batch, &batch.ids)
    }

    /// The loss of a part of a batch, a scalar with its graph: over all parts it sums to the mean over the batch. With a
    /// `tape`, sublayers are recomputed.
    pub fn loss(&self, batch: &PretrainBatch, gates: &[Gate], part: &Part, tape: Option<&mut Tape>) -> Tensor {
        let (share, noise) = (1.0 / f64::from(part.parts), part.noise.as_ref());
        // A part may have no labels where its sequences hold none but special tokens, and so may a batch.
        let each = 1.0 / part.labels.max(1) as f64;
        match &self.kind {
            Kinds::Mlm { encoder, head, next_sentence } => {
                let input = self.input(batch, &batch.ids);
                let (positions, labels) = (self.numbers(&batch.positions), self.numbers(&batch.labels));
                let loss = |tokens: &Tensor| head.loss(tokens, &labels, each);
                match next_sentence {
                    None => loss(&encoder.forward_at(&input, gates, &positions, noise, tape)),
                    Some(head) => {
                        let hidden = encoder.forward_recorded(&input, gates, noise, tape);
                        let apart = self.numbers(&batch.apart);
                        loss(&at(&hidden, &positions))
                            + scaled(cross_entropy(&head.forward(&hidden), &apart, Reduction::Mean), share)
                    }
                }
            }
            Kinds::Electra { rule, .. } => {
                let (filled, detected) = self.electra(batch, gates, noise, part.draws, tape);
                let labels = self.numbers(&batch.labels);
                cross_entropy(&filled, &labels, Reduction::Sum) * each
                    + detected.loss(Reduction::Mean) * (rule.weight * share)
            }
            Kinds::Images { head, .. } => {
                let tokens = self.labelled(batch, gates, noise, tape);
                head.loss(&tokens, &self.numbers(&batch.labels), each)
            }
        }
    }

    /// Named means over held-out batches, at full depth and without dropout: what `loss` would be first, as
    /// `validation_loss`; for pairs, of the masked tokens alone. In nats per masked token, per image, or per intensity: a
    /// pixel, or one channel of it.
    pub fn evaluate(&self, batches: impl Iterator<Item = PretrainBatch>, gates: &[Gate]) -> Vec<(String, f64)> {
        let mut sums = Sums::default();
        let add = |sum: &mut (f64, f64), value: &Tensor, count: usize| {
            *sum = (sum.0 + value.double_value(&[]), sum.1 + count as f64);
        };
        for (part, batch) in (0..).zip(batches) {
            no_grad(|| match &self.kind {
                Kinds::Mlm { encoder, head, next_sentence } => {
                    let hidden = encoder.forward(&self.input(&batch, &batch.ids), gates, None);
                    let (positions, labels) = (self.numbers(&batch.positions), self.numbers(&batch.labels));
                    let loss = head.loss(&at(&hidden, &positions), &labels, 1.0);
                    add(&mut sums.masked, &loss, batch.labels.len());
                    if let Some(head) = next_sentence {
                        let right = head.forward(&hidden).argmax(1, false).eq_tensor(&self.numbers(&batch.apart));
                        add(&mut sums.pairs, &right.sum(Kind::Double), batch.apart.len());
                    }
                }
                Kinds::Electra { .. } => {
                    // The same replacements at every evaluation of every trial.
                    let draws = Replacement { seed: 0, step: u64::MAX, part };
                    let (filled, detected) = self.electra(&batch, gates, None, draws, None);
                    let loss = cross_entropy(&filled, &self.numbers(&batch.labels), Reduction::Sum);
                    add(&mut sums.masked, &loss, batch.labels.len());
                    add(&mut sums.detected, &detected.loss(Reduction::Sum), batch.ids.len());
                }
                Kinds::Images { rule, head, .. } => {
                    let tokens = self.labelled(&batch, gates, None, None);
                    let labels = self.numbers(&batch.labels);
                    add(&mut sums.masked, &head.loss(&tokens, &labels, 1.0), batch.labels.len());
                    if let Images::Classifier { .. } = rule {
                        let right = head.forward(&tokens).argmax(1, false).eq_tensor(&labels);
                        add(&mut sums.classes, &right.sum(Kind::Double), batch.labels.len());
                    }
                }
            });
        }
        let mean = |(sum, count): (f64, f64)| sum / count;
        let named = |name: &str, value: f64| (name.to_owned(), value);
        match &self.kind {
            Kinds::Mlm { next_sentence: None, .. } => vec![named("validation_loss", mean(sums.masked))],
            Kinds::Mlm { .. } => {
                let (loss, right) = (mean(sums.masked), mean(sums.pairs));
                vec![named("validation_loss", loss), named("next_sentence_accuracy", right)]
            }
            Kinds::Electra { rule, .. } => {
                let (filled, detected) = (mean(sums.masked), mean(sums.detected));
                vec![
                    named("validation_loss", filled + rule.weight * detected),
                    named("generator_loss", filled),
                    named("detection_loss", detected),
                ]
            }
            Kinds::Images { rule: Images::Classifier { .. }, .. } => {
                let (loss, right) = (mean(sums.masked), mean(sums.classes));
                vec![named("validation_loss", loss), named(VALIDATION_ACCURACY, right)]
            }
            Kinds::Images { rule: Images::Pixels { .. }, .. } => vec![named("validation_loss", mean(sums.masked))],
        }
    }

    /// Logits of what each label of a batch of images is about, `[M, K]`: classes or levels.
    pub fn image_logits(&self, batch: &PretrainBatch, gates: &[Gate]) -> Option<Tensor> {
        let Kinds::Images { head, .. } = &self.kind else { return None };
        Some(no_grad(|| head.forward(&self.labelled(batch, gates, None, None))))
    }

    /// The last hidden state `[M, H]` of the tokens that a batch of images has labels for.
    fn labelled(
        &self,
        batch: &PretrainBatch,
        gates: &[Gate],
        noise: Option<&Noise>,
        tape: Option<&mut Tape>,
    ) -> Tensor {
        let (input, encoder) = (self.shown(batch), self.encoder());
        if batch.positions.is_empty() {
            encoder.forward_recorded(&input, gates, noise, tape).flatten(0, 1)
        } else {
            encoder.forward_at(&input, gates, &self.numbers(&batch.positions), noise, tape)
        }
    }

    /// Logits `[M, V]` of the generator at the masked positions, and what the detector makes of its draws.
    fn electra(
        &self,
        batch: &PretrainBatch,
        gates: &[Gate],
        noise: Option<&Noise>,
        draws: Replacement,
        mut tape: Option<&mut Tape>,
    ) -> (Tensor, Detection) {
        let Kinds::Electra { generator, filler, encoder, detector, .. } = &self.kind else {
            unreachable!("only ELECTRA has a generator")
        };
        let positions = self.numbers(&batch.positions);
        let input = self.input(batch, &batch.ids);
        let hidden = generator.forward_recorded(&input, gates, noise, tape.as_deref_mut());
        let filled = filler.forward(&hidden, &positions);
        let drawn = no_grad(|| sampled(&filled, draws));
        let (ids, replaced) = no_grad(|| {
            let ids = self.numbers(&batch.ids).index_copy(0, &positions, &drawn);
            let replaced = drawn.not_equal_tensor(&self.numbers(&batch.labels)).to_kind(Kind::Float);
            let labels = ids.zeros_like().to_kind(Kind::Float).index_copy(0, &positions, &replaced);
            (ids.view([-1, self.length]), labels.view([-1, self.length]))
        });
        let hidden = encoder.forward_recorded(&Input::packed(ids, None), gates, noise, tape);
        let logits = detector.forward(&hidden);
        (filled, Detection { logits, replaced })
    }

    fn input(&self, batch: &PretrainBatch, ids: &[i64]) -> Input {
        if !batch.patches.is_empty() {
            let shape = [batch.sequences(self.length as usize) as i64, self.length - 1, -1];
            return Input::patches(upload(&batch.patches, self.device).view(shape));
        }
        let types = (!batch.types.is_empty()).then(|| self.numbers(&batch.types).view([-1, self.length]));
        Input::packed(self.numbers(ids).view([-1, self.length]), types)
    }

    fn numbers(&self, values: &[i64]) -> Tensor {
        upload(values, self.device)
    }
}

/// What the detector says, and what is true, both `[B, S]`.
struct Detection {
    logits: Tensor,
    replaced: Tensor,
}

impl Detection {
    fn loss(&self, reduction: Reduction) -> Tensor {
        self.logits.binary_cross_entropy_with_logits::<Tensor>(&self.replaced, None, None, reduction)
    }
}

/// One draw from the softmax of each row of `logits` `[M, V]`: `[M]`, int64. By the inverse of the cumulated
/// probabilities, so that a row takes one number.
fn sampled(logits: &Tensor, draws: Replacement) -> Tensor {
    let mut numbers = generator(draws.seed, Purpose::Replace, draws.step, draws.part);
    let numbers: Vec<f32> = (0..logits.size()[0]).map(|_| uniform(&mut numbers) as f32).collect();
    let cumulated = logits.softmax(-1, Kind::Float).cumsum(-1, Kind::Float);
    let last = logits.size()[1] - 1;
    // Rounding leaves the last sum a little off 1.
    let at = upload(&numbers, logits.device()).view([-1, 1]) * cumulated.narrow(1, last, 1);
    at.searchsorted(&cumulated, false, true, "right", None::<Tensor>).squeeze_dim(1).clamp_max(last)
}

/// `logits` `[M, V]`, `labels` `[M]`.
fn cross_entropy(logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.0)
}

/// A whole batch needs no product.
fn scaled(loss: Tensor, factor: f64) -> Tensor {
    if factor == 1.0 { loss } else { loss * factor }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::bert::weights::Group;
    use crate::pretrain::Pretraining;
    use crate::pretrain::tests::small;
    use crate::train::Training;

    #[test]
    fn a_replacement_is_drawn_with_its_probability() {
        let probabilities = [0.5f64, 0.2, 0.0, 0.3];
        let row: Vec<f32> = probabilities.iter().map(|p| p.ln() as f32).collect();
        const ROWS: i64 = 40_000;
        let logits = Tensor::from_slice(&row).view([1, 4]).repeat([ROWS, 1]);
        let drawn = sampled(&logits, Replacement { seed: 3, step: 5, part: 0 });
        let counts: Vec<i64> = Vec::try_from(drawn.bincount::<Tensor>(None, 4)).unwrap();
        for (count, p) in counts.into_iter().zip(probabilities) {
            let spread = (ROWS as f64 * p * (1.0 - p)).sqrt();
            assert!((count as f64 - ROWS as f64 * p).abs() <= 4.0 * spread, "{count} of {ROWS}, probability {p}");
        }
        let again = sampled(&logits, Replacement { seed: 3, step: 5, part: 0 });
        assert_eq!(drawn, again);
        assert_ne!(drawn, sampled(&logits, Replacement { seed: 3, step: 6, part: 0 }));
    }

    const NO_DRAWS: Replacement = Replacement { seed: 3, step: 5, part: 0 };
    const OPEN: [Gate; 6] = [Gate::OPEN; 6];

    /// The loss of a batch that is one of `parts` equal ones, and its gradients outside the sublayers, by name.
    fn differentiated(training: &Pretraining, batch: &PretrainBatch, parts: u32) -> (f64, BTreeMap<String, Tensor>) {
        let labels = batch.labels.len() * parts as usize;
        let part = Part { labels, parts, noise: None, draws: NO_DRAWS };
        let loss = training.objective().loss(batch, &OPEN, &part, None);
        let weights = training.weights();
        Tape::default().differentiate(weights, &loss, &vec![true; weights.groups().len()]);
        let outside = &weights.groups()[0];
        let gradients =
            outside.named(outside.gradient()).into_iter().map(|(name, values)| (name, values.copy())).collect();
        weights.groups().iter().for_each(Group::forget_gradient);
        (loss.double_value(&[]), gradients)
    }

    /// Mean of -ln p of the labels, by hand, and softmax less the truth: its gradient by each row's logits, times the rows.
    fn entropy(logits: &Tensor, labels: &[i64]) -> (f64, Vec<Vec<f64>>) {
        let rows = Vec::<Vec<f64>>::try_from(logits.to_kind(Kind::Double)).unwrap();
        let mut sum = 0.0;
        let off = rows.iter().zip(labels).map(|(row, &label)| {
            let total: f64 = row.iter().map(|logit| logit.exp()).sum();
            sum -= (row[label as usize].exp() / total).ln();
            (0..).zip(row).map(|(class, logit)| logit.exp() / total - f64::from(u8::from(class == label))).collect()
        });
        let off = off.collect();
        (sum / rows.len() as f64, off)
    }

    fn close(what: &str, found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0), "{what}: {found}, expected {expected}");
    }

    #[test]
    fn replaced_token_detection_learns_from_the_generator_and_fifty_times_from_the_detector() {
        let electra = |rule: Value| {
            let training = small(json!({"objective": {"electra": rule}}));
            // A detector so far from where it starts, that it matters what it is shown.
            for name in ["dense.weight", "dense_prediction.weight"] {
                let mut value =
                    training.weights().named().remove(&format!("discriminator_predictions.{name}")).unwrap();
                let _ = no_grad(|| value.g_mul_scalar_(20.0));
            }
            training
        };
        let training = electra(json!({"divisor": 3}));
        let (model, weights) = (&training.recipe().model, training.weights());
        let Kinds::Electra { rule, .. } = training.objective().kind else { unreachable!() };
        let batch = training.held_out().next().unwrap();
        let padding = i64::from(training.vocabulary().unwrap().pad());
        let packed = |ids: &[i64]| Input::packed(Tensor::from_slice(ids).view([-1, 24]), None);

        let generator = Encoder::new(weights, Family::Generator, &rule.generator(model), padding);
        let hidden = generator.forward(&packed(&batch.ids), &OPEN, None);
        let filled = MlmHead::new(weights, Family::Generator).forward(&hidden, &Tensor::from_slice(&batch.positions));
        let (generated, _) = entropy(&filled, &batch.labels);
        let drawn = Vec::<i64>::try_from(sampled(&filled, NO_DRAWS)).unwrap();
        let (mut ids, mut replaced) = (batch.ids.clone(), vec![0.0; batch.ids.len()]);
        for ((&at, drawn), label) in batch.positions.iter().zip(drawn).zip(&batch.labels) {
            ids[at as usize] = drawn;
            replaced[at as usize] = f64::from(u8::from(drawn != *label));
        }
        let hidden = Encoder::new(weights, Family::Electra, model, padding).forward(&packed(&ids), &OPEN, None);
        let said = Detector::new(weights).forward(&hidden).flatten(0, 1).to_kind(Kind::Double);
        let said = Vec::<f64>::try_from(said).unwrap();
        let likely = |z: f64, y: f64| if y == 1.0 { 1.0 / (1.0 + (-z).exp()) } else { 1.0 / (1.0 + z.exp()) };
        let tokens = said.len() as f64;
        let detected = said.iter().zip(&replaced).map(|(&z, &y)| -likely(z, y).ln()).sum::<f64>() / tokens;
        let by_bias = said.iter().zip(&replaced).map(|(&z, &y)| likely(z, 1.0) - y).sum::<f64>() / tokens;

        let (loss, gradients) = differentiated(&training, &batch, 1);
        close("loss", loss, generated + 50.0 * detected);
        let bias = |gradients: &BTreeMap<String, Tensor>| {
            gradients["discriminator_predictions.dense_prediction.bias"].double_value(&[0])
        };
        assert!(by_bias.abs() > 0.01);
        close("bias of the detector", bias(&gradients), 50.0 * by_bias);
        let (half, of_half) = differentiated(&training, &batch, 2);
        close("half of a batch", half, loss / 2.0);
        close("bias in half of a batch", bias(&of_half), 25.0 * by_bias);

        // Another weight scales what reaches the detector, and nothing that only the generator has.
        let (other, of_other) = differentiated(&electra(json!({"divisor": 3, "weight": 4.0})), &batch, 1);
        close("loss at another weight", other, generated + 4.0 * detected);
        for (name, gradient) in &gradients {
            let scaled = if name.starts_with("discriminator") { 50.0 / 4.0 } else { 1.0 };
            if !name.starts_with("electra") {
                let error = (&of_other[name] * scaled - gradient).norm().double_value(&[]);
                let size = gradient.norm().double_value(&[]);
                assert!(size > 0.0 && error < 1e-4 * size, "{name}: off by {error} of {size}");
            }
        }
    }

    #[test]
    fn a_part_without_labels_has_a_loss_of_what_else_it_is_asked() {
        for (objective, precision) in [
            (json!({}), "float32"),
            (json!({}), "bfloat16"),
            (json!({"next_sentence": true}), "float32"),
            (json!({"electra": {"divisor": 3}}), "float32"),
        ] {
            let training = small(json!({"objective": objective, "precision": precision}));
            let batch = training.held_out().next().unwrap();
            let bare = PretrainBatch { positions: Vec::new(), labels: Vec::new(), ..batch };
            let (loss, gradients) = differentiated(&training, &bare, 1);
            assert_eq!(loss > 0.0, objective != json!({}), "{objective}: {loss}");
            for (name, gradient) in gradients {
                assert!(gradient.isfinite().all().int64_value(&[]) == 1, "{objective}: {name}");
            }
        }
    }

    #[test]
    fn next_sentence_prediction_adds_the_loss_of_the_pairs() {
        let training = small(json!({"objective": {"next_sentence": true}}));
        let weights = training.weights();
        let batch = training.held_out().next().unwrap();
        assert!(batch.apart.contains(&0) && batch.apart.contains(&1), "{:?}", batch.apart);
        let types = Some(Tensor::from_slice(&batch.types).view([-1, 24]));
        let input = Input::packed(Tensor::from_slice(&batch.ids).view([-1, 24]), types);
        let padding = i64::from(training.vocabulary().unwrap().pad());
        let hidden =
            Encoder::new(weights, Family::Bert, &training.recipe().model, padding).forward(&input, &OPEN, None);
        let words = MlmHead::new(weights, Family::Bert).forward(&hidden, &Tensor::from_slice(&batch.positions));
        let (masked, _) = entropy(&words, &batch.labels);
        let named = weights.named();
        let linear =
            |x: &Tensor, name: &str| x.matmul(&named[&format!("{name}.weight")].tr()) + &named[&format!("{name}.bias")];
        let pooled = linear(&hidden.select(1, 0), "bert.pooler.dense").tanh();
        let (pairs, off) = entropy(&linear(&pooled, "cls.seq_relationship"), &batch.apart);
        let by_bias = off.iter().map(|row| row[1]).sum::<f64>() / off.len() as f64;

        for parts in [1, 2] {
            let (loss, gradients) = differentiated(&training, &batch, parts);
            let share = f64::from(parts);
            close("loss", loss, (masked + pairs) / share);
            close("bias", gradients["cls.seq_relationship.bias"].double_value(&[1]), by_bias / share);
            for name in ["cls.seq_relationship.weight", "bert.pooler.dense.weight", "bert.pooler.dense.bias"] {
                assert!(gradients[name].norm().double_value(&[]) > 0.0, "{name}");
            }
        }
    }
}
