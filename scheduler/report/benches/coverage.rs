//! How often the intervals of a report cover the truth and its verdicts are wrong, by simulation through the code that
//! computes reports. It takes minutes and prints tables in Markdown:
//!
//!     cargo bench -p report --bench coverage

#[path = "../tests/report/common.rs"]
#[expect(dead_code, reason = "the simulation needs a part of the facts that tests are made of")]
mod common;

use common::{arm_timing, facts, finetune, pretrain, pretrain_recipe, scored, trial};
use recipe::report::{TimingReport, Turn};
use recipe::seeds::{Purpose, generator, uniform};
use recipe::{LayerDrop, Moment, Recipe, Rows, Seeds, Task, Timing, TimingArm, TrialReport};
use report::statistics::{nested_rate_interval, spread_of_pairs, t_interval};
use report::{Facts, Outcome, Question, Report, TrialFacts, TrialStatus, report};

/// Draws of one repetition of a simulation.
struct Draws(Box<dyn FnMut() -> f64>);

impl Draws {
    fn new(simulation: u64, repetition: u64) -> Self {
        let mut generator = generator(simulation, Purpose::Shuffle, repetition, 0);
        Self(Box::new(move || uniform(&mut generator)))
    }

    /// Uniform in 0 to 1.
    fn uniform(&mut self) -> f64 {
        (self.0)()
    }

    /// Standard normal, by the transform of Box and Muller.
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }
}

/// Per cent of `count` repetitions for which `holds`; repetitions without an answer are left out.
fn percent(simulation: u64, count: u64, holds: impl Fn(&mut Draws) -> Option<bool>) -> f64 {
    let answers: Vec<bool> =
        (0..count).filter_map(|repetition| holds(&mut Draws::new(simulation, repetition))).collect();
    100.0 * answers.iter().filter(|holds| **holds).count() as f64 / answers.len() as f64
}

fn covers(interval: Option<[f64; 2]>, truth: f64) -> Option<bool> {
    interval.map(|[low, high]| low <= truth && truth <= high)
}

fn table(title: &str, head: &[String], rows: &[(String, Vec<String>)]) {
    println!("\n{title}\n\n| | {} |\n|---|{}", head.join(" | "), "---:|".repeat(head.len()));
    for (name, cells) in rows {
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn main() {
    means();
    loss_verdicts();
    spreads();
    failures();
    speed();
}

const BASELINE: &str = "pre-ln";
const ARM: &str = "pld";

fn two_arms(trials: Vec<TrialFacts>) -> Report {
    report(&Facts { arms: vec![BASELINE.into(), ARM.into()], ..facts(trials) })
}

/// The t interval of a mean.
fn means() {
    type Draw = fn(&mut Draws) -> f64;
    const LOG_NORMAL_MEAN: f64 = 1.133_148_453_066_826_3;
    let failing = |draws: &mut Draws| if draws.chance(0.1) { 0.5271 } else { 0.66 + 0.02 * draws.normal() };
    let kinds: [(&str, Draw, f64); 3] = [
        ("normal", |draws| draws.normal(), 0.0),
        ("log-normal, sigma 0.5", |draws| (0.5 * draws.normal()).exp(), LOG_NORMAL_MEAN),
        ("10 % of runs fail", failing, 0.9 * 0.66 + 0.1 * 0.5271),
    ];
    let sizes = [3, 5, 10, 25];
    let rows = kinds.map(|(name, draw, truth)| {
        let cover = |n: usize| {
            let simulated = percent(n as u64, 20_000, |draws| {
                covers(t_interval(&(0..n).map(|_| draw(draws)).collect::<Vec<f64>>()), truth)
            });
            format!("{simulated:.1}")
        };
        (name.to_owned(), sizes.map(cover).to_vec())
    });
    table("Coverage of the t interval of a mean, %", &sizes.map(|n| format!("n = {n}")), &rows);
}

/// The verdict on the validation loss through whole reports, with a margin of one standard deviation of the
/// differences.
fn loss_verdicts() {
    let truths = [0.0, 0.5, 1.0, 1.5, 3.0];
    let rows = [3_usize, 5, 10, 20].map(|n| {
        let cell = |truth: f64| {
            let (mut wrong, mut told) = (0, 0);
            const REPETITIONS: u64 = 1_000;
            for repetition in 0..REPETITIONS {
                let mut draws = Draws::new(100 + n as u64, repetition);
                let margin = report::Rules::default().margins.loss;
                let mut trials = Vec::new();
                for seed in 0..n as u64 {
                    let shared = 5.0 + 0.1 * draws.normal();
                    trials.push(pretrain(BASELINE, seed, Some(shared)));
                    trials.push(pretrain(ARM, seed, Some(shared + margin * (truth + draws.normal()))));
                }
                let report = two_arms(trials);
                let verdict =
                    report.answers[0].verdicts.iter().find(|v| v.question == Question::ValidationLoss).unwrap();
                told += u64::from(verdict.outcome != Outcome::CannotTell);
                wrong += u64::from(match verdict.outcome {
                    Outcome::Same => truth >= 1.0,
                    Outcome::Worse => truth <= 0.0,
                    Outcome::Better => true,
                    _ => false,
                });
            }
            let share = |count: u64| 100.0 * count as f64 / REPETITIONS as f64;
            format!("{:.1}, {:.0}", share(wrong), share(told))
        };
        (format!("{n} seeds"), truths.map(cell).to_vec())
    });
    let head = truths.map(|truth| format!("true {truth} sd"));
    table("Verdict on the loss (margin 1 sd, Holm over the job's 2 questions): wrong %, told %", &head, &rows);
}

/// The ratio of spreads: within checkpoints through whole reports, and of pairs.
fn spreads() {
    let kinds: [(&str, f64, f64); 4] = [
        ("normal, ICC 0.2", 0.2, 0.0),
        ("normal, ICC 0.5", 0.5, 0.0),
        ("normal, ICC 0.8", 0.8, 0.0),
        ("10 % fail, ICC 0.5", 0.5, 0.1),
    ];
    let designs = [(3_u64, 5_u64), (3, 10), (5, 5), (10, 5)];
    let rows = kinds.map(|(name, correlation, failing)| {
        let cell = |(checkpoints, runs): (u64, u64)| {
            let cover = percent(200 + checkpoints * 100 + runs, 2_000, |draws| {
                let mut trials = Vec::new();
                for arm in [BASELINE, ARM] {
                    for checkpoint in 0..checkpoints {
                        let own = correlation.sqrt() * draws.normal();
                        for run in 0..runs {
                            let run_value = own + (1.0 - correlation).sqrt() * draws.normal();
                            let score = if draws.chance(failing) { 0.5271 } else { 0.66 + 0.01 * run_value };
                            trials.push(finetune(arm, Task::Rte, (checkpoint, run), scored(score)));
                        }
                    }
                }
                let report = two_arms(trials);
                covers(report.glue[0].comparisons[0].spread.as_ref()?.interval, 1.0)
            });
            format!("{cover:.1}")
        };
        (name.to_owned(), designs.map(cell).to_vec())
    });
    let head = designs.map(|(checkpoints, runs)| format!("{checkpoints} x {runs}"));
    table("Coverage of the ratio of spreads within checkpoints (checkpoints x runs), %", &head, &rows);

    let sizes = [5_usize, 10, 25];
    type Shape = fn(f64) -> f64;
    let kinds: [(&str, Shape); 2] = [("normal", |z| z), ("log-normal, sigma 0.5", |z| (0.5 * z).exp())];
    let rows = kinds.map(|(name, shape)| {
        let cell = |n: usize| {
            let cover = percent(300 + n as u64, 5_000, |draws| {
                let pair = |_| {
                    let shared = draws.normal();
                    let mut own = || shape(0.8_f64.sqrt() * shared + 0.2_f64.sqrt() * draws.normal());
                    (own(), own())
                };
                let pairs: Vec<(f64, f64)> = (0..n).map(pair).collect();
                covers(spread_of_pairs(&pairs)?.interval(0.05), 0.0)
            });
            format!("{cover:.1}")
        };
        (name.to_owned(), sizes.map(cell).to_vec())
    });
    table("Coverage of the ratio of spreads of pairs (correlation 0.8), %", &sizes.map(|n| format!("n = {n}")), &rows);
}

/// The share of failed runs over nested runs, and the mean of an arm that loses runs by divergence.
fn failures() {
    let correlations = [0.0, 0.2, 0.5, 0.8];
    let designs = [(3_usize, 10_usize), (5, 10), (10, 10)];
    let rows = designs.map(|(checkpoints, runs)| {
        let cell = |correlation: f64| {
            const RATE: f64 = 0.2;
            let cover = percent(400 + checkpoints as u64, 4_000, |draws| {
                // A run fails if a normal number, which the runs of a checkpoint share in part, is below its quantile.
                let group = |_| {
                    let own = draws.normal() * correlation.sqrt();
                    let fails =
                        (0..runs).filter(|_| own + (1.0 - correlation).sqrt() * draws.normal() < -0.841_621_233_6);
                    (fails.count(), runs)
                };
                covers(nested_rate_interval(&(0..checkpoints).map(group).collect::<Vec<_>>()), RATE)
            });
            format!("{cover:.1}")
        };
        (format!("{checkpoints} x {runs}"), correlations.map(cell).to_vec())
    });
    let head = correlations.map(|correlation| format!("correlation {correlation}"));
    table("Coverage of the share of failed runs, true 20 %, %", &head, &rows);
}

/// Noise on the time of a step: its factor, from the number of the step of the trial.
type Noise = Box<dyn FnMut(f64) -> f64>;

/// A noise of this kind; `steps` is the number of steps of the trial.
fn noise(kind: &'static str, steps: f64, mut draws: Draws) -> Noise {
    let mut state = 0.0;
    let offset = draws.uniform();
    Box::new(move |step| {
        let still = 1.0 + 0.005 * draws.normal();
        match kind {
            "independent, 3 %" => 1.0 + 0.03 * draws.normal(),
            "drift, +20 %" => still * (1.0 + 0.2 * step / steps),
            "slow wave, 10 %" => still * (1.0 + 0.1 * (std::f64::consts::TAU * (3.0 * step / steps + offset)).sin()),
            "autoregressive, 0.9" => {
                state = 0.9 * state + 0.08 * (1.0 - 0.81_f64).sqrt() * draws.normal();
                1.0 + state
            }
            "spikes, 2 % of 4 times" => still * if draws.chance(0.02) { 4.0 } else { 1.0 },
            "bursts of 1.8 times" => {
                // A burst begins in 1 % of the steps, and ends in 5 %.
                let is_on = state > 0.5;
                state = if if is_on { draws.chance(0.95) } else { draws.chance(0.01) } { 1.0 } else { 0.0 };
                still * if is_on { 1.8 } else { 1.0 }
            }
            _ => still * if step > steps / 2.0 { 1.3 } else { 1.0 },
        }
    })
}

/// The speed-up of progressive layer dropping, and the share of its limit, through whole reports.
fn speed() {
    let kinds = [
        "independent, 3 %",
        "drift, +20 %",
        "slow wave, 10 %",
        "autoregressive, 0.9",
        "spikes, 2 % of 4 times",
        "bursts of 1.8 times",
        "throttled to 1.3 times midway",
    ];
    let rows = kinds.map(|kind| {
        let cells = [2, 5].map(|arms| timing_cells(kind, arms));
        (kind.to_owned(), cells.concat())
    });
    let head: Vec<String> = [2, 5]
        .into_iter()
        .flat_map(|arms| {
            ["covers", "half-width", "control agrees", "limit covers"].map(|what| format!("{arms} arms: {what}"))
        })
        .collect();
    table("Speed-up of PLD, 32 rounds of 1 warm and 2 timed steps, %", &head, &rows);
}

fn timing_cells(kind: &'static str, arms: usize) -> Vec<String> {
    const REPETITIONS: u64 = 1_000;
    const ENCODER: f64 = 0.85;
    let cost = |open: f64| 1.0 - ENCODER + ENCODER * open / 12.0;
    let names: Vec<String> =
        [BASELINE, ARM].into_iter().map(String::from).chain((2..arms).map(|i| format!("arm {i}"))).collect();
    let recipe = |name: &str| {
        let mut recipe = pretrain_recipe(BASELINE);
        recipe.layer_drop = (name != BASELINE && name != "again")
            .then(|| serde_json::from_str::<LayerDrop>(r#"{"theta_limit": 0.5}"#).unwrap());
        recipe
    };
    let timed = |name: &String| TimingArm { name: name.clone(), recipe: recipe(name), repeats: None };
    let mut timing_arms: Vec<TimingArm> = names.iter().map(timed).collect();
    timing_arms.push(TimingArm { name: "again".into(), recipe: recipe("again"), repeats: Some(BASELINE.into()) });
    let truth = 1.0 / cost(recipe(ARM).mean_open_blocks());
    let (mut covered, mut agreed, mut limited, mut widths) = (0, 0, 0, Vec::new());
    for repetition in 0..REPETITIONS {
        let mut draws = Draws::new(500 + arms as u64, repetition);
        let total = (32 * 3 * timing_arms.len()) as f64;
        let mut noise = noise(kind, total, Draws::new(600 + arms as u64, repetition));
        let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); timing_arms.len()];
        let mut clock = 0.0;
        for round in 0..32_u64 {
            let mut order: Vec<(f64, usize)> = (0..timing_arms.len()).map(|arm| (draws.uniform(), arm)).collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0));
            for (place, (_, arm)) in order.into_iter().enumerate() {
                let recipe = &timing_arms[arm].recipe;
                let mut step = |index: u64| {
                    clock += 1.0;
                    let moment = Moment::of_step(index * recipe.steps / 64, recipe.steps);
                    let gates = recipe.gates(&moment, 0, repetition * 1_000 + arm as u64);
                    let open = gates.iter().filter(|gate| !matches!(gate.rows, Rows::None)).count() as f64 / 2.0;
                    (cost(open) * noise(clock), open)
                };
                let warm = step(round).0;
                let (seconds, open_blocks) = [step(round), step(32 + round)].into_iter().unzip();
                turns[arm].push(Turn { place: place as u32, warmup_seconds: vec![warm], seconds, open_blocks });
            }
        }
        let timing_of = |(arm, turns): (&TimingArm, Vec<Turn>)| arm_timing(&arm.name, turns);
        let timed = TimingReport { arms: timing_arms.iter().zip(turns).map(timing_of).collect() };
        let recipe =
            Timing { arms: timing_arms.clone(), rounds: 32, steps_per_turn: 2, warmup_steps: 1, largest_batch: None };
        let status = TrialStatus::Succeeded(TrialReport::Timing(timed));
        let trial = trial(None, Recipe::Timing(recipe), Seeds::default(), status);
        let speed = report(&Facts { arms: names.clone(), ..facts(vec![trial]) }).speed.unwrap();
        let row = &speed.arms[1];
        let [low, high] = row.ratio_interval.unwrap();
        covered += u64::from(low <= truth && truth <= high);
        widths.push(100.0 * (high / low).ln() / 2.0);
        agreed += u64::from(speed.control.unwrap().agrees == Some(true));
        limited += u64::from(covers(row.share_of_limit_interval, 1.0) == Some(true));
    }
    widths.sort_by(f64::total_cmp);
    let share = |count: u64| format!("{:.1}", 100.0 * count as f64 / REPETITIONS as f64);
    vec![share(covered), format!("{:.2}", widths[widths.len() / 2]), share(agreed), share(limited)]
}
