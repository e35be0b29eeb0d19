//! Token shards: a corpus as packed sequences of ids on disk, built once and shared by every trial that needs them.
//!
//! A cache entry is a folder named by the digest of everything that it depends on:
//!
//!     tokens-<digest>/index.json   its inputs; size and sha256 of the other files
//!                     vocab.txt    the vocabulary, given or trained
//!                     train.ids    sequences of `length` ids, little-endian, 2 or 4 bytes each
//!                     valid.ids    the same for the held-out documents
//!
//! An entry is created by a rename and never changed, so a mapped file stays valid. Opening an entry reads every byte
//! and compares the digests. This takes about a second per gigabyte, a run reads these bytes anyway, and a flipped bit
//! leads to a rebuild instead of a wrong result. A damaged entry is not a failure, because it can be built again from
//! the corpus.

mod build;
mod shard;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::DataError;
use super::corpus::Corpus;
use super::vocabulary::Vocabulary;
pub use shard::Sequences;
use shard::Shard;

/// Version of the entries. It changes whenever equal inputs would give other ids or another layout.
const FORMAT: &str = "lamina tokens 1";
const LOCK_POLL: Duration = Duration::from_millis(250);

/// Called with (name of the work, bytes done, total bytes of the stored corpus); both are 0 if they are unknown.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64);

/// The source of the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VocabularySource {
    /// A `vocab.txt`.
    File(PathBuf),
    /// Trained on the training part of the corpus.
    Trained { size: u32 },
}

/// The packed sequences of a corpus.
#[derive(Debug)]
pub struct Shards {
    pub train: Sequences,
    /// Sequences of the held-out documents.
    pub valid: Sequences,
    pub vocabulary: Vocabulary,
}

/// The content of `index.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    #[serde(rename = "origin")]
    inputs: Inputs,
    /// Hex sha256 of `vocab.txt`.
    vocabulary: String,
    train: Shard,
    valid: Shard,
}

/// Everything that the content of an entry depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    format: String,
    /// [`Corpus::digest`].
    corpus: String,
    /// `file <sha256>` or `trained <size>`.
    vocabulary: String,
    held_out: f64,
    length: u32,
}

/// A vocabulary that was read, or the size of one that is still to be trained.
enum VocabularyInput {
    Given(Box<Vocabulary>),
    Trained { size: u32 },
}

/// Why an entry cannot be used.
enum Unusable {
    Missing,
    Damaged(String),
}

impl Shards {
    /// Opens the shards of `corpus` in the folder `cache`, and builds them if there are none: the documents are split
    /// into a training and a validation part (share `held_out`), tokenised with the vocabulary of `source`, and packed
    /// into sequences of `length` ids. Two processes that build the same entry wait for each other.
    pub fn build_or_open(
        corpus: &Path,
        source: &VocabularySource,
        cache: &Path,
        held_out: f64,
        length: u32,
        progress: Progress,
    ) -> Result<Self, DataError> {
        let corpus = Corpus::open(corpus)?;
        let vocabulary_input = match source {
            VocabularySource::File(path) => VocabularyInput::Given(Vocabulary::read(path)?.into()),
            VocabularySource::Trained { size } => VocabularyInput::Trained { size: *size },
        };
        let inputs = Inputs {
            format: FORMAT.into(),
            corpus: corpus.digest(|done, total| progress("reading corpus", done, total))?,
            vocabulary: match &vocabulary_input {
                VocabularyInput::Given(vocabulary) => format!("file {}", vocabulary.digest()),
                VocabularyInput::Trained { size } => format!("trained {size}"),
            },
            held_out,
            length,
        };
        let entry = cache.join(inputs.name());
        if let Ok(shards) = Self::open(&entry, &inputs) {
            return Ok(shards);
        }
        fs::create_dir_all(cache).map_err(DataError::io(cache))?;
        let _lock = lock(&entry.with_extension("lock"), progress)?;
        // Another process may have built it while this one waited.
        match Self::open(&entry, &inputs) {
            Ok(shards) => return Ok(shards),
            Err(Unusable::Missing) => {}
            Err(Unusable::Damaged(why)) => eprintln!("{}: {why}; this cache entry is built again", entry.display()),
        }
        build::build(&corpus, vocabulary_input, &inputs, &entry, progress)?;
        Self::open(&entry, &inputs).map_err(|unusable| {
            let why = match unusable {
                Unusable::Missing => "it was removed right after it was built".into(),
                Unusable::Damaged(why) => why,
            };
            DataError::Io { path: entry.clone(), source: std::io::Error::other(why) }
        })
    }

    fn open(entry: &Path, inputs: &Inputs) -> Result<Self, Unusable> {
        let index = match fs::read(entry.join("index.json")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !entry.exists() => {
                return Err(Unusable::Missing);
            }
            Err(error) => return Err(Unusable::Damaged(format!("index.json: {error}"))),
        };
        let index: Index = serde_json::from_slice(&index).map_err(|e| Unusable::Damaged(format!("index.json: {e}")))?;
        if index.inputs != *inputs {
            return Err(Unusable::Damaged("index.json lists other inputs".into()));
        }
        let vocabulary = Vocabulary::read(&entry.join("vocab.txt")).map_err(|e| Unusable::Damaged(e.to_string()))?;
        if vocabulary.digest() != index.vocabulary {
            return Err(Unusable::Damaged("vocab.txt does not have the digest in index.json".into()));
        }
        let part = |name: &str, shard: &Shard| {
            Sequences::open(&entry.join(name), shard, inputs.length)
                .map_err(|why| Unusable::Damaged(format!("{name}: {why}")))
        };
        Ok(Self { train: part("train.ids", &index.train)?, valid: part("valid.ids", &index.valid)?, vocabulary })
    }
}

impl Inputs {
    /// Name of the entry's folder.
    fn name(&self) -> String {
        let Self { format, corpus, vocabulary, held_out, length } = self;
        let text =
            format!("{format}\ncorpus {corpus}\nvocabulary {vocabulary}\nheld out {held_out}\nlength {length}\n");
        format!("tokens-{}", &hex::encode(Sha256::digest(text))[..32])
    }
}

/// Waits until only this process may build the entry. The lock ends when the returned file is closed or the process
/// ends.
fn lock(path: &Path, progress: Progress) -> Result<File, DataError> {
    let file = File::options().create(true).append(true).open(path).map_err(DataError::io(path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                // Polling instead of blocking reports progress, so that an agent sees that this process is alive.
                progress("waiting for tokens", 0, 0);
                thread::sleep(LOCK_POLL);
            }
            Err(TryLockError::Error(source)) => return Err(DataError::Io { path: path.into(), source }),
        }
    }
}

#[cfg(test)]
mod tests;
