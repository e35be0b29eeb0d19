//! The fine-tune trials of a job: checkpoints x tasks x kept blocks x learning rates x seeds.

use recipe::finetune::selection_size;
use recipe::problem::Problems;
use recipe::{Algorithm, Dataset, Finetune, LearningRate, Optimizer, Recipe, Seeds, Source, Task, TrialSpec};

use super::cost::TRAINING;
use super::plan::NewTrial;
use super::pointers;
use crate::dataset::{DatasetFacts, Scan};
use crate::job::{GlueSpec, PretrainSpec};

/// A checkpoint that fine-tune trials start from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) arm: String,
    /// The seeds of the pre-train trial that makes the checkpoint; 0 for a published one.
    pub(super) seeds: Seeds,
    /// Place of that trial in the expansion; absent for a published checkpoint.
    pub(super) waits_for: Option<usize>,
}

/// The fine-tune recipes from the checkpoints of one arm, in the order in which they are to be served. `from_seeds` is
/// still to be set.
pub(super) fn recipes(glue: &GlueSpec, settings: &PretrainSpec, data: Option<&Scan>, source: &Source) -> Vec<Finetune> {
    let tasks = glue.tasks.iter().filter_map(|name| Task::named(name));
    let choices = tasks.flat_map(|task| {
        let keeps = glue.keep.all().iter();
        keeps.flat_map(move |keep| glue.learning_rates.iter().map(move |peak| (task, *keep, *peak)))
    });
    // Optimiser and precision are the job's, so that every arm is fine-tuned alike; the algorithm is always AdamW.
    let recipe = |(task, keep, peak)| Finetune {
        from: source.clone(),
        from_seeds: Seeds::default(),
        keep,
        selection: glue.selection,
        task,
        glue: Dataset { name: glue.dataset.clone(), digest: data.map(|data| data.digest.clone()) },
        epochs: glue.epochs,
        batch: glue.batch,
        length: glue.length,
        learning_rate: LearningRate { peak, warmup: glue.warmup, decay: recipe::Decay::Linear },
        optimizer: Optimizer { algorithm: Algorithm::AdamW, ..settings.optimizer },
        precision: settings.precision,
    };
    choices.map(recipe).collect()
}

/// Notes the problems of these recipes, except for those of their pre-training.
pub(super) fn check(problems: &mut Problems, glue: &GlueSpec, recipes: &[Finetune]) {
    let position = |recipe: &Finetune| {
        let keep = glue.keep.all().iter().position(|keep| *keep == recipe.keep).unwrap_or(0);
        let rate = glue.learning_rates.iter().position(|peak| *peak == recipe.learning_rate.peak).unwrap_or(0);
        (keep, rate)
    };
    // The settings do not depend on the task, so the recipes of the first one stand for all.
    for recipe in recipes.iter().take_while(|recipe| recipe.task == recipes[0].task) {
        let (keep, rate) = position(recipe);
        problems.assembled(&pointers::of_finetune(glue, keep, rate), |p| recipe.check(p));
    }
}

/// The trials from one checkpoint, made from the recipes of its arm.
pub(super) fn trials(glue: &GlueSpec, data: &Scan, recipes: &[Finetune], origin: &Origin) -> Vec<NewTrial> {
    let mut trials = Vec::new();
    for recipe in recipes {
        let recipe = Finetune { from_seeds: origin.seeds, ..recipe.clone() };
        let total_steps = steps(glue, data, recipe.task);
        let model = recipe.from.model();
        let blocks = recipe.keep.kept(model.blocks).count() as f64;
        let sequences = total_steps as f64 * f64::from(glue.batch);
        let work = TRAINING * sequences * blocks * model.block_flops(glue.length.into());
        trials.extend((0..u64::from(glue.seeds)).map(|seed| NewTrial {
            arm: Some(origin.arm.clone()),
            task: Some(recipe.task),
            learning_rate: Some(recipe.learning_rate.peak),
            spec: TrialSpec {
                recipe: Recipe::Finetune(recipe.clone()),
                seeds: Seeds { data: seed, dropout: seed, head: seed, ..origin.seeds },
            },
            waits_for: origin.waits_for,
            work,
            total_steps,
        }));
    }
    trials
}

fn steps(glue: &GlueSpec, data: &Scan, task: Task) -> u64 {
    let examples = match &data.facts {
        DatasetFacts::Glue { examples } => examples.get(&task).copied().unwrap_or(0),
        _ => 0,
    };
    let examples = examples - glue.selection.map_or(0, |share| selection_size(examples, share));
    (u64::from(glue.epochs) * examples.div_ceil(u64::from(glue.batch.max(1)))).max(1)
}
