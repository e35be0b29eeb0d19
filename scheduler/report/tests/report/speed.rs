//! The speed of arms whose cost changes over their run, from made-up step times.

use crate::common::{arm_timing, facts, pretrain, pretrain_recipe, trial};
use proptest::prelude::*;
use recipe::report::{TimingReport, Turn};
use recipe::seeds::{Purpose, generator, uniform};
use recipe::{Gate, Moment, Pretrain, Recipe, Rows, Seeds, Timing, TimingArm, TrialReport};
use report::{Facts, Report, TrialFacts, TrialStatus, report};
use serde_json::{Value, json};

const ROUNDS: u32 = 32;
const STEPS_PER_TURN: u32 = 2;
const BASELINE: &str = "pre-ln";

/// The encoder's share of a step with all blocks open.
const ENCODER: f64 = 0.85;

/// An arm with this layer drop or growth.
fn arm(name: &str, settings: Value) -> TimingArm {
    let mut recipe = pretrain_recipe(BASELINE);
    let [drop, growth] = ["layer_drop", "growth"].map(|field| settings.get(field).cloned());
    recipe.layer_drop = drop.map(|drop| serde_json::from_value(drop).unwrap());
    recipe.growth = growth.map(|growth| serde_json::from_value(growth).unwrap());
    TimingArm { name: name.into(), recipe, repeats: None }
}

fn drop(schedule: &str) -> Value {
    json!({"layer_drop": {"theta_limit": 0.5, "schedule": schedule}})
}

/// The baseline, its repetition, and arms of every form of schedule.
fn arms() -> Vec<TimingArm> {
    let mut decreasing = drop("exponential");
    decreasing["layer_drop"]["direction"] = json!("decreasing");
    let growth = json!({"growth": {"stages": [{"blocks": 3, "until": 0.25}, {"blocks": 6, "until": 0.5}]}});
    vec![
        arm(BASELINE, json!({})),
        arm("exponential", drop("exponential")),
        arm("constant", drop("constant")),
        arm("linear", drop("linear")),
        arm("cosine", drop("cosine")),
        arm("step", drop("step")),
        arm("decreasing", decreasing),
        arm("growth", growth),
        TimingArm { repeats: Some(BASELINE.into()), ..arm("pre-ln (again)", json!({})) },
    ]
}

/// Open blocks of the step at this place of the whole run: the gates that the trainer would draw.
fn open_blocks(recipe: &Pretrain, place: f64) -> f64 {
    let moment = Moment::of_step((place * recipe.steps as f64) as u64, recipe.steps);
    let gates = match recipe.growth {
        Some(_) => recipe.full_depth(&moment),
        None => recipe.gates(&moment, 0, 7),
    };
    gates.iter().filter(|gate: &&Gate| !matches!(gate.rows, Rows::None)).count() as f64 / 2.0
}

/// Time of a step of the baseline at 1.
fn cost(open_blocks: f64) -> f64 {
    1.0 - ENCODER + ENCODER * open_blocks / 12.0
}

/// A timing trial; `noise` gives the factor on the time of the step with this number, counted from the first.
fn timed(noise: impl Fn(u64) -> f64) -> TrialFacts {
    let arms = arms();
    let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); arms.len()];
    let mut clock = 0;
    for round in 0..ROUNDS {
        // The order is another one in each round.
        for place in 0..arms.len() {
            let index = (place * 4 + round as usize) % arms.len();
            let timed = |step: u32| f64::from(step * ROUNDS + round) / f64::from(ROUNDS * STEPS_PER_TURN);
            let open: Vec<f64> =
                (0..STEPS_PER_TURN).map(|step| open_blocks(&arms[index].recipe, timed(step))).collect();
            let seconds = open.iter().map(|open| {
                clock += 1;
                cost(*open) * noise(clock)
            });
            let seconds: Vec<f64> = seconds.collect();
            turns[index].push(Turn { place: place as u32, warmup_seconds: vec![2.0], seconds, open_blocks: open });
        }
    }
    let timing = |(arm, turns): (&TimingArm, Vec<Turn>)| arm_timing(&arm.name, turns);
    let report = TimingReport { arms: arms.iter().zip(turns).map(timing).collect() };
    let recipe = Timing { arms, rounds: ROUNDS, steps_per_turn: STEPS_PER_TURN, warmup_steps: 1, largest_batch: None };
    trial(None, Recipe::Timing(recipe), Seeds::default(), TrialStatus::Succeeded(TrialReport::Timing(report)))
}

fn timed_report(noise: impl Fn(u64) -> f64) -> Report {
    let names = arms().into_iter().filter(|arm| arm.repeats.is_none()).map(|arm| arm.name).collect();
    report(&Facts { arms: names, baseline: BASELINE.into(), ..facts(vec![timed(noise)]) })
}

/// Noise of a still machine, of one that is throttled midway, and of one with bursts of other work.
fn noise(kind: &str, seed: u64, step: u64) -> f64 {
    let draw = uniform(&mut generator(seed, Purpose::Shuffle, step, 0)) - 0.5;
    let still = 1.0 + 0.06 * draw;
    match kind {
        "throttled" if step > 250 => 1.3 * still,
        "bursts" if step / 9 % 7 == seed % 7 => 1.8 * still,
        "drift" => still * (1.0 + step as f64 / 3000.0),
        _ => still,
    }
}

#[test]
fn without_noise_every_arm_has_the_ratio_of_its_whole_run() {
    let report = timed_report(|_| 1.0);
    let speed = report.speed.unwrap();
    for arm in arms().iter().filter(|arm| arm.repeats.is_none()) {
        let row = speed.arms.iter().find(|row| row.arm == arm.name).unwrap();
        let truth = 1.0 / cost(arm.recipe.mean_open_blocks());
        assert!((row.ratio_to_baseline.unwrap() - truth).abs() < 1e-9, "{}: {row:?}, truth {truth}", arm.name);
        assert!((row.seconds_per_step - 1.0 / truth).abs() < 1e-9, "{row:?}");
        assert_eq!(row.ratio_interval, None, "nothing varies but the schedule");
        if arm.recipe.layer_drop.is_some() {
            assert!((row.share_of_limit.unwrap() - 1.0).abs() < 1e-9, "{row:?}");
        }
    }
    let fit = speed.fit.unwrap();
    assert!((fit.fixed - 0.15).abs() < 1e-9 && (fit.per_block - ENCODER / 12.0).abs() < 1e-9, "{fit:?}");
}

#[test]
fn noise_of_several_kinds_leaves_the_truth_within_the_interval_and_the_control_at_one() {
    for kind in ["still", "throttled", "bursts", "drift"] {
        let (mut missed, mut all) = (0, 0);
        for seed in 0..20 {
            let speed = timed_report(|step| noise(kind, seed, step)).speed.unwrap();
            let control = speed.control.unwrap();
            missed += usize::from(control.agrees != Some(true));
            all += 1;
            for arm in arms().iter().filter(|arm| arm.repeats.is_none() && arm.name != BASELINE) {
                let row = speed.arms.iter().find(|row| row.arm == arm.name).unwrap();
                let (truth, [low, high]) = (1.0 / cost(arm.recipe.mean_open_blocks()), row.ratio_interval.unwrap());
                missed += usize::from(truth < low || high < truth);
                all += 1;
                assert!((row.ratio_to_baseline.unwrap() / truth - 1.0).abs() < 0.1, "{kind}: {row:?}, truth {truth}");
                // One estimator: the numbers of a row cannot contradict each other.
                let ratio = row.ratio_to_baseline.unwrap();
                let base = &speed.arms[0];
                assert!((base.seconds_per_step / row.seconds_per_step - ratio).abs() < 1e-12);
                assert!((row.tokens_per_second / base.tokens_per_second - ratio).abs() < 1e-12);
                assert!((row.step_saving.unwrap() - (1.0 - 1.0 / ratio)).abs() < 1e-12);
            }
        }
        // 8 intervals of 20 trials at 95 %; those of a trial share its baseline.
        assert!(missed * 6 < all, "{kind}: {missed} of {all} intervals miss");
    }
}

#[test]
fn the_share_of_the_limit_has_an_interval_around_it() {
    let speed = timed_report(|step| noise("still", 3, step)).speed.unwrap();
    for name in ["exponential", "constant", "linear"] {
        let row = speed.arms.iter().find(|row| row.arm == name).unwrap();
        let (share, [low, high]) = (row.share_of_limit.unwrap(), row.share_of_limit_interval.unwrap());
        assert!(low < share && share < high && high - low < 0.5, "{name}: {share} [{low}, {high}]");
        assert!(low < 1.0 && 1.0 < high, "{name}: {share} [{low}, {high}]");
    }
}

#[test]
fn a_first_step_that_is_slower_is_told() {
    // Every other step is the first one of a turn.
    let slow_first = |step: u64| if step % 2 == 1 { 1.2 } else { 1.0 };
    let report = timed_report(|step| slow_first(step) * noise("still", 1, step));
    let row = &report.speed.as_ref().unwrap().arms[0];
    assert!((row.first_step.as_ref().unwrap().ratio - 1.2).abs() < 0.03, "{row:?}");
    assert!(report.notes.iter().any(|note| note.contains("warm-up is too short")), "{:?}", report.notes);
    let report = timed_report(|step| noise("still", 1, step));
    assert!(!report.notes.iter().any(|note| note.contains("warm-up")), "{:?}", report.notes);
}

#[test]
fn an_arm_that_was_not_timed_has_no_row_and_others_keep_theirs() {
    let mut facts = facts(vec![timed(|step| noise("still", 5, step)), pretrain("pld", 0, Some(5.0))]);
    facts.arms = vec![BASELINE.into(), "exponential".into(), "pld".into()];
    let report = report(&facts);
    let rows: Vec<_> = report.speed.unwrap().arms.into_iter().map(|row| row.arm).collect();
    assert_eq!(rows, [BASELINE, "exponential"]);
    assert!(report.notes.iter().any(|note| note == "The timing trial has no steps of pld."), "{:?}", report.notes);
}

/// A baseline that starts from a published checkpoint is not timed, and the budgets of the others still follow from
/// their step times.
#[test]
fn without_a_timed_baseline_arms_have_step_times_and_no_ratio() {
    let trial = timed(|step| noise("still", 6, step));
    let (Recipe::Timing(timing), TrialStatus::Succeeded(TrialReport::Timing(report_of_trial))) =
        (&*trial.recipe, &trial.status)
    else {
        panic!("a timing trial");
    };
    let speeds = report::timed_speeds(timing, report_of_trial, "published");
    assert_eq!(speeds.len(), arms().len());
    assert!(speeds.iter().all(|speed| speed.ratio.is_none()), "{speeds:?}");
    for (speed, arm) in speeds.iter().zip(arms()) {
        let truth = cost(arm.recipe.mean_open_blocks());
        assert!((speed.step_seconds / truth - 1.0).abs() < 0.02, "{speed:?}, truth {truth}");
    }
    let arms = vec!["published".to_owned(), BASELINE.into(), "linear".into()];
    let published = ["published".to_owned()].into();
    let report = report(&Facts { arms, baseline: "published".into(), published, ..facts(vec![trial.clone()]) });
    let rows = &report.speed.as_ref().unwrap().arms;
    assert!(rows.len() == 2 && rows.iter().all(|row| row.ratio_to_baseline.is_none()), "{rows:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever an agent reports, a report has numbers that are finite or absent, and no panic.
    #[test]
    fn forged_step_times_give_no_number_that_is_not_finite(
        times in prop::collection::vec(
            prop_oneof![Just(f64::MIN_POSITIVE), Just(1e-300), Just(1e300), Just(f64::MAX), Just(1.0), 1e-6f64..1e6],
            1..40,
        ),
    ) {
        let report = timed_report(|step| times[step as usize % times.len()]);
        let json = serde_json::to_string(&report).unwrap();
        let again: Report = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(again, report.clone());
        let text = report.to_markdown();
        prop_assert!(!text.contains("NaN") && !text.contains("inf "), "{}", text);
    }
}
