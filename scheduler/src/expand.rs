//! Expansion turns a job into trials, as far as the job asks for them. There is one timing trial, and one pre-train
//! trial per arm and pre-train seed. From each of their checkpoints, and from each published one, there is one
//! fine-tune trial per task, choice of kept blocks, learning rate and fine-tune seed, and one probe.
//!
//! Seed n means the same draws in every arm, so that arms can be compared seed by seed.
//!
//! | module | content |
//! |---|---|
//! | `plan` | The result: trials and their cost. |
//! | `check` | Problems of the submission as it is written. |
//! | `recipes`, `finetune` | The recipes, each made and checked once. |
//! | `pointers` | The pointers into the submission for the problems of a recipe. |
//! | `cost` | FLOPs. |
//! | `estimate` | Hours and memory, from what earlier jobs took. |

use recipe::MOST_STEPS;
use recipe::problem::Problems;
use recipe::{Finetune, Pretrain, Problem, Recipe, Seeds, Size, Source, TrialSpec};

use crate::job::{ArmSpec, JobSpec};

mod check;
mod cost;
mod estimate;
mod finetune;
mod plan;
mod pointers;
mod recipes;

pub use estimate::{Basis, Estimate, FreeSlots, MemoryEstimate, PlannedJob, TimedArm, TimedJob, estimate};
pub use plan::{ArmPlan, Datasets, Expansion, NewTrial, Plan, PlannedTrials};
pub use recipes::{reference_steps, settle};

use cost::{head_outputs, plan, pretrain_cost};
use finetune::Origin;
use recipes::{
    budget, is_sound, match_flops, matched_to, probe_trial, published, published_probe, settings, timing_trial,
};

/// Returns the reasons to refuse `spec` for its size and its names alone, before any of its datasets is looked up.
///
/// # Errors
/// With pointers into the submission.
pub fn check_before_lookup(spec: &JobSpec) -> Result<(), Vec<Problem>> {
    let mut problems = Problems::default();
    check::check_size(&mut problems, spec);
    if problems.is_empty() { Ok(()) } else { Err(problems.into_vec()) }
}

/// Returns the trials of `spec` on these datasets, and their cost.
///
/// # Errors
/// Every reason to refuse the job, with pointers into the submission.
pub fn expand(spec: &JobSpec, datasets: &Datasets) -> Result<Expansion, Vec<Problem>> {
    let mut problems = Problems::default();
    check::check_size(&mut problems, spec);
    if !problems.is_empty() {
        return Err(problems.into_vec());
    }
    check::check(&mut problems, spec, datasets);
    // The recipes of a job need the size of its model.
    let Some(size) = spec.model.size() else { return Err(problems.into_vec()) };
    let head_outputs = head_outputs(spec, datasets);
    let arms: Vec<ArmRecipes<'_>> = spec
        .arms
        .iter()
        .enumerate()
        .filter_map(|(index, arm)| {
            if arm.pretrains() {
                Some(ArmRecipes::pretrained(spec, index, arm, size, datasets, &mut problems))
            } else {
                ArmRecipes::published(spec, index, arm, size, datasets, &mut problems)
            }
        })
        .collect();
    let timed: Vec<(&ArmSpec, &Pretrain)> =
        arms.iter().filter_map(|recipes| Some((recipes.arm, recipes.pretrain()?))).collect();
    let timing = spec.timing.as_ref().map(|settings| recipes::timing(spec, settings, &timed));
    if let Some(timing) = &timing {
        problems.assembled(&pointers::of_timing(), |p| timing.check(p));
    }
    if !problems.is_empty() {
        return Err(problems.into_vec());
    }
    let timing = timing.filter(|_| !timed.is_empty()).map(|timing| timing_trial(timing, head_outputs));
    let trials = trials(spec, datasets, &arms, timing, head_outputs);
    let plan = plan(spec, &trials, &timed, head_outputs);
    Ok(Expansion { trials, plan })
}

/// The recipes of one arm.
struct ArmRecipes<'a> {
    arm: &'a ArmSpec,
    /// The pre-training of the arm, or the published checkpoint in its place.
    source: Source,
    finetunes: Vec<Finetune>,
    /// The probe of a published checkpoint.
    probe: Option<NewTrial>,
}

impl<'a> ArmRecipes<'a> {
    fn pretrained(
        spec: &JobSpec,
        index: usize,
        arm: &'a ArmSpec,
        size: Size,
        datasets: &Datasets,
        problems: &mut Problems,
    ) -> Self {
        let mut recipe = settings(spec, arm, size, datasets);
        let target = matched_to(spec, arm, size, datasets);
        let have_costs = is_sound(&recipe) && target.as_ref().is_none_or(is_sound);
        if let Some(matched) = &arm.matched
            && have_costs
        {
            let is_matched = target.is_some_and(|target| match_flops(&mut recipe, &target));
            // Without the length, a failed match says nothing: the share of a step that each sublayer takes depends on
            // it. The length of images is unknown until they are registered.
            let length_is_known = spec.images.is_none() || spec.pretrain.length.is_some() || datasets.corpus.is_some();
            if !is_matched && length_is_known {
                let message = format!(
                    "this arm cannot save as many FLOPs as {:?} does, at any theta limit; match an arm that saves \
                     fewer, or leave out \"match\"",
                    matched.arm
                );
                problems.within("arms", |problems| problems.within(index, |problems| problems.add("match", message)));
            }
        }
        problems.assembled(&pointers::of_pretrain(index, arm, spec.images.is_some()), |p| recipe.check(p));
        if let Some(seconds) = spec.pretrain.reference_seconds
            && have_costs
        {
            // The number of steps is a guess until the timing trial has ended.
            let open_ended = Pretrain { seconds: Some(seconds), steps: MOST_STEPS, ..recipe.clone() };
            budget(&mut recipe, &spec.pretrain, pretrain_cost(&open_ended, head_outputs(spec, datasets)).steps);
        }
        if let Some(probe) = spec.probe {
            // Only the recipe of this trial is used, so its seeds and the trial that it waits for do not matter.
            let trial = probe_trial(probe, &arm.name, &recipe, Seeds::default(), 0);
            problems.assembled(&pointers::of_probe(), |p| trial.spec.recipe.check(p));
        }
        let source = Source::Pretrained(Box::new(recipe));
        Self { arm, finetunes: finetunes(spec, datasets, &source, problems), source, probe: None }
    }

    /// Returns `None` if the arm's checkpoint is not registered, for which the job is refused.
    fn published(
        spec: &JobSpec,
        index: usize,
        arm: &'a ArmSpec,
        size: Size,
        datasets: &Datasets,
        problems: &mut Problems,
    ) -> Option<Self> {
        let published = published(arm, datasets)?;
        let probe = spec.probe.map(|probe| published_probe(spec, probe, arm, &published, size, datasets));
        let source = Source::Published(Box::new(published));
        let finetunes = finetunes(spec, datasets, &source, problems);
        if let Some(probe) = &probe {
            problems.assembled(&pointers::of_published_probe(index), |p| probe.spec.recipe.check(p));
        }
        Some(Self { arm, source, finetunes, probe })
    }

    fn pretrain(&self) -> Option<&Pretrain> {
        match &self.source {
            Source::Pretrained(recipe) => Some(recipe),
            Source::Published(_) => None,
        }
    }
}

fn finetunes(spec: &JobSpec, datasets: &Datasets, source: &Source, problems: &mut Problems) -> Vec<Finetune> {
    let Some(glue) = &spec.glue else { return Vec::new() };
    let recipes = finetune::recipes(glue, &spec.pretrain, datasets.glue.as_ref(), source);
    finetune::check(problems, glue, &recipes);
    recipes
}

/// Returns the trials in the order in which they are to be served.
fn trials(
    spec: &JobSpec,
    datasets: &Datasets,
    arms: &[ArmRecipes<'_>],
    timing: Option<NewTrial>,
    head_outputs: u64,
) -> Vec<NewTrial> {
    let mut trials: Vec<NewTrial> = timing.into_iter().collect();
    let mut origins = Vec::new();
    let mut probes = Vec::new();
    for recipes in arms {
        let Some(pretrain) = recipes.pretrain() else { continue };
        let name = &recipes.arm.name;
        for seed in 0..spec.pretrain.seeds {
            let cost = pretrain_cost(pretrain, head_outputs);
            let seeds = Seeds::all(seed.into());
            // The pre-train trial is pushed below, so this will be its index.
            let index = trials.len();
            origins.push((recipes, Origin { arm: name.clone(), seeds, waits_for: Some(index) }));
            if let Some(probe) = spec.probe {
                probes.push(probe_trial(probe, name, pretrain, seeds, index));
            }
            trials.push(NewTrial {
                arm: Some(name.clone()),
                task: None,
                learning_rate: None,
                spec: TrialSpec { recipe: Recipe::Pretrain(pretrain.clone()), seeds },
                // The timing trial is the first one.
                waits_for: spec.pretrain.reference_seconds.map(|_| 0),
                work: cost.flops,
                total_steps: cost.steps,
            });
        }
    }
    for recipes in arms.iter().filter(|recipes| recipes.pretrain().is_none()) {
        let arm = recipes.arm.name.clone();
        origins.push((recipes, Origin { arm, seeds: Seeds::default(), waits_for: None }));
        probes.extend(recipes.probe.clone());
    }
    if let (Some(glue), Some(data)) = (&spec.glue, &datasets.glue) {
        for (recipes, origin) in &origins {
            trials.extend(finetune::trials(glue, data, &recipes.finetunes, origin));
        }
    }
    trials.extend(probes);
    trials
}

#[cfg(test)]
mod tests;
