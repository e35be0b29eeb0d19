//! What a job will take of this fleet: hours and memory, from the timing trials of earlier jobs.

use std::collections::HashMap;

use protocol::id::JobId;
use recipe::report::ArmMemory;
use recipe::{ImageObjective, Model, Precision, Pretrain, Problem, Recipe};
use report::Power;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::cost::{NOMINAL_FLOPS, head_outputs};
use super::plan::{Datasets, Expansion, Plan};
use crate::job::JobSpec;

/// The hours and the memory that a job is expected to need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// Hours on one slot for all trials one after the other: FLOPs over the speed of `basis`.
    pub slot_hours: f64,
    /// The speed by which the hours are computed.
    pub basis: Basis,
    /// Slots of live nodes on which new trials may be placed.
    pub slots: u64,
    /// The memory of the largest of these slots, in bytes; 0 if there is none.
    pub largest_slot_bytes: u64,
    /// Memory of the pre-training of each arm that pre-trains.
    pub memory: Vec<MemoryEstimate>,
    /// What is likely to go wrong, each with a pointer into the job. A job with warnings is accepted.
    pub warnings: Vec<Problem>,
}

/// The answer to a dry run: the cost of a job, and what it will take of this fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlannedJob {
    #[serde(flatten)]
    pub plan: Plan,
    pub estimate: Estimate,
    pub power: Power,
}

/// Where a speed comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Basis {
    /// The steps that an earlier job's timing trial timed, of the arms that are most like those of this job.
    Timed {
        job: JobId,
        /// The model of its device.
        device: String,
        flops_per_second: f64,
    },
    /// No job has been timed yet: the speed is that of a nominal device, so the hours say little.
    Nominal { flops_per_second: f64 },
}

/// The memory of a step with all blocks open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryEstimate {
    pub arm: String,
    pub peak_bytes: u64,
    /// True if an earlier timing trial measured a step of the same shape; false if the sizes of the tensors are added up.
    pub measured: bool,
}

/// An earlier job's timing trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedJob {
    pub job: JobId,
    pub device: String,
    pub flops_per_second: f64,
    pub arms: Vec<TimedArm>,
}

/// An arm of an earlier job's timing trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedArm {
    pub recipe: Pretrain,
    pub memory: Option<ArmMemory>,
}

/// The slots on which new trials may be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FreeSlots {
    pub number: u64,
    pub largest_bytes: u64,
}

/// The estimate for a job, from earlier timed jobs, the newest first.
pub fn estimate(
    spec: &JobSpec,
    datasets: &Datasets,
    expansion: &Expansion,
    timed: &[TimedJob],
    slots: FreeSlots,
) -> Estimate {
    let arms = pretrained(spec, expansion);
    let basis = arms.first().and_then(|arm| nearest(arm.recipe, timed)).map_or(
        Basis::Nominal { flops_per_second: NOMINAL_FLOPS },
        |timed| Basis::Timed { job: timed.job, device: timed.device.clone(), flops_per_second: timed.flops_per_second },
    );
    let (Basis::Timed { flops_per_second, .. } | Basis::Nominal { flops_per_second }) = &basis;
    let slot_hours = expansion.plan.flops / flops_per_second / 3600.0;
    let outputs = head_outputs(spec, datasets);
    let memory: Vec<_> = arms.iter().map(|arm| arm.memory(timed, outputs)).collect();
    let mut warnings = Vec::new();
    if slots.number == 0 {
        let message = "no live node takes new trials now, so the job waits until an agent runs".into();
        warnings.push(Problem { pointer: String::new(), message });
    }
    for (arm, estimate) in arms.iter().zip(&memory) {
        if slots.number > 0 && estimate.peak_bytes > slots.largest_bytes {
            let message = format!(
                "a step of {:?} needs about {}, and the largest slot has {}: take a smaller batch, more \
                 micro-batches or `recompute`",
                arm.name,
                gigabytes(estimate.peak_bytes),
                gigabytes(slots.largest_bytes)
            );
            warnings.push(Problem { pointer: format!("/arms/{}", arm.index), message });
        }
    }
    Estimate { slot_hours, basis, slots: slots.number, largest_slot_bytes: slots.largest_bytes, memory, warnings }
}

/// An arm of the job, and the recipe of its pre-train trials.
struct PretrainedArm<'a> {
    index: usize,
    name: &'a str,
    recipe: &'a Pretrain,
}

fn pretrained<'a>(spec: &'a JobSpec, expansion: &'a Expansion) -> Vec<PretrainedArm<'a>> {
    // The seeds of an arm share its recipe, so any of its trials will do.
    let of_trials = expansion.trials.iter().filter_map(|trial| match &trial.spec.recipe {
        Recipe::Pretrain(recipe) => Some((trial.arm.as_deref()?, recipe)),
        _ => None,
    });
    let recipes: HashMap<&str, &Pretrain> = of_trials.collect();
    let arms = spec.arms.iter().enumerate();
    arms.filter_map(|(index, arm)| Some(PretrainedArm { index, name: &arm.name, recipe: recipes.get(&*arm.name)? }))
        .collect()
}

impl PretrainedArm<'_> {
    fn memory(&self, timed: &[TimedJob], head_outputs: u64) -> MemoryEstimate {
        let measured = timed.iter().flat_map(|job| &job.arms).find_map(|other| other.peak_bytes_of(self.recipe));
        let peak_bytes = measured.unwrap_or_else(|| added_up(self.recipe, head_outputs));
        MemoryEstimate { arm: self.name.to_owned(), peak_bytes, measured: measured.is_some() }
    }
}

/// The timed job whose arms are most like `recipe`: of the same precision if there is one, and of the nearest width.
/// Both decide how many FLOPs per second a device reaches.
fn nearest<'a>(recipe: &Pretrain, timed: &'a [TimedJob]) -> Option<&'a TimedJob> {
    let distance = |job: &TimedJob| {
        let of_arm = |arm: &TimedArm| {
            let width = f64::from(arm.recipe.model.hidden) / f64::from(recipe.model.hidden);
            (arm.recipe.precision != recipe.precision, width.ln().abs())
        };
        let least = |a: &(bool, f64), b: &(bool, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
        job.arms.iter().map(of_arm).min_by(least)
    };
    let distances = timed.iter().filter_map(|job| Some((distance(job)?, job)));
    // Of equally near jobs, the first is the newest.
    distances.min_by(|(a, _), (b, _)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|(_, job)| job)
}

impl TimedArm {
    /// The peak memory of a step of `recipe`, if this arm's steps are of the same shape but for the number of tokens,
    /// with which the memory beside weights, moments and gradients grows.
    fn peak_bytes_of(&self, recipe: &Pretrain) -> Option<u64> {
        let is_alike = |a: &Pretrain, b: &Pretrain| {
            (&a.model, &a.objective, &a.vocabulary, a.images) == (&b.model, &b.objective, &b.vocabulary, b.images)
                && (a.precision, a.recompute, a.length) == (b.precision, b.recompute, b.length)
                && a.growth.is_some() == b.growth.is_some()
        };
        let memory = self.memory.as_ref()?;
        let sequences = |recipe: &Pretrain| f64::from(recipe.batch) / f64::from(recipe.micro_batches);
        let factor = sequences(recipe) / sequences(&self.recipe);
        let of_step = memory.peak_bytes.saturating_sub(memory.state_bytes) as f64 * factor;
        is_alike(recipe, &self.recipe).then(|| memory.state_bytes + of_step as u64)
    }
}

/// The peak memory of a step with all blocks open, added up from the sizes of the tensors.
///
/// Weights, gradients and both moments of the optimiser are float32, and bfloat16 adds a copy of the weights. For the
/// backward pass, a block keeps eight vectors of the model's width and two of the feed-forward width for each token, and
/// in bfloat16 the residual stream in float32 beside them. The peak is early in the backward pass, when logits and the
/// gradient of their matrix are in use and 0.6 blocks are done. With `recompute`, the inputs of all sublayers are kept,
/// and beside them one block or what the head uses.
///
/// The formula was fitted to what timing trials measured on a CPU, which a test compares it with.
fn added_up(recipe: &Pretrain, head_outputs: u64) -> u64 {
    let (bytes, copy, residual) = match recipe.precision {
        Precision::Float32 => (4.0, 0.0, 0.0),
        Precision::Bfloat16 => (2.0, 2.0, 4.0),
    };
    let sequences = f64::from(recipe.batch) / f64::from(recipe.micro_batches);
    let tokens = sequences * f64::from(recipe.length);
    let predicted = match recipe.images {
        None => tokens * recipe.objective.mean_rate(),
        Some(ImageObjective::Classifier { .. }) => sequences,
        Some(ImageObjective::Pixels { .. }) => tokens,
    };
    let generator = recipe.objective.electra.map(|electra| electra.generator(&recipe.model));
    let models = || std::iter::once(&recipe.model).chain(&generator);
    let block = |model: &Model| {
        let (hidden, intermediate) = (f64::from(model.hidden), f64::from(model.intermediate));
        tokens * (bytes * (8.0 * hidden + 2.0 * intermediate) + residual * hidden)
    };
    let inputs = |model: &Model| tokens * 8.0 * f64::from(model.hidden);
    let blocks = |model: &Model| f64::from(model.blocks);
    // The generator has the embeddings of the model, and so no matrix of its own for the vocabulary.
    let parameters =
        recipe.model.parameters(head_outputs) + generator.as_ref().map_or(0, |generator| generator.parameters(0));
    let state = parameters as f64 * (16.0 + copy);
    let head = 1.1 * bytes * head_outputs as f64 * (predicted + f64::from(recipe.model.embedding_width()));
    let kept = if recipe.recompute {
        models().map(|model| blocks(model) * inputs(model)).sum::<f64>() + head.max(block(&recipe.model))
    } else {
        models().map(|model| (blocks(model) - 0.6) * block(model)).sum::<f64>() + head
    };
    (state + kept) as u64
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use recipe::{Norm, Size};
    use serde_json::{Value, json};

    use super::*;

    fn recipe(model: (u32, u32, u32), batch: u32, precision: &str, recompute: bool, change: Value) -> Pretrain {
        let (blocks, hidden, intermediate) = model;
        let mut recipe = json!({
            "model": {"blocks": blocks, "hidden": hidden, "heads": 2, "intermediate": intermediate, "norm": "pre"},
            "learning_rate": {"peak": 1e-4}, "steps": 10, "batch": batch, "length": 128, "precision": precision,
            "recompute": recompute, "corpus": {"name": "wiki"}, "vocabulary": {"kind": "trained", "size": 2000},
            "validate_every": 10
        });
        for (field, value) in change.as_object().unwrap() {
            recipe[field] = value.clone();
        }
        serde_json::from_value(recipe).unwrap()
    }

    /// Peaks of a step that timing trials measured on two cores of an Intel Xeon, with 128 tokens per sequence.
    #[test]
    fn the_sum_of_the_tensors_is_near_the_measured_peak() {
        let (mini, narrow, small) = ((4, 256, 1024), (12, 128, 512), (2, 512, 2048));
        let plain = || json!({});
        for (model, batch, precision, recompute, outputs, change, measured) in [
            (mini, 16, "float32", false, 30_522, plain(), 369_030_128),
            (mini, 16, "float32", true, 30_522, plain(), 272_315_376),
            (mini, 16, "bfloat16", false, 30_522, plain(), 306_150_308),
            (mini, 16, "bfloat16", true, 30_522, plain(), 258_718_628),
            (mini, 16, "float32", false, 30_522, json!({"micro_batches": 4}), 250_315_452),
            (mini, 16, "float32", false, 30_522, json!({"objective": {"electra": {}}}), 478_838_072),
            (narrow, 16, "float32", false, 30_522, plain(), 350_947_312),
            (narrow, 16, "bfloat16", true, 30_522, plain(), 170_166_948),
            (narrow, 32, "float32", false, 30_522, plain(), 583_477_744),
            (narrow, 32, "bfloat16", false, 30_522, plain(), 382_715_492),
            (small, 8, "float32", false, 30_522, plain(), 494_883_440),
            (small, 8, "bfloat16", true, 30_522, plain(), 459_653_124),
            (mini, 16, "float32", true, 2000, plain(), 117_331_852),
            (mini, 16, "bfloat16", false, 2000, plain(), 142_034_720),
            (narrow, 16, "float32", false, 2000, plain(), 242_605_056),
            (narrow, 16, "bfloat16", true, 2000, plain(), 86_922_028),
        ] {
            let estimated = added_up(&recipe(model, batch, precision, recompute, change.clone()), outputs);
            let ratio = estimated as f64 / f64::from(measured);
            assert!((0.8..1.1).contains(&ratio), "{model:?} {batch} {precision} {recompute} {change}: {ratio:.2}");
        }
    }

    fn timed(precision: &str, hidden: u32, flops_per_second: f64) -> TimedJob {
        let memory = ArmMemory { state_bytes: 1000, peak_bytes: 5000, mean_bytes: 3000, by_open: vec![] };
        let recipe = recipe((2, hidden, 64), 4, precision, false, json!({}));
        let arms = vec![TimedArm { recipe, memory: Some(memory) }];
        TimedJob { job: JobId::new(), device: "EPYC".into(), flops_per_second, arms }
    }

    #[test]
    fn the_speed_is_that_of_the_most_similar_timed_job() {
        let jobs = [timed("bfloat16", 64, 1.0), timed("float32", 512, 2.0), timed("float32", 96, 3.0)];
        let speed = |precision: &str, hidden: u32| {
            let recipe = recipe((2, hidden, 64), 4, precision, false, json!({}));
            nearest(&recipe, &jobs).unwrap().flops_per_second
        };
        assert_eq!([speed("float32", 64), speed("float32", 400), speed("bfloat16", 512)], [3.0, 2.0, 1.0]);
        assert_eq!(nearest(&jobs[0].arms[0].recipe, &[]), None);
    }

    #[test]
    fn a_measured_peak_grows_with_the_sequences_of_a_step() {
        let arm = &timed("float32", 64, 1.0).arms[0];
        let with = |change| arm.peak_bytes_of(&recipe((2, 64, 64), 4, "float32", false, change));
        assert_eq!(with(json!({})), Some(5000));
        assert_eq!(with(json!({"batch": 16, "micro_batches": 2})), Some(9000));
        assert_eq!(with(json!({"length": 64})), None);
        assert_eq!(with(json!({"recompute": true})), None);
    }

    #[test]
    fn the_parameters_are_those_of_the_published_models() {
        // Devlin et al. 2019 give 110 and 340 million; transformers counts these with the MLM head.
        for (name, parameters) in [("base", 109_514_298), ("large", 335_174_458)] {
            let model = Model::of_size(Size::named(name).unwrap(), Norm::Post);
            assert_eq!(model.parameters(30_522), parameters, "{name}");
        }
    }
}
