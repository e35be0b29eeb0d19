//! Datasets: registered folders and files.
//!
//! A dataset is identified by the sha256 of its manifest. The manifest is this text, with the files in the order of their
//! paths:
//!
//! ```text
//! lamina dataset 1
//! corpus
//! <sha256 of the file> <bytes> <path>
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use recipe::{ImageShape, Model, Task, named_enum};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use texts::TextError;
use utoipa::ToSchema;

use crate::work::{Stop, WorkError};
use protocol::{DatasetFile, DatasetFiles};

mod check;
mod root;
mod scan;
pub use check::Verified;
pub use root::{Identity, Roots};
pub use scan::{MOST_DEPTH, MOST_FILES, scan};

named_enum! {
    /// The kind of data that a dataset holds.
    #[derive(sqlx::Type, ToSchema)]
    #[sqlx(type_name = "dataset_kind", rename_all = "snake_case")]
    pub enum DatasetKind {
        /// Text: `.txt` files, plain or compressed with xz, gzip or zstd.
        Corpus = "corpus",
        /// One `vocab.txt`.
        Vocabulary = "vocabulary",
        /// GLUE in its official layout, one folder a task.
        Glue = "glue",
        /// A model of the BERT family in Hugging Face's layout: `config.json`, `model.safetensors`, `vocab.txt`.
        Checkpoint = "checkpoint",
        /// Images with their classes, in the files of MNIST (IDX) or CIFAR.
        Images = "images",
    }
}

impl DatasetKind {
    /// The name of a dataset of this kind in a sentence.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Corpus => "corpus",
            Self::Vocabulary => "vocabulary",
            Self::Glue => "GLUE folder",
            Self::Checkpoint => "checkpoint",
            Self::Images => "folder of images",
        }
    }
}

/// The reason why a folder or file cannot be registered, or can no longer be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// One sentence for all reasons: a client must not learn which files exist outside the roots, or who may read them.
    #[error(
        "{}: no file or folder that this server may read is here: a dataset is a regular file, or a folder of them, \
         beneath a data root (--data-root), and its links stay beneath that root",
        .0.display()
    )]
    Unreachable(PathBuf),
    #[error(
        "this server has no data root, so it registers nothing: start it with --data-root DIR, where DIR holds the data"
    )]
    NoRoots,
    /// Nobody waits for the result any more.
    #[error("the work was stopped")]
    Stopped,
    #[error(transparent)]
    Work(#[from] WorkError),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {what}", path.display())]
    Unfit { path: PathBuf, what: String },
    #[error(transparent)]
    Images(#[from] images::ImageError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(
        "{source}; the task {} cannot be trained on as it is: correct the file, or take the folder {} out of the data set",
        task.name(),
        task.row().folder
    )]
    Task { task: Task, source: TextError },
    #[error("{} has changed since it was registered: {what}", path.display())]
    Changed { path: PathBuf, what: String },
}

/// The properties of a dataset that planning a job needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DatasetFacts {
    Corpus,
    Vocabulary {
        tokens: u64,
    },
    Glue {
        /// Training examples by task.
        examples: BTreeMap<Task, u64>,
    },
    Checkpoint {
        /// The model in its `config.json`.
        #[schema(value_type = Object)]
        model: Model,
        /// Tokens of its vocabulary.
        tokens: u64,
    },
    Images {
        shape: ImageShape,
        classes: u32,
        /// Images in the training part.
        train: u64,
        /// Images in the test part. With 0, a share of the training images is held out for validation.
        test: u64,
    },
}

/// A folder or file that was read and checked. Registering it stores this.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    pub name: String,
    pub folder: PathBuf,
    pub digest: String,
    pub facts: DatasetFacts,
    pub files: Vec<ScannedFile>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedFile {
    pub file: DatasetFile,
    /// The file that had this content.
    pub identity: Identity,
}

/// A dataset as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetView {
    pub name: String,
    pub kind: DatasetKind,
    pub path: String,
    pub digest: String,
    pub files: u64,
    pub bytes: u64,
    pub facts: DatasetFacts,
    pub registered_at: DateTime<Utc>,
}

impl Scan {
    pub const fn kind(&self) -> DatasetKind {
        match self.facts {
            DatasetFacts::Corpus => DatasetKind::Corpus,
            DatasetFacts::Vocabulary { .. } => DatasetKind::Vocabulary,
            DatasetFacts::Glue { .. } => DatasetKind::Glue,
            DatasetFacts::Checkpoint { .. } => DatasetKind::Checkpoint,
            DatasetFacts::Images { .. } => DatasetKind::Images,
        }
    }

    /// The model of a checkpoint; `None` for the other kinds.
    pub const fn model(&self) -> Option<&Model> {
        match &self.facts {
            DatasetFacts::Checkpoint { model, .. } => Some(model),
            _ => None,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|scanned| scanned.file.bytes).sum()
    }

    /// The files that an agent has to fetch.
    pub fn to_files(&self) -> DatasetFiles {
        DatasetFiles {
            name: self.name.clone(),
            digest: self.digest.clone(),
            files: self.files.iter().map(|scanned| scanned.file.clone()).collect(),
        }
    }
}

/// A file whose reads fail once the work is stopped.
struct Watched {
    file: File,
    stop: Stop,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_set() { Err(io::Error::other("the work was stopped")) } else { self.file.read(buffer) }
    }
}

/// Hex sha256 of the manifest of `files`, which must be in the order of their paths.
fn digest<'a>(kind: DatasetKind, files: impl Iterator<Item = &'a DatasetFile>) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("lamina dataset 1\n{}\n", kind.name()));
    for DatasetFile { path, sha256, bytes } in files {
        hasher.update(format!("{sha256} {bytes} {path}\n"));
    }
    hex::encode(hasher.finalize())
}

/// Hex sha256 of what is left to read; `path` is for messages.
fn hash(path: &Path, file: &mut impl Read) -> Result<String, DatasetError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(|source| DatasetError::Io { path: path.into(), source })? {
            0 => return Ok(hex::encode(hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests;
