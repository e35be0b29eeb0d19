//! A probe: a look at the blocks of a checkpoint.

use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Vocabulary};
use crate::objective::Mlm;
use crate::pretrain::Pretrain;
use crate::problem::Problems;
use crate::seeds::Seeds;

/// Measures what each block of a checkpoint does, and how well the model works without it, with two blocks swapped and
/// with all blocks in a random order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The recipe that made the checkpoint. For a published checkpoint: its model, and the text, length and masking
    /// with which it is probed.
    pub from: Box<Pretrain>,
    /// A published checkpoint to probe, instead of one that `from` made. Its vocabulary is that of `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Dataset>,
    /// Seeds of the pre-train trial, so that the fingerprint names exactly one checkpoint.
    #[serde(default)]
    pub from_seeds: Seeds,
    /// Upper bound on the held-out sequences that are used.
    #[serde(default = "default_sequences")]
    pub sequences: u32,
    /// Number of random orders of the blocks.
    #[serde(default = "default_shuffles")]
    pub shuffles: u32,
}

impl Probe {
    pub const DEFAULT_SEQUENCES: u32 = 64;
    pub const DEFAULT_SHUFFLES: u32 = 8;
    /// The whole validation part of a large corpus.
    pub const MOST_SEQUENCES: u32 = 1_000_000;
    pub const MOST_SHUFFLES: u32 = 1000;

    pub fn check(&self, problems: &mut Problems) {
        problems.within("from", |p| self.from.check(p));
        if self.published.is_some() {
            let Mlm { next_sentence, electra, .. } = self.from.objective;
            let is_masking = self.from.images.is_none() && !next_sentence && electra.is_none();
            problems.require(is_masking, "published", || {
                "a published checkpoint is probed on masked tokens of text only: leave `images`, `next_sentence` and \
                 `electra` out"
                    .into()
            });
            let is_file = matches!(self.from.vocabulary, Some(Vocabulary::File { .. }));
            problems.require(is_file, "published", || {
                "a published checkpoint has a vocabulary already: name its file instead of training one".into()
            });
        }
        problems.require((1..=Self::MOST_SEQUENCES).contains(&self.sequences), "sequences", || {
            format!("{} sequences: 1 to {} are allowed", self.sequences, Self::MOST_SEQUENCES)
        });
        problems.require(self.shuffles <= Self::MOST_SHUFFLES, "shuffles", || {
            format!("{} shuffles: at most {} are allowed", self.shuffles, Self::MOST_SHUFFLES)
        });
    }
}

fn default_sequences() -> u32 {
    Probe::DEFAULT_SEQUENCES
}
fn default_shuffles() -> u32 {
    Probe::DEFAULT_SHUFFLES
}
