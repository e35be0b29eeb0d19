//! Stage `pretrain`: masked language modelling on packed text.

use std::rc::Rc;

use recipe::{Gate, Pretrain, Seeds};
use tch::{Device, Reduction, Tensor, no_grad};

use crate::bert::{Encoder, Head, Input, MlmHead, Weights, published};
use crate::data::masking::{MlmBatch, Order, masked_batch, validation_batch};
use crate::data::tokens::Shards;
use crate::data::vocabulary::Vocabulary;
use crate::train::Training;

pub struct Pretraining {
    recipe: Pretrain,
    seeds: Seeds,
    shards: Rc<Shards>,
    order: Order,
    weights: Weights,
    encoder: Encoder,
    head: MlmHead,
    device: Device,
}

impl Pretraining {
    /// With weights at their starting values.
    pub fn new(recipe: Pretrain, seeds: Seeds, shards: Rc<Shards>, device: Device) -> Self {
        let weights = Weights::new(&recipe.model, shards.vocabulary.size(), Head::Mlm, &seeds, device);
        Self {
            order: Order::new(seeds.data, shards.train.sequences() as u32),
            encoder: Encoder::new(&weights, &recipe.model, i64::from(shards.vocabulary.pad())),
            head: MlmHead::new(&weights),
            recipe,
            seeds,
            shards,
            weights,
            device,
        }
    }

    /// Logits `[M, V]` of the batch's masked positions, and their labels `[M]`.
    fn logits(&self, batch: &MlmBatch, gates: &[Gate], train: bool) -> (Tensor, Tensor) {
        let on_device = |values: &[i64]| Tensor::from_slice(values).to_device(self.device);
        let ids = on_device(&batch.ids).view([-1, i64::from(self.recipe.length)]);
        let hidden = self.encoder.forward(&Input::packed(ids), gates, train);
        (self.head.forward(&hidden, &on_device(&batch.positions)), on_device(&batch.labels))
    }
}

impl Training for Pretraining {
    fn total_steps(&self) -> u64 {
        self.recipe.steps
    }

    fn learning_rate(&self, step: u64) -> f64 {
        self.recipe.learning_rate.at(step, self.recipe.steps)
    }

    fn gates(&self, step: u64) -> Vec<Gate> {
        let blocks = self.recipe.model.blocks;
        match &self.recipe.layer_drop {
            Some(drop) => drop.gates(blocks, step, self.recipe.steps, self.seeds.gate),
            None => vec![Gate::OPEN; blocks as usize],
        }
    }

    fn theta(&self, step: u64) -> Option<f64> {
        self.recipe.layer_drop.map(|drop| drop.theta(step, self.recipe.steps))
    }

    fn loss(&mut self, step: u64, gates: &[Gate]) -> Tensor {
        let rows = self.order.batch_rows(self.recipe.batch, step);
        let Shards { train, vocabulary, .. } = &*self.shards;
        let batch = masked_batch(train, &rows, &self.recipe.objective, vocabulary, self.seeds.data, step);
        let (logits, labels) = self.logits(&batch, gates, true);
        cross_entropy(&logits, &labels, Reduction::Mean)
    }

    fn evaluates_after(&self, steps: u64) -> bool {
        steps.is_multiple_of(self.recipe.validate_every)
    }

    /// Mean loss over the masked tokens of the held-out sequences.
    fn evaluate(&mut self) -> Vec<(String, f64)> {
        let Shards { valid, vocabulary, .. } = &*self.shards;
        let sequences = valid.sequences().min(self.recipe.validation_sequences as usize);
        let gates = vec![Gate::OPEN; self.recipe.model.blocks as usize];
        let (mut sum, mut count) = (0.0, 0);
        for first in (0..sequences).step_by(self.recipe.batch as usize) {
            let rows = first..sequences.min(first + self.recipe.batch as usize);
            let batch = validation_batch(valid, rows, &self.recipe.objective, vocabulary);
            let loss = no_grad(|| {
                let (logits, labels) = self.logits(&batch, &gates, false);
                cross_entropy(&logits, &labels, Reduction::Sum)
            });
            sum += loss.double_value(&[]);
            count += batch.labels.len();
        }
        vec![("validation_loss".to_owned(), sum / count as f64)]
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
        published::config(&self.recipe.model, self.vocabulary().size(), self.vocabulary().pad(), Head::Mlm)
    }
}

/// `logits` `[M, V]`, `labels` `[M]`.
fn cross_entropy(logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.0)
}
