//! Validation losses of pre-training, and the effects of layer drop and norm.

use super::cell::{
    difference, known, mean, number, p_value, percent_with_interval, rate, rates, spread, with_interval,
};
use super::figure::{Figure, Row};
use super::part::Part;
use super::table::Table;
use crate::effects::{Effect, Factor};
use crate::pretrain::{PretrainArm, PretrainSeed};
use crate::statistics;

pub(super) fn section(arms: &[PretrainArm]) -> Vec<Part> {
    if arms.iter().all(|row| row.seeds.is_empty()) {
        return Vec::new();
    }
    let table = Table::of(arms)
        .left("Arm", |row| row.arm.clone())
        .right("Rate", |row| rate(row.learning_rate))
        .right("n", |row| {
            let (n, ended) = (row.validation_loss.as_ref().map_or(0, |loss| loss.n), row.seeds.len());
            if n == ended { n.to_string() } else { format!("{n} of {ended}") }
        })
        .right("Validation loss", |row| mean(row.validation_loss.as_ref(), 1.0, 4))
        .right("sd", |row| known(row.validation_loss.as_ref().and_then(|loss| loss.sd), |sd| number(sd, 4)))
        .right("Difference", |row| difference(row.comparison.as_ref(), 1.0, 4))
        .right("p", |row| p_value(row.comparison.as_ref().and_then(|comparison| comparison.p_paired_t)))
        .right("Spread", |row| spread(row.comparison.as_ref().and_then(|comparison| comparison.spread.as_ref())))
        .right("Without failures", |row| known(row.loss_without_failures, |loss| number(loss, 4)))
        .right("Diverged", |row| format!("{} of {}", row.diverged, row.results()))
        .right("Diverged, %", |row| percent_with_interval(row.diverged_share(), row.diverged_interval))
        .right("Steps", |row| mean_over(&row.seeds, |seed| seed.steps.map(|steps| steps as f64), 0))
        .right("Hours", |row| mean_over(&row.seeds, |seed| seed.hours, 3))
        .right("Reference hours", |row| mean_over(&row.seeds, |seed| seed.reference_hours, 3));
    let mut section = vec![
        Part::heading("Pre-training"),
        "Validation loss: at full depth at the end of the budget, mean over n pre-train seeds, of which one that diverged \
         has the loss of a guess; without failures: the mean of the others. Difference: arm minus baseline, over shared \
         seeds; p: paired t test; spread: standard deviation of the arm divided by that of the baseline (jackknife). \
         Diverged: of the seeds with a result. Steps and hours: means per seed; reference hours are at the step time of \
         the timing trial."
            .into(),
        table.into(),
        Part::Figure(figure(arms)),
    ];
    if arms.iter().any(|row| row.validation_accuracy.is_some()) {
        section.extend([
            "Validation accuracy: share of held-out images that are classified correctly.".into(),
            accuracy_table(arms),
        ]);
    }
    section
}

fn figure(arms: &[PretrainArm]) -> Figure {
    let row = |arm: &PretrainArm| Row {
        label: arm.arm.clone(),
        points: arm.seeds.iter().filter_map(|seed| seed.validation_loss).collect(),
        estimate: arm.loss_without_failures.or_else(|| Some(arm.validation_loss.as_ref()?.mean)),
        interval: arm.validation_loss.as_ref().filter(|_| arm.diverged == 0).and_then(|loss| loss.interval),
    };
    Figure {
        title: "Validation loss of each seed that did not diverge, with their mean and its 95 % interval.".into(),
        axis: "validation loss, nats".into(),
        reference: None,
        rows: arms.iter().filter(|arm| !arm.other_measure && arm.diverged < arm.results()).map(row).collect(),
    }
}

fn accuracy_table(arms: &[PretrainArm]) -> Part {
    let table = Table::of(arms)
        .left("Arm", |row| row.arm.clone())
        .right("n", |row| row.validation_accuracy.as_ref().map_or(0, |accuracy| accuracy.n).to_string())
        .right("Validation accuracy, %", |row| mean(row.validation_accuracy.as_ref(), 100.0, 2))
        .right("sd", |row| {
            let sd = row.validation_accuracy.as_ref().and_then(|accuracy| accuracy.sd);
            known(sd, |sd| number(100.0 * sd, 2))
        })
        .right("Difference", |row| difference(row.accuracy_comparison.as_ref(), 100.0, 2))
        .right("p", |row| p_value(row.accuracy_comparison.as_ref().and_then(|comparison| comparison.p_paired_t)));
    table.into()
}

pub(super) fn effect_section(effects: &[Effect]) -> Vec<Part> {
    if effects.is_empty() {
        return Vec::new();
    }
    let table = Table::of(effects)
        .left("Arm", |row| row.arm.clone())
        .left("Against", |row| row.against.clone())
        .left("Effect", |row| row.factors.iter().map(|factor| factor_name(*factor)).collect::<Vec<_>>().join(" and "))
        .right("Rate", |row| rates(Some(row.learning_rates[0]), Some(row.learning_rates[1])))
        .right("Pairs", |row| row.loss.as_ref().map_or(0, |loss| loss.n_pairs).to_string())
        .right("Difference in loss", |row| difference(row.loss.as_ref(), 1.0, 4))
        .right("p", |row| p_value(row.loss.as_ref().and_then(|loss| loss.p_paired_t)))
        .right("Speed-up", |row| {
            known(row.speed_up, |ratio| with_interval(format!("{ratio:.2}x"), row.speed_up_interval, 1.0, 2))
        });
    vec![
        Part::heading("Effects of layer drop and norm"),
        "Pairs of arms that differ in nothing but the effect, at one learning rate; where two rates are given, each \
         arm is at its best rate, that of its lowest validation loss. Difference in loss: Arm minus Against, over \
         shared seeds; p: paired t test. Speed-up: step time of Against divided by that of Arm."
            .into(),
        table.into(),
    ]
}

const fn factor_name(factor: Factor) -> &'static str {
    match factor {
        Factor::Norm => "Pre-LN",
        Factor::LayerDrop => "layer drop",
    }
}

fn mean_over(seeds: &[PretrainSeed], measure: impl Fn(&PretrainSeed) -> Option<f64>, decimals: usize) -> String {
    let values: Vec<f64> = seeds.iter().filter_map(measure).collect();
    known(statistics::mean(&values), |mean| number(mean, decimals))
}
