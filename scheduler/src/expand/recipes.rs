//! The recipes of a job's trials.

use recipe::MOST_STEPS;
use recipe::problem::Problems;
use recipe::{
    Dataset, Finetune, Mlm, Model, Norm, Pretrain, Probe, Published, Recipe, Seeds, Size, Source, Timing, TimingArm,
    TrialSpec, Vocabulary,
};

use super::cost::{TRAINING, pretrain_cost};
use super::plan::{Datasets, NewTrial};
use crate::dataset::{DatasetFacts, Scan};
use crate::job::{ArmSpec, JobSpec, PretrainSpec, ProbeSpec, TimingSpec, VocabularyChoice, default_length};

/// True if the recipe can be carried out. Only then has it a cost: the formulas divide by numbers that are checked.
pub(super) fn is_sound(recipe: &Pretrain) -> bool {
    let mut problems = Problems::default();
    recipe.check(&mut problems);
    problems.is_empty()
}

/// The recipe of the arm that `arm` is matched to; `None` if no arm that pre-trains, and is not matched itself, has the
/// name.
pub(super) fn matched_to(spec: &JobSpec, arm: &ArmSpec, size: Size, datasets: &Datasets) -> Option<Pretrain> {
    let name = &arm.matched.as_ref()?.arm;
    let target = spec.pretraining_arms().find(|other| other.name == *name && other.matched.is_none())?;
    Some(settings(spec, target, size, datasets))
}

/// Sets the theta limit of `recipe` so that it saves as many FLOPs as `target`. Both must be sound. Returns false, and
/// leaves the recipe alone, if no limit does.
pub(super) fn match_flops(recipe: &mut Pretrain, target: &Pretrain) -> bool {
    let saving = target.encoder_saving();
    let limit = recipe
        .layer_drop
        .and_then(|drop| drop.limit_that_saves(saving, &recipe.model, recipe.length, recipe.step_budget()));
    if let (Some(drop), Some(limit)) = (&mut recipe.layer_drop, limit) {
        drop.theta_limit = limit;
    }
    limit.is_some()
}

/// The number of steps of `step_seconds` that a budget of `seconds` allows.
pub fn reference_steps(seconds: f64, step_seconds: f64) -> u64 {
    ((seconds / step_seconds).round() as u64).clamp(1, MOST_STEPS)
}

/// Sets the budget of the pre-train recipe that `trial` runs or starts from to `steps` updates.
pub fn settle(spec: &JobSpec, trial: &mut TrialSpec, steps: u64) {
    let recipe = match &mut trial.recipe {
        Recipe::Pretrain(recipe) => recipe,
        Recipe::Finetune(Finetune { from: Source::Pretrained(recipe), .. }) => recipe,
        Recipe::Probe(probe) => &mut probe.from,
        Recipe::Finetune(_) | Recipe::Timing(_) => return,
    };
    budget(recipe, &spec.pretrain, steps);
}

pub(super) fn budget(recipe: &mut Pretrain, settings: &PretrainSpec, steps: u64) {
    recipe.steps = steps;
    recipe.validate_every = validate_every(settings, steps);
}

fn validate_every(settings: &PretrainSpec, steps: u64) -> u64 {
    settings.validate_every.unwrap_or_else(|| steps.div_ceil(10).max(1))
}

/// Tokens per sequence. An image determines their number, once the images are known.
pub(super) fn length(spec: &JobSpec, datasets: &Datasets) -> u32 {
    let corpus = datasets.corpus.as_ref();
    let of_images = match (spec.images, corpus.map(|scan| &scan.facts)) {
        (Some(rule), Some(DatasetFacts::Images { shape, .. })) => rule.tokens(*shape),
        _ => None,
    };
    let of_images = of_images.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
    spec.pretrain.length.or(of_images).unwrap_or_else(default_length)
}

/// The pre-train recipe of `arm` as it is written; its theta limit is not matched yet.
pub(super) fn settings(spec: &JobSpec, arm: &ArmSpec, size: Size, datasets: &Datasets) -> Pretrain {
    let dataset = |name: &str, scan: Option<&Scan>| Dataset {
        name: name.to_owned(),
        digest: scan.map(|scan| scan.digest.clone()),
    };
    let settings = &spec.pretrain;
    let length = length(spec, datasets);
    let model = Model::of_size(size, arm.norm.unwrap_or(Norm::Pre));
    Pretrain {
        model: Model {
            // An image has exactly this many tokens.
            positions: if spec.images.is_some() { length } else { model.positions },
            order: arm.order.clone(),
            embedding: arm.embedding,
            embedding_norm: arm.embedding_norm.unwrap_or(true),
            ..model
        },
        layer_drop: arm.layer_drop,
        growth: arm.growth.clone(),
        objective: arm.objective.unwrap_or(settings.objective),
        optimizer: arm.optimizer.unwrap_or(settings.optimizer),
        learning_rate: arm.learning_rate.unwrap_or(settings.learning_rate),
        steps: settings.steps(),
        seconds: settings.seconds,
        batch: settings.batch,
        micro_batches: arm.micro_batches.unwrap_or(settings.micro_batches),
        length,
        corpus: dataset(&spec.corpus, datasets.corpus.as_ref()),
        vocabulary: spec.vocabulary().map(|choice| match choice {
            VocabularyChoice::Named(name) => Vocabulary::File { dataset: dataset(&name, datasets.vocabulary.as_ref()) },
            VocabularyChoice::Train(vocabulary) => Vocabulary::Trained { size: vocabulary.train },
        }),
        images: spec.images,
        held_out: settings.held_out,
        validate_every: validate_every(settings, settings.steps()),
        validation_sequences: spec.validation_sequences(),
        divergence: settings.divergence,
        precision: arm.precision.unwrap_or(settings.precision),
        recompute: arm.recompute.unwrap_or(settings.recompute),
        probe: settings.probe,
    }
}

/// The timing of `arms`, and of the baseline once more: what is measured between two equal arms is noise.
pub(super) fn timing(spec: &JobSpec, timing: &TimingSpec, arms: &[(&ArmSpec, &Pretrain)]) -> Timing {
    let timed = |name: &str, recipe: &Pretrain| TimingArm { name: name.into(), recipe: recipe.clone(), repeats: None };
    let mut arms: Vec<TimingArm> = arms.iter().map(|(arm, recipe)| timed(&arm.name, recipe)).collect();
    let baseline = arms.iter().find(|arm| arm.name == spec.baseline());
    if let Some(TimingArm { name, recipe, .. }) = baseline.cloned() {
        arms.push(TimingArm { name: name_of_repetition(spec, &name), recipe, repeats: Some(name) });
    }
    Timing {
        arms,
        rounds: timing.rounds,
        steps_per_turn: timing.steps_per_turn,
        warmup_steps: timing.warmup_steps,
        largest_batch: timing.largest_batch,
    }
}

/// The name of the arm that repeats `arm` in a timing trial, which no arm of the job has.
fn name_of_repetition(spec: &JobSpec, arm: &str) -> String {
    let mut name = format!("{arm} (again)");
    while spec.arms.iter().any(|arm| arm.name == name) {
        name.push_str(" (again)");
    }
    name
}

pub(super) fn timing_trial(recipe: Timing, head_outputs: u64) -> NewTrial {
    let total_steps = recipe.total_steps();
    let steps_per_arm = total_steps as f64 / recipe.arms.len() as f64;
    let costs = recipe.arms.iter().map(|arm| pretrain_cost(&arm.recipe, head_outputs));
    let per_step: f64 = costs.map(|cost| cost.flops / cost.steps as f64).sum();
    NewTrial {
        arm: None,
        task: None,
        learning_rate: None,
        spec: TrialSpec { recipe: Recipe::Timing(recipe), seeds: Seeds::all(0) },
        waits_for: None,
        work: steps_per_arm * per_step,
        total_steps,
    }
}

/// The published checkpoint that `arm` starts from; `None` if it is not registered.
pub(super) fn published(arm: &ArmSpec, datasets: &Datasets) -> Option<Published> {
    let scan = datasets.checkpoints.get(arm.checkpoint.as_ref()?)?;
    let checkpoint = Dataset { name: scan.name.clone(), digest: Some(scan.digest.clone()) };
    Some(Published { model: scan.model()?.clone(), checkpoint })
}

/// The probe of the checkpoint of the pre-train trial at `index` of the expansion.
pub(super) fn probe_trial(probe: ProbeSpec, arm: &str, from: &Pretrain, seeds: Seeds, index: usize) -> NewTrial {
    probe_of(probe, Some(arm.to_owned()), from.clone(), None, seeds, Some(index))
}

/// The probe of a published checkpoint on the job's text, with the job's length and masking.
pub(super) fn published_probe(
    spec: &JobSpec,
    probe: ProbeSpec,
    arm: &ArmSpec,
    published: &Published,
    size: Size,
    datasets: &Datasets,
) -> NewTrial {
    let settings = settings(spec, arm, size, datasets);
    let from = Pretrain {
        model: published.model.clone(),
        vocabulary: Some(Vocabulary::File { dataset: published.checkpoint.clone() }),
        objective: Mlm { next_sentence: false, electra: None, ..settings.objective },
        ..settings
    };
    probe_of(probe, Some(arm.name.clone()), from, Some(published.checkpoint.clone()), Seeds::default(), None)
}

fn probe_of(
    ProbeSpec { sequences, shuffles }: ProbeSpec,
    arm: Option<String>,
    from: Pretrain,
    published: Option<Dataset>,
    seeds: Seeds,
    waits_for: Option<usize>,
) -> NewTrial {
    let blocks = f64::from(from.model.blocks);
    // Forward passes: the whole model, without each block, with each two neighbours swapped, with the blocks shuffled.
    // The gradient costs as much as a training step.
    let passes = 2.0 * blocks + f64::from(shuffles) + TRAINING + 1.0;
    let work = passes * f64::from(sequences) * blocks * from.model.block_flops(from.length.into());
    let recipe = Probe { from: Box::new(from), published, from_seeds: seeds, sequences, shuffles };
    NewTrial {
        arm,
        task: None,
        learning_rate: None,
        spec: TrialSpec { recipe: Recipe::Probe(recipe), seeds },
        waits_for,
        work,
        total_steps: 1,
    }
}
