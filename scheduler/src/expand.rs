//! A job becomes trials: one for timing; arms x pre-train seeds; each of these, and each arm that starts from a published
//! checkpoint, x tasks x kept blocks x learning rates x fine-tune seeds.
//!
//! Seed n means the same draws in every arm, so that arms can be compared seed by seed.

use std::collections::BTreeMap;

use recipe::problem::Problems;
use recipe::report::TimingReport;
use recipe::stage::MOST_STEPS;
use recipe::{
    Dataset, Finetune, Model, Norm, Pretrain, Probe, Problem, Published, Recipe, Seeds, Size, Source, Stage, Task,
    Timing, TimingArm, TrialSpec, Vocabulary,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dataset::{DatasetFacts, Scan};
use crate::job::{ArmSpec, JobSpec, ModelChoice, PretrainSpec, ProbeSpec, TimingSpec, VocabularyChoice};
use crate::statistics::mean;

mod finetune;
use finetune::Origin;

/// More is a mistake in the submission.
const MOST_TRIALS: u64 = 100_000;
const LONGEST_NAME: usize = 200;

/// The registered datasets that a job names.
#[derive(Debug, Clone, PartialEq)]
pub struct Datasets {
    /// Absent where no arm pre-trains.
    pub corpus: Option<Scan>,
    /// Absent where the vocabulary is trained.
    pub vocabulary: Option<Scan>,
    /// Absent in a job without fine-tuning.
    pub glue: Option<Scan>,
    /// Published checkpoints, by their names.
    pub checkpoints: BTreeMap<String, Scan>,
}

/// What a job expands into.
#[derive(Debug, Clone, PartialEq)]
pub struct Expansion {
    pub trials: Vec<NewTrial>,
    pub plan: Plan,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewTrial {
    pub arm: Option<String>,
    pub task: Option<Task>,
    /// Peak of a fine-tune trial's learning rate.
    pub learning_rate: Option<f64>,
    pub spec: TrialSpec,
    /// Place in the expansion of the trial that it waits for: of the pre-train trial whose checkpoint it starts from, or of
    /// the timing trial that says how many steps its budget is worth. None for one that starts from a published checkpoint.
    pub waits_for: Option<usize>,
    /// Expected training FLOPs.
    pub work: f64,
    /// For fine-tuning an estimate; the trainer knows better once it has read the data.
    pub total_steps: u64,
}

/// What a job would cost: the answer to a dry run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    pub trials: PlannedTrials,
    /// Optimiser updates of all trials.
    pub steps: u64,
    /// Expected training FLOPs of all trials (a multiply-add is 2; backward counts as twice forward).
    pub flops: f64,
    pub arms: Vec<ArmPlan>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct PlannedTrials {
    pub timing: u64,
    pub pretrain: u64,
    pub finetune: u64,
    pub probe: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArmPlan {
    pub name: String,
    /// Expected training FLOPs of one pre-train trial; with a budget in seconds, those of a device of 100 GFLOP/s. Like the
    /// savings 0 for an arm that starts from a published checkpoint.
    pub pretrain_flops: f64,
    /// Closed-form share of the encoder's work that layer drop or growth saves.
    pub encoder_saving: f64,
    /// The same as a share of all training FLOPs, the head on the masked positions included.
    pub flop_saving: f64,
    /// Where theta goes to, in an arm with layer drop: as written, or as solved to match another arm.
    pub theta_limit: Option<f64>,
}

/// Every reason to refuse `spec` that can be seen without looking at data, with pointers into the submission.
pub fn check(spec: &JobSpec) -> Vec<Problem> {
    let mut problems = Problems::default();
    check_name(&mut problems, &spec.name);
    if let ModelChoice::Named(name) = &spec.model
        && Size::named(name).is_none()
    {
        let known: Vec<&str> = Size::NAMED.iter().map(|(name, _)| *name).collect();
        problems.add("model", format!("there is no size {name:?}: there are {}", known.join(", ")));
    }
    check_arms(&mut problems, spec);
    problems.within("pretrain", |p| {
        check_seeds(p, spec.pretrain.seeds);
        check_reference(p, spec);
    });
    if let Some(glue) = &spec.glue {
        problems.within("glue", |p| finetune::check(p, glue));
    }
    let mut found = problems.into_vec();
    found.extend(recipe_problems(spec));
    if found.is_empty() && planned(spec).total() > MOST_TRIALS {
        let message = format!("{} trials: at most {MOST_TRIALS} are allowed in one job", planned(spec).total());
        found.push(Problem { pointer: String::new(), message });
    }
    found
}

/// The trials of `spec` on these datasets, in the order in which they are to be served, and what they cost.
pub fn expand(spec: &JobSpec, datasets: &Datasets) -> Result<Expansion, Vec<Problem>> {
    let mut problems = check(spec);
    if let (Some(glue), Some(Scan { facts: DatasetFacts::Glue { examples }, .. })) = (&spec.glue, &datasets.glue) {
        for (index, name) in glue.tasks.iter().enumerate() {
            if Task::named(name).is_some_and(|task| !examples.contains_key(&task)) {
                let message = format!(
                    "the dataset {:?} does not hold both parts, train and dev, of the task {name}",
                    glue.dataset
                );
                problems.push(Problem { pointer: format!("/glue/tasks/{index}"), message });
            }
        }
    }
    let size = match &spec.model {
        ModelChoice::Named(name) => Size::named(name),
        ModelChoice::Shape(size) => Some(*size),
    };
    let published = match published(spec, datasets) {
        Ok(published) => published,
        Err(found) => {
            problems.extend(found);
            Vec::new()
        }
    };
    let (Some(size), true) = (size, problems.is_empty()) else { return Err(problems) };
    let tokens = vocabulary_tokens(spec, datasets);
    let recipe = |arm| {
        let mut recipe = pretrain(spec, arm, size, Some(datasets));
        if let Some(seconds) = spec.pretrain.reference_seconds {
            // A guess, until the timing trial has ended.
            let open_ended = Pretrain { seconds: Some(seconds), steps: MOST_STEPS, ..recipe.clone() };
            budget(&mut recipe, &spec.pretrain, pretrain_cost(&open_ended, tokens).steps);
        }
        recipe
    };
    let arms: Vec<(&ArmSpec, Pretrain)> = spec.pretraining_arms().map(|arm| (arm, recipe(arm))).collect();
    let mut trials = Vec::new();
    if let (Some(timing), false) = (&spec.timing, arms.is_empty()) {
        trials.push(timing_trial(timing, &arms, tokens));
    }
    for (arm, recipe) in &arms {
        for seed in 0..spec.pretrain.seeds {
            let cost = pretrain_cost(recipe, tokens);
            trials.push(NewTrial {
                arm: Some(arm.name.clone()),
                task: None,
                learning_rate: None,
                spec: TrialSpec { recipe: Recipe::Pretrain(recipe.clone()), seeds: Seeds::all(seed.into()) },
                // The timing trial comes first.
                waits_for: spec.pretrain.reference_seconds.map(|_| 0),
                work: cost.flops,
                total_steps: cost.steps,
            });
        }
    }
    if let (Some(glue), Some(data)) = (&spec.glue, &datasets.glue) {
        let pretrained = trials.iter().enumerate().filter_map(|(index, trial)| Origin::of(index, trial));
        let origins: Vec<Origin> = pretrained.chain(published).collect();
        for origin in &origins {
            trials.extend(finetune::trials(glue, &spec.pretrain, data, origin));
        }
    }
    if let Some(probe) = spec.probe {
        let probes = trials.iter().enumerate().filter_map(|(index, source)| probe_trial(probe, index, source));
        let probes: Vec<NewTrial> = probes.collect();
        trials.extend(probes);
    }
    let plan = plan(spec, &trials, &arms, tokens);
    Ok(Expansion { trials, plan })
}

impl PlannedTrials {
    pub fn total(&self) -> u64 {
        self.timing.saturating_add(self.pretrain).saturating_add(self.finetune).saturating_add(self.probe)
    }
}

impl NewTrial {
    pub const fn stage(&self) -> Stage {
        self.spec.recipe.stage()
    }
}

fn check_name(problems: &mut Problems, name: &str) {
    let fits = !name.trim().is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control);
    problems.require(fits, "name", || format!("a name has 1 to {LONGEST_NAME} bytes and no control characters"));
}

fn check_arms(problems: &mut Problems, spec: &JobSpec) {
    problems.require(!spec.arms.is_empty(), "arms", || "a job needs at least one arm".into());
    problems.within("arms", |problems| {
        for (index, arm) in spec.arms.iter().enumerate() {
            problems.within(&index.to_string(), |problems| {
                check_name(problems, &arm.name);
                let first = spec.arms.iter().position(|other| other.name == arm.name);
                problems.require(first == Some(index), "name", || format!("two arms are called {:?}", arm.name));
                match &arm.matched {
                    _ if !arm.pretrains() => check_checkpoint(problems, spec, arm),
                    Some(matched) => check_match(problems, spec, arm, &matched.arm),
                    None => {}
                }
            });
        }
    });
    if let Some(baseline) = &spec.baseline {
        problems.require(spec.arms.iter().any(|arm| arm.name == *baseline), "baseline", || {
            format!("no arm is called {baseline:?}")
        });
    }
    let baseline = spec.arms.iter().find(|arm| arm.name == spec.baseline());
    let comparable = baseline.is_none_or(ArmSpec::pretrains) || spec.pretraining_arms().next().is_none();
    problems.require(comparable, "baseline", || {
        format!(
            "{:?} starts from a published checkpoint, and so has neither speed nor loss to compare with: name an arm that \
             pre-trains",
            spec.baseline()
        )
    });
}

fn check_checkpoint(problems: &mut Problems, spec: &JobSpec, arm: &ArmSpec) {
    problems.require(spec.glue.is_some(), "checkpoint", || {
        "there is nothing to do with a checkpoint in a job without `glue`".into()
    });
    for field in arm.of_a_pretraining() {
        problems.add(field, "an arm that starts from a checkpoint is not pre-trained: leave this out");
    }
}

fn check_reference(problems: &mut Problems, spec: &JobSpec) {
    let PretrainSpec { reference_seconds: Some(seconds), steps, seconds: wall, .. } = &spec.pretrain else { return };
    let field = "reference_seconds";
    problems.require(*seconds > 0.0 && seconds.is_finite(), field, || format!("{seconds}: a positive number"));
    problems.require(steps.is_none() && wall.is_none(), field, || "a budget is in one unit".into());
    problems.require(spec.timing.is_some(), field, || "only a timing trial says what a step takes".into());
}

fn check_match(problems: &mut Problems, spec: &JobSpec, arm: &ArmSpec, name: &str) {
    problems.require(arm.layer_drop.is_some(), "match", || {
        "without layer drop there is no theta limit to solve for".into()
    });
    let target = spec.arms.iter().find(|other| other.name == name);
    problems.within("match", |problems| {
        problems.require(target.is_some(), "arm", || format!("no arm is called {name:?}"));
        problems.require(target.is_none_or(ArmSpec::pretrains), "arm", || {
            format!("{name:?} starts from a published checkpoint: it has no FLOPs to match")
        });
        problems.require(target.is_none_or(|target| target.matched.is_none()), "arm", || {
            format!("{name:?} is matched itself: name the arm that it is matched to")
        });
        // What is solved for is the encoder's saving; with another objective, the rest of a step costs something else.
        let objective = |arm: &ArmSpec| arm.objective.unwrap_or(spec.pretrain.objective);
        problems.require(target.is_none_or(|target| objective(target) == objective(arm)), "arm", || {
            format!("{name:?} has another objective: equal FLOPs are not to be had by layer drop alone")
        });
    });
}

fn check_seeds(problems: &mut Problems, seeds: u32) {
    problems.require((1..=10_000).contains(&seeds), "seeds", || format!("{seeds} seeds: 1 to 10000 are allowed"));
}

/// What the recipes' own validation says, with pointers turned from the recipe into the submission.
fn recipe_problems(spec: &JobSpec) -> Vec<Problem> {
    let size = match &spec.model {
        ModelChoice::Shape(size) => *size,
        ModelChoice::Named(name) => match Size::named(name) {
            Some(size) => size,
            None => return Vec::new(),
        },
    };
    let mut found: Vec<Problem> = Vec::new();
    let mut note = |problems: Vec<Problem>, pointer: &dyn Fn(&str) -> Option<String>| {
        for problem in problems {
            if let Some(pointer) = pointer(&problem.pointer) {
                let problem = Problem { pointer, message: problem.message };
                // What all arms share is wrong once.
                if !found.contains(&problem) {
                    found.push(problem);
                }
            }
        }
    };
    for (index, arm) in spec.arms.iter().enumerate().filter(|(_, arm)| arm.pretrains()) {
        let recipe = pretrain(spec, arm, size, None);
        if let Some(matched) = &arm.matched
            && matched_limit(spec, arm, &recipe, size).is_none()
        {
            let message = format!("no theta limit of this arm saves as many FLOPs as {:?} does", matched.arm);
            let problem = Problem { pointer: "/match".into(), message };
            note(vec![problem], &|inner| Some(format!("/arms/{index}{inner}")));
        }
        note(Recipe::Pretrain(recipe.clone()).validate(), &|inner| Some(pretrain_pointer(inner, index, arm)));
        if let Some(ProbeSpec { sequences, shuffles }) = spec.probe {
            let probe = Probe { from: Box::new(recipe.clone()), from_seeds: Seeds::default(), sequences, shuffles };
            let pointer = |inner: &str| (!inner.starts_with("/from")).then(|| format!("/probe{inner}"));
            note(Recipe::Probe(probe).validate(), &pointer);
        }
        let Some(glue) = &spec.glue else { continue };
        note(finetune::problems(glue, &spec.pretrain, &Source::Pretrained(Box::new(recipe))), &|p| Some(p.to_owned()));
    }
    if let Some(timing) = &spec.timing {
        let recipe = Timing {
            arms: vec![],
            rounds: timing.rounds,
            steps_per_turn: timing.steps_per_turn,
            warmup_steps: timing.warmup_steps,
            largest_batch: timing.largest_batch,
        };
        // The arms are checked above.
        note(Recipe::Timing(recipe).validate(), &|inner| (inner != "/arms").then(|| format!("/timing{inner}")));
    }
    found
}

fn pretrain_pointer(inner: &str, index: usize, arm: &ArmSpec) -> String {
    match inner {
        "/model/embedding_norm" => format!("/arms/{index}/embedding_norm"),
        "/vocabulary" => "/vocabulary/train".into(),
        _ if inner.starts_with("/layer_drop") => format!("/arms/{index}{inner}"),
        "/model/order" | "/model/embedding" => inner.replacen("/model", &format!("/arms/{index}"), 1),
        _ if inner.starts_with("/growth") => format!("/arms/{index}{inner}"),
        _ if inner.starts_with("/learning_rate") && arm.learning_rate.is_some() => format!("/arms/{index}{inner}"),
        _ if inner.starts_with("/objective") && arm.objective.is_some() => format!("/arms/{index}{inner}"),
        _ if inner.starts_with("/optimizer") && arm.optimizer.is_some() => format!("/arms/{index}{inner}"),
        _ if inner.starts_with("/micro_batches") && arm.micro_batches.is_some() => format!("/arms/{index}{inner}"),
        _ if inner.starts_with("/model") => inner.into(),
        _ => format!("/pretrain{inner}"),
    }
}

/// What the arms that are not pre-trained start from; or what their fine-tuning does not allow, with pointers.
fn published(spec: &JobSpec, datasets: &Datasets) -> Result<Vec<Origin>, Vec<Problem>> {
    let (mut origins, mut problems) = (Vec::new(), Vec::new());
    for (index, arm) in spec.arms.iter().enumerate() {
        let Some(name) = &arm.checkpoint else { continue };
        let Some((scan, model)) = datasets.checkpoints.get(name).and_then(|scan| Some((scan, scan.model()?))) else {
            let message = format!("no checkpoint is registered under the name {name:?}");
            problems.push(Problem { pointer: format!("/arms/{index}/checkpoint"), message });
            continue;
        };
        let checkpoint = Dataset { name: scan.name.clone(), digest: Some(scan.digest.clone()) };
        let source = Source::Published(Box::new(Published { model: model.clone(), checkpoint }));
        for problem in spec.glue.iter().flat_map(|glue| finetune::problems(glue, &spec.pretrain, &source)) {
            // What several checkpoints do not allow is wrong once.
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        origins.push(Origin { arm: arm.name.clone(), source, seeds: Seeds::default(), waits_for: None });
    }
    if problems.is_empty() { Ok(origins) } else { Err(problems) }
}

/// The recipe of `arm`, at equal FLOPs with the arm that it is matched to. Where that cannot be, [`check`] says so.
fn pretrain(spec: &JobSpec, arm: &ArmSpec, size: Size, datasets: Option<&Datasets>) -> Pretrain {
    let mut recipe = settings(spec, arm, size, datasets);
    if let Some(limit) = matched_limit(spec, arm, &recipe, size)
        && let Some(drop) = &mut recipe.layer_drop
    {
        drop.theta_limit = limit;
    }
    recipe
}

/// The theta limit at which `recipe`, that of `arm`, saves what the arm does that it is matched to; `None` where there is
/// none.
fn matched_limit(spec: &JobSpec, arm: &ArmSpec, recipe: &Pretrain, size: Size) -> Option<f64> {
    let name = &arm.matched.as_ref()?.arm;
    let target = spec.pretraining_arms().find(|other| other.name == *name && other.matched.is_none())?;
    let saving = settings(spec, target, size, None).encoder_saving();
    recipe.layer_drop?.limit_that_saves(saving, &recipe.model, recipe.length, recipe.step_budget())
}

/// The steps that a budget of `seconds` on the device of a timing trial allows `arm`; nothing where the trial did not run
/// the arm.
pub fn reference_steps(seconds: f64, timing: &TimingReport, arm: &str) -> Option<u64> {
    let arm = timing.arms.iter().find(|timed| timed.name == arm)?;
    let per_step = mean(&arm.turns)?;
    Some(((seconds / per_step).round() as u64).clamp(1, MOST_STEPS))
}

/// Gives the pre-train recipe that `trial` runs, or starts from, a budget of `steps` updates.
pub fn settle(spec: &JobSpec, trial: &mut TrialSpec, steps: u64) {
    let recipe = match &mut trial.recipe {
        Recipe::Pretrain(recipe) => recipe,
        Recipe::Finetune(Finetune { from: Source::Pretrained(recipe), .. }) => recipe,
        Recipe::Probe(probe) => &mut probe.from,
        Recipe::Finetune(_) | Recipe::Timing(_) => return,
    };
    budget(recipe, &spec.pretrain, steps);
}

fn budget(recipe: &mut Pretrain, settings: &PretrainSpec, steps: u64) {
    recipe.steps = steps;
    recipe.validate_every = validate_every(settings, steps);
}

fn validate_every(settings: &PretrainSpec, steps: u64) -> u64 {
    settings.validate_every.unwrap_or_else(|| steps.div_ceil(10).max(1))
}

/// The recipe of `arm` as it is written.
fn settings(spec: &JobSpec, arm: &ArmSpec, size: Size, datasets: Option<&Datasets>) -> Pretrain {
    let dataset = |name: &str, scan: Option<&Scan>| Dataset {
        name: name.to_owned(),
        digest: scan.map(|scan| scan.digest.clone()),
    };
    let settings = &spec.pretrain;
    Pretrain {
        model: Model {
            order: arm.order.clone(),
            embedding: arm.embedding,
            embedding_norm: arm.embedding_norm.unwrap_or(true),
            ..Model::of_size(size, arm.norm.unwrap_or(Norm::Pre))
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
        length: settings.length,
        corpus: dataset(&spec.corpus, datasets.and_then(|known| known.corpus.as_ref())),
        vocabulary: Some(match &spec.vocabulary {
            VocabularyChoice::Named(name) => {
                Vocabulary::File { dataset: dataset(name, datasets.and_then(|known| known.vocabulary.as_ref())) }
            }
            VocabularyChoice::Train(vocabulary) => Vocabulary::Trained { size: vocabulary.train },
        }),
        images: None,
        held_out: settings.held_out,
        validate_every: validate_every(settings, settings.steps()),
        validation_sequences: 256,
        divergence: settings.divergence,
        precision: arm.precision.unwrap_or(settings.precision),
        recompute: arm.recompute.unwrap_or(settings.recompute),
        probe: settings.probe,
    }
}

fn timing_trial(timing: &TimingSpec, arms: &[(&ArmSpec, Pretrain)], tokens: u64) -> NewTrial {
    let turns = u64::from(timing.rounds) * u64::from(timing.steps_per_turn + timing.warmup_steps);
    let costs = arms.iter().map(|(_, recipe)| pretrain_cost(recipe, tokens));
    let per_step: f64 = costs.map(|cost| cost.flops / cost.steps as f64).sum();
    let recipe = Timing {
        arms: arms.iter().map(|(arm, recipe)| TimingArm { name: arm.name.clone(), recipe: recipe.clone() }).collect(),
        rounds: timing.rounds,
        steps_per_turn: timing.steps_per_turn,
        warmup_steps: timing.warmup_steps,
        largest_batch: timing.largest_batch,
    };
    NewTrial {
        arm: None,
        task: None,
        learning_rate: None,
        spec: TrialSpec { recipe: Recipe::Timing(recipe), seeds: Seeds::all(0) },
        waits_for: None,
        work: turns as f64 * per_step,
        total_steps: turns * arms.len() as u64,
    }
}

/// The probe of a pre-train trial's checkpoint; none of other trials.
fn probe_trial(ProbeSpec { sequences, shuffles }: ProbeSpec, index: usize, source: &NewTrial) -> Option<NewTrial> {
    let Recipe::Pretrain(from) = &source.spec.recipe else { return None };
    let blocks = f64::from(from.model.blocks);
    // The model as it is, without each block, with each two swapped, in other orders; and the gradient.
    let passes = 2.0 * blocks + f64::from(shuffles) + TRAINING + 1.0;
    let work = passes * f64::from(sequences) * blocks * from.model.block_flops(from.length.into());
    let recipe = Probe { from: Box::new(from.clone()), from_seeds: source.spec.seeds, sequences, shuffles };
    Some(NewTrial {
        arm: source.arm.clone(),
        task: None,
        learning_rate: None,
        spec: TrialSpec { recipe: Recipe::Probe(recipe), seeds: source.spec.seeds },
        waits_for: Some(index),
        work,
        total_steps: 1,
    })
}

fn vocabulary_tokens(spec: &JobSpec, datasets: &Datasets) -> u64 {
    match (&spec.vocabulary, datasets.vocabulary.as_ref().map(|scan| &scan.facts)) {
        (VocabularyChoice::Train(vocabulary), _) => vocabulary.train.into(),
        (VocabularyChoice::Named(_), Some(DatasetFacts::Vocabulary { tokens })) => *tokens,
        (VocabularyChoice::Named(_), _) => 0,
    }
}

/// Forward, and twice as much backward.
const TRAINING: f64 = 3.0;

/// FLOPs per second by which the steps of a budget in seconds are guessed, until a trial says how many they become.
const NOMINAL_FLOPS: f64 = 1e11;

struct Cost {
    steps: u64,
    /// Expected, with layer drop.
    flops: f64,
    encoder_saving: f64,
    flop_saving: f64,
}

/// The expected cost of one pre-train trial: its encoder on every position, its head on the masked ones.
fn pretrain_cost(recipe: &Pretrain, tokens: u64) -> Cost {
    let sequences = f64::from(recipe.batch);
    let length = u64::from(recipe.length);
    let encoder = TRAINING * sequences * f64::from(recipe.model.blocks) * recipe.model.block_flops(length);
    let masked = recipe.objective.mean_rate() * f64::from(recipe.length);
    let generator = recipe.objective.electra.map(|electra| electra.generator(&recipe.model));
    let (encoder, head) = match generator {
        None => (encoder, TRAINING * sequences * masked * recipe.model.head_flops(tokens)),
        Some(generator) => {
            let beside = TRAINING * sequences * f64::from(generator.blocks) * generator.block_flops(length);
            (encoder + beside, TRAINING * sequences * masked * generator.head_flops(tokens))
        }
    };
    let encoder_saving = recipe.encoder_saving();
    let saved = encoder_saving * encoder;
    let per_step = encoder + head - saved;
    let steps = match recipe.seconds {
        None => recipe.steps,
        Some(seconds) => ((seconds * NOMINAL_FLOPS / per_step).ceil() as u64).clamp(1, recipe.steps),
    };
    Cost { steps, flops: per_step * steps as f64, encoder_saving, flop_saving: saved / (encoder + head) }
}

/// The number of trials of each stage, without making them.
fn planned(spec: &JobSpec) -> PlannedTrials {
    let product = |factors: &[usize]| factors.iter().fold(1u64, |all, &n| all.saturating_mul(n as u64));
    let arms = spec.pretraining_arms().count();
    let pretrain = product(&[arms, spec.pretrain.seeds as usize]);
    let finetune = spec.glue.as_ref().map_or(0, |glue| {
        let origins = pretrain.saturating_add((spec.arms.len() - arms) as u64);
        let keeps = glue.keep.all().len();
        origins.saturating_mul(product(&[glue.tasks.len(), keeps, glue.learning_rates.len(), glue.seeds as usize]))
    });
    let probe = if spec.probe.is_some() { pretrain } else { 0 };
    PlannedTrials { timing: u64::from(spec.timing.is_some() && arms > 0), pretrain, finetune, probe }
}

fn plan(spec: &JobSpec, trials: &[NewTrial], arms: &[(&ArmSpec, Pretrain)], tokens: u64) -> Plan {
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
                let Cost { flops, encoder_saving, flop_saving, .. } = pretrain_cost(recipe, tokens);
                let theta_limit = recipe.layer_drop.map(|drop| drop.theta_limit);
                ArmPlan { pretrain_flops: flops, encoder_saving, flop_saving, theta_limit, ..none }
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
