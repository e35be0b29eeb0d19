//! Checks of a submission as it is written. The recipes that are made from it have checks of their own.

use recipe::nearest::did_you_mean;
use recipe::problem::{Pointers, Problems};
use recipe::seeds::is_held_out;
use recipe::{ImageObjective, Size, Task};

use super::plan::{Datasets, PlannedTrials};
use super::recipes::length;
use crate::dataset::DatasetFacts;
use crate::job::limits::{LONGEST_NAME, MOST_ARMS, MOST_KEEPS, MOST_LEARNING_RATES, MOST_SEEDS, MOST_TRIALS};
use crate::job::{ArmSpec, GlueSpec, JobSpec, ModelChoice, PretrainSpec, VocabularyChoice};

/// Notes what there is too much of. This comes before every other check, because those compare items with each other
/// and build their recipes.
pub(super) fn check_size(problems: &mut Problems, spec: &JobSpec) {
    problems.bound("arms", spec.arms.len(), MOST_ARMS);
    if let Some(glue) = &spec.glue {
        problems.within("glue", |problems| {
            problems.bound("tasks", glue.tasks.len(), Task::ALL.len());
            problems.bound("keep", glue.keep.all().len(), MOST_KEEPS);
            problems.bound("learning_rates", glue.learning_rates.len(), MOST_LEARNING_RATES);
        });
    }
    let trials = at_most(spec);
    problems.require(trials <= MOST_TRIALS, "", || {
        format!("the job has {trials} trials: at most {MOST_TRIALS} are allowed in one job")
    });
}

/// Notes the reasons to refuse `spec` that need none of its recipes.
pub(super) fn check(problems: &mut Problems, spec: &JobSpec, datasets: &Datasets) {
    check_name(problems, "name", &spec.name);
    check_dataset_names(problems, spec);
    problems.within("rules", |problems| spec.rules.check(problems));
    if let ModelChoice::Named(name) = &spec.model
        && Size::named(name).is_none()
    {
        let known: Vec<&str> = Size::NAMED.iter().map(|(name, _)| *name).collect();
        problems.add("model", format!("there is no size {name:?}: there are {}", known.join(", ")));
    }
    check_arms(problems, spec);
    problems.within("pretrain", |p| {
        check_seeds(p, spec.pretrain.seeds);
        check_reference(p, spec);
    });
    if let Some(glue) = &spec.glue {
        problems.within("glue", |p| check_glue(p, glue, datasets));
    }
    problems.require(spec.images.is_none() || spec.glue.is_none(), "glue", || {
        "a GLUE task reads text: leave `glue` out of a job with `images`".into()
    });
    check_images(problems, spec, datasets);
}

/// Refuses what cannot be the name of a dataset, before it is looked up.
fn check_dataset_names(problems: &mut Problems, spec: &JobSpec) {
    check_name(problems, "corpus", &spec.corpus);
    if let Some(VocabularyChoice::Named(name)) = &spec.vocabulary {
        check_name(problems, "vocabulary", name);
    }
    if let Some(glue) = &spec.glue {
        problems.within("glue", |problems| check_name(problems, "dataset", &glue.dataset));
    }
}

fn check_name(problems: &mut Problems, field: &str, name: &str) {
    let fits = !name.trim().is_empty() && name.chars().count() <= LONGEST_NAME && !name.chars().any(char::is_control);
    problems.require(fits, field, || {
        format!("a name has 1 to {LONGEST_NAME} characters, is not blank and has no control characters")
    });
}

fn check_arms(problems: &mut Problems, spec: &JobSpec) {
    problems.require(!spec.arms.is_empty(), "arms", || "a job needs at least one arm".into());
    problems.within("arms", |problems| {
        for (index, arm) in spec.arms.iter().enumerate() {
            problems.within(index, |problems| {
                check_name(problems, "name", &arm.name);
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
        problems.require(spec.arms.iter().any(|arm| arm.name == *baseline), "baseline", || no_arm(spec, baseline));
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

/// The settings that the registered images do not allow.
fn check_images(problems: &mut Problems, spec: &JobSpec, datasets: &Datasets) {
    let corpus = datasets.corpus.as_ref().map(|scan| &scan.facts);
    let (Some(rule), Some(&DatasetFacts::Images { shape, classes, train, test })) = (spec.images, corpus) else {
        return;
    };
    let share = spec.pretrain.held_out;
    problems.within("pretrain", |problems| {
        for (is_valid, part) in [(false, "training"), (true, "validation")] {
            let is_filled = test > 0 || (0..train).any(|index| is_held_out(index, share) == is_valid);
            problems
                .require(is_filled, "held_out", || format!("{share}: of {train} images, none is in the {part} part"));
        }
    });
    let pointers = Pointers::default().part("/length", "/pretrain/length");
    problems.assembled(&pointers, |p| rule.check_shape(shape, length(spec, datasets), p));
    problems.require(classes > 1 || !matches!(rule, ImageObjective::Classifier { .. }), "corpus", || {
        "all images have the same class: a classifier needs at least two classes".into()
    });
}

fn check_checkpoint(problems: &mut Problems, spec: &JobSpec, arm: &ArmSpec) {
    check_name(problems, "checkpoint", arm.checkpoint.as_deref().unwrap_or_default());
    problems.require(spec.glue.is_some() || spec.probe.is_some(), "checkpoint", || {
        "a checkpoint needs `glue` or `probe` in the job: without them there is nothing to do with it".into()
    });
    problems.require(spec.images.is_none(), "checkpoint", || "a model of the BERT family reads no images".into());
    for field in arm.pretraining_settings() {
        problems.add(field, "an arm that starts from a checkpoint is not pre-trained: leave this out");
    }
}

fn check_reference(problems: &mut Problems, spec: &JobSpec) {
    let PretrainSpec { reference_seconds: Some(seconds), steps, seconds: wall, .. } = &spec.pretrain else { return };
    let field = "reference_seconds";
    problems.require(*seconds > 0.0 && seconds.is_finite(), field, || {
        format!("{seconds} seconds: a positive number is needed")
    });
    problems.require(steps.is_none() && wall.is_none(), field, || {
        "a budget has one unit: leave `steps` and `seconds` out".into()
    });
    problems.require(spec.timing.is_some(), field, || {
        "the time of a step comes from the timing trial: give the job `timing`".into()
    });
}

fn check_match(problems: &mut Problems, spec: &JobSpec, arm: &ArmSpec, name: &str) {
    problems.require(arm.layer_drop.is_some(), "match", || {
        "a match solves for the theta limit of layer drop: give the arm `layer_drop`".into()
    });
    let target = spec.arms.iter().find(|other| other.name == name);
    let has_gamma = |arm: &ArmSpec| arm.layer_drop.is_some_and(|drop| drop.gamma.is_some());
    let depends_on_steps = has_gamma(arm) || target.is_some_and(has_gamma);
    problems.require(spec.pretrain.reference_seconds.is_none() || !depends_on_steps, "match", || {
        "with a gamma per step the saving depends on the number of steps, which the timing trial decides: leave gamma out \
         (its default is 100/T)"
            .into()
    });
    problems.within("match", |problems| {
        problems.require(target.is_some(), "arm", || no_arm(spec, name));
        problems.require(target.is_none_or(ArmSpec::pretrains), "arm", || {
            format!("{name:?} starts from a published checkpoint: it has no FLOPs to match")
        });
        problems.require(target.is_none_or(|target| target.matched.is_none()), "arm", || {
            format!("{name:?} is matched itself: name the arm that it is matched to")
        });
        // The match equals the savings of the encoders. With another objective, the rest of a step has another cost.
        let objective = |arm: &ArmSpec| arm.objective.unwrap_or(spec.pretrain.objective);
        problems.require(target.is_none_or(|target| objective(target) == objective(arm)), "arm", || {
            format!("{name:?} has another objective, and layer drop alone cannot make their FLOPs equal")
        });
    });
}

fn check_seeds(problems: &mut Problems, seeds: u32) {
    problems.require((1..=MOST_SEEDS).contains(&seeds), "seeds", || {
        format!("{seeds} seeds: 1 to {MOST_SEEDS} are allowed")
    });
}

fn check_glue(problems: &mut Problems, glue: &GlueSpec, datasets: &Datasets) {
    check_seeds(problems, glue.seeds);
    problems.require(!glue.tasks.is_empty(), "tasks", || "name at least one task".into());
    problems.within("tasks", |problems| {
        for (index, name) in glue.tasks.iter().enumerate() {
            problems.require(Task::named(name).is_some(), index, || {
                let known = Task::ALL.map(Task::name);
                format!("there is no task {name:?}: there are {}{}", known.join(", "), did_you_mean(name, known))
            });
            problems.require(!glue.tasks[..index].contains(name), index, || format!("{name} is named twice"));
            if let (Some(task), Some(DatasetFacts::Glue { examples })) =
                (Task::named(name), datasets.glue.as_ref().map(|scan| &scan.facts))
            {
                problems.require(examples.contains_key(&task), index, || {
                    let dataset = &glue.dataset;
                    format!("the dataset {dataset:?} does not hold both parts, train and dev, of the task {name}")
                });
            }
        }
    });
    distinct(problems, "learning_rates", "rate", &glue.learning_rates);
    distinct(problems, "keep", "choice of blocks", glue.keep.all());
}

/// Requires a list with at least one item and no item twice.
fn distinct<T: PartialEq + std::fmt::Display>(problems: &mut Problems, field: &str, what: &str, list: &[T]) {
    problems.require(!list.is_empty(), field, || format!("name at least one {what}"));
    problems.within(field, |problems| {
        for (index, item) in list.iter().enumerate() {
            problems.require(!list[..index].contains(item), index, || format!("{item} is named twice"));
        }
    });
}

/// A bound on the number of trials that also holds for the recipes, which are built even if there are no seeds to run
/// them with.
fn at_most(spec: &JobSpec) -> u64 {
    let mut seeded = spec.clone();
    seeded.pretrain.seeds = seeded.pretrain.seeds.max(1);
    if let Some(glue) = &mut seeded.glue {
        glue.seeds = glue.seeds.max(1);
    }
    planned(&seeded).total()
}

/// The number of trials of each stage, computed without making them.
pub(super) fn planned(spec: &JobSpec) -> PlannedTrials {
    let product = |factors: &[usize]| factors.iter().fold(1u64, |all, &n| all.saturating_mul(n as u64));
    let arms = spec.pretraining_arms().count();
    let pretrain = product(&[arms, spec.pretrain.seeds as usize]);
    let published = (spec.arms.len() - arms) as u64;
    let finetune = spec.glue.as_ref().map_or(0, |glue| {
        let origins = pretrain.saturating_add(published);
        let keeps = glue.keep.all().len();
        origins.saturating_mul(product(&[glue.tasks.len(), keeps, glue.learning_rates.len(), glue.seeds as usize]))
    });
    let probe = if spec.probe.is_some() { pretrain.saturating_add(published) } else { 0 };
    PlannedTrials { timing: u64::from(spec.timing.is_some() && arms > 0), pretrain, finetune, probe }
}

fn no_arm(spec: &JobSpec, name: &str) -> String {
    format!("no arm is called {name:?}{}", did_you_mean(name, spec.arms.iter().map(|arm| arm.name.as_str())))
}
