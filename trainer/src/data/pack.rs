//! Documents laid end to end into sequences of one length, with no padding.

use super::vocabulary::Vocabulary;

/// Cuts a stream of documents into sequences `[CLS] tokens ... [SEP]` of exactly `length` ids. A `[SEP]` also stands
/// between two documents that meet inside a sequence. What does not fill the last sequence is left over.
#[derive(Debug)]
pub(super) struct Packer {
    cls: u32,
    sep: u32,
    length: usize,
    sequence: Vec<u32>,
}

impl Packer {
    /// `length` counts `[CLS]` and `[SEP]` and is at least 3.
    pub(super) fn new(vocabulary: &Vocabulary, length: u32) -> Self {
        let (cls, sep) = (vocabulary.cls(), vocabulary.sep());
        Self { cls, sep, length: length.max(3) as usize, sequence: vec![cls] }
    }

    /// Adds one document; `full` gets each sequence that it completes.
    pub(super) fn push<E>(
        &mut self,
        document: &[u32],
        mut full: impl FnMut(&[u32]) -> Result<(), E>,
    ) -> Result<(), E> {
        if document.is_empty() {
            return Ok(());
        }
        // Room for the separator, at least one token behind it and the closing [SEP]; else the closing one will do.
        if self.sequence.len() > 1 && self.sequence.len() + 2 < self.length {
            self.sequence.push(self.sep);
        } else if self.sequence.len() > 1 {
            self.sequence.resize(self.length - 1, self.sep);
            self.complete(&mut full)?;
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
