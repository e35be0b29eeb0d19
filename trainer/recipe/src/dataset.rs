//! The data that a recipe names.

use serde::{Deserialize, Serialize};

/// A registered folder or file. The digest is its identity; the name is for people and is not part of the fingerprint
/// once the digest is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    pub name: String,
    /// Hex sha256 over the dataset's manifest (see `scheduler::dataset`); absent when the trainer is run by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Where WordPiece ids come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Vocabulary {
    /// A registered `vocab.txt`, one token a line.
    File { dataset: Dataset },
    /// A vocabulary of `size` tokens, trained deterministically on the training part of the corpus.
    Trained { size: u32 },
}
