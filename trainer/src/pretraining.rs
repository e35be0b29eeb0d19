//! This module gives the training loop a pre-training: an objective on packed text or on images.

use std::ops::Range;
use std::rc::Rc;

use recipe::report::BlockState;
use recipe::{Gate, ImageObjective, Mlm, Model, Moment, Pretrain, Seeds};
use tch::{Device, Tensor};

use crate::bert::{Encoder, Head, TextHead, Weights, published};
use crate::block_states::block_states;
use crate::data::masking::Order;
use crate::data::material::Material;
use crate::data::prefetcher::Prefetcher;
use crate::data::pretrain_batch::PretrainBatch;
use crate::data::vocabulary::Vocabulary;
use crate::evaluation::Evaluation;
use crate::kernel::Noise;
use crate::objective::{LossContext, Objective, ReplacementKey, objective};
use crate::recompute::Tape;
use crate::train::{Budget, Training};

/// A pre-training: a model, and the recipe and the text or images that it learns from.
pub struct Pretraining {
    recipe: Pretrain,
    seeds: Seeds,
    material: Material,
    /// Makes the micro-batches of a step, and those of the next step in the background.
    prefetcher: Prefetcher<BatchKey, Vec<PretrainBatch>>,
    /// The last step that was looked up, and its micro-batches. This is only a cache: they can be made again from the
    /// moment of the step.
    latest: Option<(u64, Rc<[PretrainBatch]>)>,
    weights: Weights,
    objective: Box<dyn Objective>,
}

/// Identifies the batch of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct BatchKey {
    step: u64,
    masking_rate: f64,
}

/// Returns a prefetcher that makes the micro-batches of a step.
fn prefetcher(recipe: &Pretrain, seed: u64, material: Material) -> Prefetcher<BatchKey, Vec<PretrainBatch>> {
    let (mlm, batch) = (recipe.objective, recipe.batch);
    let size = (batch / recipe.micro_batches) as usize;
    let mut order = Order::new(seed, material.train_sequences() as u32);
    Prefetcher::new(move |BatchKey { step, masking_rate }| {
        let mlm = Mlm { rate: masking_rate, ..mlm };
        let micro_batch =
            |(index, sequences): (usize, &[u32])| material.micro_batch(&mlm, sequences, index * size, seed, step);
        order.batch_sequences(batch, step).chunks(size).enumerate().map(micro_batch).collect()
    })
}

impl Pretraining {
    /// Returns a model with weights at their starting values, and the text or images that it learns from.
    pub fn new(recipe: Pretrain, seeds: Seeds, material: impl Into<Material>, device: Device) -> Self {
        let material = material.into();
        let embedding_rows = material.vocabulary().map_or(0, |words| words.size());
        Self::with_embedding_rows(recipe, seeds, material, embedding_rows, device)
    }

    /// Returns the same with this number of rows in the word embedding, at least one for each token of the vocabulary.
    pub fn with_embedding_rows(
        recipe: Pretrain,
        seeds: Seeds,
        material: Material,
        embedding_rows: u32,
        device: Device,
    ) -> Self {
        let padding = material.vocabulary().map_or(-1, |words| i64::from(words.pad()));
        let weights = Weights::new(&recipe.model, embedding_rows, head(&recipe, &material), &seeds, device)
            .with_precision(recipe.precision);
        Self {
            prefetcher: prefetcher(&recipe, seeds.data, material.clone()),
            objective: objective(&recipe, &weights, padding, device),
            latest: None,
            recipe,
            seeds,
            material,
            weights,
        }
    }

    pub fn recipe(&self) -> &Pretrain {
        &self.recipe
    }

    pub fn objective(&self) -> &dyn Objective {
        &*self.objective
    }

    pub fn encoder_mut(&mut self) -> &mut Encoder {
        self.objective.encoder_mut()
    }

    /// Makes the batch of the step at `moment`, unless it has been made.
    pub fn prepare(&mut self, moment: &Moment) {
        self.micro_batches_at(moment);
    }

    /// The micro-batches of the step at `moment`.
    fn micro_batches_at(&mut self, moment: &Moment) -> Rc<[PretrainBatch]> {
        if let Some((step, micro_batches)) = &self.latest
            && *step == moment.step
        {
            return Rc::clone(micro_batches);
        }
        let key = BatchKey { step: moment.step, masking_rate: self.recipe.objective.rate_at(moment) };
        // The next moment is a guess: with a budget in seconds its share is not known yet. If the masking rate depends
        // on the share, a wrong guess only means that the batch is made again.
        let next = Moment::of_step(moment.step + 1, self.recipe.steps);
        let next = BatchKey { step: next.step, masking_rate: self.recipe.objective.rate_at(&next) };
        let next = (next.step < self.recipe.steps).then_some(next);
        let micro_batches: Rc<[PretrainBatch]> = self.prefetcher.get(key, next).into();
        self.latest = Some((moment.step, Rc::clone(&micro_batches)));
        micro_batches
    }

    /// Measures each open block on the held-out sequences; `gates` is as in [`Training::evaluate`].
    pub fn block_states(&self, gates: &[Gate]) -> Vec<BlockState> {
        let batches: Vec<PretrainBatch> = self.held_out().collect();
        block_states(self.objective(), &self.weights, &batches, self.recipe.length as usize, gates)
    }

    /// The held-out batches, which are the same in every trial with the same data.
    pub fn held_out(&self) -> impl Iterator<Item = PretrainBatch> {
        let sequences = self.material.valid_sequences().min(self.recipe.validation_sequences as usize);
        let batch = self.recipe.batch as usize;
        let range = move |first: usize| -> Range<usize> { first..sequences.min(first + batch) };
        (0..sequences).step_by(batch).map(move |first| self.material.held_out(&self.recipe, range(first)))
    }
}

impl Training for Pretraining {
    fn budget(&self) -> Budget {
        Budget { steps: self.recipe.steps, seconds: self.recipe.seconds }
    }

    fn learning_rate(&self, moment: &Moment) -> f64 {
        self.recipe.learning_rate.at(moment)
    }

    fn gates(&self, moment: &Moment, micro_batch: u32) -> Vec<Gate> {
        self.recipe.gates(moment, micro_batch, self.seeds.gate)
    }

    fn theta(&self, moment: &Moment) -> Option<f64> {
        self.recipe.layer_drop.map(|drop| drop.theta(moment, self.recipe.step_budget()))
    }

    fn micro_batches(&self) -> u32 {
        self.recipe.micro_batches
    }

    fn micro_batch_size(&self) -> u32 {
        self.recipe.batch / self.recipe.micro_batches
    }

    fn growth(&self) -> Option<&recipe::Growth> {
        self.recipe.growth.as_ref()
    }

    fn blocks(&self) -> u32 {
        self.recipe.model.blocks
    }

    fn divergence(&self) -> Option<f64> {
        self.recipe.divergence
    }

    fn loss(&mut self, moment: &Moment, index: u32, gates: &[Gate], tape: &mut Tape) -> Tensor {
        let micro_batches = self.micro_batches_at(moment);
        let context = LossContext {
            labels_in_step: micro_batches.iter().map(PretrainBatch::label_count).sum(),
            micro_batches: self.recipe.micro_batches,
            noise: Some(Noise::new(self.seeds.dropout, moment.step, index)),
            replacements: ReplacementKey { seed: self.seeds.data, step: moment.step, micro_batch: index.into() },
        };
        let tape = self.recipe.recompute.then_some(tape);
        self.objective.loss(&micro_batches[index as usize], gates, &context, tape)
    }

    fn evaluates_after(&self, steps: u64) -> bool {
        steps.is_multiple_of(self.recipe.validate_every)
    }

    fn evaluate(&mut self, gates: &[Gate]) -> Evaluation {
        let mut evaluation = self.objective.evaluate(&mut self.held_out(), gates);
        if self.recipe.probe {
            evaluation.values.extend(self.block_states(gates).iter().flat_map(BlockState::points));
        }
        evaluation
    }

    fn leaves_checkpoint(&self) -> bool {
        true
    }

    fn weights(&self) -> &Weights {
        &self.weights
    }

    fn weights_mut(&mut self) -> &mut Weights {
        &mut self.weights
    }

    fn optimizer(&self) -> recipe::Optimizer {
        self.recipe.optimizer
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.material.vocabulary()
    }

    fn config(&self, blocks: u32) -> serde_json::Value {
        let model = Model { blocks, ..self.recipe.model.clone() };
        match &self.material {
            Material::Text(shards) => {
                let vocabulary = &shards.vocabulary;
                published::config(&model, vocabulary.size(), vocabulary.pad(), TextHead::of(&self.recipe.objective))
            }
            Material::Images { images, rule } => published::image_config(&model, images.shape, *rule, images.classes),
        }
    }
}

/// The head that the objective of `recipe` needs.
fn head(recipe: &Pretrain, material: &Material) -> Head {
    match material {
        Material::Text(_) => TextHead::of(&recipe.objective).into(),
        Material::Images { images, rule: ImageObjective::Classifier { patch } } => {
            Head::Patches { values: images.shape.channels * patch * patch, classes: images.classes }
        }
        Material::Images { rule: ImageObjective::Pixels { levels }, .. } => Head::Pixels { levels: *levels },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::data::tokens::{Shards, VocabularySource};

    /// A small model on a little text, in float32 and without dropout. `change` replaces fields of its recipe.
    pub(crate) fn small(change: Value) -> Pretraining {
        let mut recipe = json!({
            "model": {"blocks": 3, "hidden": 12, "heads": 3, "intermediate": 20, "positions": 32, "norm": "pre",
                      "dropout": 0.0, "attention_dropout": 0.0},
            "learning_rate": {"peak": 1e-2, "warmup": 0.0},
            "steps": 10, "batch": 4, "length": 24, "held_out": 0.2, "validate_every": 10, "validation_sequences": 8,
            "corpus": {"name": "generated"}, "vocabulary": {"kind": "trained", "size": 60},
        });
        for (field, value) in change.as_object().unwrap() {
            recipe[field] = value.clone();
        }
        let recipe: Pretrain = serde_json::from_value(recipe).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        let word =
            |n: u64| format!("{}{}", ["ba", "de", "fi", "go", "hu"][n as usize % 5], ["k", "l", "m"][n as usize % 3]);
        let line = |n: u64| (0..30).map(|place| word(n * n + place * (n + 3))).collect::<Vec<_>>().join(" ");
        fs::write(&path, (0..60).map(|n| format!("{}\n{}\n\n", line(2 * n), line(2 * n + 1))).collect::<String>())
            .unwrap();
        let source = VocabularySource::Trained { size: 60 };
        let shards =
            Shards::build_or_open(&path, &source, folder.path(), recipe.held_out, recipe.length, &mut |_, _, _| ());
        // The mapped files stay readable after the folder is removed.
        Pretraining::new(recipe, Seeds::default(), Arc::new(shards.unwrap()), Device::Cpu)
    }

    #[test]
    fn a_block_that_has_not_grown_yet_has_no_points() {
        let mut training = small(json!({"probe": true}));
        for blocks in [1, 2, 3] {
            let gates = Gate::full_depth(blocks as u32, 3);
            let found = training.evaluate(&gates).values;
            let named: Vec<&str> = found.iter().filter_map(|(name, _)| name.strip_suffix("_cosine")).collect();
            assert_eq!(named, ["block_1", "block_2", "block_3"][..blocks]);
            assert_eq!(found.len(), 1 + 3 * blocks, "{found:?}");
        }
    }

    #[test]
    fn the_masking_rate_goes_from_its_start_to_its_end_over_the_budget() {
        let mut training = small(json!({"objective": {"rate": 0.5, "rate_end": 0.1}, "micro_batches": 2}));
        let mlm = training.recipe.objective;
        let rate = |share: f64| mlm.rate_at(&Moment { step: 0, share, width: 0.1 });
        for (share, expected) in [(0.0, 0.5), (0.25, 0.4), (0.5, 0.3), (1.0, 0.1)] {
            assert!((rate(share) - expected).abs() < 1e-12, "{share}: {}", rate(share));
        }
        assert_eq!(Mlm { rate_end: None, ..mlm }.rate_at(&Moment::of_step(7, 10)), 0.5);
        // Each sequence has 22 tokens besides [CLS] and [SEP]. At steps 0, 1, 5 and 9, the masked share of them is 0.5,
        // 0.46, 0.3 and 0.14.
        for (step, masked) in [(0, 11), (1, 10), (5, 7), (9, 3)] {
            let micro_batches = training.micro_batches_at(&Moment::of_step(step, 10));
            let labels: Vec<usize> = micro_batches.iter().map(PretrainBatch::label_count).collect();
            assert_eq!(labels, [2 * masked, 2 * masked], "step {step}");
        }
    }
}
