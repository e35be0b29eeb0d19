//! Stage `pretrain`: an objective on packed text.

use std::ops::Range;
use std::rc::Rc;

use recipe::report::BlockState;
use recipe::{Gate, Mlm, Moment, Pretrain, Seeds};
use tch::{Device, Tensor};

use crate::bert::{Head, Weights, published};
use crate::data::masking::{Masking, MlmBatch, Order, masked_batch, validation_batch};
use crate::data::tokens::Shards;
use crate::data::vocabulary::Vocabulary;
use crate::kernel::Noise;
use crate::objective::{Objective, Part, Replacement};
use crate::probe;
use crate::recompute::Tape;
use crate::train::{Budget, Training};

pub struct Pretraining {
    recipe: Pretrain,
    seeds: Seeds,
    shards: Rc<Shards>,
    order: Order,
    /// The parts of the step that was last asked for; a cache and no state.
    parts: Option<(u64, Vec<MlmBatch>)>,
    weights: Weights,
    objective: Objective,
}

impl Pretraining {
    /// With weights at their starting values.
    pub fn new(recipe: Pretrain, seeds: Seeds, shards: Rc<Shards>, device: Device) -> Self {
        let weights = Weights::new(&recipe.model, shards.vocabulary.size(), Head::of(&recipe), &seeds, device)
            .with_precision(recipe.precision);
        Self {
            order: Order::new(seeds.data, shards.train.sequences() as u32),
            objective: Objective::new(&recipe, &weights, i64::from(shards.vocabulary.pad()), device),
            parts: None,
            recipe,
            seeds,
            shards,
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
    fn parts(&mut self, moment: &Moment) -> &[MlmBatch] {
        let cached = self.parts.take().filter(|(step, _)| *step == moment.step);
        let parts = cached.unwrap_or_else(|| {
            let rows = self.order.batch_rows(self.recipe.batch, moment.step);
            let Shards { train, vocabulary, .. } = &*self.shards;
            let masking = Masking::new(&self.recipe.objective, self.recipe.objective.rate_at(moment), vocabulary);
            let size = (self.recipe.batch / self.recipe.micro_batches) as usize;
            let part = |(index, rows): (usize, &[u32])| {
                masked_batch(train, rows, index * size, &masking, self.seeds.data, moment.step)
            };
            (moment.step, rows.chunks(size).enumerate().map(part).collect())
        });
        &self.parts.insert(parts).1
    }

    /// Held-out batches, masked as in BERT whatever the recipe's own rates, so that losses can be compared.
    pub fn held_out(&self) -> impl Iterator<Item = MlmBatch> {
        let masking = Masking {
            pairs: self.recipe.objective.next_sentence,
            ..Masking::new(&Mlm::default(), Mlm::default().rate, &self.shards.vocabulary)
        };
        let sequences = self.shards.valid.sequences().min(self.recipe.validation_sequences as usize);
        let batch = self.recipe.batch as usize;
        let rows = move |first: usize| -> Range<usize> { first..sequences.min(first + batch) };
        (0..sequences).step_by(batch).map(move |first| validation_batch(&self.shards.valid, rows(first), &masking))
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
            masked: self.parts(moment).iter().map(|part| part.labels.len()).sum(),
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

    fn vocabulary(&self) -> &Vocabulary {
        &self.shards.vocabulary
    }

    fn config(&self) -> serde_json::Value {
        let vocabulary = self.vocabulary();
        published::config(&self.recipe.model, vocabulary.size(), vocabulary.pad(), Head::of(&self.recipe))
    }
}
