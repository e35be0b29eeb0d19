//! The batches of fine-tuning: which examples share a batch, and their padded form.

use recipe::seeds::{Purpose, generator, permutation};

use super::glue::Example;

/// Number of batches whose examples are sorted by length together. It is large enough that padding nearly vanishes, and
/// small enough that the examples of a batch change from epoch to epoch.
const BATCHES_PER_BUCKET: usize = 50;

/// The batches of one epoch as indexes into `lengths`, each index once. Examples of similar length share a batch;
/// examples and the order of the batches are shuffled. All batches but one hold `batch` examples. `seed` is the trial's
/// data seed.
pub fn epoch_batches(lengths: &[u32], batch: u32, seed: u64, epoch: u64) -> Vec<Vec<u32>> {
    let batch = batch.max(1) as usize;
    let mut order = permutation(&mut generator(seed, Purpose::Shuffle, epoch, 0), lengths.len());
    for bucket in order.chunks_mut(batch.saturating_mul(BATCHES_PER_BUCKET)) {
        bucket.sort_by_key(|&example| lengths[example as usize]);
    }
    let batches: Vec<&[u32]> = order.chunks(batch).collect();
    let shuffled = permutation(&mut generator(seed, Purpose::Shuffle, epoch, 1), batches.len());
    shuffled.into_iter().map(|batch| batches[batch as usize].to_vec()).collect()
}

/// Examples padded to the longest of them. Each field except `labels` is `[rows * length]`, row by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    pub ids: Vec<i64>,
    /// 0 in the first segment and in the padding, 1 in the second segment.
    pub types: Vec<i64>,
    /// 1 at a token, 0 at padding.
    pub mask: Vec<i64>,
    /// Class number or score of each row, `[rows]`.
    pub labels: Vec<f32>,
    pub rows: usize,
    pub length: usize,
}

/// Puts `examples` into one batch, padded with the id `pad`.
pub fn collate(examples: &[&Example], pad: u32) -> Batch {
    let length = examples.iter().map(|example| example.ids.len()).max().unwrap_or(0);
    let mut batch = Batch { rows: examples.len(), length, ..Batch::default() };
    for (row, example) in examples.iter().enumerate() {
        let (end, padded) = (row * length + example.ids.len(), (row + 1) * length);
        batch.ids.extend(example.ids.iter().map(|&id| i64::from(id)));
        batch.ids.resize(padded, i64::from(pad));
        batch.types.resize(row * length + example.second, 0);
        batch.types.resize(end, 1);
        batch.types.resize(padded, 0);
        batch.mask.resize(end, 1);
        batch.mask.resize(padded, 0);
        batch.labels.push(example.label);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_holds_each_example_once_and_each_epoch_has_its_own_order(
            lengths in prop::collection::vec(3u32..128, 0..700), batch in 1u32..40, seed: u64, epoch in 0u64..5,
        ) {
            let batches = epoch_batches(&lengths, batch, seed, epoch);
            prop_assert_eq!(&batches, &epoch_batches(&lengths, batch, seed, epoch));
            prop_assert_eq!(batches.len(), lengths.len().div_ceil(batch as usize));
            prop_assert!(batches.iter().filter(|b| b.len() != batch as usize).count() <= 1);
            let mut seen = batches.concat();
            if lengths.len() > 50 {
                prop_assert_ne!(&seen, &epoch_batches(&lengths, batch, seed, epoch + 1).concat());
                prop_assert_ne!(&seen, &epoch_batches(&lengths, batch, seed ^ 1, epoch).concat());
            }
            seen.sort_unstable();
            prop_assert!(seen.iter().enumerate().all(|(i, &v)| i == v as usize) && seen.len() == lengths.len());
        }

        #[test]
        fn a_batch_holds_every_id_and_pads_the_rest(
            rows in prop::collection::vec((prop::collection::vec(1u32..1000, 1..30), any::<prop::sample::Index>()), 1..9),
        ) {
            let examples: Vec<Example> = rows
                .iter()
                .map(|(ids, cut)| Example { ids: ids.clone(), second: cut.index(ids.len() + 1), label: ids.len() as f32 })
                .collect();
            let batch = collate(&examples.iter().collect::<Vec<_>>(), 0);
            prop_assert_eq!(batch.length, examples.iter().map(|e| e.ids.len()).max().unwrap());
            for field in [&batch.ids, &batch.types, &batch.mask] {
                prop_assert_eq!(field.len(), batch.rows * batch.length);
            }
            for (row, example) in examples.iter().enumerate() {
                prop_assert_eq!(batch.labels[row], example.label);
                for column in 0..batch.length {
                    let at = row * batch.length + column;
                    prop_assert_eq!(batch.ids[at], example.ids.get(column).copied().unwrap_or(0) as i64);
                    prop_assert_eq!(batch.mask[at] == 1, column < example.ids.len());
                    prop_assert_eq!(batch.types[at] == 1, column >= example.second && column < example.ids.len());
                }
            }
        }
    }

    #[test]
    fn bucketing_nearly_removes_the_padding() {
        let lengths: Vec<u32> = (0..3200).map(|i| 5 + (i * 7919) % 120).collect();
        let batches = epoch_batches(&lengths, 32, 1, 0);
        let padded: u32 =
            batches.iter().map(|b| b.len() as u32 * b.iter().map(|&i| lengths[i as usize]).max().unwrap()).sum();
        let tokens: u32 = lengths.iter().sum();
        assert!(f64::from(padded) < 1.05 * f64::from(tokens), "{padded} for {tokens}");
    }
}
