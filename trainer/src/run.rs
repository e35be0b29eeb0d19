//! `lamina-trainer run`: reads the recipe and hands it to its stage.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use recipe::{Event, Recipe, Stage, TrialSpec};

use crate::attempt::{Attempt, Ended};
use crate::checkpoint;
use crate::emit::Emitter;
use crate::failure::{TrainerError, caught};
use crate::options::Options;
use crate::stages::{finetune, pretrain, probe, timing};

/// Carries out one attempt and emits its events, except for a failure, which the caller emits. When `stop` is set, the
/// attempt writes a checkpoint at the next step boundary and ends.
///
/// # Errors
/// Anything that ends the attempt early; see [`TrainerError`].
pub fn run(options: &Options, stop: &AtomicBool, emitter: &mut Emitter) -> Result<Ended<()>, TrainerError> {
    caught(|| carry_out(options, stop, emitter))
}

fn carry_out(options: &Options, stop: &AtomicBool, emitter: &mut Emitter) -> Result<Ended<()>, TrainerError> {
    let spec = read_spec(&options.recipe)?;
    options.require_inputs(&spec.recipe)?;
    let attempt = Attempt::prepare(options, &spec, stop)?;
    let ended = match &spec.recipe {
        Recipe::Timing(recipe) => timing::run(recipe, options, &attempt, emitter)?,
        Recipe::Pretrain(recipe) => pretrain::run(recipe, options, &attempt, emitter)?,
        Recipe::Finetune(recipe) => finetune::run(recipe, options, &attempt, emitter)?,
        Recipe::Probe(recipe) => probe::run(recipe, options, &attempt, emitter)?,
    };
    let report = match ended {
        Ended::Finished(report) => report,
        Ended::Interrupted { step } => {
            emitter.emit(&Event::Interrupted { step })?;
            return Ok(Ended::Interrupted { step });
        }
    };
    let path = options.out.join("report.json");
    fs::write(&path, serde_json::to_vec_pretty(&report)?).map_err(TrainerError::io(&path))?;
    if spec.recipe.stage() == Stage::Finetune {
        checkpoint::remove_all(&options.out)?;
    }
    emitter.emit(&Event::Finished { report })?;
    Ok(Ended::Finished(()))
}

fn read_spec(path: &Path) -> Result<TrialSpec, TrainerError> {
    let text = fs::read(path).map_err(TrainerError::io(path))?;
    let spec: TrialSpec =
        serde_json::from_slice(&text).map_err(|source| TrainerError::RecipeSyntax { path: path.to_owned(), source })?;
    let problems = spec.validate();
    if problems.is_empty() { Ok(spec) } else { Err(TrainerError::InvalidRecipe { path: path.to_owned(), problems }) }
}
