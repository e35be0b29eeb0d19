//! Stage `finetune`: one GLUE task from a pre-trained checkpoint, every block open.

use std::path::Path;

use recipe::{Finetune, Gate, Moment, Recipe, Seeds, Task};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

use crate::bert::{Classifier, Encoder, Family, Head, Input, Weights, published};
use crate::checkpoint::{self, Verified};
use crate::data::batch::{Batch, collate, epoch_batches};
use crate::data::glue::{Example, Glue};
use crate::data::vocabulary::Vocabulary;
use crate::failure::TrainerError;
use crate::kernel::Noise;
use crate::metrics;
use crate::train::{Budget, Training};

pub struct Finetuning {
    recipe: Finetune,
    seeds: Seeds,
    vocabulary: Vocabulary,
    glue: Glue,
    /// Batches of the epoch that was last asked for; a cache and no state.
    epoch: Option<(u64, Vec<Vec<u32>>)>,
    weights: Weights,
    encoder: Encoder,
    head: Classifier,
    device: Device,
}

impl Finetuning {
    /// With the encoder of the checkpoint in the folder `from` and a fresh head; reads the task's files under `glue`.
    ///
    /// # Errors
    /// A checkpoint that is corrupt or of another recipe than `recipe.from`; bad GLUE files.
    pub fn new(recipe: Finetune, seeds: Seeds, from: &Path, glue: &Path, device: Device) -> Result<Self, TrainerError> {
        let checkpoint = Verified::open_model(from)?;
        let expected = Recipe::Pretrain((*recipe.from).clone()).fingerprint();
        if checkpoint.manifest.fingerprint != expected.as_str() {
            let why = format!("is of the recipe {}, not of {expected}", checkpoint.manifest.fingerprint);
            return Err(TrainerError::corrupt(from, why));
        }
        let vocabulary = Vocabulary::read(&checkpoint.file(checkpoint::VOCABULARY))?;
        let glue = Glue::read(glue, recipe.task, &vocabulary, recipe.length)?;
        let model = &recipe.from.model;
        let family = Family::of(&recipe.from);
        let weights =
            Weights::new(model, vocabulary.size(), head(&recipe), &seeds, device).with_precision(recipe.precision);
        // Next-sentence prediction has trained a pooler.
        let pooled = recipe.from.objective.next_sentence;
        let fresh = |name: &str| name.starts_with("classifier.") || (name.starts_with("bert.pooler.") && !pooled);
        checkpoint.restore_weights(&weights, |name| !fresh(name))?;
        Ok(Self {
            encoder: Encoder::new(&weights, family, model, i64::from(vocabulary.pad())),
            head: Classifier::new(&weights, family, model),
            recipe,
            seeds,
            vocabulary,
            glue,
            epoch: None,
            weights,
            device,
        })
    }

    pub fn task(&self) -> Task {
        self.recipe.task
    }

    /// Labels of the dev examples: class numbers or scores.
    pub fn dev_labels(&self) -> Vec<f64> {
        self.glue.dev.iter().map(|example| f64::from(example.label)).collect()
    }

    fn steps_per_epoch(&self) -> u64 {
        self.glue.train.len().div_ceil(self.recipe.batch as usize) as u64
    }

    /// The training batch of `step`.
    fn batch_of(&mut self, step: u64) -> Batch {
        let epoch = step / self.steps_per_epoch();
        if self.epoch.as_ref().is_none_or(|(cached, _)| *cached != epoch) {
            let lengths: Vec<u32> = self.glue.train.iter().map(|example| example.ids.len() as u32).collect();
            self.epoch = Some((epoch, epoch_batches(&lengths, self.recipe.batch, self.seeds.data, epoch)));
        }
        let rows = self.epoch.as_ref().map_or(&[][..], |(_, rows)| &rows[(step % self.steps_per_epoch()) as usize]);
        let examples: Vec<&Example> = rows.iter().map(|&row| &self.glue.train[row as usize]).collect();
        collate(&examples, self.vocabulary.pad())
    }

    /// `[B, outputs]`.
    fn logits(&self, batch: &Batch, gates: &[Gate], noise: Option<&Noise>) -> Tensor {
        let shape = [batch.rows as i64, batch.length as i64];
        let on_device = |values: &[i64]| Tensor::from_slice(values).to_device(self.device).view(shape);
        let input = Input::padded(on_device(&batch.ids), on_device(&batch.types), &on_device(&batch.mask));
        self.head.forward(&self.encoder.forward(&input, gates, noise), noise)
    }

    /// One number per dev example: the class with the largest logit, or the score itself.
    fn predictions(&self) -> Vec<f64> {
        // Sorted by length, so that little is padding.
        let mut order: Vec<usize> = (0..self.glue.dev.len()).collect();
        order.sort_by_key(|&row| self.glue.dev[row].ids.len());
        let gates = open(self.recipe.from.model.blocks);
        let mut predictions = vec![0.0; order.len()];
        for rows in order.chunks(self.recipe.batch as usize) {
            let examples: Vec<&Example> = rows.iter().map(|&row| &self.glue.dev[row]).collect();
            let answers: Tensor = no_grad(|| {
                let logits = self.logits(&collate(&examples, self.vocabulary.pad()), &gates, None);
                if self.recipe.task.outputs() == 1 { logits.squeeze_dim(1) } else { logits.argmax(1, false) }
            });
            let answers: Vec<f64> =
                Vec::try_from(answers.to_kind(Kind::Double).to_device(Device::Cpu)).unwrap_or_default();
            for (&row, answer) in rows.iter().zip(answers) {
                predictions[row] = answer;
            }
        }
        predictions
    }
}

impl Training for Finetuning {
    fn budget(&self) -> Budget {
        Budget { steps: u64::from(self.recipe.epochs) * self.steps_per_epoch(), seconds: None }
    }

    fn learning_rate(&self, moment: &Moment) -> f64 {
        self.recipe.learning_rate.at(moment)
    }

    fn gates(&self, _moment: &Moment, _micro_batch: u32) -> Vec<Gate> {
        open(self.blocks())
    }

    fn theta(&self, _moment: &Moment) -> Option<f64> {
        None
    }

    fn batch(&self) -> u32 {
        self.recipe.batch
    }

    fn blocks(&self) -> u32 {
        self.recipe.from.model.blocks
    }

    /// Cross-entropy over the classes, or the mean squared error of a score.
    fn loss(&mut self, moment: &Moment, micro_batch: u32, gates: &[Gate]) -> Tensor {
        let batch = self.batch_of(moment.step);
        let noise = Noise::new(self.seeds.dropout, moment.step, micro_batch);
        let logits = self.logits(&batch, gates, Some(&noise));
        let labels = Tensor::from_slice(&batch.labels).to_device(self.device);
        match self.recipe.task.outputs() {
            1 => logits.squeeze_dim(1).mse_loss(&labels, Reduction::Mean),
            _ => logits.cross_entropy_loss::<Tensor>(&labels.to_kind(Kind::Int64), None, Reduction::Mean, -100, 0.0),
        }
    }

    fn evaluates_after(&self, steps: u64) -> bool {
        steps.is_multiple_of(self.steps_per_epoch())
    }

    /// The task's metrics on dev, as `dev_<metric>`.
    fn evaluate(&mut self, _gates: &[Gate]) -> Vec<(String, f64)> {
        let (values, _) = metrics::score(self.recipe.task, &self.predictions(), &self.dev_labels());
        values.into_iter().map(|(name, value)| (format!("{DEV}{name}"), value)).collect()
    }

    fn leaves_checkpoint(&self) -> bool {
        false
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
        &self.vocabulary
    }

    fn config(&self) -> serde_json::Value {
        let head = head(&self.recipe);
        published::config(&self.recipe.from.model, self.vocabulary.size(), self.vocabulary.pad(), head)
    }
}

/// Prefix of a metric that was measured on dev.
pub const DEV: &str = "dev_";

fn head(recipe: &Finetune) -> Head {
    Head::Classifier { outputs: recipe.task.outputs(), family: Family::of(&recipe.from) }
}

/// Gates that open every sublayer.
fn open(blocks: u32) -> Vec<Gate> {
    vec![Gate::OPEN; 2 * blocks as usize]
}
