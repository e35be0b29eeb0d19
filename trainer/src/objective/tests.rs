use std::collections::BTreeMap;

use recipe::Gate;
use serde_json::{Value, json};
use tch::{Kind, Tensor, no_grad};

use super::replaced_tokens::sample;
use super::*;
use crate::bert::weights::Group;
use crate::bert::{Detector, Encoder, Family, Input, MlmHead};
use crate::data::pretrain_batch::{MaskedBatch, PairBatch, PretrainBatch};
use crate::pretraining::Pretraining;
use crate::pretraining::tests::small;
use crate::recompute::Tape;
use crate::train::Training;

#[test]
fn a_replacement_is_drawn_with_its_probability() {
    let probabilities = [0.5f64, 0.2, 0.0, 0.3];
    let row: Vec<f32> = probabilities.iter().map(|p| p.ln() as f32).collect();
    const ROWS: i64 = 40_000;
    let logits = Tensor::from_slice(&row).view([1, 4]).repeat([ROWS, 1]);
    let drawn = sample(&logits, KEY);
    let counts: Vec<i64> = Vec::try_from(drawn.bincount::<Tensor>(None, 4)).unwrap();
    for (count, p) in counts.into_iter().zip(probabilities) {
        let spread = (ROWS as f64 * p * (1.0 - p)).sqrt();
        assert!((count as f64 - ROWS as f64 * p).abs() <= 4.0 * spread, "{count} of {ROWS}, probability {p}");
    }
    assert_eq!(drawn, sample(&logits, KEY));
    assert_ne!(drawn, sample(&logits, ReplacementKey { step: 6, ..KEY }));
}

const KEY: ReplacementKey = ReplacementKey { seed: 3, step: 5, micro_batch: 0 };
const OPEN: [Gate; 6] = [Gate::OPEN; 6];

/// The loss of a micro-batch, one of `micro_batches` of the same size, and its gradients outside the sublayers, by
/// name.
fn differentiated(
    training: &Pretraining,
    batch: &PretrainBatch,
    micro_batches: u32,
) -> (f64, BTreeMap<String, Tensor>) {
    let labels_in_step = batch.label_count() * micro_batches as usize;
    let context = LossContext { labels_in_step, micro_batches, noise: None, replacements: KEY };
    let loss = training.objective().loss(batch, &OPEN, &context, None);
    let weights = training.weights();
    Tape::default().differentiate(weights, &loss, &vec![true; weights.groups().len()]);
    let outside = &weights.groups()[0];
    let gradients = outside.named(outside.gradient()).into_iter().map(|(name, values)| (name, values.copy())).collect();
    weights.groups().iter().for_each(Group::forget_gradient);
    (loss.double_value(&[]), gradients)
}

/// The cross-entropy of the labels, computed by its formula, and softmax minus one-hot labels for each row: its
/// gradient by the logits, times the number of rows.
fn cross_entropy_by_hand(logits: &Tensor, labels: &[i64]) -> (f64, Vec<Vec<f64>>) {
    let rows = Vec::<Vec<f64>>::try_from(logits.to_kind(Kind::Double)).unwrap();
    let mut sum = 0.0;
    let errors = rows.iter().zip(labels).map(|(row, &label)| {
        let total: f64 = row.iter().map(|logit| logit.exp()).sum();
        sum -= (row[label as usize].exp() / total).ln();
        (0..).zip(row).map(|(class, logit)| logit.exp() / total - f64::from(u8::from(class == label))).collect()
    });
    let errors = errors.collect();
    (sum / rows.len() as f64, errors)
}

fn close(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0), "{what}: {found}, expected {expected}");
}

#[test]
fn replaced_token_detection_adds_the_weighted_loss_of_the_detector_to_that_of_the_generator() {
    let electra = |rule: Value| {
        let training = small(json!({"objective": {"electra": rule}}));
        // The weights of the detector are made so large that its input matters.
        for name in ["dense.weight", "dense_prediction.weight"] {
            let mut value = training.weights().named().remove(&format!("discriminator_predictions.{name}")).unwrap();
            let _ = no_grad(|| value.g_mul_scalar_(20.0));
        }
        training
    };
    let training = electra(json!({"divisor": 3}));
    let (model, weights) = (&training.recipe().model, training.weights());
    let rule = training.recipe().objective.electra.unwrap();
    let held_out = training.held_out().next().unwrap();
    let batch = held_out.masked();
    let padding = i64::from(training.vocabulary().unwrap().pad());
    let packed = |ids: &[i64]| Input::packed(Tensor::from_slice(ids).view([-1, 24]), None);

    let generator = Encoder::new(weights, Family::Generator, &rule.generator(model), padding);
    let hidden = generator.forward(&packed(&batch.ids), &OPEN, None);
    let filled = MlmHead::of_generator(weights).forward(&hidden, &Tensor::from_slice(&batch.positions));
    let (generated, _) = cross_entropy_by_hand(&filled, &batch.labels);
    let drawn = Vec::<i64>::try_from(sample(&filled, KEY)).unwrap();
    let (mut ids, mut replaced) = (batch.ids.clone(), vec![0.0; batch.ids.len()]);
    for ((&at, drawn), label) in batch.positions.iter().zip(drawn).zip(&batch.labels) {
        ids[at as usize] = drawn;
        replaced[at as usize] = f64::from(u8::from(drawn != *label));
    }
    let hidden = Encoder::new(weights, Family::Electra, model, padding).forward(&packed(&ids), &OPEN, None);
    let logits = Detector::new(weights).forward(&hidden).flatten(0, 1).to_kind(Kind::Double);
    let logits = Vec::<f64>::try_from(logits).unwrap();
    let likely = |z: f64, y: f64| if y == 1.0 { 1.0 / (1.0 + (-z).exp()) } else { 1.0 / (1.0 + z.exp()) };
    let tokens = logits.len() as f64;
    let detected = logits.iter().zip(&replaced).map(|(&z, &y)| -likely(z, y).ln()).sum::<f64>() / tokens;
    let by_bias = logits.iter().zip(&replaced).map(|(&z, &y)| likely(z, 1.0) - y).sum::<f64>() / tokens;

    let (loss, gradients) = differentiated(&training, &held_out, 1);
    close("loss", loss, generated + 50.0 * detected);
    let bias = |gradients: &BTreeMap<String, Tensor>| {
        gradients["discriminator_predictions.dense_prediction.bias"].double_value(&[0])
    };
    assert!(by_bias.abs() > 0.01);
    close("bias of the detector", bias(&gradients), 50.0 * by_bias);
    let (half, of_half) = differentiated(&training, &held_out, 2);
    close("half of a batch", half, loss / 2.0);
    close("bias in half of a batch", bias(&of_half), 25.0 * by_bias);

    // The weight scales the gradients of the detector, and not those that only the generator has.
    let (other, of_other) = differentiated(&electra(json!({"divisor": 3, "weight": 4.0})), &held_out, 1);
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
fn a_batch_without_masked_tokens_has_a_finite_loss_and_gradients() {
    for (objective, precision) in [
        (json!({}), "float32"),
        (json!({}), "bfloat16"),
        (json!({"next_sentence": true}), "float32"),
        (json!({"electra": {"divisor": 3}}), "float32"),
    ] {
        let training = small(json!({"objective": objective, "precision": precision}));
        let batch = training.held_out().next().unwrap();
        let bare = |batch: MaskedBatch| MaskedBatch { positions: Vec::new(), labels: Vec::new(), ..batch };
        let bare = match batch {
            PretrainBatch::Pairs(pairs) => {
                PretrainBatch::Pairs(PairBatch { masked: bare(pairs.masked.clone()), ..pairs })
            }
            other => PretrainBatch::Masked(bare(other.masked().clone())),
        };
        let (loss, gradients) = differentiated(&training, &bare, 1);
        assert_eq!(loss > 0.0, objective != json!({}), "{objective}: {loss}");
        for (name, gradient) in gradients {
            assert!(gradient.isfinite().all().int64_value(&[]) == 1, "{objective}: {name}");
        }
    }
}

#[test]
fn a_model_of_zeros_has_the_loss_of_a_guess() {
    for (objective, weight) in [
        (json!({}), 0.0),
        (json!({"next_sentence": true}), 0.0),
        (json!({"electra": {"divisor": 3, "weight": 4.0}}), 4.0),
    ] {
        let training = small(json!({"objective": objective}));
        for group in training.weights().groups() {
            let _ = no_grad(|| group.buffer().shallow_clone().zero_());
        }
        let guess = training.objective().guess_loss();
        let words = f64::from(training.vocabulary().unwrap().size());
        close(&format!("{objective}"), guess, words.ln() + weight * f64::ln(2.0));
        let evaluation = training.objective().evaluate(&mut training.held_out(), &OPEN);
        close(&format!("{objective}, evaluated"), evaluation.headline, guess);
    }
}

#[test]
fn next_sentence_prediction_adds_the_loss_of_the_pairs() {
    let training = small(json!({"objective": {"next_sentence": true}}));
    let weights = training.weights();
    let held_out = training.held_out().next().unwrap();
    let batch = held_out.pairs();
    assert!(batch.apart.contains(&0) && batch.apart.contains(&1), "{:?}", batch.apart);
    let types = Some(Tensor::from_slice(&batch.types).view([-1, 24]));
    let input = Input::packed(Tensor::from_slice(&batch.masked.ids).view([-1, 24]), types);
    let padding = i64::from(training.vocabulary().unwrap().pad());
    let hidden = Encoder::new(weights, Family::Bert, &training.recipe().model, padding).forward(&input, &OPEN, None);
    let words = MlmHead::new(weights).forward(&hidden, &Tensor::from_slice(&batch.masked.positions));
    let (masked, _) = cross_entropy_by_hand(&words, &batch.masked.labels);
    let named = weights.named();
    let linear =
        |x: &Tensor, name: &str| x.matmul(&named[&format!("{name}.weight")].tr()) + &named[&format!("{name}.bias")];
    let pooled = linear(&hidden.select(1, 0), "bert.pooler.dense").tanh();
    let (pairs, errors) = cross_entropy_by_hand(&linear(&pooled, "cls.seq_relationship"), &batch.apart);
    let by_bias = errors.iter().map(|row| row[1]).sum::<f64>() / errors.len() as f64;

    for parts in [1, 2] {
        let (loss, gradients) = differentiated(&training, &held_out, parts);
        let share = f64::from(parts);
        close("loss", loss, (masked + pairs) / share);
        close("bias", gradients["cls.seq_relationship.bias"].double_value(&[1]), by_bias / share);
        for name in ["cls.seq_relationship.weight", "bert.pooler.dense.weight", "bert.pooler.dense.bias"] {
            assert!(gradients[name].norm().double_value(&[]) > 0.0, "{name}");
        }
    }
}
