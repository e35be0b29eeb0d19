//! Stage `pretrain`: an objective on packed text, or on images.

use std::ops::Range;

use recipe::report::BlockState;
use recipe::{Gate, Images, Mlm, Moment, Pretrain, Seeds};
use tch::{Device, Tensor};

use crate::bert::{Head, Weights, published};
use crate::data::ahead::Ahead;
use crate::data::masking::Order;
use crate::data::material::{Material, PretrainBatch};
use crate::data::vocabulary::Vocabulary;
use crate::kernel::Noise;
use crate::objective::{Objective, Part, Replacement};
use crate::probe;
use crate::recompute::Tape;
use crate::train::{Budget, Training};

pub struct Pretraining {
    recipe: Pretrain,
    seeds: Seeds,
    material: Material,
    batches: Ahead<Asked, Vec<PretrainBatch>>,
    /// The parts of the step that was last asked for; a cache and no state.
    parts: Option<(u64, Vec<PretrainBatch>)>,
    weights: Weights,
    objective: Objective,
}

/// What the batch of a step depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Asked {
    step: u64,
    /// Masking rate.
    rate: f64,
}

/// Makes the micro-batches of steps.
fn batches(recipe: &Pretrain, seed: u64, material: Material) -> Ahead<Asked, Vec<PretrainBatch>> {
    let (objective, batch) = (recipe.objective, recipe.batch);
    let size = (batch / recipe.micro_batches) as usize;
    let mut order = Order::new(seed, material.train_sequences() as u32);
    Ahead::new(move |Asked { step, rate }| {
        let rows = order.batch_rows(batch, step);
        let masking = Mlm { rate, ..objective };
        let part = |(index, rows): (usize, &[u32])| material.part(&masking, rows, index * size, seed, step);
        rows.chunks(size).enumerate().map(part).collect()
    })
}

impl Pretraining {
    /// With weights at their starting values. `material` is what the recipe reads, text or images.
    pub fn new(recipe: Pretrain, seeds: Seeds, material: impl Into<Material>, device: Device) -> Self {
        let material = material.into();
        let (words, padding) = material.vocabulary().map_or((0, -1), |words| (words.size(), i64::from(words.pad())));
        let weights = Weights::new(&recipe.model, words, head(&recipe, &material), &seeds, device)
            .with_precision(recipe.precision);
        Self {
            batches: batches(&recipe, seeds.data, material.clone()),
            objective: Objective::new(&recipe, &weights, padding, device),
            parts: None,
            recipe,
            seeds,
            material,
            weights,
        }
    }

    pub fn recipe(&self) -> &Pretrain {
        &self.recipe
    }

    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    pub fn objective_mut(&mut self) -> &mut Objective {
        &mut self.objective
    }

    /// The micro-batches of a step.
    fn parts(&mut self, moment: &Moment) -> &[PretrainBatch] {
        let cached = self.parts.take().filter(|(step, _)| *step == moment.step);
        let parts = cached.unwrap_or_else(|| {
            let asked = Asked { step: moment.step, rate: self.recipe.objective.rate_at(moment) };
            let next = Moment::of_step(moment.step + 1, self.recipe.steps);
            // How far a budget in seconds has come by the next step is not known yet; the rate may not depend on it.
            let next = Asked { step: next.step, rate: self.recipe.objective.rate_at(&next) };
            (moment.step, self.batches.get(asked, (next.step < self.recipe.steps).then_some(next)))
        });
        &self.parts.insert(parts).1
    }

    /// Held-out batches, the same for every trial of the same data.
    pub fn held_out(&self) -> impl Iterator<Item = PretrainBatch> {
        let sequences = self.material.valid_sequences().min(self.recipe.validation_sequences as usize);
        let batch = self.recipe.batch as usize;
        let rows = move |first: usize| -> Range<usize> { first..sequences.min(first + batch) };
        (0..sequences).step_by(batch).map(move |first| self.material.held_out(&self.recipe, rows(first)))
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

    fn batch(&self) -> u32 {
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

    fn loss(&mut self, moment: &Moment, micro_batch: u32, gates: &[Gate], tape: &mut Tape) -> Tensor {
        let part = Part {
            labels: self.parts(moment).iter().map(|part| part.labels.len()).sum(),
            parts: self.recipe.micro_batches,
            noise: Some(Noise::new(self.seeds.dropout, moment.step, micro_batch)),
            draws: Replacement { seed: self.seeds.data, step: moment.step, part: micro_batch.into() },
        };
        let (objective, Some((_, batches))) = (&self.objective, &self.parts) else {
            unreachable!("the parts were asked for")
        };
        objective.loss(&batches[micro_batch as usize], gates, &part, self.recipe.recompute.then_some(tape))
    }

    fn evaluates_after(&self, steps: u64) -> bool {
        steps.is_multiple_of(self.recipe.validate_every)
    }

    fn evaluate(&mut self, gates: &[Gate]) -> Vec<(String, f64)> {
        let mut evaluation = self.objective.evaluate(self.held_out(), gates);
        if self.recipe.probe {
            evaluation.extend(probe::blocks(self, gates).iter().flat_map(BlockState::points));
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

    fn config(&self) -> serde_json::Value {
        let model = &self.recipe.model;
        match &self.material {
            Material::Text(shards) => {
                let vocabulary = &shards.vocabulary;
                published::config(model, vocabulary.size(), vocabulary.pad(), Head::of(&self.recipe))
            }
            Material::Images { images, rule } => published::image_config(model, images.shape, *rule, images.classes),
        }
    }
}

/// The head of `recipe`'s objective on that material.
fn head(recipe: &Pretrain, material: &Material) -> Head {
    match material {
        Material::Text(_) => Head::of(recipe),
        Material::Images { images, rule: Images::Classifier { patch } } => {
            Head::Patches { values: images.shape.channels * patch * patch, classes: images.classes }
        }
        Material::Images { rule: Images::Pixels { levels }, .. } => Head::Pixels { levels: *levels },
    }
}
