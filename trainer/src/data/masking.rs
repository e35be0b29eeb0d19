//! Which sequences form a step's batch, and which of their tokens the model has to restore.
//!
//! Everything is a function of (seed, step), so that a resumed or replayed step sees the same numbers.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use recipe::Mlm;
use recipe::seeds::{Purpose, below, generator, permutation, uniform};

use super::tokens::Sequences;
use super::vocabulary::Vocabulary;

/// Validation is masked alike in every trial, whatever its seeds.
const VALIDATION_SEED: u64 = 0x76_616c_6964;

/// A batch for masked language modelling.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MlmBatch {
    /// Token ids after masking, `[batch * length]`, row by row.
    pub ids: Vec<i64>,
    /// Flat indexes into `ids` of the tokens to restore, ascending.
    pub positions: Vec<i64>,
    /// The original id at each of `positions`.
    pub labels: Vec<i64>,
}

/// The order in which a run reads its sequences: one permutation per epoch, each sequence once an epoch.
///
/// Holds the permutation of the last epoch that it was asked about; that is a cache and no state.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    sequences: u32,
    epoch: Option<(u64, Vec<u32>)>,
}

impl Order {
    /// `seed` is the trial's data seed.
    ///
    /// # Panics
    /// When `sequences` is 0.
    pub fn new(seed: u64, sequences: u32) -> Self {
        assert!(sequences > 0, "an order needs at least one sequence");
        Self { seed, sequences, epoch: None }
    }

    /// The `batch` sequences of `step` (from 0). A batch may reach over the end of an epoch.
    pub fn batch_rows(&mut self, batch: u32, step: u64) -> Vec<u32> {
        let sequences = u64::from(self.sequences);
        let first = step * u64::from(batch);
        let row = |place| self.permutation(place / sequences)[(place % sequences) as usize];
        (first..first + u64::from(batch)).map(row).collect()
    }

    fn permutation(&mut self, epoch: u64) -> &[u32] {
        let (seed, sequences) = (self.seed, self.sequences as usize);
        let drawn = || (epoch, permutation(&mut generator(seed, Purpose::Shuffle, epoch, 0), sequences));
        let cached = self.epoch.take().filter(|(held, _)| *held == epoch);
        &self.epoch.insert(cached.unwrap_or_else(drawn)).1
    }
}

/// The training batch of `step` made of `rows`, masked by the trial's data `seed`.
pub fn masked_batch(
    sequences: &Sequences,
    rows: &[u32],
    objective: &Mlm,
    vocabulary: &Vocabulary,
    seed: u64,
    step: u64,
) -> MlmBatch {
    let mut batch = MlmBatch::default();
    for (place, &row) in rows.iter().enumerate() {
        let draws = generator(seed, Purpose::Mask, step, place as u64);
        batch.push(sequences.sequence(row as usize), objective, vocabulary, draws);
    }
    batch
}

/// A batch of held-out sequences. Its mask depends on the sequence alone: the same at every step, in every trial and
/// for every batch size.
pub fn validation_batch(
    sequences: &Sequences,
    rows: Range<usize>,
    objective: &Mlm,
    vocabulary: &Vocabulary,
) -> MlmBatch {
    let mut batch = MlmBatch::default();
    for row in rows {
        let draws = generator(VALIDATION_SEED, Purpose::Mask, 0, row as u64);
        batch.push(sequences.sequence(row), objective, vocabulary, draws);
    }
    batch
}

/// Tokens to restore in a sequence of `length` ids, two of which are its `[CLS]` and last `[SEP]`. The same for every
/// sequence, so that the head's shapes do not change from step to step.
pub fn masked_per_sequence(length: usize, objective: &Mlm) -> usize {
    ((objective.rate * length.saturating_sub(2) as f64).round() as usize).max(1)
}

impl MlmBatch {
    /// Appends one sequence. Where it has fewer ordinary tokens than are to be masked, all of them are.
    fn push(
        &mut self,
        sequence: impl Iterator<Item = i64>,
        objective: &Mlm,
        vocabulary: &Vocabulary,
        mut draws: ChaCha8Rng,
    ) {
        let start = self.ids.len();
        self.ids.extend(sequence);
        let mut ordinary: Vec<usize> =
            (start..self.ids.len()).filter(|&at| !vocabulary.is_special(self.ids[at] as u32)).collect();
        let count = masked_per_sequence(self.ids.len() - start, objective).min(ordinary.len());
        for i in 0..count {
            let other = i + below(&mut draws, (ordinary.len() - i) as u64) as usize;
            ordinary.swap(i, other);
        }
        ordinary.truncate(count);
        ordinary.sort_unstable();
        for at in ordinary {
            self.positions.push(at as i64);
            self.labels.push(self.ids[at]);
            let choice = uniform(&mut draws);
            if choice < objective.mask {
                self.ids[at] = i64::from(vocabulary.mask());
            } else if choice < objective.mask + objective.random {
                self.ids[at] = i64::from(vocabulary.random_ordinary(&mut draws));
            }
        }
    }
}
