//! What a report concludes from made-up facts, and what it says cannot be concluded.

use crate::common::{facts, failed, finetune, finetunes, full, pretrain, row, scored, timed, timing};
use proptest::prelude::*;
use recipe::{FailureKind, Task};
use report::{Answer, Facts, Outcome, Question, Report, TrialFacts, TrialStatus, Units, Verdict, report};
use serde_json::Value;

/// Facts with the baseline `pre-ln` and the arm `pld`.
fn two_arms(trials: Vec<TrialFacts>) -> Facts {
    Facts { arms: vec!["pre-ln".into(), "pld".into()], ..facts(trials) }
}

fn losses(arm: &str, losses: &[f64]) -> Vec<TrialFacts> {
    (0..).zip(losses).map(|(seed, loss)| pretrain(arm, seed, Some(*loss))).collect()
}

/// Scores of the runs of each checkpoint of an arm.
fn scores(arm: &str, task: Task, checkpoints: &[&[f64]]) -> Vec<TrialFacts> {
    let runs = (0..).zip(checkpoints).flat_map(|(pretrain_seed, runs)| {
        (0..).zip(*runs).map(move |(seed, score)| finetune(arm, task, (pretrain_seed, seed), scored(*score)))
    });
    runs.collect()
}

fn answer<'a>(report: &'a Report, arm: &str) -> &'a Answer {
    report.answers.iter().find(|answer| answer.arm == arm).unwrap_or_else(|| panic!("{:?}", report.answers))
}

fn verdict(report: &Report, question: Question) -> &Verdict {
    let mut verdicts = answer(report, "pld").verdicts.iter();
    verdicts.find(|verdict| verdict.question == question).unwrap_or_else(|| panic!("{:?}", report.answers))
}

const BASE_LOSSES: [f64; 6] = [5.412, 5.398, 5.421, 5.405, 5.410, 5.402];

#[test]
fn a_loss_is_the_same_better_or_worse_or_it_cannot_be_told() {
    for (shift, noise, outcome) in [
        (0.003, 0.002, Outcome::Same),
        (-0.200, 0.010, Outcome::Better),
        (0.200, 0.010, Outcome::Worse),
        (0.010, 0.050, Outcome::CannotTell),
    ] {
        let own: Vec<f64> =
            BASE_LOSSES.iter().zip([1.0, -1.0, 0.5, -0.5, 0.9, -0.8]).map(|(l, z)| l + shift + noise * z).collect();
        let report = report(&two_arms([losses("pre-ln", &BASE_LOSSES), losses("pld", &own)].concat()));
        let verdict = verdict(&report, Question::ValidationLoss);
        assert_eq!((verdict.outcome, verdict.n), (outcome, 6), "{verdict:?}");
        assert_eq!(verdict.reason.is_some(), outcome == Outcome::CannotTell, "{verdict:?}");
        assert_eq!(verdict.more_seeds.is_some(), outcome == Outcome::CannotTell, "{verdict:?}");
        let [low, high] = verdict.interval.unwrap();
        assert!(low < verdict.estimate.unwrap() && verdict.estimate.unwrap() < high);
        assert_eq!(report.sentence.as_deref(), Some(answer(&report, "pld").sentence.as_str()));
    }
}

/// The sentence of the standard example.
#[test]
fn the_sentence_says_what_is_known_and_what_is_not() {
    let noise: Vec<f64> = (0..32).map(|round| 1.0 + 0.002 * f64::from(round * 7 % 11 - 5)).collect();
    let still = vec![1.0; 32];
    let speed = timing(vec![timed("pre-ln", &[(12, 64)], &still), timed("pld", &[(8, 32), (9, 32)], &noise)]);
    let same = [5.405, 5.416, 5.400, 5.412, 5.399, 5.414];
    let trials = [vec![speed], losses("pre-ln", &BASE_LOSSES), losses("pld", &same)].concat();
    let report = report(&two_arms(trials));
    let sentence = report.sentence.unwrap();
    let start = "pld is 1.25 times as fast per step as pre-ln (95 % 1.248 to 1.254), at the same validation loss within 0.02; \
                 whether it changes the spread over seeds cannot be told from 6 seeds: ";
    assert!(sentence.starts_with(start), "{sentence}");
    assert!(sentence.ends_with(" more would tell."), "{sentence}");
}

#[test]
fn runs_that_have_not_ended_leave_a_question_open_whatever_the_others_say() {
    let better: Vec<f64> =
        BASE_LOSSES.iter().enumerate().map(|(seed, loss)| loss - 0.3 - 0.001 * seed as f64).collect();
    let mut trials = [losses("pre-ln", &BASE_LOSSES), losses("pld", &better)].concat();
    trials[0].status = TrialStatus::Unfinished;
    let report = report(&two_arms(trials));
    let verdict = verdict(&report, Question::ValidationLoss);
    assert_eq!(verdict.outcome, Outcome::CannotTell);
    assert_eq!(verdict.reason.as_deref(), Some("1 of 12 runs have not ended"));
    assert!(verdict.interval.is_some(), "what is known so far is shown");
}

#[test]
fn the_runs_of_one_checkpoint_give_no_verdict_on_the_arm() {
    let trials = [
        finetunes("pre-ln", Task::Rte, &[0.54, 0.55, 0.53, 0.56, 0.545]),
        finetunes("pld", Task::Rte, &[0.64, 0.65, 0.63, 0.66, 0.645]),
    ];
    let report = report(&two_arms(trials.concat()));
    let [comparison] = &report.glue[0].comparisons[..] else { panic!("{:?}", report.glue) };
    assert_eq!(comparison.units, Units::RunsOfOneCheckpoint);
    for question in [Question::Score, Question::ScoreSpread] {
        let verdict = verdict(&report, question);
        assert_eq!(verdict.outcome, Outcome::CannotTell);
        assert!(verdict.reason.as_deref().unwrap().starts_with("there is one pre-train seed"), "{verdict:?}");
    }
    assert!(report.to_markdown().contains("difference between these two checkpoints"));
}

#[test]
fn several_checkpoints_give_verdicts_on_scores_and_on_their_spread() {
    let base: Vec<Vec<f64>> =
        (0..6).map(|c| (0..5).map(|r| 0.60 + 0.004 * f64::from((c * 3 + r * 2) % 5)).collect()).collect();
    let wide: Vec<Vec<f64>> = base
        .iter()
        .enumerate()
        .map(|(c, runs)| {
            let mean = runs.iter().sum::<f64>() / 5.0;
            runs.iter()
                .enumerate()
                .map(|(r, value)| mean + 0.05 + 0.002 * c as f64 + 6.0 * (value - mean) + 1e-4 * r as f64)
                .collect()
        })
        .collect();
    let slices = |runs: &[Vec<f64>]| -> Vec<Vec<f64>> { runs.to_vec() };
    let (base, wide) = (slices(&base), slices(&wide));
    let of =
        |arm: &str, task, runs: &[Vec<f64>]| scores(arm, task, &runs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let trials = [
        of("pre-ln", Task::Rte, &base),
        of("pld", Task::Rte, &wide),
        of("pre-ln", Task::Qnli, &base),
        of("pld", Task::Qnli, &wide),
    ];
    let report = report(&two_arms(trials.concat()));
    assert_eq!(verdict(&report, Question::Score).outcome, Outcome::Better);
    assert_eq!(verdict(&report, Question::MeanScore).outcome, Outcome::Better);
    let spread = verdict(&report, Question::ScoreSpread);
    assert_eq!((spread.outcome, spread.n), (Outcome::LessSteady, 6), "{spread:?}");
    assert!((spread.estimate.unwrap() - 6.0).abs() < 0.2, "{spread:?}");
    let sentence = &answer(&report, "pld").sentence;
    assert!(sentence.contains("a mean GLUE score 5.5 points higher"), "{sentence}");
}

/// The values of the audit: three runs of the arm look better than they are if its two diverged runs leave the mean.
#[test]
fn runs_that_diverge_stay_in_with_the_score_of_the_majority_class() {
    let mut trials = finetunes("pre-ln", Task::Rte, &[0.5, 0.52, 0.66, 0.67, 0.68]);
    trials.extend([0, 1].map(|seed| finetune("pld", Task::Rte, (0, seed), failed(FailureKind::Diverged))));
    trials.extend(
        [(2, 0.662), (3, 0.671), (4, 0.682)].map(|(seed, score)| finetune("pld", Task::Rte, (0, seed), scored(score))),
    );
    let report = report(&two_arms(trials));
    let pld = row(&report, Task::Rte, "pld");
    assert!((pld.mean.unwrap() - 0.61384).abs() < 1e-9, "{pld:?}");
    assert!((pld.mean_without_failures.unwrap() - 0.671_666_666_667).abs() < 1e-9, "{pld:?}");
    let comparison = &report.glue[0].comparisons[0];
    let expected = [0.00784, -0.005_853_420_503_5, 0.021_533_420_503_5];
    let [low, high] = comparison.interval.unwrap();
    for (ours, theirs) in [comparison.mean_difference, low, high].into_iter().zip(expected) {
        assert!((ours - theirs).abs() < 1e-9, "{ours}, not {theirs}");
    }
    assert_eq!((comparison.n_pairs, comparison.failed.difference), (5, 0.0), "{comparison:?}");
}

#[test]
fn a_pre_train_seed_that_diverges_has_the_loss_of_a_guess() {
    let mut trials = [losses("pre-ln", &[5.0, 5.1, 5.2]), losses("pld", &[4.9, 5.0])].concat();
    trials.push(pretrain("pld", 2, None));
    let report = report(&two_arms(trials));
    let pld = &report.pretrain[1];
    assert_eq!((pld.diverged, pld.guess_loss), (1, Some(10.0)));
    assert!((pld.validation_loss.as_ref().unwrap().mean - (4.9 + 5.0 + 10.0) / 3.0).abs() < 1e-12);
    assert!((pld.loss_without_failures.unwrap() - 4.95).abs() < 1e-12);
    assert_eq!(pld.comparison.as_ref().unwrap().n_pairs, 3);
    assert_eq!(pld.validation_accuracy, None, "text has no accuracy");
    assert_eq!(verdict(&report, Question::ValidationLoss).outcome, Outcome::CannotTell);
}

/// A mean over runs of unequal checkpoints was printed outside of its own interval.
#[test]
fn a_mean_lies_within_its_interval() {
    let many = [0.6; 20];
    let single: Vec<f64> = (1..=8).map(|i| 0.7 + f64::from(i) / 1000.0).collect();
    let checkpoints: Vec<&[f64]> = std::iter::once(&many[..]).chain(single.chunks(1)).collect();
    let report = report(&two_arms(scores("pre-ln", Task::Rte, &checkpoints)));
    let row = row(&report, Task::Rte, "pre-ln");
    assert!((row.mean.unwrap() - 0.692_888_888_889).abs() < 1e-9, "{row:?}");
    let [low, high] = row.interval.unwrap();
    assert!((low - 0.666_055_755_235).abs() < 1e-9 && (high - 0.719_722_022_543).abs() < 1e-9, "{row:?}");
}

#[test]
fn selection_is_cross_fitted_and_unequal_searches_are_not_compared() {
    let mut trials = Vec::new();
    for (arm, rates) in [("pre-ln", &[1e-5, 1e-4][..]), ("pld", &[1e-5, 1e-4]), ("post-ln", &[1e-5])] {
        for (number, rate) in rates.iter().enumerate() {
            for seed in 0..4 {
                // The run that selects best is lucky on dev as well.
                let luck = if seed as usize == number { 0.1 } else { 0.0 };
                let trial = finetune(arm, Task::Rte, (0, seed), scored(0.6 + luck));
                trials.push(crate::common::varied(trial, *rate, recipe::KeptBlocks::All, Some(0.6 + luck)));
            }
        }
    }
    let report = report(&facts(trials));
    let selected = &report.glue[0].selected;
    let pld = selected.iter().find(|score| score.arm == "pld").unwrap();
    // Each half is scored at the rate that the other's lucky run selected, where it has no luck itself.
    assert_eq!((pld.tried, pld.n, pld.learning_rates.len()), (2, 4, 2), "{pld:?}");
    assert!((pld.mean - 0.6).abs() < 1e-12, "{pld:?}");
    let compared: Vec<&str> = report.glue[0].selected_comparisons.iter().map(|row| row.arm.as_str()).collect();
    assert_eq!(compared, ["pld"], "post-ln was given one rate, the baseline two");
    assert!(report.notes.iter().any(|note| note.contains("the longer search wins by luck")), "{:?}", report.notes);
}

#[test]
fn every_job_says_what_cannot_be_concluded_and_why() {
    // One seed; an arm without a finished run; all runs failed; a constant metric; no timing.
    let one = report(&two_arms([losses("pre-ln", &[5.0]), losses("pld", &[5.1])].concat()));
    assert!(one.sentence.as_ref().unwrap().contains("there is one pair of runs"), "{one:?}");
    let unfinished = TrialFacts { status: TrialStatus::Cancelled, ..pretrain("pld", 0, None) };
    let none = report(&two_arms([losses("pre-ln", &[5.0]), vec![unfinished]].concat()));
    assert!(none.sentence.as_ref().unwrap().contains("there is no pair of runs"), "{none:?}");
    let failed =
        report(&two_arms((0..3).flat_map(|s| [pretrain("pre-ln", s, None), pretrain("pld", s, None)]).collect()));
    assert!(failed.sentence.as_ref().unwrap().contains("there is no pair of runs"), "{failed:?}");
    let constant = report(&two_arms([losses("pre-ln", &[5.0; 4]), losses("pld", &[5.0; 4])].concat()));
    assert!(constant.sentence.as_ref().unwrap().contains("too few or all equal"), "{constant:?}");
    let alone = report(&Facts { arms: vec!["pre-ln".into()], ..facts(losses("pre-ln", &[5.0])) });
    assert_eq!((alone.sentence, alone.answers.len()), (None, 0));
    for report in [one, none, failed, constant] {
        assert!(answer(&report, "pld").verdicts.iter().all(|verdict| verdict.reason.is_some()), "{report:?}");
    }
}

/// The verdicts of all arms, by arm.
fn verdicts(facts: &Facts) -> Vec<(String, Value)> {
    let report = report(facts);
    let mut verdicts: Vec<(String, Value)> = report
        .answers
        .iter()
        .map(|answer| (answer.arm.clone(), serde_json::to_value(&answer.verdicts).unwrap()))
        .collect();
    verdicts.sort_by(|a, b| a.0.cmp(&b.0));
    verdicts
}

proptest! {
    #[test]
    fn the_order_of_trials_arms_and_seeds_changes_no_verdict(
        order in Just((0..full().trials.len()).collect::<Vec<_>>()).prop_shuffle(),
        arms in Just(crate::common::ARMS.map(String::from).to_vec()).prop_shuffle(),
    ) {
        let facts = full();
        let trials = order.into_iter().map(|i| facts.trials[i].clone()).collect();
        prop_assert_eq!(verdicts(&Facts { trials, arms, ..facts.clone() }), verdicts(&facts));
    }

    /// A verdict depends on other arms through the number of questions alone.
    #[test]
    fn a_constant_arm_changes_no_other_verdict_but_by_the_correction(
        own in prop::collection::vec(4.9f64..5.1, 6),
        count in 0u64..6,
    ) {
        let trials = [losses("pre-ln", &BASE_LOSSES), losses("pld", &own)].concat();
        let before = report(&two_arms(trials.clone()));
        let constant = (0..count).map(|seed| pretrain("post-ln", seed, Some(5.4)));
        let after = report(&facts(trials.into_iter().chain(constant).collect()));
        for (old, new) in answer(&before, "pld").verdicts.iter().zip(&answer(&after, "pld").verdicts) {
            let measured = |verdict: &Verdict| (verdict.question, verdict.estimate, verdict.interval, verdict.margin, verdict.n);
            prop_assert_eq!(measured(old), measured(new));
            prop_assert!(new.p >= old.p);
            prop_assert!(new.outcome == old.outcome || new.outcome == Outcome::CannotTell, "{:?} {:?}", old, new);
        }
    }

    /// Whatever an agent reports, a report has numbers that are finite or absent, and no panic.
    #[test]
    fn forged_losses_and_scores_give_no_number_that_is_not_finite(
        values in prop::collection::vec(
            prop_oneof![
                Just(1e200), Just(-1e200), Just(1.7e308), Just(-1.7e308), Just(1e-308), Just(0.0), Just(f64::NAN),
                Just(f64::INFINITY), Just(0.5), -1.0f64..1.0,
            ],
            8,
        ),
        failed_seed in 0u64..8,
    ) {
        let mut trials = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let arm = ["pre-ln", "pld"][index % 2];
            let seed = index as u64 / 2;
            trials.push(pretrain(arm, seed, (index as u64 != failed_seed).then_some(*value)));
            trials.extend((0..3).map(|run| finetune(arm, Task::Rte, (seed, run), scored(values[(index + run as usize) % 8]))));
        }
        let report = report(&two_arms(trials));
        let json = serde_json::to_string(&report).unwrap();
        let again: Report = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(again, report.clone());
        let text = report.to_markdown();
        let words = text.split(|letter: char| !letter.is_alphanumeric());
        prop_assert!(words.into_iter().all(|word| !["NaN", "inf"].contains(&word)), "{}", text);
    }
}
