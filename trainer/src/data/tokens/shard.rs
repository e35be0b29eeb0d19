//! One file of packed sequences, which is written once and then mapped.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::DataError;

/// The entry of one `.ids` file in `index.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shard {
    pub(super) documents: u64,
    /// Tokens of the documents, including those that do not fill the last sequence, without separators.
    pub(super) tokens: u64,
    pub(super) sequences: u64,
    /// 2 if every id of the vocabulary fits into 16 bits, else 4.
    pub(super) bytes_per_id: usize,
    /// Hex sha256 of the file.
    pub(super) sha256: String,
}

/// The sequences of one part, mapped from disk, so that processes share the memory.
#[derive(Debug)]
pub struct Sequences {
    map: Mmap,
    bytes_per_id: usize,
    length: usize,
}

impl Sequences {
    /// Maps `path`, and compares its size and digest with `shard`.
    ///
    /// # Errors
    /// A sentence that says what differs.
    pub(super) fn open(path: &Path, shard: &Shard, length: u32) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        #[expect(unsafe_code, reason = "mapping a file is the only way to share its pages between processes")]
        // SAFETY: the file is part of a cache entry, which is created by a rename and never written again. A damaged
        // entry is replaced by other files, and this mapping keeps the old one.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| error.to_string())?;
        let bytes = u64::from(length).saturating_mul(shard.bytes_per_id as u64);
        let expected = shard.sequences.saturating_mul(bytes);
        if map.len() as u64 != expected || map.is_empty() {
            return Err(format!("it has {} bytes, but index.json lists {expected}", map.len()));
        }
        if !matches!(shard.bytes_per_id, 2 | 4) {
            return Err(format!("index.json lists {} bytes per id, not 2 or 4", shard.bytes_per_id));
        }
        if hex::encode(Sha256::digest(&map)) != shard.sha256 {
            return Err("it does not have the digest in index.json".into());
        }
        Ok(Self { map, bytes_per_id: shard.bytes_per_id, length: length as usize })
    }

    /// Number of sequences; at least 1.
    pub fn sequences(&self) -> usize {
        self.map.len() / (self.length * self.bytes_per_id)
    }

    /// Number of ids in a sequence, `[CLS]` and `[SEP]` included.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The ids of one sequence, `[length]`.
    ///
    /// # Panics
    /// If there is no sequence of that index.
    pub fn sequence(&self, index: usize) -> impl ExactSizeIterator<Item = i64> + '_ {
        let bytes = self.length * self.bytes_per_id;
        self.map[index * bytes..(index + 1) * bytes].chunks_exact(self.bytes_per_id).map(|id| match *id {
            [a, b] => i64::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => i64::from(u32::from_le_bytes([a, b, c, d])),
            _ => unreachable!("`open` checks that an id has 2 or 4 bytes"),
        })
    }
}

/// Writes one `.ids` file and counts what is in it.
pub(super) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    digest: Sha256,
    bytes: Vec<u8>,
    shard: Shard,
    /// True if some token so far is in the vocabulary.
    any_known: bool,
}

impl Writer {
    pub(super) fn create(path: PathBuf, vocabulary_size: u32) -> Result<Self, DataError> {
        let file = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(DataError::io(&path))?);
        let bytes_per_id = if vocabulary_size <= 1 << 16 { 2 } else { 4 };
        let shard = Shard { documents: 0, tokens: 0, sequences: 0, bytes_per_id, sha256: String::new() };
        Ok(Self { path, file, digest: Sha256::new(), bytes: Vec::new(), shard, any_known: false })
    }

    /// Counts a document. Its sequences are written with [`Writer::write`].
    pub(super) fn count_document(&mut self, ids: &[u32], unknown: u32) {
        self.shard.documents += 1;
        self.shard.tokens += ids.len() as u64;
        self.any_known = self.any_known || ids.iter().any(|&id| id != unknown);
    }

    pub(super) fn write(&mut self, sequence: &[u32]) -> Result<(), DataError> {
        self.bytes.clear();
        for id in sequence {
            self.bytes.extend_from_slice(&id.to_le_bytes()[..self.shard.bytes_per_id]);
        }
        self.digest.update(&self.bytes);
        self.shard.sequences += 1;
        self.file.write_all(&self.bytes).map_err(DataError::io(&self.path))
    }

    /// True if the part has at least one token of the vocabulary.
    pub(super) fn has_known(&self) -> bool {
        self.any_known
    }

    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Writes and syncs everything that is still in memory.
    pub(super) fn finish(mut self) -> Result<Shard, DataError> {
        self.file.flush().map_err(DataError::io(&self.path))?;
        self.file.get_ref().sync_all().map_err(DataError::io(&self.path))?;
        Ok(Shard { sha256: hex::encode(self.digest.finalize()), ..self.shard })
    }
}
