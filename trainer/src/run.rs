//! `lamina-trainer run`: reads the recipe and hands it to its stage.

use std::fs;
use std::sync::atomic::AtomicBool;

use recipe::{Event, Recipe, Stage, TrialSpec};
use serde_json::Value;

use crate::attempt::{Attempt, Ended};
use crate::checkpoint;
use crate::emit::Emitter;
use crate::failure::{TrainerError, caught};
use crate::options::Options;
use crate::origin;
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
    let spec = read_spec(options)?;
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

fn read_spec(options: &Options) -> Result<TrialSpec, TrainerError> {
    let path = &options.recipe;
    let text = fs::read(path).map_err(TrainerError::io(path))?;
    let syntax = |source| TrainerError::RecipeSyntax { path: path.clone(), source };
    let mut value: Value = serde_json::from_slice(&text).map_err(syntax)?;
    let spec: TrialSpec = if origin::complete(&mut value, options)? {
        serde_json::from_value(value).map_err(syntax)?
    } else {
        // The text is read once more, because an error of a value has neither line nor column.
        serde_json::from_slice(&text).map_err(syntax)?
    };
    let problems = spec.validate();
    if problems.is_empty() { Ok(spec) } else { Err(TrainerError::InvalidRecipe { path: path.clone(), problems }) }
}
