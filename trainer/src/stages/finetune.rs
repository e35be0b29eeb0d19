//! Stage `finetune`: trains a checkpoint on one GLUE task, scores it on dev and answers the task's test files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use recipe::report::{FinetuneReport, PREDICTIONS, PredictionFile};
use recipe::{Finetune, TrialReport};
use sha2::{Digest, Sha256};

use crate::attempt::{Attempt, Ended};
use crate::emit::Emitter;
use crate::failure::TrainerError;
use crate::finetuning::{DEV, Finetuning, SELECTION};
use crate::options::Options;
use crate::train::{Training, train};

/// Carries out a fine-tune.
///
/// # Errors
/// A checkpoint that is not the one of the recipe, bad data, and those of [`train`].
pub fn run(
    recipe: &Finetune,
    options: &Options,
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<Ended<TrialReport>, TrainerError> {
    let (from, glue) = (options.from()?, options.glue()?);
    let mut training = Finetuning::new(recipe.clone(), attempt.seeds, from, glue, attempt.device)?;
    attempt.announce(training.budget().steps, emitter)?;
    let trained = match train(&mut training, attempt, emitter)? {
        Ended::Finished(trained) => trained,
        Ended::Interrupted { step } => return Ok(Ended::Interrupted { step }),
    };
    let on_dev = |(name, value): &(String, f64)| Some((name.strip_prefix(DEV)?.to_owned(), *value));
    let metrics: BTreeMap<String, f64> = trained.evaluation.values.iter().filter_map(on_dev).collect();
    Ok(Ended::Finished(TrialReport::Finetune(FinetuneReport {
        steps: trained.state.step,
        trained_seconds: trained.state.trained_seconds,
        score: trained.evaluation.headline,
        metrics,
        selection_score: trained.evaluation.value(SELECTION),
        majority_score: training.majority_score(),
        // No checkpoint remains to be compared, so the last link of the chain covers the weights and the
        // optimiser's averages themselves.
        digest: hex::encode(Sha256::digest(trained.state.chain + &trained.final_digest)),
        predictions: write_predictions(&training, &attempt.out.join(PREDICTIONS))?,
    })))
}

/// Writes the answers to each test file of the task into one file under `folder`.
fn write_predictions(training: &Finetuning, folder: &Path) -> Result<Vec<PredictionFile>, TrainerError> {
    fs::create_dir_all(folder).map_err(TrainerError::io(folder))?;
    let write = |(set, text): (&recipe::task::TestSet, String)| {
        let path = folder.join(set.answers);
        fs::write(&path, &text).map_err(TrainerError::io(&path))?;
        Ok(PredictionFile {
            name: set.answers.to_owned(),
            rows: text.lines().skip(1).count() as u64,
            sha256: hex::encode(Sha256::digest(&text)),
            bytes: text.len() as u64,
        })
    };
    training.answers().into_iter().map(write).collect()
}
