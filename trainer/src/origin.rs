//! The checkpoint that a fine-tune starts from, or a probe looks into: one that was made here, or a published one in Hugging Face's layout.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use recipe::published::{self, CONFIG, MODEL, TOKENIZER, VOCABULARY};
use recipe::{Keep, Model, Pretrain, Published, Recipe, Source};

use crate::bert::{TextFamily, Weights};
use crate::checkpoint::{self, Verified};
use crate::data::vocabulary::Vocabulary;
use crate::failure::TrainerError;

/// A checkpoint that was found to be the one that the recipe names.
pub struct Origin {
    folder: PathBuf,
    pub vocabulary: Vocabulary,
    /// Rows of the word embedding: as many as the vocabulary has tokens, or more.
    pub rows: u32,
    pub family: TextFamily,
    pooler: Pooler,
}

/// Whether the first layer of the classifier was trained before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooler {
    Fresh,
    Trained,
    /// As the file has it.
    IfThere,
}

impl Origin {
    /// # Errors
    /// `CorruptCheckpoint` for a file that is missing or broken, or of a checkpoint that was made here and is not that of
    /// `source`. `InvalidRecipe` for a published one that describes another model than `source` does, or one that is not
    /// implemented: its files are as they were published, and trying again would not change them.
    pub fn open(source: &Source, folder: &Path) -> Result<Self, TrainerError> {
        match source {
            Source::Pretrained(recipe) => Self::pretrained(recipe, folder),
            Source::Published(published) => Self::published(published, folder),
        }
    }

    fn pretrained(recipe: &Pretrain, folder: &Path) -> Result<Self, TrainerError> {
        let vocabulary = made_here(recipe, folder)?.vocabulary()?;
        Ok(Self {
            folder: folder.to_owned(),
            rows: vocabulary.size(),
            vocabulary,
            family: TextFamily::of(&recipe.objective),
            // Next-sentence prediction has trained it.
            pooler: if recipe.objective.next_sentence { Pooler::Trained } else { Pooler::Fresh },
        })
    }

    fn published(published: &Published, folder: &Path) -> Result<Self, TrainerError> {
        let path = folder.join(CONFIG);
        let text = fs::read(&path).map_err(|error| TrainerError::corrupt(&path, error.to_string()))?;
        let tokenizer = match fs::read(folder.join(TOKENIZER)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            tokenizer => Some(tokenizer.map_err(TrainerError::io(folder.join(TOKENIZER)))?),
        };
        let vocabulary = Vocabulary::read(&folder.join(VOCABULARY))?;
        let config = published::check(&text, tokenizer.as_deref(), vocabulary.size().into())
            .map_err(|published::Unfit { file, why }| TrainerError::unsuited(folder.join(file), why))?;
        let Model { dropout, attention_dropout, .. } = published.model;
        let found = Model { dropout, attention_dropout, ..config.model };
        if found != published.model {
            let why = format!("describes {found:?}, where the recipe has {:?}", published.model);
            return Err(TrainerError::unsuited(path, why));
        }
        Ok(Self {
            folder: folder.to_owned(),
            vocabulary,
            rows: config.vocabulary,
            family: TextFamily::Bert,
            pooler: Pooler::IfThere,
        })
    }

    /// Fills the weights of a model of the blocks that are kept of `source`, all but those of a fresh head.
    ///
    /// # Errors
    /// `CorruptCheckpoint` that names the weight which is missing or has another shape.
    pub fn restore(&self, weights: &Weights, source: &Source, keep: Keep) -> Result<(), TrainerError> {
        let kept: Vec<u32> = keep.kept(source.model().blocks).collect();
        let path = self.folder.join(MODEL);
        let stored = checkpoint::names(&path)?;
        let is_stored = |name: &String| stored.contains(name);
        let mut targets = Vec::new();
        for (name, target) in weights.named() {
            let candidates = candidates(&source_name(&name, &kept), source);
            let fresh = name.starts_with("classifier.")
                || (name.starts_with("bert.pooler.")
                    && match self.pooler {
                        Pooler::Fresh => true,
                        Pooler::Trained => false,
                        Pooler::IfThere => !candidates.iter().any(is_stored),
                    });
            if !fresh {
                // Where there is none, the error is about the first.
                let found = candidates.iter().find(|name| is_stored(name)).unwrap_or(&candidates[0]);
                targets.push((found.clone(), target));
            }
        }
        checkpoint::fill(&path, targets)?;
        weights.refresh();
        Ok(())
    }
}

/// The checkpoint that `recipe` left in `folder`.
///
/// # Errors
/// `CorruptCheckpoint` for a file that is missing or broken, or when it is of another recipe.
pub fn made_here(recipe: &Pretrain, folder: &Path) -> Result<Verified, TrainerError> {
    let checkpoint = Verified::open_model(folder)?;
    let expected = Recipe::Pretrain(recipe.clone()).fingerprint();
    if checkpoint.manifest.fingerprint != expected.as_str() {
        let why = format!("is of the recipe {}, not of {expected}", checkpoint.manifest.fingerprint);
        return Err(TrainerError::corrupt(folder, why));
    }
    Ok(checkpoint)
}

/// The name in the checkpoint of what goes by `name` in a model whose blocks are the checkpoint's `kept` ones.
fn source_name(name: &str, kept: &[u32]) -> String {
    const LAYER: &str = ".layer.";
    let renumbered = name.split_once(LAYER).and_then(|(before, after)| {
        let (number, rest) = after.split_once('.')?;
        let block = kept.get(number.parse::<usize>().ok()?)?;
        Some(format!("{before}{LAYER}{}.{rest}", block - 1))
    });
    renumbered.unwrap_or_else(|| name.to_owned())
}

/// The names that a weight may go by. Published files lack the prefix when they hold a bare encoder, and the oldest say
/// gamma and beta.
fn candidates(name: &str, source: &Source) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    if let Source::Published(_) = source {
        names.extend(name.strip_prefix("bert.").map(str::to_owned));
        for i in 0..names.len() {
            let old =
                names[i].replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            if old != names[i] {
                names.push(old);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_blocks_are_renumbered() {
        let name = |name| source_name(name, &[1, 3, 5]);
        assert_eq!(name("bert.encoder.layer.2.output.dense.bias"), "bert.encoder.layer.4.output.dense.bias");
        assert_eq!(name("bert.encoder.layer.0.output.dense.bias"), "bert.encoder.layer.0.output.dense.bias");
        assert_eq!(name("bert.encoder.ln.weight"), "bert.encoder.ln.weight");
    }
}
