//! A job becomes trials: one timing trial; arms x pre-train seeds; and, from each of their checkpoints and each published
//! one, tasks x kept blocks x learning rates x fine-tune seeds, and a probe.
//!
//! Seed n means the same draws in every arm, so that arms can be compared seed by seed.
//!
//! | module | content |
//! |---|---|
//! | `plan` | The result: trials and their cost. |
//! | `check` | Problems of the submission as it is written. |
//! | `recipes`, `finetune` | The recipes, each made and checked once. |
//! | `places` | Where the problems of a recipe stand in the submission. |
//! | `cost` | FLOPs. |

use recipe::MOST_STEPS;
use recipe::problem::Problems;
use recipe::{Finetune, Pretrain, Problem, Recipe, Seeds, Size, Source, TrialSpec};

use crate::job::{ArmSpec, JobSpec};

mod check;
mod cost;
mod finetune;
mod places;
mod plan;
mod recipes;

pub use plan::{ArmPlan, Datasets, Expansion, NewTrial, Plan, PlannedTrials};
pub use recipes::{reference_steps, settle};

use cost::{outputs, plan, pretrain_cost};
use finetune::Origin;
use recipes::{budget, match_flops, probe_trial, published, published_probe, settings, timing_trial};

/// The reasons to refuse `spec` for its size and its names alone, before any of its datasets is looked up.
///
/// # Errors
/// With pointers into the submission.
pub fn check_before_lookup(spec: &JobSpec) -> Result<(), Vec<Problem>> {
    let mut problems = Problems::default();
    check::check_size(&mut problems, spec);
    if problems.is_empty() { Ok(()) } else { Err(problems.into_vec()) }
}

/// The trials of `spec` on these datasets, and their cost.
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
    let Some(size) = spec.model.size() else { return Err(problems.into_vec()) };
    let outputs = outputs(spec, datasets);
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
    let timed: Vec<(&ArmSpec, &Pretrain)> = arms.iter().filter_map(|arm| Some((arm.arm, arm.pretrain()?))).collect();
    let timing = spec.timing.as_ref().map(|timing| timing_trial(timing, &timed, outputs));
    if let Some(timing) = &timing {
        problems.assembled(&places::of_timing(), |p| timing.spec.recipe.check(p));
    }
    if !problems.is_empty() {
        return Err(problems.into_vec());
    }
    let trials = trials(spec, datasets, &arms, timing.filter(|_| !timed.is_empty()), outputs);
    let plan = plan(spec, &trials, &timed, outputs);
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
        // The share of a step that each sublayer takes depends on the length, which only known images determine.
        let length_is_known = spec.images.is_none() || spec.pretrain.length.is_some() || datasets.corpus.is_some();
        if let Some(matched) = &arm.matched
            && !match_flops(spec, arm, &mut recipe, size, datasets)
            && length_is_known
        {
            let message = format!("no theta limit of this arm saves as many FLOPs as {:?} does", matched.arm);
            problems.within("arms", |problems| problems.within(index, |problems| problems.add("match", message)));
        }
        problems.assembled(&places::of_pretrain(index, arm, spec.images.is_some()), |p| recipe.check(p));
        if let Some(seconds) = spec.pretrain.reference_seconds {
            // The number of steps is a guess until the timing trial has ended.
            let open_ended = Pretrain { seconds: Some(seconds), steps: MOST_STEPS, ..recipe.clone() };
            budget(&mut recipe, &spec.pretrain, pretrain_cost(&open_ended, outputs(spec, datasets)).steps);
        }
        if let Some(probe) = spec.probe {
            let trial = probe_trial(probe, &arm.name, &recipe, Seeds::default(), 0);
            problems.assembled(&places::of_probe(), |p| trial.spec.recipe.check(p));
        }
        let source = Source::Pretrained(Box::new(recipe));
        Self { arm, finetunes: finetunes(spec, datasets, &source, problems), source, probe: None }
    }

    /// `None` if the arm's checkpoint is not registered, for which the job is refused.
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
            problems.assembled(&places::of_published_probe(index), |p| probe.spec.recipe.check(p));
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

/// The trials in the order in which they are to be served.
fn trials(
    spec: &JobSpec,
    datasets: &Datasets,
    arms: &[ArmRecipes<'_>],
    timing: Option<NewTrial>,
    outputs: u64,
) -> Vec<NewTrial> {
    let mut trials: Vec<NewTrial> = timing.into_iter().collect();
    let mut origins = Vec::new();
    let mut probes = Vec::new();
    for arm in arms {
        let Some(recipe) = arm.pretrain() else { continue };
        for seed in 0..spec.pretrain.seeds {
            let cost = pretrain_cost(recipe, outputs);
            let seeds = Seeds::all(seed.into());
            origins.push((arm, Origin { arm: arm.arm.name.clone(), seeds, waits_for: Some(trials.len()) }));
            if let Some(probe) = spec.probe {
                probes.push(probe_trial(probe, &arm.arm.name, recipe, seeds, trials.len()));
            }
            trials.push(NewTrial {
                arm: Some(arm.arm.name.clone()),
                task: None,
                learning_rate: None,
                spec: TrialSpec { recipe: Recipe::Pretrain(recipe.clone()), seeds },
                // The timing trial is the first one.
                waits_for: spec.pretrain.reference_seconds.map(|_| 0),
                work: cost.flops,
                total_steps: cost.steps,
            });
        }
    }
    for arm in arms.iter().filter(|arm| arm.pretrain().is_none()) {
        origins.push((arm, Origin { arm: arm.arm.name.clone(), seeds: Seeds::default(), waits_for: None }));
        probes.extend(arm.probe.clone());
    }
    if let (Some(glue), Some(data)) = (&spec.glue, &datasets.glue) {
        for (arm, origin) in &origins {
            trials.extend(finetune::trials(glue, data, &arm.finetunes, origin));
        }
    }
    trials.extend(probes);
    trials
}

#[cfg(test)]
mod tests;
