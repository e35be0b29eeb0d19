//! A job becomes trials: one for timing; arms x pre-train seeds; each of these, and each arm that starts from a published
//! checkpoint, x tasks x kept blocks x learning rates x fine-tune seeds.
//!
//! Seed n means the same draws in every arm, so that arms can be compared seed by seed.

use std::collections::BTreeMap;

use recipe::stage::MOST_STEPS;
use recipe::{Dataset, Pretrain, Problem, Published, Recipe, Seeds, Size, Source, Stage, Task, TrialSpec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dataset::{DatasetFacts, Scan};
use crate::job::{ArmSpec, JobSpec};

mod check;
mod cost;
mod finetune;
mod recipes;
pub use check::check;
use cost::{outputs, plan, pretrain_cost};
use finetune::Origin;
use recipes::{budget, pretrain, probe_trial, published_probe, timing_trial};
pub use recipes::{reference_steps, settle};

/// The registered datasets that a job names.
#[derive(Debug, Clone, PartialEq)]
pub struct Datasets {
    /// Of text or of images. Absent where no arm pre-trains and nothing is probed.
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

/// The trials of `spec` on these datasets, in the order in which they are to be served, and what they cost.
pub fn expand(spec: &JobSpec, datasets: &Datasets) -> Result<Expansion, Vec<Problem>> {
    let mut problems = check::problems(spec, Some(datasets));
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
    let published = match published(spec, datasets) {
        Ok(published) => published,
        Err(found) => {
            // What the arms that pre-train do not allow either is wrong once.
            let new = found.into_iter().filter(|problem| !problems.contains(problem)).collect::<Vec<_>>();
            problems.extend(new);
            Vec::new()
        }
    };
    let (Some(size), true) = (spec.model.size(), problems.is_empty()) else { return Err(problems) };
    let outputs = outputs(spec, datasets);
    let recipe = |arm| {
        let mut recipe = pretrain(spec, arm, size, Some(datasets));
        if let Some(seconds) = spec.pretrain.reference_seconds {
            // A guess, until the timing trial has ended.
            let open_ended = Pretrain { seconds: Some(seconds), steps: MOST_STEPS, ..recipe.clone() };
            budget(&mut recipe, &spec.pretrain, pretrain_cost(&open_ended, outputs).steps);
        }
        recipe
    };
    let arms: Vec<(&ArmSpec, Pretrain)> = spec.pretraining_arms().map(|arm| (arm, recipe(arm))).collect();
    let mut trials = Vec::new();
    if let (Some(timing), false) = (&spec.timing, arms.is_empty()) {
        trials.push(timing_trial(timing, &arms, outputs));
    }
    for (arm, recipe) in &arms {
        for seed in 0..spec.pretrain.seeds {
            let cost = pretrain_cost(recipe, outputs);
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
        let origins: Vec<Origin> = pretrained.chain(published.clone()).collect();
        for origin in &origins {
            trials.extend(finetune::trials(glue, &spec.pretrain, data, origin));
        }
    }
    trials.extend(probes(spec, &trials, &published, size, datasets));
    let plan = plan(spec, &trials, &arms, outputs);
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
        let of_glue = spec.glue.iter().flat_map(|glue| finetune::problems(glue, &spec.pretrain, &source));
        for problem in of_glue.chain(probe_problems(spec, index, &source, datasets)) {
            // What several checkpoints do not allow is wrong once.
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        origins.push(Origin { arm: arm.name.clone(), source, seeds: Seeds::default(), waits_for: None });
    }
    if problems.is_empty() { Ok(origins) } else { Err(problems) }
}

/// The probes of all checkpoints that there are or will be.
fn probes(spec: &JobSpec, trials: &[NewTrial], published: &[Origin], size: Size, datasets: &Datasets) -> Vec<NewTrial> {
    let Some(probe) = spec.probe else { return Vec::new() };
    let made_here = trials.iter().enumerate().filter_map(|(index, source)| probe_trial(probe, index, source));
    let published = published.iter().filter_map(|origin| {
        let arm = spec.arms.iter().find(|arm| arm.name == origin.arm)?;
        let Source::Published(published) = &origin.source else { return None };
        Some(published_probe(spec, probe, arm, published, size, datasets))
    });
    made_here.chain(published).collect()
}

/// Why the published checkpoint of the arm at `index` cannot be probed.
fn probe_problems(spec: &JobSpec, index: usize, source: &Source, datasets: &Datasets) -> Vec<Problem> {
    let (Some(probe), Some(size), Source::Published(published)) = (spec.probe, spec.model.size(), source) else {
        return Vec::new();
    };
    let trial = published_probe(spec, probe, &spec.arms[index], published, size, datasets);
    let in_submission = |Problem { pointer, message }: Problem| {
        let pointer = match pointer.strip_prefix("/from") {
            None => format!("/probe{pointer}"),
            Some(inner) if inner.starts_with("/model") => format!("/arms/{index}/checkpoint"),
            Some(inner) => format!("/pretrain{inner}"),
        };
        Problem { pointer, message }
    };
    trial.spec.recipe.validate().into_iter().map(in_submission).collect()
}

#[cfg(test)]
mod tests;
