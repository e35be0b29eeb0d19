//! The fine-tune trials of a job: what they start from x tasks x kept blocks x learning rates x seeds.

use recipe::finetune::set_apart;
use recipe::problem::Problems;
use recipe::{
    Algorithm, Dataset, Finetune, Keep, LearningRate, Optimizer, Problem, Recipe, Seeds, Source, Task, TrialSpec,
};

use super::NewTrial;
use super::check::check_seeds;
use super::cost::TRAINING;
use crate::dataset::{DatasetFacts, Scan};
use crate::job::{GlueSpec, KeepChoice, PretrainSpec};

/// A checkpoint that fine-tune trials start from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) arm: String,
    pub(super) source: Source,
    /// Of the pre-train trial that makes it; 0 for a published one.
    pub(super) seeds: Seeds,
    /// Place in the expansion of that trial.
    pub(super) waits_for: Option<usize>,
}

impl Origin {
    /// The checkpoint that a trial makes, if it pre-trains.
    pub(super) fn of(index: usize, trial: &NewTrial) -> Option<Self> {
        let (Recipe::Pretrain(recipe), Some(arm)) = (&trial.spec.recipe, &trial.arm) else { return None };
        let source = Source::Pretrained(Box::new(recipe.clone()));
        Some(Self { arm: arm.clone(), source, seeds: trial.spec.seeds, waits_for: Some(index) })
    }
}

/// What is wrong with `glue` whatever its trials start from.
pub(super) fn check(problems: &mut Problems, glue: &GlueSpec) {
    check_seeds(problems, glue.seeds);
    problems.require(!glue.tasks.is_empty(), "tasks", || "name at least one task".into());
    problems.within("tasks", |problems| {
        for (index, name) in glue.tasks.iter().enumerate() {
            let known = || Task::rows().map(|row| row.name).join(", ");
            let field = index.to_string();
            problems.require(Task::named(name).is_some(), &field, || {
                format!("there is no task {name:?}: there are {}", known())
            });
            problems.require(!glue.tasks[..index].contains(name), &field, || format!("{name} is named twice"));
        }
    });
    distinct(problems, "learning_rates", "rate", &glue.learning_rates);
    distinct(problems, "keep", "choice of blocks", glue.keep.all());
}

/// A list has something in it, and nothing twice.
fn distinct<T: PartialEq + std::fmt::Display>(problems: &mut Problems, field: &str, what: &str, list: &[T]) {
    problems.require(!list.is_empty(), field, || format!("name at least one {what}"));
    problems.within(field, |problems| {
        for (index, item) in list.iter().enumerate() {
            problems.require(!list[..index].contains(item), &index.to_string(), || format!("{item} is named twice"));
        }
    });
}

/// What is wrong with `glue` for trials that start from `source`, with pointers into the submission. What is wrong with
/// the source is none of it.
pub(super) fn problems(glue: &GlueSpec, settings: &PretrainSpec, source: &Source) -> Vec<Problem> {
    let mut found: Vec<Problem> = Vec::new();
    for (at_keep, keep) in glue.keep.all().iter().enumerate() {
        for (at_rate, &peak) in glue.learning_rates.iter().enumerate() {
            let dataset = Dataset { name: glue.dataset.clone(), digest: None };
            let recipe = recipe(glue, settings, dataset, source, Seeds::default(), *keep, Task::Rte, peak);
            for Problem { pointer, message } in Recipe::Finetune(recipe).validate() {
                let pointer = match pointer.as_str() {
                    "/learning_rate/peak" => format!("/glue/learning_rates/{at_rate}"),
                    "/learning_rate/warmup" => "/glue/warmup".into(),
                    "/keep" if matches!(glue.keep, KeepChoice::Several(_)) => format!("/glue/keep/{at_keep}"),
                    inner if inner.starts_with("/from") || inner.starts_with("/optimizer") => continue,
                    inner => format!("/glue{inner}"),
                };
                let problem = Problem { pointer, message };
                if !found.contains(&problem) {
                    found.push(problem);
                }
            }
        }
    }
    found
}

/// A fine-tune trial's recipe. Optimiser and precision are the job's, so that every arm is fine-tuned alike; always as
/// AdamW.
#[expect(clippy::too_many_arguments, reason = "what tells the trials of one job apart, each once")]
fn recipe(
    glue: &GlueSpec,
    settings: &PretrainSpec,
    data: Dataset,
    from: &Source,
    from_seeds: Seeds,
    keep: Keep,
    task: Task,
    peak: f64,
) -> Finetune {
    Finetune {
        from: from.clone(),
        from_seeds,
        keep,
        selection: glue.selection,
        task,
        glue: data,
        epochs: glue.epochs,
        batch: glue.batch,
        length: glue.length,
        learning_rate: LearningRate { peak, warmup: glue.warmup, decay: recipe::Decay::Linear },
        optimizer: Optimizer { algorithm: Algorithm::AdamW, ..settings.optimizer },
        precision: settings.precision,
    }
}

/// The trials from one checkpoint, in the order in which they are to be served.
pub(super) fn trials(glue: &GlueSpec, settings: &PretrainSpec, data: &Scan, origin: &Origin) -> Vec<NewTrial> {
    let Origin { arm, source, seeds, waits_for } = origin;
    let model = source.model();
    let mut trials = Vec::new();
    for task in glue.tasks.iter().filter_map(|name| Task::named(name)) {
        let total_steps = steps(glue, data, task);
        for &keep in glue.keep.all() {
            let blocks = keep.kept(model.blocks).count() as f64;
            let sequences = total_steps as f64 * f64::from(glue.batch);
            let work = TRAINING * sequences * blocks * model.block_flops(glue.length.into());
            for &peak in &glue.learning_rates {
                let dataset = Dataset { name: data.name.clone(), digest: Some(data.digest.clone()) };
                let recipe = recipe(glue, settings, dataset, source, *seeds, keep, task, peak);
                trials.extend((0..u64::from(glue.seeds)).map(|seed| {
                    let seeds = Seeds { data: seed, dropout: seed, head: seed, ..*seeds };
                    NewTrial {
                        arm: Some(arm.clone()),
                        task: Some(task),
                        learning_rate: Some(peak),
                        spec: TrialSpec { recipe: Recipe::Finetune(recipe.clone()), seeds },
                        waits_for: *waits_for,
                        work,
                        total_steps,
                    }
                }));
            }
        }
    }
    trials
}

fn steps(glue: &GlueSpec, data: &Scan, task: Task) -> u64 {
    let examples = match &data.facts {
        DatasetFacts::Glue { examples } => examples.get(&task).copied().unwrap_or(0),
        _ => 0,
    };
    let examples = examples - glue.selection.map_or(0, |share| set_apart(examples, share));
    (u64::from(glue.epochs) * examples.div_ceil(u64::from(glue.batch.max(1)))).max(1)
}
