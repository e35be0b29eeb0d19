//! The checkpoint that a fine-tune starts from or that is probed: written by a pre-train trial, or published in Hugging
//! Face's layout.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use recipe::published::{self, CONFIG, Config, MODEL, MOST_CONFIG_BYTES, TOKENIZER, VOCABULARY};
use recipe::{KeptBlocks, Model, Pretrain, Problem, Published, Recipe, Source};
use serde_json::{Map, Value, json};
use texts::lines::whole;

use crate::bert::{TextFamily, Weights};
use crate::checkpoint::{self, Verified};
use crate::data::DataError;
use crate::data::vocabulary::Vocabulary;
use crate::failure::TrainerError;
use crate::options::Options;

/// A checkpoint that was found to be the one in the recipe.
pub struct Origin {
    folder: PathBuf,
    pub vocabulary: Vocabulary,
    /// Number of rows in the word embedding: at least one for each token of the vocabulary.
    pub rows: u32,
    pub family: TextFamily,
    pooler: Pooler,
}

/// The origin of the pooler, the first layer of the classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooler {
    /// Pre-training did not train it: it keeps its starting values.
    Fresh,
    /// Pre-training has trained it: it is restored.
    Trained,
    /// It is restored if the file has it.
    IfStored,
}

impl Origin {
    /// Opens the checkpoint `source` in `folder`.
    ///
    /// # Errors
    /// `CorruptCheckpoint` if a file is missing or broken, or if a pre-train trial of another recipe wrote it.
    /// `InvalidRecipe` if a published checkpoint holds another model than `source` says, or one that is not
    /// implemented: its files are as they were published, so a retry would not help.
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
            // Next-sentence prediction trains the pooler.
            pooler: if recipe.objective.next_sentence { Pooler::Trained } else { Pooler::Fresh },
        })
    }

    fn published(published: &Published, folder: &Path) -> Result<Self, TrainerError> {
        let (config, vocabulary) = read_published(folder)?;
        let Model { dropout, attention_dropout, .. } = published.model;
        let problems = differences(&published.model, &Model { dropout, attention_dropout, ..config.model });
        if !problems.is_empty() {
            return Err(TrainerError::InvalidRecipe { path: folder.join(CONFIG), problems });
        }
        Ok(Self {
            folder: folder.to_owned(),
            vocabulary,
            rows: config.vocabulary,
            family: TextFamily::Bert,
            pooler: Pooler::IfStored,
        })
    }

    /// Fills `weights`, those of a model with the blocks that `keep` selects from `source`. A fresh head keeps its
    /// starting values.
    ///
    /// # Errors
    /// `CorruptCheckpoint` that names the weight that is missing or has another shape.
    pub fn restore(&self, weights: &Weights, source: &Source, keep: KeptBlocks) -> Result<(), TrainerError> {
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
                        Pooler::IfStored => !candidates.iter().any(is_stored),
                    });
            if !fresh {
                // If none is stored, the error names the first.
                let found = candidates.iter().find(|name| is_stored(name)).unwrap_or(&candidates[0]);
                targets.push((found.clone(), target));
            }
        }
        checkpoint::fill(&path, targets)?;
        weights.refresh();
        Ok(())
    }
}

/// Reads the small files of the published checkpoint in `folder`.
///
/// # Errors
/// `CorruptCheckpoint` if a file is missing or broken; `InvalidRecipe` if the model is not implemented.
fn read_published(folder: &Path) -> Result<(Config, Vocabulary), TrainerError> {
    let path = folder.join(CONFIG);
    let file = File::open(&path).map_err(|error| TrainerError::corrupt(&path, error.to_string()))?;
    let text = whole(&path, file, MOST_CONFIG_BYTES).map_err(DataError::from)?;
    let tokenizer_path = folder.join(TOKENIZER);
    let tokenizer = match File::open(&tokenizer_path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        file => {
            let file = file.map_err(TrainerError::io(&tokenizer_path))?;
            Some(whole(&tokenizer_path, file, MOST_CONFIG_BYTES).map_err(DataError::from)?)
        }
    };
    let vocabulary = Vocabulary::read(&folder.join(VOCABULARY))?;
    let config = published::check(&text, tokenizer.as_deref(), vocabulary.size().into())
        .map_err(|published::UnfitCheckpoint { file, reason }| TrainerError::unsuited(folder.join(file), reason))?;
    Ok((config, vocabulary))
}

/// The fields in which the model of the recipe is another one than the checkpoint's.
fn differences(recipe: &Model, found: &Model) -> Vec<Problem> {
    let fields = |model: &Model| match json!(model) {
        Value::Object(fields) => fields,
        other => unreachable!("a model is written as an object, not as {other}"),
    };
    let (recipe, found) = (fields(recipe), fields(found));
    let names: BTreeSet<&String> = recipe.keys().chain(found.keys()).collect();
    let value = |model: &Map<String, Value>, name: &String| model.get(name).map_or("absent".into(), Value::to_string);
    names
        .into_iter()
        .filter(|name| recipe.get(*name) != found.get(*name))
        .map(|name| Problem {
            pointer: format!("/recipe/from/model/{name}"),
            message: format!(
                "it is {} in the recipe and {} in this file: correct it, or leave `model` out",
                value(&recipe, name),
                value(&found, name)
            ),
        })
        .collect()
}

/// Adds the model to a recipe that starts from a published checkpoint and leaves it out, from the files in `--from`.
/// Returns true if it did.
///
/// # Errors
/// `Usage` if `--from` is missing; those of reading the checkpoint.
pub fn complete(spec: &mut Value, options: &Options) -> Result<bool, TrainerError> {
    let Some(recipe) = spec.get_mut("recipe") else { return Ok(false) };
    let published = match recipe["stage"].as_str() {
        Some("finetune") => recipe["from"]["kind"] == "published",
        Some("probe") => !recipe["published"].is_null(),
        _ => false,
    };
    match recipe.get_mut("from").and_then(Value::as_object_mut) {
        Some(from) if published && !from.contains_key("model") => {
            let (config, _) = read_published(options.from()?)?;
            from.insert("model".into(), json!(config.model));
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The checkpoint in `folder`, which a trial of `recipe` wrote.
///
/// # Errors
/// `CorruptCheckpoint` if a file is missing or broken, or if it belongs to another recipe.
pub fn made_here(recipe: &Pretrain, folder: &Path) -> Result<Verified, TrainerError> {
    let checkpoint = Verified::open_model(folder)?;
    let expected = Recipe::Pretrain(recipe.clone()).fingerprint();
    if checkpoint.manifest.fingerprint != expected.as_str() {
        let why = format!("belongs to the recipe {}, not to {expected}", checkpoint.manifest.fingerprint);
        return Err(TrainerError::corrupt(folder, why));
    }
    Ok(checkpoint)
}

/// The name in the checkpoint of the weight that is called `name` in a model with only the `kept` blocks (from 1) of
/// it.
fn source_name(name: &str, kept: &[u32]) -> String {
    const LAYER: &str = ".layer.";
    let renumbered = name.split_once(LAYER).and_then(|(before, after)| {
        let (number, rest) = after.split_once('.')?;
        let block = kept.get(number.parse::<usize>().ok()?)?;
        Some(format!("{before}{LAYER}{}.{rest}", block - 1))
    });
    renumbered.unwrap_or_else(|| name.to_owned())
}

/// The names that a weight may have. Published files of a bare encoder lack the prefix, and the oldest files call the
/// weights of LayerNorm gamma and beta.
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
    use recipe::{Norm, Size};

    use super::*;

    #[test]
    fn each_field_that_contradicts_the_file_is_named() {
        let size = Size { blocks: 3, hidden: 8, heads: 2, intermediate: 16 };
        let found = Model::of_size(size, Norm::Post);
        let order = Some("sfsfsf".to_owned());
        let problems = differences(&Model { blocks: 4, order, ..found.clone() }, &found);
        let told: Vec<String> =
            problems.into_iter().map(|Problem { pointer, message }| pointer + ": " + &message).collect();
        let end = "correct it, or leave `model` out";
        assert_eq!(
            told,
            [
                format!("/recipe/from/model/blocks: it is 4 in the recipe and 3 in this file: {end}"),
                format!("/recipe/from/model/order: it is \"sfsfsf\" in the recipe and absent in this file: {end}"),
            ]
        );
        assert_eq!(differences(&found, &found), []);
    }

    #[test]
    fn kept_blocks_are_renumbered() {
        let name = |name| source_name(name, &[1, 3, 5]);
        assert_eq!(name("bert.encoder.layer.2.output.dense.bias"), "bert.encoder.layer.4.output.dense.bias");
        assert_eq!(name("bert.encoder.layer.0.output.dense.bias"), "bert.encoder.layer.0.output.dense.bias");
        assert_eq!(name("bert.encoder.ln.weight"), "bert.encoder.ln.weight");
    }
}
