//! The tables of a report, and its notes.

use std::sync::Arc;

use crate::common::{
    ARMS, changed, facts, failed, finetune, finetunes, full, pretrain, pretrain_recipe, row, scored, timed, timing,
    trial, varied,
};
use proptest::prelude::*;
use recipe::report::{ArmMemory, ArmTiming, BlockProbe, BlockState, OpenMemory, ProbeReport};
use recipe::{Dataset, FailureKind, KeptBlocks, Model, Norm, Probe, Published, Recipe, Seeds, Size, Source, Task};
use report::{Comparison, Facts, GlueRow, Report, TrialFacts, TrialStatus, report};
use serde_json::json;

#[test]
fn the_documents_equal_the_committed_files() {
    let report = report(&full());
    let documents = [
        ("report.md", report.to_markdown()),
        ("report.tex", report.to_latex()),
        ("report.csv", report.to_csv()),
        ("report.html", report.to_html()),
    ];
    for (name, text) in documents {
        let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        // `UPDATE=1 cargo test` writes the files, which are then to be read and committed.
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, text).unwrap();
        } else {
            assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}\n{text}");
        }
    }
}

#[test]
fn speed_is_compared_round_by_round() {
    let report = report(&full());
    let speed = report.speed.unwrap();
    let [_, baseline, pld] = &speed.arms[..] else { panic!("{:?}", speed.arms) };
    assert_eq!((baseline.ratio_to_baseline, baseline.ratio_interval, baseline.encoder_share), (Some(1.0), None, None));
    let fit = speed.fit.unwrap();
    assert!((fit.fixed - 0.02).abs() < 0.002 && (fit.per_block - 0.005).abs() < 0.0002, "{fit:?}");
    let share = pld.encoder_share.unwrap();
    assert!((share - 0.75).abs() < 0.03, "{share}");
    // At theta 0.5, 8.75 of 12 blocks are open on average, a saving of 13/48. Theta starts at 1, so the run saves a
    // little less.
    let closed_form = pld.closed_form_saving.unwrap();
    assert!(0.265 < closed_form && closed_form < 13.0 / 48.0, "{closed_form}");
    assert!((pld.limit_saving.unwrap() - share * closed_form).abs() < 1e-12);
    let (ratio, [low, high]) = (pld.ratio_to_baseline.unwrap(), pld.ratio_interval.unwrap());
    assert!(low < ratio && ratio < high && (ratio - 0.08 / 0.064).abs() < 0.05, "{ratio} [{low}, {high}]");
    assert!((pld.step_saving.unwrap() - (1.0 - 1.0 / ratio)).abs() < 1e-12);
}

#[test]
fn a_drift_that_slows_both_arms_equally_leaves_the_ratio_exact() {
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
fn a_fitted_line_with_a_negative_intercept_is_not_reported() {
    // The machine was slow while the baseline ran, so the line through both arms starts below zero.
    let mut slow = timed("pre-ln", &[(12, 80)], &[1.0, 1.0]);
    slow.turns.iter_mut().flat_map(|turn| &mut turn.seconds).for_each(|seconds| *seconds *= 2.0);
    let report = report(&facts(vec![timing(vec![slow, timed("pld", &[(6, 40), (8, 40)], &[1.0, 1.0])])]));
    assert_eq!(report.speed.unwrap().fit, None);
    assert!(report.notes.iter().any(|note| note.starts_with("No line of step time")), "{:?}", report.notes);
}

#[test]
fn memory_and_largest_batch_are_reported_with_the_speed() {
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
fn without_layer_drop_there_is_no_fit_and_no_limit() {
    let noise = [1.0, 1.01];
    let report =
        report(&facts(vec![timing(vec![timed("post-ln", &[(12, 40)], &noise), timed("pre-ln", &[(12, 40)], &noise)])]));
    let speed = report.speed.unwrap();
    assert_eq!(speed.fit, None);
    assert!(speed.arms.iter().all(|arm| arm.limit_saving.is_none() && arm.share_of_limit.is_none()));
    assert!(report.notes.iter().any(|note| note.starts_with("No timed arm has layer drop")), "{:?}", report.notes);
}

#[test]
fn runs_at_the_majority_score_and_diverged_runs_count_as_failed() {
    let report = report(&full());
    let baseline = row(&report, Task::Rte, "pre-ln");
    assert_eq!((baseline.n, baseline.failed, baseline.diverged), (5, 1, 0));
    let pld = row(&report, Task::Rte, "pld");
    assert_eq!((pld.n, pld.failed, pld.diverged, pld.independent), (5, 1, 1, 5));
    let sound = 0.5451 + 0.5523 + 0.5632 + 0.5415;
    assert!((pld.mean.unwrap() - (sound + 0.5271) / 5.0).abs() < 1e-12);
    assert!((pld.mean_without_failures.unwrap() - sound / 4.0).abs() < 1e-12);
    assert_eq!(pld.scores[4].score, None);
    // Running out of memory is no result of the recipe, so the run is not counted and a note names it.
    assert_eq!(row(&report, Task::Mrpc, "pld").n, 3);
    let deviations = &report.preregistration.deviations;
    assert!(deviations.iter().any(|deviation| deviation.contains("out_of_memory")), "{deviations:?}");
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
fn arms_are_compared_at_equal_rates_and_at_selected_rates() {
    let (low, high) = (1e-4, 3e-4);
    let mut trials = Vec::new();
    for (arm, rate, selection, scores) in [
        ("pre-ln", low, 0.7, [0.60, 0.62, 0.61]),
        ("pre-ln", high, 0.6, [0.58, 0.57, 0.59]),
        ("pld", low, 0.5, [0.55, 0.54, 0.56]),
        ("pld", high, 0.8, [0.70, 0.71, 0.73]),
    ] {
        let runs = finetunes(arm, Task::Rte, &scores).into_iter();
        trials.extend(runs.map(|trial| varied(trial, rate, KeptBlocks::All, Some(selection))));
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
    assert!(text.contains("## GLUE, difference between these two checkpoints at selected learning rates"), "{text}");
    assert!(text.contains("3e-4, 1e-4"), "{text}");
}

#[test]
fn arms_are_compared_only_with_the_same_choice_of_kept_blocks() {
    let mut trials = Vec::new();
    for (arm, keep, scores) in [
        ("pre-ln", KeptBlocks::First(3), [0.55, 0.56]),
        ("pre-ln", KeptBlocks::All, [0.65, 0.66]),
        ("pld", KeptBlocks::All, [0.64, 0.67]),
        ("pld", KeptBlocks::EveryOther, [0.60, 0.61]),
        ("pld", KeptBlocks::First(3), [0.58, 0.59]),
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
    assert_eq!(compared, [(Some(KeptBlocks::All), Some(12)), (Some(KeptBlocks::First(3)), Some(3))], "like with like");
    let averages: Vec<_> = report.glue_averages.iter().map(|row| (row.arm.as_str(), row.blocks, row.mean)).collect();
    assert_eq!((averages.len(), averages[3]), (5, ("pld", 6, 0.605)));
}

#[test]
fn an_arm_from_a_published_checkpoint_has_scores_and_neither_speed_nor_loss() {
    let mut facts = full();
    let published = |mut trial: TrialFacts| {
        let Recipe::Finetune(recipe) = Arc::make_mut(&mut trial.recipe) else { panic!("a fine-tune trial") };
        let checkpoint = Dataset { name: "bert-base".into(), digest: None };
        let model = Model::of_size(Size::named("base").unwrap(), Norm::Post);
        recipe.from = Source::Published(Box::new(Published { model, checkpoint }));
        TrialFacts { arm: Some("bert".into()), ..trial }
    };
    facts.trials.extend(finetunes("pld", Task::Rte, &[0.70, 0.71, 0.69]).into_iter().map(published));
    facts.arms.push("bert".into());
    facts.published.insert("bert".into());
    let report = report(&facts);
    assert_eq!(report.pretrain.iter().map(|row| row.arm.as_str()).collect::<Vec<_>>(), ARMS);
    assert_eq!(row(&report, Task::Rte, "bert").n, 3);
    assert!(report.glue[1].comparisons.iter().any(|comparison| comparison.arm == "bert" && comparison.n_pairs == 3));
    assert!(!report.notes.iter().any(|note| note.starts_with("The timing trial")), "{:?}", report.notes);
    assert!(report.notes.iter().any(|note| note.starts_with("Arms that start from a published checkpoint: bert.")));
}

#[test]
fn a_job_without_a_single_result_has_a_report() {
    let timing = timing(Vec::new());
    let pretrains = ARMS.map(|arm| pretrain(arm, 0, None));
    let unfinished = [timing].into_iter().chain(pretrains);
    let unfinished = unfinished.map(|trial| TrialFacts { status: TrialStatus::Unfinished, ..trial });
    let report = report(&facts(unfinished.collect()));
    assert!(!report.complete && report.speed.is_none() && report.glue.is_empty());
    assert_eq!(report.pretrain.len(), 3);
    assert_eq!(report.notes.len(), 3, "{:?}", report.notes);
    assert!(report.to_markdown().starts_with("# pld on wiki\n"));
}

#[test]
fn block_probes_are_averaged_over_the_checkpoints_of_an_arm() {
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
        let status = TrialStatus::Succeeded(recipe::TrialReport::Probe(report));
        trial(Some("pld"), Recipe::Probe(probe), Seeds::all(seed), status)
    };
    let report = report(&facts(vec![probed(0, 5.0, 0.1), probed(1, 6.0, 0.3)]));
    let [arm] = &report.probes[..] else { panic!("{:?}", report.probes) };
    assert_eq!((arm.arm.as_str(), arm.n, arm.validation_loss, arm.shuffled_adds), ("pld", 2, 5.5, Some(2.0)));
    let removed: Vec<f64> = arm.blocks.iter().map(|block| (block.removed_adds * 1e9).round() / 1e9).collect();
    assert_eq!(removed, [0.2, 0.4]);
    assert_eq!(arm.blocks.iter().map(|block| block.swapped_adds).collect::<Vec<_>>(), [Some(0.5), None]);
    assert!((arm.blocks[0].cosine - 0.55).abs() < 1e-12);
    let text = report.to_markdown();
    assert!(text.contains("## Contribution of each block") && text.contains("+0.2000"), "{text}");
}

#[test]
fn facts_that_are_read_back_from_json_give_the_same_report() {
    let facts = full();
    let json = serde_json::to_string(&facts).unwrap();
    let again: Facts = serde_json::from_str(&json).unwrap();
    assert_eq!(again, facts);
    assert_eq!(serde_json::to_string(&report(&again)).unwrap(), serde_json::to_string(&report(&facts)).unwrap());
    let missing = json.replace("\"recipe\":0", "\"recipe\":999");
    let error = serde_json::from_str::<Facts>(&missing).unwrap_err().to_string();
    assert!(error.contains("recipe 999, which is missing"), "{error}");
}

#[test]
fn a_report_that_is_read_back_from_json_is_equal() {
    let report = report(&full());
    let again: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(again, report);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["glue"][0]["arms"][1]["interval"].as_array().unwrap().len(), 2);
}

#[test]
fn fine_tune_trials_cancelled_by_a_failed_pre_training_are_counted_apart_from_other_cancelled_ones() {
    let diverged = pretrain("post-ln", 0, None);
    let sound = pretrain("pre-ln", 0, Some(5.0));
    let cancelled = |arm: &str, awaited: &TrialFacts| {
        let trial = finetune(arm, Task::Rte, (0, 0), TrialStatus::Cancelled);
        TrialFacts { waits_for: Some(awaited.id), ..trial }
    };
    let (orphan, stopped) = (cancelled("post-ln", &diverged), cancelled("pre-ln", &sound));
    let report = report(&facts(vec![diverged, sound, orphan, stopped]));
    assert!(report.complete);
    let deviations = report.preregistration.deviations.iter();
    let cancelled: Vec<_> = deviations.filter(|deviation| deviation.contains("fine-tune trial")).collect();
    assert_eq!(
        cancelled,
        [
            "1 fine-tune trial was cancelled.",
            "1 fine-tune trial of post-ln never started, because pre-training failed; no statistic includes it."
        ]
    );
}

/// Two norms, layer drop and two learning rates. Post-LN diverges at the high rate, at which the other arms do best.
#[test]
fn layer_drop_and_norm_have_separate_effects() {
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
            trials.push(pretrain_at(peak, name, like, seed, loss.map(|loss| loss + 0.01 * seed as f64)));
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
        // Post-LN diverged at the high rate, and counts with the loss of a guess.
        ("pre high", "post high", &[Norm], false, -4.49),
        ("pld low", "post low", &[Norm, LayerDrop], false, -0.05),
        ("pld low", "pre low", &[LayerDrop], false, 0.05),
        ("pld high", "post high", &[Norm, LayerDrop], false, -4.59),
        ("pld high", "pre high", &[LayerDrop], false, -0.1),
        ("pre high", "post low", &[Norm], true, -0.5),
        ("pld high", "post low", &[Norm, LayerDrop], true, -0.6),
    ];
    assert_eq!(found, expected);
    let text = report.to_markdown();
    assert!(text.contains("Pre-LN and layer drop | 1e-3, 1e-4"), "{text}");
    assert!(text.contains("[43.9, 100.0]"), "{text}");
}

/// A pre-train trial of the arm `name` with the recipe of the arm `like` and another peak learning rate.
fn pretrain_at(peak: f64, name: &str, like: &str, seed: u64, loss: Option<f64>) -> TrialFacts {
    changed(pretrain(like, seed, loss), name, |recipe| recipe.learning_rate.peak = peak)
}

/// Facts with these arms, of which the first is the baseline.
fn facts_of(arms: &[&str], trials: Vec<TrialFacts>) -> Facts {
    let arms: Vec<String> = arms.iter().map(|arm| (*arm).to_owned()).collect();
    Facts { baseline: arms[0].clone(), arms, ..facts(trials) }
}

#[test]
fn a_rate_at_which_a_seed_diverged_is_never_the_best() {
    let trials = vec![
        pretrain_at(1e-4, "pre low", "pre-ln", 0, Some(6.0)),
        pretrain_at(1e-3, "pre mid", "pre-ln", 0, Some(6.1)),
        pretrain_at(1e-2, "pre high", "pre-ln", 0, Some(6.2)),
        pretrain_at(1e-4, "pld low", "pld", 0, Some(5.9)),
        pretrain_at(1e-3, "pld mid", "pld", 0, Some(5.8)),
        pretrain_at(1e-2, "pld high", "pld", 0, Some(5.1)),
        pretrain_at(1e-2, "pld high", "pld", 1, None),
    ];
    let compared =
        report(&facts_of(&["pre low", "pre mid", "pre high", "pld low", "pld mid", "pld high"], trials.clone()));
    let best: Vec<_> = compared.effects.iter().filter(|effect| effect.each_at_its_best).collect();
    assert_eq!(best.iter().map(|effect| effect.arm.as_str()).collect::<Vec<_>>(), ["pld mid"]);
    assert!(compared.notes.iter().any(|note| note.contains("favours neither")), "{compared:?}");
    // The arm that was given more rates is not compared at its best.
    let uneven = facts_of(&["pre low", "pld low", "pld mid", "pld high"], trials);
    assert!(!report(&uneven).effects.iter().any(|effect| effect.each_at_its_best));
}

#[test]
fn effects_that_other_tables_show_are_left_out() {
    let mut trials =
        vec![pretrain_at(1e-4, "pre", "pre-ln", 0, Some(6.0)), pretrain_at(1e-4, "pld", "pld", 0, Some(5.9))];
    // Both tables compare with the baseline at one rate.
    assert_eq!(report(&facts_of(&["pre", "pld"], trials.clone())).effects, []);
    // With another baseline, only the table of effects compares "pld" with "pre".
    trials.push(pretrain_at(3e-4, "other", "post-ln", 0, Some(6.5)));
    let effects = report(&facts_of(&["other", "pre", "pld"], trials)).effects;
    let pairs: Vec<_> = effects.iter().map(|effect| (effect.arm.as_str(), effect.against.as_str())).collect();
    assert!(pairs.contains(&("pld", "pre")), "{pairs:?}");
}

#[test]
fn losses_of_different_objectives_are_shown_but_not_compared() {
    let electra = |seed| {
        changed(pretrain("pld", seed, Some(28.0)), "pld", |recipe| {
            recipe.objective = serde_json::from_value(json!({"electra": {}})).unwrap();
        })
    };
    let masked = changed(pretrain("post-ln", 0, Some(7.4)), "post-ln", |recipe| {
        recipe.objective = serde_json::from_value(json!({"rate": 0.3, "rate_end": 0.15})).unwrap();
    });
    let report = report(&facts(vec![pretrain("pre-ln", 0, Some(7.5)), masked, electra(0)]));
    let rows = report.pretrain.iter().map(|row| (row.other_measure, row.comparison.is_some()));
    // Another masking rate in training does not change the validation loss: validation always masks the same share.
    assert!(rows.eq([(false, true), (false, false), (true, false)]), "{:?}", report.pretrain);
    assert_eq!(report.pretrain[2].validation_loss.as_ref().unwrap().mean, 28.0);
    assert!(report.notes.iter().any(|note| note.starts_with("The validation loss of pld is not compared")));
}

#[test]
fn the_expected_best_is_given_for_no_more_runs_than_there_are() {
    let scores = [0.5, 0.6, 0.7, 0.8, 0.9];
    let report = report(&facts(finetunes("pre-ln", Task::Rte, &scores)));
    let row = row(&report, Task::Rte, "pre-ln");
    let best: Vec<_> = row.best_of.iter().map(|best| (best.runs, (best.expected * 1e9).round() / 1e9)).collect();
    // By the formula: sum v_i (i - 1) / 10 for k = 2. The best of all 5 runs is the largest score of this sample.
    assert_eq!(best, [(2, 0.8)]);
    assert!((row.hours.unwrap() - 60.0 / 3600.0).abs() < 1e-12);
    let text = report.to_markdown();
    assert!(text.contains("expected best of k runs") && text.contains("80.0 |"), "{text}");
}

proptest! {
    #[test]
    fn the_order_of_the_trials_does_not_change_the_report(
        order in Just((0..full().trials.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let facts = full();
        let trials = order.into_iter().map(|i| facts.trials[i].clone()).collect();
        let shuffled = Facts { trials, ..facts.clone() };
        prop_assert_eq!(report(&shuffled), report(&facts));
    }

    #[test]
    fn a_failed_run_does_not_change_the_statistics_of_other_runs(arm in 0usize..3, task in 0usize..2, crashed: bool) {
        let (arm, task) = (ARMS[arm], [Task::Rte, Task::Mrpc][task]);
        let kind = if crashed { FailureKind::Crashed } else { FailureKind::NonFiniteLoss };
        let before = full();
        let mut after = before.clone();
        after.trials.push(finetune(arm, task, (0, 99), failed(kind)));
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
                let kept = |row: &GlueRow| (row.mean, row.sd, row.interval, row.median, row.min, row.max);
                // A run that diverged has the score of the majority class.
                if !hit {
                    prop_assert_eq!(kept(new), kept(old));
                }
            }
        }
    }
}

#[test]
fn the_rate_is_selected_by_selection_scores_and_not_by_dev_scores() {
    // Tuples are (rate, selection score, dev score). By dev scores the other rate would be selected.
    let rates = [(1e-5, 0.7, 0.8), (1e-4, 0.9, 0.6)];
    let mut trials = Vec::new();
    for task in [Task::Rte, Task::Cola] {
        for (rate, selection, dev) in rates {
            for seed in 0..3 {
                let status = scored(if task == Task::Rte { dev } else { dev - 0.2 });
                let trial = finetune("pre-ln", task, (0, seed), status);
                trials.push(varied(trial, rate, KeptBlocks::All, Some(selection)));
            }
        }
    }
    // A rate at which some or all runs diverged is not selected, however high the other scores are.
    for (rate, runs) in [(1e-3, 2..3), (1e-2, 0..0)] {
        for (task, seed) in [Task::Rte, Task::Cola].into_iter().flat_map(|task| (0..3).map(move |seed| (task, seed))) {
            let status = if runs.contains(&seed) { scored(0.9) } else { failed(FailureKind::NonFiniteLoss) };
            trials.push(varied(finetune("pre-ln", task, (0, seed), status), rate, KeptBlocks::All, Some(0.99)));
        }
    }
    let report = report(&facts(trials));
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
    assert!(
        report.notes.iter().any(|note| note.contains("by one half of the seeds for the other half")),
        "{:?}",
        report.notes
    );
}
