//! The material of a pre-training, text or images, and the batches made from it.

use std::ops::Range;
use std::sync::Arc;

use images::Images;
use recipe::{Mlm, Pretrain};

use super::images::batch;
use super::masking::{Masking, masked_batch, validation_batch};
use super::pretrain_batch::PretrainBatch;
use super::tokens::Shards;
use super::vocabulary::Vocabulary;

#[derive(Debug, Clone)]
pub enum Material {
    Text(Arc<Shards>),
    Images { images: Arc<Images>, rule: recipe::ImageObjective },
}

impl From<Arc<Shards>> for Material {
    fn from(shards: Arc<Shards>) -> Self {
        Self::Text(shards)
    }
}

impl Material {
    /// Number of sequences in the training part.
    pub fn train_sequences(&self) -> usize {
        match self {
            Self::Text(shards) => shards.train.sequences(),
            Self::Images { images, .. } => images.train.len(),
        }
    }

    /// Number of sequences in the validation part.
    pub fn valid_sequences(&self) -> usize {
        match self {
            Self::Text(shards) => shards.valid.sequences(),
            Self::Images { images, .. } => images.valid.len(),
        }
    }

    /// A micro-batch of the training batch of `step`: its `rows`, the first of which is number `place` of the whole
    /// batch. Text is masked with the rates in `masking`, and draws from the trial's data `seed`.
    pub fn micro_batch(&self, masking: &Mlm, rows: &[u32], place: usize, seed: u64, step: u64) -> PretrainBatch {
        match self {
            Self::Text(shards) => {
                let masking = Masking::new(masking, masking.rate, &shards.vocabulary);
                masked_batch(&shards.train, rows, place, &masking, seed, step)
            }
            Self::Images { images, rule } => {
                batch(&images.train, images.shape, rows.iter().map(|&row| row as usize), *rule)
            }
        }
    }

    /// A batch of held-out sequences. Text is masked with BERT's rates instead of the recipe's, so that losses can be
    /// compared.
    pub fn held_out(&self, recipe: &Pretrain, rows: Range<usize>) -> PretrainBatch {
        match self {
            Self::Text(shards) => {
                let masking = Masking {
                    pairs: recipe.objective.next_sentence,
                    ..Masking::new(&Mlm::default(), Mlm::default().rate, &shards.vocabulary)
                };
                validation_batch(&shards.valid, rows, &masking)
            }
            Self::Images { images, rule } => batch(&images.valid, images.shape, rows, *rule),
        }
    }

    /// None for images.
    pub fn vocabulary(&self) -> Option<&Vocabulary> {
        match self {
            Self::Text(shards) => Some(&shards.vocabulary),
            Self::Images { .. } => None,
        }
    }
}
