//! The report of a job, from made-up facts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use protocol::id::{JobId, TrialId};
use recipe::event::Device;
use recipe::report::{
    ArmMemory, ArmTiming, BlockProbe, BlockState, FinetuneReport, OpenMemory, OpenTiming, PretrainReport, ProbeReport,
    TimingReport,
};
use recipe::{
    Dataset, Decay, Failure, FailureKind, Finetune, Keep, LayerDrop, LearningRate, Model, Norm, Optimizer, Pretrain,
    Probe, Published, Recipe, Seeds, Size, Source, Stage, Task, Timing, TimingArm, TrialSpec, Vocabulary,
};
use report::{Comparison, EndedTrial, Facts, GlueArm, Report, TrialEnd, TrialFacts, TrialStatus, report};
use serde_json::json;

const ARMS: [&str; 3] = ["post-ln", "pre-ln", "pld"];

fn pretrain_recipe(arm: &str) -> Pretrain {
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

fn ended(arm: Option<&str>, recipe: Recipe, seeds: Seeds, end: TrialEnd) -> EndedTrial {
    EndedTrial { arm: arm.map(String::from), spec: TrialSpec { recipe, seeds }, device: None, end }
}

fn failed(kind: FailureKind) -> TrialEnd {
    TrialEnd::Failed(Failure { kind, message: "m".into() })
}

fn pretrain(arm: &str, seed: u64, loss: Option<f64>) -> EndedTrial {
    let end = loss.map_or(failed(FailureKind::Diverged), |validation_loss| {
        TrialEnd::Succeeded(recipe::Report::Pretrain(PretrainReport {
            steps: 2000,
            trained_seconds: 900.0,
            tokens: 8_192_000,
            validation_loss,
            validation_accuracy: None,
            digest: String::new(),
            checkpoint: String::new(),
        }))
    });
    ended(Some(arm), Recipe::Pretrain(pretrain_recipe(arm)), Seeds::all(seed), end)
}

fn finetune_ending(arm: &str, task: Task, seeds: (u64, u64), end: TrialEnd) -> EndedTrial {
    let (pretrain_seed, seed) = seeds;
    let recipe = Recipe::Finetune(Finetune {
        from: Source::Pretrained(Box::new(pretrain_recipe(arm))),
        keep: Keep::All,
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
    ended(Some(arm), recipe, Seeds { init: pretrain_seed, gate: pretrain_seed, ..Seeds::all(seed) }, end)
}

/// The same at another rate and depth.
fn varied(trial: EndedTrial, rate: f64, keep: Keep, selection: Option<f64>) -> EndedTrial {
    let EndedTrial { mut spec, mut end, .. } = trial;
    let Recipe::Finetune(recipe) = &mut spec.recipe else { panic!("a fine-tune trial") };
    recipe.learning_rate.peak = rate;
    recipe.keep = keep;
    if let TrialEnd::Succeeded(recipe::Report::Finetune(report)) = &mut end {
        report.selection_score = selection;
    }
    EndedTrial { spec, end, ..trial }
}

fn scored(score: f64) -> TrialEnd {
    TrialEnd::Succeeded(recipe::Report::Finetune(FinetuneReport {
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

fn finetunes(arm: &str, task: Task, scores: &[f64]) -> Vec<EndedTrial> {
    (0..).zip(scores).map(|(seed, score)| finetune_ending(arm, task, (0, seed), scored(*score))).collect()
}

/// A step takes 20 ms and 5 ms for each open block; `noise` multiplies a turn.
fn timed(name: &str, open: &[(u32, u32)], noise: &[f64]) -> ArmTiming {
    let seconds = |open: u32| 0.02 + 0.005 * f64::from(open);
    let steps: u32 = open.iter().map(|(_, steps)| steps).sum();
    let mean = open.iter().map(|(open, steps)| seconds(*open) * f64::from(*steps)).sum::<f64>() / f64::from(steps);
    ArmTiming {
        name: name.into(),
        blocks: 12,
        turns: noise.iter().map(|noise| mean * noise).collect(),
        by_open: open
            .iter()
            .map(|(open, steps)| OpenTiming {
                open_blocks: f64::from(*open),
                steps: *steps,
                seconds: seconds(*open) * f64::from(*steps),
            })
            .collect(),
        tokens_per_step: 4096,
        memory: None,
        largest_batch: None,
    }
}

fn timing(arms: Vec<ArmTiming>) -> EndedTrial {
    let recipe = Recipe::Timing(Timing {
        arms: ARMS.map(|name| TimingArm { name: name.into(), recipe: pretrain_recipe(name) }).into(),
        rounds: 6,
        steps_per_turn: 20,
        warmup_steps: 3,
        largest_batch: None,
    });
    let end = TrialEnd::Succeeded(recipe::Report::Timing(TimingReport { arms }));
    let device = Device {
        name: "cpu".into(),
        model: "EPYC 9B45".into(),
        threads: 2,
        libtorch: "2.11.0".into(),
        trainer: "0.1.0".into(),
    };
    EndedTrial { device: Some(device), ..ended(None, recipe, Seeds::default(), end) }
}

fn facts(ended: Vec<EndedTrial>) -> Facts {
    Facts {
        job: JobId("01890000-0000-7000-8000-000000000001".parse().unwrap()),
        name: "pld on wiki".into(),
        arms: ARMS.map(String::from).into(),
        baseline: "pre-ln".into(),
        published: BTreeSet::new(),
        ended,
        unfinished: BTreeMap::new(),
        cancelled: BTreeMap::new(),
        orphaned: BTreeMap::new(),
    }
}

/// A job with everything in it: failures of each sort, a run below the majority, one trial still to end.
fn full() -> Facts {
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
    trials.push(finetune_ending("pld", Task::Rte, (0, 4), failed(FailureKind::Diverged)));
    trials.extend(finetunes("pre-ln", Task::Mrpc, &[0.7480, 0.7480, 0.7480]));
    trials.extend(finetunes("pld", Task::Mrpc, &[0.7512, 0.7498, 0.7533]));
    trials.push(finetune_ending("pld", Task::Mrpc, (0, 3), failed(FailureKind::OutOfMemory)));
    Facts {
        unfinished: [(Stage::Finetune, 1)].into(),
        cancelled: [(Stage::Finetune, 2)].into(),
        orphaned: [("post-ln".into(), 10)].into(),
        ..facts(trials)
    }
}

fn row<'a>(report: &'a Report, task: Task, arm: &str) -> &'a GlueArm {
    let task = report.glue.iter().find(|entry| entry.task == task).unwrap();
    task.arms.iter().find(|row| row.arm == arm).unwrap()
}

#[test]
fn the_tables_are_as_written_down() {
    let text = report(&full()).to_markdown();
    // `UPDATE=1 cargo test` writes what is to be read and committed.
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/report.md"), &text).unwrap();
        return;
    }
    assert_eq!(text, include_str!("fixtures/report.md"), "\n{text}");
}

#[test]
fn speed_is_compared_round_by_round() {
    let report = report(&full());
    let speed = report.speed.unwrap();
    let [_, baseline, pld] = &speed.arms[..] else { panic!("{:?}", speed.arms) };
    assert_eq!((baseline.ratio_to_baseline, baseline.ratio_interval, baseline.encoder_share), (Some(1.0), None, None));
    let fit = speed.fit.unwrap();
    assert!((fit.fixed - 0.02).abs() < 1e-12 && (fit.per_block - 0.005).abs() < 1e-12, "{fit:?}");
    assert!((pld.encoder_share.unwrap() - 0.75).abs() < 1e-12);
    // 8.75 open blocks on average at theta 0.5; a little less is saved since theta falls from 1 first.
    let closed_form = pld.closed_form_saving.unwrap();
    assert!(0.265 < closed_form && closed_form < 13.0 / 48.0, "{closed_form}");
    assert!((pld.limit_saving.unwrap() - 0.75 * closed_form).abs() < 1e-12);
    let (ratio, [low, high]) = (pld.ratio_to_baseline.unwrap(), pld.ratio_interval.unwrap());
    assert!(low < ratio && ratio < high && (ratio - 0.08 / 0.064).abs() < 0.05, "{ratio} [{low}, {high}]");
    assert!((pld.step_saving.unwrap() - (1.0 - 1.0 / ratio)).abs() < 1e-12);
}

#[test]
fn a_drift_that_hits_both_arms_alike_leaves_the_ratio_exact() {
    let drift = [1.0, 1.3, 0.8, 1.1];
    let slow = timed("pre-ln", &[(12, 80)], &drift);
    let fast = timed("pld", &[(6, 80)], &drift);
    let report = report(&facts(vec![timing(vec![slow, fast])]));
    let arm = &report.speed.unwrap().arms[1];
    assert!((arm.ratio_to_baseline.unwrap() - 0.08 / 0.05).abs() < 1e-12);
    let spread = arm.ratio_interval.map_or(0.0, |[low, high]| high - low);
    assert!(spread < 1e-9, "{spread}");
}

#[test]
fn a_line_that_leaves_no_time_outside_the_encoder_is_no_fit() {
    // The machine was slow while the baseline ran: the line through both would start below zero.
    let mut slow = timed("pre-ln", &[(12, 80)], &[1.0, 1.0]);
    slow.by_open[0].seconds *= 2.0;
    let report = report(&facts(vec![timing(vec![slow, timed("pld", &[(6, 40), (8, 40)], &[1.0, 1.0])])]));
    assert_eq!(report.speed.unwrap().fit, None);
    assert!(report.notes.iter().any(|note| note.starts_with("No line of step time")), "{:?}", report.notes);
}

#[test]
fn the_memory_of_an_arm_stands_beside_its_speed() {
    let row = |open_sublayers, peak_bytes| OpenMemory {
        open_sublayers,
        steps: 8,
        peak_bytes,
        mean_bytes: Some(peak_bytes / 2),
    };
    let by_open = vec![row(11, 30 << 20), row(24, 48 << 20)];
    let memory = ArmMemory { state_bytes: 16 << 20, peak_bytes: 48 << 20, mean_bytes: 20 << 20, by_open };
    let arm =
        ArmTiming { memory: Some(memory.clone()), largest_batch: Some(96), ..timed("pre-ln", &[(12, 8)], &[1.0; 8]) };
    let report = report(&facts(vec![timing(vec![arm, timed("pld", &[(9, 8)], &[1.0; 8])])]));
    let arms = report.speed.as_ref().unwrap().arms.iter().map(|arm| (arm.memory.clone(), arm.largest_batch));
    assert!(arms.eq([(Some(memory), Some(96)), (None, None)]));
    let text = report.to_markdown();
    let line = text.lines().find(|line| line.contains("30.0, 15.0 (5.5)")).unwrap_or_else(|| panic!("{text}"));
    for cell in ["pre-ln", "16.0", "48.0", "20.0", "48.0, 24.0 (12)", "96"] {
        assert!(line.contains(cell), "{cell} in {line}");
    }
}

#[test]
fn without_an_arm_that_closes_blocks_there_is_no_fit() {
    let noise = [1.0, 1.01];
    let report =
        report(&facts(vec![timing(vec![timed("post-ln", &[(12, 40)], &noise), timed("pre-ln", &[(12, 40)], &noise)])]));
    let speed = report.speed.unwrap();
    assert_eq!(speed.fit, None);
    assert!(speed.arms.iter().all(|arm| arm.limit_saving.is_none() && arm.share_of_limit.is_none()));
    assert!(report.notes.iter().any(|note| note.starts_with("No arm closes blocks")), "{:?}", report.notes);
}

#[test]
fn a_run_at_the_majority_or_diverged_has_failed_and_stays_in() {
    let report = report(&full());
    let baseline = row(&report, Task::Rte, "pre-ln");
    assert_eq!((baseline.n, baseline.failed, baseline.diverged), (5, 1, 0));
    let pld = row(&report, Task::Rte, "pld");
    assert_eq!((pld.n, pld.failed, pld.diverged, pld.independent), (5, 1, 1, 4));
    assert!((pld.mean.unwrap() - (0.5451 + 0.5523 + 0.5632 + 0.5415) / 4.0).abs() < 1e-12);
    assert_eq!(pld.scores[4].score, None);
    // Out of memory says nothing about the recipe: no result, and a note.
    assert_eq!(row(&report, Task::Mrpc, "pld").n, 3);
    assert!(report.notes.iter().any(|note| note.contains("out_of_memory")), "{:?}", report.notes);
}

#[test]
fn equal_scores_have_no_interval_and_pairs_are_still_compared() {
    let report = report(&full());
    let baseline = row(&report, Task::Mrpc, "pre-ln");
    assert_eq!((baseline.sd, baseline.interval), (Some(0.0), None));
    let mrpc = report.glue.iter().find(|entry| entry.task == Task::Mrpc).unwrap();
    let comparison = &mrpc.comparisons[0];
    assert_eq!((comparison.arm.as_str(), comparison.n_pairs), ("pld", 3));
    assert!(comparison.p_holm.unwrap() >= comparison.p_paired_t.unwrap());
}

#[test]
fn arms_are_compared_at_equal_rates_and_each_at_its_selected_one() {
    let (low, high) = (1e-4, 3e-4);
    let mut trials = Vec::new();
    for (arm, rate, selection, scores) in [
        ("pre-ln", low, 0.7, [0.60, 0.62, 0.61]),
        ("pre-ln", high, 0.6, [0.58, 0.57, 0.59]),
        ("pld", low, 0.5, [0.55, 0.54, 0.56]),
        ("pld", high, 0.8, [0.70, 0.71, 0.73]),
    ] {
        let runs = finetunes(arm, Task::Rte, &scores).into_iter();
        trials.extend(runs.map(|trial| varied(trial, rate, Keep::All, Some(selection))));
    }
    let report = report(&facts(trials));
    let [rte] = &report.glue[..] else { panic!("{:?}", report.glue) };
    let rates = |comparison: &Comparison| (comparison.learning_rate, comparison.baseline_learning_rate);
    let equal: Vec<_> = rte.comparisons.iter().map(rates).collect();
    assert_eq!(equal, [(Some(low), Some(low)), (Some(high), Some(high))]);
    let [selected] = &rte.selected_comparisons[..] else { panic!("{:?}", rte.selected_comparisons) };
    assert_eq!((rates(selected), selected.n_pairs), ((Some(high), Some(low)), 3));
    assert!((selected.mean_difference - 0.31 / 3.0).abs() < 1e-12, "{selected:?}");
    assert_eq!(selected.p_holm, selected.p_paired_t, "a family of one task");
    let text = report.to_markdown();
    assert!(text.contains("## GLUE, against the baseline, each at its selected rate"), "{text}");
    assert!(text.contains("3e-4, 1e-4"), "{text}");
}

#[test]
fn a_score_stands_beside_the_number_of_blocks_that_were_kept() {
    let mut trials = Vec::new();
    for (arm, keep, scores) in [
        ("pre-ln", Keep::First(3), [0.55, 0.56]),
        ("pre-ln", Keep::All, [0.65, 0.66]),
        ("pld", Keep::All, [0.64, 0.67]),
        ("pld", Keep::EveryOther, [0.60, 0.61]),
        ("pld", Keep::First(3), [0.58, 0.59]),
    ] {
        let runs = finetunes(arm, Task::Rte, &scores).into_iter();
        trials.extend(runs.map(|trial| varied(trial, 1e-4, keep, None)));
    }
    let report = report(&facts(trials));
    let rows: Vec<_> =
        report.glue[0].arms.iter().map(|row| (row.arm.as_str(), row.blocks, row.n, row.selected)).collect();
    let expected = [
        ("pre-ln", 12, 2, true),
        ("pre-ln", 3, 2, true),
        ("pld", 12, 2, true),
        ("pld", 6, 2, true),
        ("pld", 3, 2, true),
    ];
    assert_eq!(rows, expected);
    let compared: Vec<_> = report.glue[0].comparisons.iter().map(|c| (c.keep, c.blocks)).collect();
    assert_eq!(compared, [(Some(Keep::All), Some(12)), (Some(Keep::First(3)), Some(3))], "like with like");
    let averages: Vec<_> = report.glue_averages.iter().map(|row| (row.arm.as_str(), row.blocks, row.mean)).collect();
    assert_eq!((averages.len(), averages[3]), (5, ("pld", 6, 0.605)));
}

#[test]
fn an_arm_from_a_published_checkpoint_has_scores_and_neither_speed_nor_loss() {
    let mut facts = full();
    let published = |trial: EndedTrial| {
        let EndedTrial { mut spec, .. } = trial;
        let Recipe::Finetune(recipe) = &mut spec.recipe else { panic!("a fine-tune trial") };
        let checkpoint = Dataset { name: "bert-base".into(), digest: None };
        let model = Model::of_size(Size::named("base").unwrap(), Norm::Post);
        recipe.from = Source::Published(Box::new(Published { model, checkpoint }));
        EndedTrial { spec, arm: Some("bert".into()), ..trial }
    };
    facts.ended.extend(finetunes("pld", Task::Rte, &[0.70, 0.71, 0.69]).into_iter().map(published));
    facts.arms.push("bert".into());
    facts.published.insert("bert".into());
    let report = report(&facts);
    assert_eq!(report.pretrain.iter().map(|row| row.arm.as_str()).collect::<Vec<_>>(), ARMS);
    assert_eq!(row(&report, Task::Rte, "bert").n, 3);
    assert!(report.glue[1].comparisons.iter().any(|comparison| comparison.arm == "bert" && comparison.n_pairs == 3));
    assert!(!report.notes.iter().any(|note| note.contains("did not run every arm")), "{:?}", report.notes);
    assert!(report.notes.iter().any(|note| note.starts_with("bert started from a published checkpoint")));
}

#[test]
fn a_job_without_a_single_result_has_a_report() {
    let mut empty = facts(Vec::new());
    empty.unfinished = [(Stage::Timing, 1), (Stage::Pretrain, 3)].into();
    let report = report(&empty);
    assert!(!report.complete && report.speed.is_none() && report.glue.is_empty());
    assert_eq!(report.pretrain.len(), 3);
    assert_eq!(report.notes.len(), 3, "{:?}", report.notes);
    assert!(report.to_markdown().starts_with("# pld on wiki\n"));
}

#[test]
fn what_a_block_is_worth_is_a_mean_over_the_checkpoints_of_an_arm() {
    let probed = |seed: u64, loss: f64, removed: f64| {
        let block = |block: u32, swapped_loss: Option<f64>| BlockProbe {
            state: BlockState { block, cosine: 0.5 + 0.1 * seed as f64, distance: 2.0, gradient_norm: 0.25 },
            removed_loss: loss + removed * f64::from(block),
            swapped_loss,
        };
        let report = ProbeReport {
            step: 2000,
            sequences: 64,
            validation_loss: loss,
            blocks: vec![block(1, Some(loss + 0.5)), block(2, None)],
            shuffled_losses: vec![loss + 1.0, loss + 3.0],
        };
        let from = Box::new(pretrain_recipe("pld"));
        let probe = Probe { from, published: None, from_seeds: Seeds::all(seed), sequences: 64, shuffles: 2 };
        let end = TrialEnd::Succeeded(recipe::Report::Probe(report));
        ended(Some("pld"), Recipe::Probe(probe), Seeds::all(seed), end)
    };
    let report = report(&facts(vec![probed(0, 5.0, 0.1), probed(1, 6.0, 0.3)]));
    let [arm] = &report.probes[..] else { panic!("{:?}", report.probes) };
    assert_eq!((arm.arm.as_str(), arm.n, arm.validation_loss, arm.shuffled_adds), ("pld", 2, 5.5, Some(2.0)));
    let removed: Vec<f64> = arm.blocks.iter().map(|block| (block.removed_adds * 1e9).round() / 1e9).collect();
    assert_eq!(removed, [0.2, 0.4]);
    assert_eq!(arm.blocks.iter().map(|block| block.swapped_adds).collect::<Vec<_>>(), [Some(0.5), None]);
    assert!((arm.blocks[0].cosine - 0.55).abs() < 1e-12);
    let text = report.to_markdown();
    assert!(text.contains("## Blocks") && text.contains("+0.2000"), "{text}");
}

#[test]
fn the_report_survives_json() {
    let report = report(&full());
    let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(again, report);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["glue"][0]["arms"][1]["interval"].as_array().unwrap().len(), 2);
}

fn trial(ended: EndedTrial, waits_for: Option<TrialId>) -> TrialFacts {
    let EndedTrial { arm, spec, device, end } = ended;
    TrialFacts { id: TrialId::new(), waits_for, arm, spec, device, status: TrialStatus::Ended(end) }
}

fn cancelled(ended: EndedTrial, waits_for: &TrialFacts) -> TrialFacts {
    TrialFacts { status: TrialStatus::Cancelled, ..trial(ended, Some(waits_for.id)) }
}

#[test]
fn a_score_that_failed_pre_training_prevented_is_told_from_one_that_was_cancelled() {
    let diverged = trial(pretrain("post-ln", 0, None), None);
    let sound = trial(pretrain("pre-ln", 0, Some(5.0)), None);
    let orphan = cancelled(finetune_ending("post-ln", Task::Rte, (0, 0), scored(0.6)), &diverged);
    let stopped = cancelled(finetune_ending("pre-ln", Task::Rte, (0, 0), scored(0.6)), &sound);
    let arms = ARMS.map(String::from).into();
    let mut facts = Facts::new(JobId::new(), "n".into(), arms, "pre-ln".into(), BTreeSet::new());
    facts.add(vec![diverged, sound, orphan, stopped]);
    assert_eq!(facts.orphaned, [("post-ln".to_owned(), 1)].into());
    assert_eq!(facts.cancelled, [(Stage::Finetune, 1)].into());
    assert_eq!((facts.ended.len(), facts.unfinished.len()), (2, 0));
    let notes = report(&facts).notes;
    assert!(notes.iter().any(|note| note.starts_with("1 fine-tune trial of post-ln never started")), "{notes:?}");
}

/// Norm x layer drop x learning rate: Post-LN diverges at the high rate, which is the better one of the others.
#[test]
fn the_effects_of_layer_drop_and_of_the_norm_are_told_apart() {
    let losses: [(&str, &str, f64, Option<f64>); 6] = [
        ("post low", "post-ln", 1e-4, Some(6.0)),
        ("post high", "post-ln", 1e-3, None),
        ("pre low", "pre-ln", 1e-4, Some(5.9)),
        ("pre high", "pre-ln", 1e-3, Some(5.5)),
        ("pld low", "pld", 1e-4, Some(5.95)),
        ("pld high", "pld", 1e-3, Some(5.4)),
    ];
    let mut trials = Vec::new();
    for (name, like, peak, loss) in losses {
        for seed in 0..3 {
            let EndedTrial { mut spec, end, .. } = pretrain(like, seed, loss.map(|loss| loss + 0.01 * seed as f64));
            let Recipe::Pretrain(recipe) = &mut spec.recipe else { unreachable!() };
            recipe.learning_rate.peak = peak;
            trials.push(EndedTrial { spec, end, arm: Some(name.into()), device: None });
        }
    }
    let arms = losses.map(|(name, ..)| name.to_owned()).into();
    let report = report(&Facts { arms, baseline: "pre low".into(), ..facts(trials) });
    let rows = report.pretrain.iter().map(|row| (row.learning_rate, row.diverged, row.diverged_interval.is_some()));
    assert!(rows.eq(losses.iter().map(|(_, _, peak, loss)| (Some(*peak), if loss.is_some() { 0 } else { 3 }, true))));
    let found: Vec<_> = report
        .effects
        .iter()
        .map(|effect| {
            let difference = (effect.loss.as_ref().unwrap().mean_difference * 1e9).round() / 1e9;
            (effect.arm.as_str(), effect.against.as_str(), &effect.factors[..], effect.each_at_its_best, difference)
        })
        .collect();
    use report::Factor::{LayerDrop, Norm};
    let expected = [
        ("pre low", "post low", &[Norm][..], false, -0.1),
        ("pld low", "post low", &[Norm, LayerDrop], false, -0.05),
        ("pld low", "pre low", &[LayerDrop], false, 0.05),
        ("pld high", "pre high", &[LayerDrop], false, -0.1),
        ("pre high", "post low", &[Norm], true, -0.5),
        ("pld high", "post low", &[Norm, LayerDrop], true, -0.6),
    ];
    assert_eq!(found, expected);
    let text = report.to_markdown();
    assert!(text.contains("Pre-LN and layer drop | 1e-3, 1e-4"), "{text}");
    assert!(text.contains("[43.9, 100.0]"), "{text}");
}

/// A rate at which a seed diverged is nobody's best, however well the others did.
#[test]
fn the_best_rate_is_one_at_which_nothing_diverged_and_one_effect_away_from_the_baseline_is_shown() {
    let at = |name: &str, like: &str, peak: f64, seed: u64, loss: Option<f64>| {
        let EndedTrial { mut spec, end, .. } = pretrain(like, seed, loss);
        let Recipe::Pretrain(recipe) = &mut spec.recipe else { unreachable!() };
        recipe.learning_rate.peak = peak;
        EndedTrial { spec, end, arm: Some(name.into()), device: None }
    };
    let facts = |trials: Vec<EndedTrial>, arms: &[&str]| Facts {
        arms: arms.iter().map(|arm| (*arm).to_owned()).collect(),
        baseline: arms[0].into(),
        ..facts(trials)
    };
    let trials = vec![
        at("pre", "pre-ln", 1e-4, 0, Some(6.0)),
        at("pld low", "pld", 1e-4, 0, Some(5.9)),
        at("pld mid", "pld", 1e-3, 0, Some(5.8)),
        at("pld high", "pld", 1e-2, 0, Some(5.1)),
        at("pld high", "pld", 1e-2, 1, None),
    ];
    let report_of = |facts| report(&facts);
    let report = report_of(facts(trials.clone(), &["pre", "pld low", "pld mid", "pld high"]));
    let best: Vec<_> = report.effects.iter().filter(|effect| effect.each_at_its_best).collect();
    assert_eq!(best.iter().map(|effect| effect.arm.as_str()).collect::<Vec<_>>(), ["pld mid"]);
    assert!(report.notes.iter().any(|note| note.contains("luckier")), "{:?}", report.notes);
    // Against the baseline at its own rate, it is in the tables.
    let told = report_of(facts(trials[..2].to_vec(), &["pre", "pld low"]));
    assert_eq!(told.effects, []);
    let apart = vec![trials[0].clone(), trials[1].clone(), at("other", "post-ln", 3e-4, 0, Some(6.5))];
    let shown = report_of(facts(apart, &["other", "pre", "pld low"]));
    let pairs: Vec<_> = shown.effects.iter().map(|effect| (effect.arm.as_str(), effect.against.as_str())).collect();
    assert!(pairs.contains(&("pld low", "pre")), "{pairs:?}");
}

#[test]
fn a_loss_of_another_objective_is_shown_and_not_compared() {
    let electra = |seed| {
        let EndedTrial { mut spec, end, .. } = pretrain("pld", seed, Some(28.0));
        let Recipe::Pretrain(recipe) = &mut spec.recipe else { unreachable!() };
        recipe.objective = serde_json::from_value(json!({"electra": {}})).unwrap();
        EndedTrial { spec, end, arm: Some("pld".into()), device: None }
    };
    let mut masked = pretrain("post-ln", 0, Some(7.4));
    let Recipe::Pretrain(recipe) = &mut masked.spec.recipe else { unreachable!() };
    recipe.objective = serde_json::from_value(json!({"rate": 0.3, "rate_end": 0.15})).unwrap();
    let report = report(&facts(vec![pretrain("pre-ln", 0, Some(7.5)), masked, electra(0)]));
    let rows = report.pretrain.iter().map(|row| (row.other_measure, row.comparison.is_some()));
    // Whatever is masked in training, validation masks alike.
    assert!(rows.eq([(false, true), (false, false), (true, false)]), "{:?}", report.pretrain);
    assert_eq!(report.pretrain[2].validation_loss.as_ref().unwrap().mean, 28.0);
    assert!(report.notes.iter().any(|note| note.starts_with("The validation loss of pld is not compared")));
}

#[test]
fn what_a_number_of_runs_buys_is_told_as_far_as_there_are_runs() {
    let scores = [0.5, 0.6, 0.7, 0.8, 0.9];
    let report = report(&facts(finetunes("pre-ln", Task::Rte, &scores)));
    let row = row(&report, Task::Rte, "pre-ln");
    let best: Vec<_> = row.best_of.iter().map(|best| (best.runs, (best.expected * 1e9).round() / 1e9)).collect();
    // sum v_i (i^2 - (i-1)^2)/25; and with the fifth powers, over 3125.
    assert_eq!(best, [(2, 0.78), (5, 0.8584)]);
    assert!((row.hours.unwrap() - 60.0 / 3600.0).abs() < 1e-12);
    let text = report.to_markdown();
    assert!(text.contains("expected best of k runs") && text.contains("78.0 |"), "{text}");
}

proptest! {
    #[test]
    fn the_order_of_the_trials_changes_nothing(order in Just((0..full().ended.len()).collect::<Vec<_>>()).prop_shuffle()) {
        let facts = full();
        let shuffled = Facts { ended: order.into_iter().map(|i| facts.ended[i].clone()).collect(), ..facts.clone() };
        prop_assert_eq!(report(&shuffled), report(&facts));
    }

    #[test]
    fn a_failed_seed_never_changes_the_numbers_of_the_others(arm in 0usize..3, task in 0usize..2, crashed: bool) {
        let (arm, task) = (ARMS[arm], [Task::Rte, Task::Mrpc][task]);
        let kind = if crashed { FailureKind::Crashed } else { FailureKind::NonFiniteLoss };
        let before = full();
        let mut after = before.clone();
        after.ended.push(finetune_ending(arm, task, (0, 99), failed(kind)));
        let (before, after) = (report(&before), report(&after));
        prop_assert_eq!(&after.speed, &before.speed);
        prop_assert_eq!(&after.pretrain, &before.pretrain);
        for (before, after) in before.glue.iter().zip(&after.glue) {
            prop_assert_eq!(&after.comparisons, &before.comparisons);
            for old in &before.arms {
                let new = after.arms.iter().find(|new| new.arm == old.arm).unwrap();
                let hit = old.arm == arm && before.task == task && !crashed;
                prop_assert_eq!(new.n, old.n + usize::from(hit));
                prop_assert_eq!(new.failed, old.failed + usize::from(hit));
                let kept = |row: &GlueArm| (row.mean, row.sd, row.interval, row.median, row.min, row.max);
                prop_assert_eq!(kept(new), kept(old));
            }
        }
    }
}

#[test]
fn the_rate_to_report_is_selected_without_dev_and_averaged_over_tasks() {
    // (rate, selection score, dev score): dev alone would take the other rate.
    let rates = [(1e-5, 0.7, 0.8), (1e-4, 0.9, 0.6)];
    let mut ended = Vec::new();
    for task in [Task::Rte, Task::Cola] {
        for (rate, selection, dev) in rates {
            for seed in 0..3 {
                let end = scored(if task == Task::Rte { dev } else { dev - 0.2 });
                let trial = finetune_ending("pre-ln", task, (0, seed), end);
                ended.push(varied(trial, rate, Keep::All, Some(selection)));
            }
        }
    }
    // A rate at which a run diverged is not selected, however well the others did, nor one at which all did.
    for (rate, runs) in [(1e-3, 1..3), (1e-2, 0..0)] {
        for (task, seed) in [Task::Rte, Task::Cola].into_iter().flat_map(|task| (0..3).map(move |seed| (task, seed))) {
            let end = if runs.contains(&seed) { scored(0.9) } else { failed(FailureKind::NonFiniteLoss) };
            ended.push(varied(finetune_ending("pre-ln", task, (0, seed), end), rate, Keep::All, Some(0.99)));
        }
    }
    let report = report(&facts(ended));
    for task in &report.glue {
        assert!(task.arms[2..].iter().all(|row| !row.selected && row.diverged > 0), "{:?}", task.arms);
        let rows: Vec<_> = task.arms[..2].iter().map(|row| (row.learning_rate, row.selection, row.selected)).collect();
        let expected = [(1e-5, 0.7, false), (1e-4, 0.9, true)];
        for (row, (rate, selection, selected)) in rows.into_iter().zip(expected) {
            assert_eq!((row.0, row.2), (rate, selected));
            assert!((row.1.unwrap() - selection).abs() < 1e-12);
        }
    }
    let [average] = &report.glue_averages[..] else { panic!("{:?}", report.glue_averages) };
    assert_eq!(average.tasks, [Task::Cola, Task::Rte]);
    assert!((average.mean - 0.5).abs() < 1e-12, "{average:?}");
    assert!(report.notes.iter().any(|note| note.contains("dev had no say")), "{:?}", report.notes);
}
