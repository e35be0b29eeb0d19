//! Packs documents end to end into sequences of one length, without padding.

use super::vocabulary::Vocabulary;

/// Cuts a stream of documents into sequences `[CLS] tokens ... [SEP]` of exactly `length` ids. Another `[SEP]`
/// separates two documents inside a sequence. Tokens that do not fill the last sequence are dropped.
#[derive(Debug)]
pub(super) struct Packer {
    sep: u32,
    length: usize,
    sequence: Vec<u32>,
}

impl Packer {
    /// `length` counts `[CLS]` and `[SEP]` and is at least 3.
    pub(super) fn new(vocabulary: &Vocabulary, length: u32) -> Self {
        Self { sep: vocabulary.sep(), length: length.max(3) as usize, sequence: vec![vocabulary.cls()] }
    }

    /// Adds one document and calls `full` with each sequence that it completes.
    pub(super) fn push<E>(&mut self, document: &[u32], mut full: impl FnMut(&[u32]) -> Result<(), E>) -> Result<(), E> {
        if document.is_empty() {
            return Ok(());
        }
        if self.sequence.len() > 1 {
            self.sequence.push(self.sep);
        }
        let mut rest = document;
        loop {
            let room = self.length - 1 - self.sequence.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.sequence.extend_from_slice(now);
            rest = later;
            if self.sequence.len() < self.length - 1 {
                return Ok(());
            }
            self.complete(&mut full)?;
        }
    }

    fn complete<E>(&mut self, full: &mut impl FnMut(&[u32]) -> Result<(), E>) -> Result<(), E> {
        self.sequence.push(self.sep);
        full(&self.sequence)?;
        self.sequence.truncate(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::data::vocabulary::tests::small;

    fn packed(documents: &[Vec<u32>], length: u32) -> Vec<Vec<u32>> {
        let mut packer = Packer::new(&small(), length);
        let mut sequences = Vec::new();
        for document in documents {
            let Ok(()) = packer.push(document, |sequence| {
                sequences.push(sequence.to_vec());
                Ok::<_, Infallible>(())
            });
        }
        sequences
    }

    #[test]
    fn documents_meet_at_a_separator() {
        let (cls, sep) = (small().cls(), small().sep());
        assert_eq!(
            packed(&[vec![11, 12, 13], vec![], vec![14, 15, 16, 17, 18, 19], vec![20]], 7),
            [[cls, 11, 12, 13, sep, 14, sep], [cls, 15, 16, 17, 18, 19, sep]]
        );
        // The separator takes the last place, so the next document begins a new sequence.
        assert_eq!(packed(&[vec![11, 12, 13, 14], vec![15]], 7), [[cls, 11, 12, 13, 14, sep, sep]]);
        // A document that ends with its sequence leaves no separator behind.
        assert_eq!(
            packed(&[vec![11; 5], vec![12; 5]], 7),
            [[cls, 11, 11, 11, 11, 11, sep], [cls, 12, 12, 12, 12, 12, sep]]
        );
    }

    proptest! {
        #[test]
        fn only_tokens_of_the_last_incomplete_sequence_are_lost(
            lengths in prop::collection::vec(0usize..50, 0..30), length in 3u32..40,
        ) {
            let (cls, sep) = (small().cls(), small().sep());
            let mut next = 100u32..;
            let documents: Vec<Vec<u32>> = lengths.iter().map(|&n| next.by_ref().take(n).collect()).collect();
            let sequences = packed(&documents, length);
            for sequence in &sequences {
                prop_assert_eq!(sequence.len(), length as usize);
                prop_assert_eq!((sequence[0], sequence[length as usize - 1]), (cls, sep));
                prop_assert!(sequence[1] != sep && !sequence[1..].contains(&cls));
            }
            let tokens: Vec<u32> = documents.concat();
            let kept: Vec<u32> = sequences.concat().into_iter().filter(|&id| id >= 100).collect();
            prop_assert_eq!(&kept[..], &tokens[..kept.len()]);
            prop_assert!(tokens.len() - kept.len() < length as usize - 2, "the tail would have filled a sequence");
            // Two neighbours without a separator between them belong to the same document.
            let ends: Vec<u32> = documents.iter().filter_map(|document| document.last().copied()).collect();
            for pair in sequences.iter().flat_map(|sequence| sequence[1..].windows(2)) {
                if pair[0] >= 100 && pair[1] >= 100 {
                    prop_assert!(!ends.contains(&pair[0]));
                }
            }
        }
    }
}
