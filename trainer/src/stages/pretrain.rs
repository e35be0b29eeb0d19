//! Stage `pretrain`: trains a model from its starting values on text or on images.

use recipe::report::PretrainReport;
use recipe::{Pretrain, TrialReport};

use crate::attempt::{Attempt, Ended};
use crate::emit::Emitter;
use crate::failure::TrainerError;
use crate::inputs;
use crate::objective::VALIDATION_ACCURACY;
use crate::options::Options;
use crate::pretraining::Pretraining;
use crate::train::train;

/// Carries out a pre-training.
///
/// # Errors
/// Bad data, and those of [`train`].
pub fn run(
    recipe: &Pretrain,
    options: &Options,
    attempt: &Attempt<'_>,
    emitter: &mut Emitter,
) -> Result<Ended<TrialReport>, TrainerError> {
    attempt.announce(recipe.steps, emitter)?;
    let material = inputs::material(recipe, "/recipe", options, emitter)?;
    let mut training = Pretraining::new(recipe.clone(), attempt.seeds, material, attempt.device);
    let ended = train(&mut training, attempt, emitter)?;
    Ok(ended.map(|trained| {
        TrialReport::Pretrain(PretrainReport {
            steps: trained.state.step,
            trained_seconds: trained.state.trained_seconds,
            tokens: trained.state.step * u64::from(recipe.batch) * u64::from(recipe.length),
            validation_loss: trained.evaluation.headline,
            guess_loss: Some(training.objective().guess_loss()),
            validation_accuracy: trained.evaluation.value(VALIDATION_ACCURACY),
            digest: trained.state.chain,
            checkpoint: trained.final_digest,
        })
    }))
}
