//! Time per step, from steps of all arms that ran interleaved on one device.
//!
//! | module | content |
//! |---|---|
//! | `rounds` | From the rounds of a timing trial to ratios of step times. |

mod rounds;

use std::collections::BTreeMap;

use recipe::event::Device;
use recipe::report::{ArmMemory, ArmTiming, TimingReport};
use recipe::{Pretrain, Recipe, Timing};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::ALPHA;
use crate::facts::{Facts, TrialStatus};
use crate::statistics::{Estimate, Line};
use rounds::{Measured, Trial};

/// Fewest rounds for an interval: with fewer, signed ranks have none at 95 %.
pub const LEAST_ROUNDS: u32 = 6;

/// Speed of each arm, as measured by the timing trial of the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Speed {
    /// The device on which all arms were timed.
    pub device: Option<Device>,
    /// Number of rounds, in each of which every arm had one turn.
    pub rounds: u32,
    /// What the trial says of two equal arms.
    pub control: Option<Control>,
    /// Absent if the timed steps have only one number of open blocks, or if the fitted line has a slope that is not
    /// positive or a negative intercept.
    pub fit: Option<EncoderFit>,
    /// One row per timed arm, in the order of the job.
    pub arms: Vec<ArmSpeed>,
}

/// The baseline against itself: it has two turns in each round, as if it were two arms (an A/A test). A trial that
/// finds a difference between them is disturbed by something that random order does not balance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Control {
    /// Step time of the baseline divided by that of its repetition.
    pub ratio: f64,
    /// 95 % interval of `ratio`, `[low, high]`.
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
    /// True if the interval contains 1. In one of twenty trials it is false by chance.
    pub agrees: Option<bool>,
}

/// The line `seconds = fixed + per_block * open blocks`, a robust fit (Huber 1964) over the timed steps of the baseline
/// and of every arm whose steps differ from the baseline's in the open blocks alone. Each step is taken relative to the
/// baseline's turn of its round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EncoderFit {
    /// Seconds of a step that are spent outside the encoder.
    pub fixed: f64,
    /// Seconds that each open block adds to a step.
    pub per_block: f64,
}

/// Speed and memory of one arm's training steps. All speeds follow from the ratio to the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArmSpeed {
    pub arm: String,
    /// Seconds of a mean step of the arm's whole run on this device, in the minutes of this trial: for the baseline the
    /// pseudomedian over its turns, for another arm that of the baseline divided by `ratio_to_baseline`. Where the
    /// baseline was not timed, the first timed arm takes its place.
    pub seconds_per_step: f64,
    /// Tokens of a step divided by `seconds_per_step`.
    pub tokens_per_second: f64,
    /// Step time of the baseline divided by that of this arm: above 1 the arm is faster, and the baseline has 1. It is
    /// the pseudomedian of the logarithms of the ratios within each round (Hodges and Lehmann 1963), after each turn
    /// was adjusted from the blocks that were open to those that are open on average in the run.
    pub ratio_to_baseline: Option<f64>,
    /// 95 % interval of the ratio, `[low, high]`, by signed ranks over the rounds. Absent below 6 rounds.
    #[schema(min_items = 2, max_items = 2)]
    pub ratio_interval: Option<[f64; 2]>,
    /// Share of the baseline's step time that the arm saves: `1 - 1 / ratio_to_baseline`.
    pub step_saving: Option<f64>,
    /// 95 % interval of the saving, `[low, high]`, from that of the ratio.
    #[schema(min_items = 2, max_items = 2)]
    pub step_saving_interval: Option<[f64; 2]>,
    /// The encoder's share of the time of a step with all blocks open, from the fit. This and the next four numbers
    /// are absent for an arm without layer drop, and for one whose steps differ from the baseline's in more than open
    /// blocks.
    pub encoder_share: Option<f64>,
    /// Share of the encoder's work in the whole run that layer drop saves, in closed form from its schedule.
    pub closed_form_saving: Option<f64>,
    /// The step saving if closed blocks took no time: `encoder_share * closed_form_saving`.
    pub limit_saving: Option<f64>,
    /// The part of that limit which the arm reached: `step_saving / limit_saving`.
    pub share_of_limit: Option<f64>,
    /// 95 % interval of that part, `[low, high]`: jackknife over groups of rounds. Absent below 6 rounds.
    #[schema(min_items = 2, max_items = 2)]
    pub share_of_limit_interval: Option<[f64; 2]>,
    /// Time of the first timed step of a turn divided by that of the others, with equal blocks open. Clearly above 1,
    /// the warm-up of a turn is too short. Absent if a turn has one timed step.
    pub first_step: Option<FirstStep>,
    /// One row per number of open blocks that was timed, in rising order.
    pub by_open: Vec<OpenSpeed>,
    /// Memory of the arm's steps. Absent if the timing trial had no warm-up steps to measure it in.
    pub memory: Option<ArmMemory>,
    /// Number of sequences in the largest batch that fits into memory; 0 if not even the smallest batch fits. Absent if
    /// the job did not ask for it.
    pub largest_batch: Option<u32>,
}

/// The first timed step of a turn against the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FirstStep {
    pub ratio: f64,
    /// 95 % interval of `ratio`, `[low, high]`.
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
}

/// The timed steps of an arm with one number of open blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OpenSpeed {
    /// Number of open blocks. A block with one open sublayer counts as half.
    pub open_blocks: f64,
    /// Number of timed steps.
    pub steps: u32,
    /// Mean seconds of these steps.
    pub mean_seconds: f64,
}

impl Speed {
    pub(crate) fn arm(&self, name: &str) -> Option<&ArmSpeed> {
        self.arms.iter().find(|row| row.arm == name)
    }
}

/// The job's only timing trial, once it has succeeded.
pub(crate) struct Timed<'a> {
    timing: &'a Timing,
    report: &'a TimingReport,
    device: Option<&'a Device>,
    trial: Trial<'a>,
    measured: Measured<'a>,
}

impl<'a> Timed<'a> {
    pub(crate) fn of(facts: &'a Facts) -> Option<Self> {
        let (timing, report, device) = facts.trials.iter().find_map(|trial| match (&*trial.recipe, &trial.status) {
            (Recipe::Timing(timing), TrialStatus::Succeeded(recipe::TrialReport::Timing(report))) => {
                Some((timing, report, trial.device.as_ref()))
            }
            _ => None,
        })?;
        let trial = Trial::new(timing, report, &facts.baseline)?;
        let measured = trial.measure()?;
        Some(Self { timing, report, device, trial, measured })
    }

    /// Logarithm of the step time of `against` divided by that of `arm`. `None` unless both were timed.
    pub(crate) fn speed_up(&self, arm: &str, against: &str) -> Option<Estimate> {
        self.measured.speed_up(arm, against)
    }

    /// The speed section.
    pub(crate) fn section(&self, facts: &Facts) -> Speed {
        let partial = self.trial.without_each_group();
        let arm = |name: &String| self.row(timed_arm(self.report, name)?, &facts.baseline, &partial);
        Speed {
            device: self.device.cloned(),
            rounds: u32::try_from(self.trial.rounds).unwrap_or(u32::MAX),
            control: control(self.timing, &facts.baseline, &self.measured),
            fit: self.measured.fit,
            arms: facts.arms.iter().filter_map(arm).collect(),
        }
    }

    /// The row of an arm; `partial` holds the measurements without each group of rounds.
    fn row(&self, arm: &ArmTiming, baseline: &str, partial: &[Measured<'_>]) -> Option<ArmSpeed> {
        let Self { timing, measured, .. } = self;
        let speed_up = measured.speed_up(&arm.name, baseline);
        let ratio = speed_up.as_ref().map(|ratio| ratio.centre.exp());
        let ratio_interval = speed_up.as_ref().and_then(interval);
        let seconds_per_step = measured.step_seconds(&arm.name)?;
        let Limit { encoder_share, closed_form_saving, saving, share } = limit(arm, timing, baseline, measured);
        Some(ArmSpeed {
            arm: arm.name.clone(),
            seconds_per_step,
            tokens_per_second: arm.tokens_per_step as f64 / seconds_per_step,
            ratio_to_baseline: ratio,
            ratio_interval,
            step_saving: ratio.map(step_saving),
            step_saving_interval: ratio_interval.map(|ends| ends.map(step_saving)),
            encoder_share,
            closed_form_saving,
            limit_saving: saving,
            share_of_limit: share,
            share_of_limit_interval: jackknife(share, partial, |part| limit(arm, timing, baseline, part).share),
            first_step: measured
                .first_step(&arm.name)
                .map(|first| FirstStep { ratio: first.centre.exp(), interval: interval(&first) }),
            by_open: by_open(arm),
            memory: arm.memory.clone(),
            largest_batch: arm.largest_batch,
        })
    }
}

/// How much layer drop could save of an arm's step time, and how much of it does.
#[derive(Default)]
struct Limit {
    encoder_share: Option<f64>,
    closed_form_saving: Option<f64>,
    saving: Option<f64>,
    share: Option<f64>,
}

/// The share of the baseline's step time that an arm with this ratio to it saves.
fn step_saving(ratio: f64) -> f64 {
    1.0 - 1.0 / ratio
}

/// The limit of an arm with layer drop. Empty for another arm, and for one whose steps differ from the baseline's in
/// more than open blocks.
fn limit(arm: &ArmTiming, timing: &Timing, baseline: &str, measured: &Measured<'_>) -> Limit {
    let has_limit = |recipe: &&Pretrain| recipe.layer_drop.is_some() && has_steps_of(timing, baseline, &arm.name);
    let Some(recipe) = timed_recipe(timing, &arm.name).filter(has_limit) else { return Limit::default() };
    let encoder_share = measured.fit.map(|fit| fit.encoder_share(arm.blocks));
    let closed_form_saving = recipe.encoder_saving();
    let saving = encoder_share.map(|share| share * closed_form_saving);
    let ratio = measured.speed_up(&arm.name, baseline).map(|ratio| ratio.centre.exp());
    let share = ratio.zip(saving.filter(|saving| *saving > 0.0)).map(|(ratio, limit)| step_saving(ratio) / limit);
    Limit { encoder_share, closed_form_saving: Some(closed_form_saving), saving, share }
}

/// The interval of a logarithm, exponentiated.
fn interval(logarithm: &Estimate) -> Option<[f64; 2]> {
    logarithm.interval(ALPHA).map(|ends| ends.map(f64::exp))
}

/// The 95 % interval of a number: Student's t with the standard error of the jackknife over groups of rounds (Tukey
/// 1958). `None` if a part of the rounds does not determine the number.
fn jackknife<'a>(
    all: Option<f64>,
    partial: &[Measured<'a>],
    number: impl Fn(&Measured<'a>) -> Option<f64>,
) -> Option<[f64; 2]> {
    let (all, groups) = (all?, partial.len() as f64);
    let pseudo = |partial| Some(groups * all - (groups - 1.0) * number(partial)?);
    let values = Estimate::of_mean(&partial.iter().map(pseudo).collect::<Option<Vec<f64>>>()?)?;
    // The mean of the pseudo-values corrects a bias, which for few rounds is mostly noise.
    Some(values.interval(ALPHA)?.map(|end| end - values.centre + all))
}

fn control(timing: &Timing, baseline: &str, measured: &Measured<'_>) -> Option<Control> {
    let repetition = timing.arms.iter().find(|arm| arm.repeats.as_deref() == Some(baseline))?;
    let ratio = measured.speed_up(&repetition.name, baseline)?;
    let interval = interval(&ratio);
    let agrees = interval.map(|[low, high]| low <= 1.0 && 1.0 <= high);
    Some(Control { ratio: ratio.centre.exp(), interval, agrees })
}

/// The timed steps of an arm by their number of open blocks.
fn by_open(arm: &ArmTiming) -> Vec<OpenSpeed> {
    let mut rows: BTreeMap<u64, (u32, f64)> = BTreeMap::new();
    let steps = arm.turns.iter().flat_map(|turn| turn.open_blocks.iter().zip(&turn.seconds));
    for (open, seconds) in steps {
        // The bits of numbers that are not negative sort like the numbers.
        let (count, sum) = rows.entry((open + 0.0).to_bits()).or_default();
        *count += 1;
        *sum += seconds;
    }
    let row = |(open, (steps, sum)): (u64, (u32, f64))| OpenSpeed {
        open_blocks: f64::from_bits(open),
        steps,
        mean_seconds: sum / f64::from(steps),
    };
    rows.into_iter().map(row).collect()
}

/// The speed of an arm as its timing trial gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedSpeed<'a> {
    pub arm: &'a str,
    /// Seconds of a mean step of the whole run: what a job's report has as `seconds_per_step`.
    pub step_seconds: f64,
    /// Step time of the baseline divided by that of the arm: what a job's report has as `ratio_to_baseline`. Absent if
    /// the baseline was not timed, because it starts from a published checkpoint.
    pub ratio: Option<f64>,
}

/// The speeds of all arms of a timing trial, repetitions included. Empty if no arm was timed.
pub fn timed_speeds<'a>(timing: &'a Timing, report: &'a TimingReport, baseline: &str) -> Vec<TimedSpeed<'a>> {
    let Some(measured) = Trial::new(timing, report, baseline).and_then(|trial| trial.measure()) else {
        return Vec::new();
    };
    let speed = |arm: &'a ArmTiming| {
        let ratio = measured.speed_up(&arm.name, baseline).map(|ratio| ratio.centre.exp());
        Some(TimedSpeed { arm: &arm.name, step_seconds: measured.step_seconds(&arm.name)?, ratio })
    };
    report.arms.iter().filter_map(speed).collect()
}

/// True if a step of `arm` does the same work as one of the baseline when the same blocks are open.
fn has_steps_of(timing: &Timing, baseline: &str, arm: &str) -> bool {
    let step = |name: &str| {
        let Pretrain {
            model, objective, images, optimizer, batch, micro_batches, length, precision, recompute, ..
        } = timed_recipe(timing, name)?;
        Some((model, objective, images, optimizer, batch, micro_batches, length, precision, recompute))
    };
    step(arm).is_some() && step(arm) == step(baseline)
}

fn timed_recipe<'a>(timing: &'a Timing, arm: &str) -> Option<&'a Pretrain> {
    timing.arms.iter().find(|timed| timed.name == arm).map(|timed| &timed.recipe)
}

fn timed_arm<'a>(report: &'a TimingReport, name: &str) -> Option<&'a ArmTiming> {
    report.arms.iter().find(|arm| arm.name == name)
}

impl EncoderFit {
    /// The fit of a line of step times that are relative to the baseline's, of `seconds`. `None` if a slope or an
    /// intercept with the wrong sign says that noise exceeds the effect of a block.
    fn of(line: Line, seconds: f64) -> Option<Self> {
        let Line { intercept, slope } = line;
        (slope > 0.0 && intercept >= 0.0).then_some(Self { fixed: intercept * seconds, per_block: slope * seconds })
    }

    /// The encoder's share of the time of a step with all of its `blocks` open.
    fn encoder_share(self, blocks: u32) -> f64 {
        let encoder = self.per_block * f64::from(blocks);
        encoder / (self.fixed + encoder)
    }
}
