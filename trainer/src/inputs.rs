//! Reads the data of a pre-train recipe: text as token shards, or images.

use std::path::Path;
use std::sync::Arc;

use images::Images;
use recipe::problem::Problems;
use recipe::{ImageObjective, Pretrain, Vocabulary};

use crate::data::DataError;
use crate::data::material::Material;
use crate::data::tokens::{Shards, VocabularySource};
use crate::emit::Emitter;
use crate::failure::TrainerError;
use crate::options::Options;

/// The text or the images of `recipe`, which is at `pointer` in the recipe file.
///
/// # Errors
/// Bad data, also if the recipe needs pairs of texts and a part has one sequence; `InvalidRecipe` if the images do not
/// have the shape that the recipe expects.
pub fn material(
    recipe: &Pretrain,
    pointer: &str,
    options: &Options,
    emitter: &mut Emitter,
) -> Result<Material, TrainerError> {
    if let Some(rule) = recipe.images {
        return read_images(recipe, rule, pointer, options, emitter);
    }
    let vocabulary = match &recipe.vocabulary {
        Some(Vocabulary::Trained { size }) => VocabularySource::Trained { size: *size },
        Some(Vocabulary::File { .. }) | None => VocabularySource::File(options.vocabulary()?.to_owned()),
    };
    let shards = shards(recipe, vocabulary, options, emitter)?;
    if recipe.objective.next_sentence {
        check_pairs(&shards, recipe.length, options.corpus()?)?;
    }
    Ok(Material::Text(shards))
}

/// Checks that a second text can be drawn from another sequence, in training and in validation. From the same sequence
/// it would follow the first, whatever its label says.
fn check_pairs(shards: &Shards, length: u32, corpus: &Path) -> Result<(), DataError> {
    for (part, sequences) in [("training", &shards.train), ("held-out", &shards.valid)] {
        if sequences.sequences() < 2 {
            return Err(DataError::OneSequence { path: corpus.to_owned(), part, length });
        }
    }
    Ok(())
}

fn read_images(
    recipe: &Pretrain,
    rule: ImageObjective,
    pointer: &str,
    options: &Options,
    emitter: &mut Emitter,
) -> Result<Material, TrainerError> {
    let folder = options.corpus()?;
    emitter.preparing("reading images", 0, 0)?;
    let images = Images::read(folder, recipe.held_out).map_err(DataError::from)?;
    let mut problems = Problems::at(pointer);
    rule.check_shape(images.shape, recipe.length, &mut problems);
    let problems = problems.into_vec();
    if !problems.is_empty() {
        return Err(TrainerError::InvalidRecipe { path: options.recipe.clone(), problems });
    }
    if matches!(rule, ImageObjective::Classifier { .. }) && images.classes < 2 {
        return Err(DataError::OneClass { path: folder.to_owned() }.into());
    }
    Ok(Material::Images { images: Arc::new(images), rule })
}

/// The tokens of the text that `recipe` learns from, with the words of `vocabulary`; from the cache if they are there.
///
/// # Errors
/// Bad data; a failed write to the cache.
pub fn shards(
    recipe: &Pretrain,
    vocabulary: VocabularySource,
    options: &Options,
    emitter: &mut Emitter,
) -> Result<Arc<Shards>, TrainerError> {
    let mut emitted = Ok(());
    let mut progress = |what: &str, done: u64, total: u64| {
        if emitted.is_ok() {
            emitted = emitter.preparing(what, done, total);
        }
    };
    let (corpus, cache) = (options.corpus()?, options.cache());
    let shards = Shards::build_or_open(corpus, &vocabulary, &cache, recipe.held_out, recipe.length, &mut progress)?;
    emitted?;
    Ok(Arc::new(shards))
}
