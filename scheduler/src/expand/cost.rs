//! The cost of trials in FLOPs.

use recipe::{ImageObjective, Model, Pretrain, Stage};

use super::plan::{ArmPlan, Datasets, NewTrial, Plan, PlannedTrials};
use crate::dataset::{DatasetFacts, Scan};
use crate::job::{ArmSpec, JobSpec, VocabularyChoice};

/// The number of outputs of a model's head: tokens of the vocabulary, classes or levels of intensity.
pub(super) fn head_outputs(spec: &JobSpec, datasets: &Datasets) -> u64 {
    let facts = |scan: &Option<Scan>| scan.as_ref().map(|scan| scan.facts.clone());
    match (spec.images, facts(&datasets.corpus), spec.vocabulary(), facts(&datasets.vocabulary)) {
        (Some(rule), Some(DatasetFacts::Images { classes, .. }), _, _) => rule.outputs(classes).into(),
        (None, _, Some(VocabularyChoice::Train(vocabulary)), _) => vocabulary.train.into(),
        (None, _, _, Some(DatasetFacts::Vocabulary { tokens })) => tokens,
        _ => 0,
    }
}

/// FLOPs of a training step over FLOPs of a forward pass: the backward pass costs twice as much as the forward pass.
pub(super) const TRAINING: f64 = 3.0;

/// FLOPs per second of a nominal device, by which the steps of a budget in seconds are estimated before the trial runs.
pub(super) const NOMINAL_FLOPS: f64 = 1e11;

pub(super) struct Cost {
    pub steps: u64,
    /// Expected FLOPs with layer drop.
    pub flops: f64,
    pub encoder_saving: f64,
    pub flop_saving: f64,
}

/// The expected cost of one pre-train trial: its encoder at every position, and its head with `head_outputs` outputs at
/// the predicted positions.
pub(super) fn pretrain_cost(recipe: &Pretrain, head_outputs: u64) -> Cost {
    let (model, length) = (&recipe.model, u64::from(recipe.length));
    let encoder = |model: &Model| f64::from(model.blocks) * model.block_flops(length);
    let generator = recipe.objective.electra.map(|electra| electra.generator(model));
    let masked = recipe.objective.mean_rate() * f64::from(recipe.length);
    let label = 2.0 * f64::from(model.hidden) * head_outputs as f64;
    let head = match recipe.images {
        None => masked * generator.as_ref().unwrap_or(model).head_flops(head_outputs),
        Some(ImageObjective::Classifier { .. }) => label,
        Some(ImageObjective::Pixels { .. }) => f64::from(recipe.length) * label,
    };
    let per_sequence = TRAINING * f64::from(recipe.batch);
    let encoder = per_sequence * (encoder(model) + generator.as_ref().map_or(0.0, encoder));
    let head = per_sequence * head;
    let encoder_saving = recipe.encoder_saving();
    let saved = encoder_saving * encoder;
    let per_step = encoder + head - saved;
    let steps = match recipe.seconds {
        None => recipe.steps,
        Some(seconds) => ((seconds * NOMINAL_FLOPS / per_step).ceil() as u64).clamp(1, recipe.steps),
    };
    Cost { steps, flops: per_step * steps as f64, encoder_saving, flop_saving: saved / (encoder + head) }
}

pub(super) fn plan(spec: &JobSpec, trials: &[NewTrial], arms: &[(&ArmSpec, &Pretrain)], head_outputs: u64) -> Plan {
    let count = |stage| trials.iter().filter(|trial| trial.stage() == stage).count() as u64;
    Plan {
        trials: PlannedTrials {
            timing: count(Stage::Timing),
            pretrain: count(Stage::Pretrain),
            finetune: count(Stage::Finetune),
            probe: count(Stage::Probe),
        },
        steps: trials.iter().map(|trial| trial.total_steps).sum(),
        flops: trials.iter().map(|trial| trial.work).sum(),
        arms: spec
            .arms
            .iter()
            .map(|arm| {
                let none = ArmPlan {
                    name: arm.name.clone(),
                    pretrain_flops: 0.0,
                    encoder_saving: 0.0,
                    flop_saving: 0.0,
                    theta_limit: None,
                };
                let Some((_, recipe)) = arms.iter().find(|(other, _)| other.name == arm.name) else { return none };
                let Cost { flops, encoder_saving, flop_saving, .. } = pretrain_cost(recipe, head_outputs);
                let theta_limit = recipe.layer_drop.map(|drop| drop.theta_limit);
                ArmPlan { pretrain_flops: flops, encoder_saving, flop_saving, theta_limit, ..none }
            })
            .collect(),
    }
}
