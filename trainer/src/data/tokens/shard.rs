//! One file of packed sequences: written once, then mapped.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::DataError;

/// What `index.json` says about one `.ids` file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shard {
    pub(super) documents: u64,
    /// Tokens of the documents, with those of the tail that fills no sequence, without separators.
    pub(super) tokens: u64,
    pub(super) sequences: u64,
    /// 2 where the vocabulary fits, else 4.
    pub(super) bytes_per_id: usize,
    /// Hex sha256 of the file.
    pub(super) sha256: String,
}

/// The sequences of one part, mapped from disk: opening costs no memory of its own, and processes share the pages.
#[derive(Debug)]
pub struct Sequences {
    map: Mmap,
    bytes_per_id: usize,
    length: usize,
}

impl Sequences {
    /// Maps `path` and compares its size and its digest with `shard`; the error says what differs.
    pub(super) fn open(path: &Path, shard: &Shard, length: u32) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        #[expect(unsafe_code, reason = "mapping a file is the only way to share its pages between processes")]
        // SAFETY: the file is part of a cache entry, which appears by a rename and is never written again; a damaged
        // one is replaced by another file, and this mapping keeps the old one.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| error.to_string())?;
        let bytes = u64::from(length).saturating_mul(shard.bytes_per_id as u64);
        let expected = shard.sequences.saturating_mul(bytes);
        if map.len() as u64 != expected || map.is_empty() {
            return Err(format!("{} bytes, where the index names {expected}", map.len()));
        }
        if !matches!(shard.bytes_per_id, 2 | 4) {
            return Err(format!("{} bytes per id", shard.bytes_per_id));
        }
        if hex::encode(Sha256::digest(&map)) != shard.sha256 {
            return Err("its content does not have the digest that the index names".into());
        }
        Ok(Self { map, bytes_per_id: shard.bytes_per_id, length: length as usize })
    }

    /// Number of sequences, at least 1.
    pub fn sequences(&self) -> usize {
        self.map.len() / (self.length * self.bytes_per_id)
    }

    /// Ids per sequence, `[CLS]` and `[SEP]` included.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The ids of one sequence, `[length]`.
    ///
    /// # Panics
    /// When there is no sequence of that index.
    pub fn sequence(&self, index: usize) -> impl ExactSizeIterator<Item = i64> + '_ {
        let bytes = self.length * self.bytes_per_id;
        self.map[index * bytes..(index + 1) * bytes].chunks_exact(self.bytes_per_id).map(|id| match *id {
            [a, b] => i64::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => i64::from(u32::from_le_bytes([a, b, c, d])),
            _ => unreachable!("an id has 2 or 4 bytes, which `open` checks"),
        })
    }
}

/// Writes one `.ids` file and the numbers about it.
pub(super) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    digest: Sha256,
    bytes: Vec<u8>,
    shard: Shard,
    /// Whether some token is in the vocabulary.
    any_known: bool,
}

impl Writer {
    pub(super) fn create(path: PathBuf, vocabulary_size: u32) -> Result<Self, DataError> {
        let file = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(DataError::io(&path))?);
        let bytes_per_id = if vocabulary_size <= 1 << 16 { 2 } else { 4 };
        let shard = Shard { documents: 0, tokens: 0, sequences: 0, bytes_per_id, sha256: String::new() };
        Ok(Self { path, file, digest: Sha256::new(), bytes: Vec::new(), shard, any_known: false })
    }

    /// Counts a document of which the sequences are written apart.
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

    /// Whether the part holds at least one token of the vocabulary.
    pub(super) fn has_known(&self) -> bool {
        self.any_known
    }

    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Puts everything on the disk.
    pub(super) fn finish(mut self) -> Result<Shard, DataError> {
        self.file.flush().map_err(DataError::io(&self.path))?;
        self.file.get_ref().sync_all().map_err(DataError::io(&self.path))?;
        Ok(Shard { sha256: hex::encode(self.digest.finalize()), ..self.shard })
    }
}
