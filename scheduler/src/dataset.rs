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
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use chrono::{DateTime, Utc};
use recipe::{ImageShape, Model, Task, named_enum};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use protocol::{DatasetFile, DatasetFiles};

mod scan;
pub use scan::scan;

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
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {what}", path.display())]
    Unfit { path: PathBuf, what: String },
    #[error(transparent)]
    Images(#[from] images::ImageError),
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
        /// Training examples by task, counted as lines.
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
    /// Modification time in nanoseconds since 1970.
    pub modified_ns: i64,
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

    /// Fails unless the files still have the registered content. Blocking I/O.
    pub fn verify(&self) -> Result<(), DatasetError> {
        self.files.iter().try_for_each(|file| file.verify(&self.folder))
    }
}

impl ScannedFile {
    /// Fails unless the file under `folder` still has the registered content. A file of unchanged size and modification time is
    /// not read again. Blocking I/O.
    pub fn verify(&self, folder: &Path) -> Result<(), DatasetError> {
        let Self { file, modified_ns } = self;
        let path = folder.join(&file.path);
        let changed = |what: &str| DatasetError::Changed { path: path.clone(), what: what.into() };
        let metadata = fs::metadata(&path).map_err(|error| changed(&error.to_string()))?;
        if metadata.len() != file.bytes {
            return Err(changed(&format!("it has {} bytes, not {}", metadata.len(), file.bytes)));
        }
        if modified(&metadata) != *modified_ns && hash(&path)? != file.sha256 {
            return Err(changed("its content differs"));
        }
        Ok(())
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

/// Modification time in nanoseconds since 1970. It is 0 if the file system keeps none, so that the content decides.
fn modified(metadata: &fs::Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or(0)
}

fn hash(path: &Path) -> Result<String, DatasetError> {
    let io = |source| DatasetError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests;
