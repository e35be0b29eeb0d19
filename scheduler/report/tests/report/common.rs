//! Made-up facts of a job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::id::{JobId, TrialId};
use recipe::event::Device;
use recipe::report::{ArmTiming, FinetuneReport, PretrainReport, TimingReport, Turn};
use recipe::{
    Dataset, Decay, Failure, FailureKind, Finetune, KeptBlocks, LayerDrop, LearningRate, Model, Norm, Optimizer,
    Pretrain, Recipe, Seeds, Size, Source, Task, Timing, TimingArm, Vocabulary,
};
use report::{Facts, GlueRow, Report, Rules, TrialFacts, TrialStatus};

pub(crate) const ARMS: [&str; 3] = ["post-ln", "pre-ln", "pld"];

pub(crate) fn pretrain_recipe(arm: &str) -> Pretrain {
    let norm = if arm == "post-ln" { Norm::Post } else { Norm::Pre };
    let dataset = |name: &str| Dataset { name: name.into(), digest: None };
    let drop: LayerDrop = serde_json::from_str(r#"{"theta_limit": 0.5}"#).unwrap();
    Pretrain {
        model: Model::of_size(Size::named("narrow").unwrap(), norm),
        layer_drop: (arm == "pld").then_some(drop),
        growth: None,
        objective: Default::default(),
        optimizer: Optimizer::default(),
        learning_rate: LearningRate { peak: 1e-3, warmup: 0.02, decay: Decay::Linear },
        steps: 2000,
        seconds: None,
        batch: 32,
        micro_batches: 1,
        length: 128,
        corpus: dataset("wiki"),
        vocabulary: Some(Vocabulary::File { dataset: dataset("bert-base-uncased") }),
        images: None,
        held_out: 0.02,
        validate_every: 200,
        validation_sequences: 256,
        divergence: None,
        precision: recipe::Precision::Float32,
        recompute: false,
        probe: false,
    }
}

pub(crate) fn trial(arm: Option<&str>, recipe: Recipe, seeds: Seeds, status: TrialStatus) -> TrialFacts {
    let (arm, recipe) = (arm.map(String::from), Arc::new(recipe));
    TrialFacts { id: TrialId::new(), waits_for: None, arm, recipe, seeds, device: None, status }
}

pub(crate) fn failed(kind: FailureKind) -> TrialStatus {
    TrialStatus::Failed(Failure { kind, message: "m".into() })
}

/// A pre-train trial with this validation loss; without one it diverged.
pub(crate) fn pretrain(arm: &str, seed: u64, loss: Option<f64>) -> TrialFacts {
    let status = loss.map_or(failed(FailureKind::Diverged), |validation_loss| {
        TrialStatus::Succeeded(recipe::TrialReport::Pretrain(PretrainReport {
            steps: 2000,
            trained_seconds: 900.0,
            tokens: 8_192_000,
            validation_loss,
            guess_loss: Some(10.0),
            validation_accuracy: None,
            digest: String::new(),
            checkpoint: String::new(),
        }))
    });
    trial(Some(arm), Recipe::Pretrain(pretrain_recipe(arm)), Seeds::all(seed), status)
}

/// `seeds` are those of pre-training and of fine-tuning.
pub(crate) fn finetune(arm: &str, task: Task, seeds: (u64, u64), status: TrialStatus) -> TrialFacts {
    let (pretrain_seed, seed) = seeds;
    let recipe = Recipe::Finetune(Finetune {
        from: Source::Pretrained(Box::new(pretrain_recipe(arm))),
        keep: KeptBlocks::All,
        selection: None,
        from_seeds: Seeds::all(pretrain_seed),
        task,
        glue: Dataset { name: "glue".into(), digest: None },
        epochs: 3,
        batch: 16,
        length: 128,
        learning_rate: LearningRate { peak: 1e-4, warmup: 0.1, decay: Decay::Linear },
        optimizer: Optimizer::default(),
        precision: recipe::Precision::Float32,
    });
    trial(Some(arm), recipe, Seeds { init: pretrain_seed, gate: pretrain_seed, ..Seeds::all(seed) }, status)
}

/// The same fine-tune trial at another learning rate and depth, with another selection score.
pub(crate) fn varied(mut trial: TrialFacts, rate: f64, keep: KeptBlocks, selection: Option<f64>) -> TrialFacts {
    let Recipe::Finetune(recipe) = Arc::make_mut(&mut trial.recipe) else { panic!("a fine-tune trial") };
    recipe.learning_rate.peak = rate;
    recipe.keep = keep;
    if let TrialStatus::Succeeded(recipe::TrialReport::Finetune(report)) = &mut trial.status {
        report.selection_score = selection;
    }
    trial
}

/// The same pre-train trial as one of the arm `name`, with its recipe changed.
pub(crate) fn changed(mut trial: TrialFacts, name: &str, change: impl FnOnce(&mut Pretrain)) -> TrialFacts {
    let Recipe::Pretrain(recipe) = Arc::make_mut(&mut trial.recipe) else { panic!("a pre-train trial") };
    change(recipe);
    TrialFacts { arm: Some(name.into()), ..trial }
}

pub(crate) fn scored(score: f64) -> TrialStatus {
    TrialStatus::Succeeded(recipe::TrialReport::Finetune(FinetuneReport {
        steps: 468,
        trained_seconds: 60.0,
        metrics: BTreeMap::new(),
        score,
        selection_score: None,
        majority_score: 0.5271,
        digest: String::new(),
        predictions: Vec::new(),
    }))
}

/// One fine-tune trial per score, with seeds from 0.
pub(crate) fn finetunes(arm: &str, task: Task, scores: &[f64]) -> Vec<TrialFacts> {
    (0..).zip(scores).map(|(seed, score)| finetune(arm, task, (0, seed), scored(*score))).collect()
}

/// The report on an arm with these turns.
pub(crate) fn arm_timing(name: &str, turns: Vec<Turn>) -> ArmTiming {
    ArmTiming { name: name.into(), blocks: 12, turns, tokens_per_step: 4096, memory: None, largest_batch: None }
}

/// Timed steps of an arm, of which each takes 20 ms and 5 ms more for each open block. `open` holds pairs of a number
/// of open blocks and a number of steps, which are dealt out to the rounds; each factor in `noise` makes a round in
/// which a step takes this much longer.
pub(crate) fn timed(name: &str, open: &[(u32, u32)], noise: &[f64]) -> ArmTiming {
    let steps = open.iter().flat_map(|(open, steps)| std::iter::repeat_n(f64::from(*open), *steps as usize));
    let steps: Vec<f64> = steps.collect();
    let rounds = noise.len();
    let turn = |(round, noise): (usize, &f64)| {
        let open_blocks: Vec<f64> = steps.iter().skip(round).step_by(rounds).copied().collect();
        let seconds = open_blocks.iter().map(|open| noise * (0.02 + 0.005 * open)).collect();
        Turn { place: 0, warmup_seconds: Vec::new(), seconds, open_blocks }
    };
    arm_timing(name, noise.iter().enumerate().map(turn).collect())
}

pub(crate) fn timing(arms: Vec<ArmTiming>) -> TrialFacts {
    let recipe = Recipe::Timing(Timing {
        arms: ARMS.map(|name| TimingArm { name: name.into(), recipe: pretrain_recipe(name), repeats: None }).into(),
        rounds: 6,
        steps_per_turn: 20,
        warmup_steps: 3,
        largest_batch: None,
    });
    let status = TrialStatus::Succeeded(recipe::TrialReport::Timing(TimingReport { arms }));
    let device = Device {
        name: "cpu".into(),
        model: "EPYC 9B45".into(),
        threads: 2,
        libtorch: "2.11.0".into(),
        trainer: "0.1.0".into(),
    };
    TrialFacts { device: Some(device), ..trial(None, recipe, Seeds::default(), status) }
}

pub(crate) fn facts(trials: Vec<TrialFacts>) -> Facts {
    Facts {
        job: JobId("01890000-0000-7000-8000-000000000001".parse().unwrap()),
        name: "pld on wiki".into(),
        arms: ARMS.map(String::from).into(),
        baseline: "pre-ln".into(),
        published: BTreeSet::new(),
        preregistration: "0f5c".repeat(16),
        rules: Rules::default(),
        trials,
    }
}

/// A job in which trials have failed for several reasons, a run scored no better than the majority class, and one trial
/// is unfinished.
pub(crate) fn full() -> Facts {
    let mut trials = vec![
        timing(vec![
            timed("post-ln", &[(12, 120)], &[1.0, 1.01, 0.99, 1.0, 1.02, 0.98]),
            timed("pre-ln", &[(12, 120)], &[1.0, 1.02, 1.0, 1.01, 1.0, 0.99]),
            timed("pld", &[(7, 20), (8, 30), (9, 40), (10, 20), (12, 10)], &[1.01, 1.0, 0.99, 1.0, 1.0, 1.0]),
        ]),
        pretrain("post-ln", 0, None),
        pretrain("pre-ln", 0, Some(5.4321)),
        pretrain("pld", 0, Some(5.4567)),
    ];
    trials.extend(finetunes("pre-ln", Task::Rte, &[0.5415, 0.5379, 0.5523, 0.5271, 0.5487]));
    trials.extend(finetunes("pld", Task::Rte, &[0.5451, 0.5523, 0.5632, 0.5415]));
    trials.push(finetune("pld", Task::Rte, (0, 4), failed(FailureKind::Diverged)));
    trials.extend(finetunes("pre-ln", Task::Mrpc, &[0.7480, 0.7480, 0.7480]));
    trials.extend(finetunes("pld", Task::Mrpc, &[0.7512, 0.7498, 0.7533]));
    trials.push(finetune("pld", Task::Mrpc, (0, 3), failed(FailureKind::OutOfMemory)));
    trials.push(finetune("pld", Task::Mrpc, (0, 4), TrialStatus::Unfinished));
    trials.extend([5, 6].map(|seed| finetune("pld", Task::Mrpc, (0, seed), TrialStatus::Cancelled)));
    let diverged = trials.iter().find(|trial| trial.arm.as_deref() == Some("post-ln")).unwrap().id;
    trials.extend((0..10).map(|seed| {
        let orphan = finetune("post-ln", Task::Rte, (0, seed), TrialStatus::Cancelled);
        TrialFacts { waits_for: Some(diverged), ..orphan }
    }));
    facts(trials)
}

pub(crate) fn row<'a>(report: &'a Report, task: Task, arm: &str) -> &'a GlueRow {
    let task = report.glue.iter().find(|entry| entry.task == task).unwrap();
    task.arms.iter().find(|row| row.arm == arm).unwrap()
}
