//! Chooses the sequences of a step's batch, and masks the tokens that the model has to restore.
//!
//! Everything is a function of (seed, step), so that a resumed or replayed step gets the same batch.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use recipe::Mlm;
use recipe::seeds::{Purpose, below, generator, permutation, uniform};

use super::pretrain_batch::{MaskedBatch, PairBatch, PretrainBatch};
use super::tokens::Sequences;
use super::vocabulary::Vocabulary;

/// Validation texts are masked with the same draws in every trial.
const VALIDATION_SEED: u64 = 0x76_616c_6964;

/// The rules by which texts are masked.
#[derive(Debug, Clone, Copy)]
pub struct Masking<'a> {
    pub vocabulary: &'a Vocabulary,
    /// Share of the ordinary tokens that are selected, to be restored by the model.
    pub rate: f64,
    /// Share of the selected tokens that become `[MASK]`.
    pub mask: f64,
    /// Share of the selected tokens that become a random token. The rest stay unchanged.
    pub random: f64,
    /// True if sequences are made into pairs of texts.
    pub pairs: bool,
}

impl<'a> Masking<'a> {
    /// The masking of `objective`, at this `rate`.
    pub fn new(objective: &Mlm, rate: f64, vocabulary: &'a Vocabulary) -> Self {
        Self { vocabulary, rate, mask: objective.mask, random: objective.random, pairs: objective.next_sentence }
    }
}

/// The order in which a run reads its sequences: one permutation per epoch, each sequence once per epoch.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    sequences: u32,
    /// The last epoch that was looked up, with its permutation. It is only a cache: a function of the epoch.
    latest: Option<(u64, Vec<u32>)>,
}

impl Order {
    /// `seed` is the trial's data seed.
    ///
    /// # Panics
    /// If `sequences` is 0.
    pub fn new(seed: u64, sequences: u32) -> Self {
        assert!(sequences > 0, "an order needs at least one sequence");
        Self { seed, sequences, latest: None }
    }

    /// The `batch` sequences of `step` (from 0). A batch may extend over the end of an epoch.
    pub fn batch_sequences(&mut self, batch: u32, step: u64) -> Vec<u32> {
        let sequences = u64::from(self.sequences);
        let first = step * u64::from(batch);
        let row = |place| self.permutation(place / sequences)[(place % sequences) as usize];
        (first..first + u64::from(batch)).map(row).collect()
    }

    fn permutation(&mut self, epoch: u64) -> &[u32] {
        let (seed, sequences) = (self.seed, self.sequences as usize);
        let drawn = || (epoch, permutation(&mut generator(seed, Purpose::Shuffle, epoch, 0), sequences));
        let cached = self.latest.take().filter(|(latest, _)| *latest == epoch);
        &self.latest.insert(cached.unwrap_or_else(drawn)).1
    }
}

/// A micro-batch of the training batch of `step`: its `rows`, the first of which is number `place` of the whole batch.
/// `seed` is the trial's data seed.
pub fn masked_batch(
    sequences: &Sequences,
    rows: &[u32],
    place: usize,
    masking: &Masking<'_>,
    seed: u64,
    step: u64,
) -> PretrainBatch {
    let draws = |(place, &row): (u64, &u32)| (row as usize, generator(seed, Purpose::Mask, step, place));
    batch(sequences, (place as u64..).zip(rows).map(draws), masking)
}

/// A batch of held-out sequences. The masked tokens depend on the sequence alone: they are the same at every step, in
/// every trial and for every batch size.
pub fn validation_batch(sequences: &Sequences, rows: Range<usize>, masking: &Masking<'_>) -> PretrainBatch {
    let draws = |row| (row, generator(VALIDATION_SEED, Purpose::Mask, 0, row as u64));
    batch(sequences, rows.map(draws), masking)
}

/// The sequences of `rows`, each masked with its own draws.
fn batch(
    sequences: &Sequences,
    rows: impl Iterator<Item = (usize, ChaCha8Rng)>,
    masking: &Masking<'_>,
) -> PretrainBatch {
    if masking.pairs {
        let mut batch = PairBatch::default();
        rows.for_each(|(row, draws)| batch.push(sequences, row, masking, draws));
        PretrainBatch::Pairs(batch)
    } else {
        let mut batch = MaskedBatch::default();
        rows.for_each(|(row, draws)| batch.push(sequences.sequence(row), masking, draws));
        PretrainBatch::Masked(batch)
    }
}

/// Number of tokens to select in a sequence of `length` ids, two of which are `[CLS]` and the last `[SEP]`. It is the
/// same for every sequence, so that the shapes in the head do not change from step to step.
pub fn masked_per_sequence(length: usize, rate: f64) -> usize {
    ((rate * length.saturating_sub(2) as f64).round() as usize).max(1)
}

impl PairBatch {
    /// Appends a pair whose first segment is the start of sequence `row`. There must be another sequence.
    fn push(&mut self, sequences: &Sequences, row: usize, masking: &Masking<'_>, mut draws: ChaCha8Rng) {
        let apart = uniform(&mut draws) < 0.5;
        let other = if apart { another(row, sequences.sequences(), &mut draws) } else { row };
        let (first, second) = (sequences.sequence(row), sequences.sequence(other));
        let length = first.len();
        let pair = pair(first.collect(), second, i64::from(masking.vocabulary.sep()));
        self.types.extend((0..length).map(|at| i64::from(at >= first_segment(length))));
        self.apart.push(i64::from(apart));
        self.masked.push(pair.into_iter(), masking, draws);
    }
}

impl MaskedBatch {
    /// Appends one sequence. If it has fewer ordinary tokens than should be masked, all of them are masked.
    fn push(&mut self, sequence: impl Iterator<Item = i64>, masking: &Masking<'_>, mut draws: ChaCha8Rng) {
        let (start, vocabulary) = (self.ids.len(), masking.vocabulary);
        self.ids.extend(sequence);
        let mut ordinary: Vec<usize> =
            (start..self.ids.len()).filter(|&at| !vocabulary.is_special(self.ids[at] as u32)).collect();
        let count = masked_per_sequence(self.ids.len() - start, masking.rate).min(ordinary.len());
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
            if choice < masking.mask {
                self.ids[at] = i64::from(vocabulary.mask());
            } else if choice < masking.mask + masking.random {
                self.ids[at] = i64::from(vocabulary.random_ordinary(&mut draws));
            }
        }
    }
}

/// Number of tokens in the first segment of a pair, `[CLS]` and its `[SEP]` included.
const fn first_segment(length: usize) -> usize {
    (length - 3) / 2 + 2
}

/// Makes `[CLS] A [SEP] B [SEP]` from two packed sequences of the same length. A is the first half of `first`; B is
/// taken from `second`, from the place where A ends. The last token of `second` makes room for the separator.
fn pair(mut first: Vec<i64>, second: impl Iterator<Item = i64>, separator: i64) -> Vec<i64> {
    let (length, segment) = (first.len(), first_segment(first.len()));
    first.truncate(segment - 1);
    first.push(separator);
    // B begins where A ends, so that it continues A if both sequences are the same.
    first.extend(second.skip(segment - 1).take(length - segment - 1));
    first.push(separator);
    first
}

/// A row other than `row`, each with the same probability.
///
/// # Panics
/// If there is no other.
fn another(row: usize, rows: usize, draws: &mut ChaCha8Rng) -> usize {
    assert!(rows > 1, "a pair needs two sequences");
    let drawn = below(draws, rows as u64 - 1) as usize;
    if drawn < row { drawn } else { drawn + 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::vocabulary::tests::small;

    /// Seven ordinary tokens repeated up to `length`, with a separator and an unknown word inside.
    fn sequence(length: usize) -> Vec<i64> {
        let vocabulary = small();
        let inside = (0..length - 2).map(|at| match at {
            3 => vocabulary.sep(),
            5 => vocabulary.unknown(),
            _ => 6 + (at % 7) as u32,
        });
        [vocabulary.cls()].into_iter().chain(inside).chain([vocabulary.sep()]).map(i64::from).collect()
    }

    fn masked(length: usize, objective: &Mlm, seed: u64, step: u64) -> MaskedBatch {
        let mut batch = MaskedBatch::default();
        let draws = generator(seed, Purpose::Mask, step, 0);
        batch.push(sequence(length).into_iter(), &Masking::new(objective, objective.rate, &small()), draws);
        batch
    }

    proptest! {
        #[test]
        fn masking_selects_a_fixed_number_leaves_special_tokens_and_can_be_undone_with_the_labels(
            length in 8usize..200, rate in 0.01f64..0.6, seed: u64, step in 0u64..1 << 40,
        ) {
            let objective = Mlm { rate, ..Mlm::default() };
            let (original, vocabulary) = (sequence(length), small());
            let batch = masked(length, &objective, seed, step);
            prop_assert_eq!(&batch, &masked(length, &objective, seed, step));
            prop_assert_eq!(batch.positions.len(), masked_per_sequence(length, objective.rate).min(length - 4));
            prop_assert!(batch.positions.is_sorted_by(|a, b| a < b));
            let mut restored = batch.ids.clone();
            for (&at, &label) in batch.positions.iter().zip(&batch.labels) {
                prop_assert!(!vocabulary.is_special(original[at as usize] as u32));
                let id = batch.ids[at as usize] as u32;
                prop_assert!(id == vocabulary.mask() || !vocabulary.is_special(id));
                restored[at as usize] = label;
            }
            prop_assert_eq!(restored, original);
        }

        #[test]
        fn each_epoch_reads_each_sequence_once(sequences in 1u32..60, batch in 1u32..40, seed: u64) {
            let mut order = Order::new(seed, sequences);
            let steps = u64::from(3 * sequences.div_ceil(batch) + 3);
            let read: Vec<u32> = (0..steps).flat_map(|step| order.batch_sequences(batch, step)).collect();
            for epoch in read.chunks_exact(sequences as usize) {
                let mut epoch = epoch.to_vec();
                epoch.sort_unstable();
                prop_assert!(epoch.into_iter().eq(0..sequences));
            }
            // A single step, in any order, gives the same rows as the run in order.
            for step in (0..steps).rev() {
                let first = (step * u64::from(batch)) as usize;
                let expected = &read[first..first + batch as usize];
                prop_assert_eq!(&Order::new(seed, sequences).batch_sequences(batch, step)[..], expected);
                prop_assert_eq!(&order.batch_sequences(batch, step)[..], expected);
            }
        }
    }

    #[test]
    fn each_epoch_and_each_seed_has_its_own_order() {
        let rows = |seed, step| Order::new(seed, 100).batch_sequences(100, step);
        assert_ne!(rows(1, 0), rows(1, 1));
        assert_ne!(rows(1, 0), rows(2, 0));
    }

    /// Over all positions and the three ways to mask, the counts are within five standard deviations of a binomial.
    #[test]
    fn tokens_are_masked_in_the_shares_of_the_objective() {
        const STEPS: u64 = 20_000;
        let (length, vocabulary, objective) = (42, small(), Mlm::default());
        let original = sequence(length);
        let per_sequence = masked_per_sequence(length, objective.rate);
        assert_eq!(per_sequence, 6);
        let mut chosen = vec![0u64; length];
        let [mut mask, mut random, mut kept] = [0u64; 3];
        for step in 0..STEPS {
            let batch = masked(length, &objective, 3, step);
            for (&at, &label) in batch.positions.iter().zip(&batch.labels) {
                chosen[at as usize] += 1;
                match batch.ids[at as usize] {
                    id if id == i64::from(vocabulary.mask()) => mask += 1,
                    id if id == label => kept += 1,
                    _ => random += 1,
                }
            }
        }
        let near = |count: u64, trials: u64, share: f64| {
            let (expected, spread) = (trials as f64 * share, (trials as f64 * share * (1.0 - share)).sqrt());
            assert!((count as f64 - expected).abs() < 5.0 * spread, "{count} of {trials}, expected {expected}");
        };
        let total = STEPS * per_sequence as u64;
        // A random token equals the original one with probability 1 / number of ordinary tokens.
        let same = 0.1 / f64::from(vocabulary.size() - 5);
        near(mask, total, 0.8);
        near(random, total, 0.1 - same);
        near(kept, total, 0.1 + same);
        let ordinary = original.iter().filter(|&&id| !vocabulary.is_special(id as u32)).count();
        for (at, &id) in original.iter().enumerate() {
            match vocabulary.is_special(id as u32) {
                true => assert_eq!(chosen[at], 0),
                false => near(chosen[at], STEPS, per_sequence as f64 / ordinary as f64),
            }
        }
    }

    #[test]
    fn a_sequence_without_ordinary_tokens_stays_unchanged() {
        let vocabulary = small();
        let mut batch = MaskedBatch::default();
        let ids = [vocabulary.cls(), vocabulary.unknown(), vocabulary.sep()].map(i64::from);
        batch.push(
            ids.into_iter(),
            &Masking::new(&Mlm::default(), 0.15, &vocabulary),
            generator(0, Purpose::Mask, 0, 0),
        );
        assert_eq!(batch, MaskedBatch { ids: ids.to_vec(), ..MaskedBatch::default() });
    }

    #[test]
    fn a_pair_is_two_halves_with_a_separator_each() {
        // [CLS] 1 2 3 4 5 6 7 [SEP] and [CLS] 11 .. 17 [SEP] have nine ids each.
        let text = |from: i64| std::iter::once(0).chain(from..from + 7).chain([99]).collect::<Vec<i64>>();
        assert_eq!(first_segment(9), 5);
        assert_eq!(pair(text(1), text(1).into_iter(), 99), [0, 1, 2, 3, 99, 4, 5, 6, 99]);
        assert_eq!(pair(text(1), text(11).into_iter(), 99), [0, 1, 2, 3, 99, 14, 15, 16, 99]);
    }

    proptest! {
        #[test]
        fn another_row_is_never_the_row_itself(row in 0usize..50, more in 1usize..50, seed: u64) {
            let other = another(row, row + 1 + more, &mut generator(seed, Purpose::Mask, 0, 0));
            prop_assert!(other != row && other < row + 1 + more);
        }
    }
}
