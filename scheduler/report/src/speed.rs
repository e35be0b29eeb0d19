//! Time per step, from steps of all arms that ran interleaved on one device.

use recipe::event::Device;
use recipe::report::{ArmMemory, ArmTiming, TimingReport};
use recipe::{Pretrain, Recipe, Timing};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::facts::{Facts, TrialStatus};
use crate::statistics::{Summary, mean, t_interval};

/// Time per step of each arm, as measured by the timing trial of the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Speed {
    /// The device on which all arms were timed.
    pub device: Option<Device>,
    /// Absent if the timed steps have only one number of open blocks, or if the fitted line has a slope that is not
    /// positive or a negative intercept.
    pub fit: Option<EncoderFit>,
    /// One row per timed arm, in the order of the job.
    pub arms: Vec<ArmSpeed>,
}

/// The line `seconds = fixed + per_block * open blocks`, by least squares over the timed steps of the baseline and of
/// every arm whose steps differ from the baseline's in the open blocks alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EncoderFit {
    /// Seconds of a step that are spent outside the encoder.
    pub fixed: f64,
    /// Seconds that each open block adds to a step.
    pub per_block: f64,
}

/// Speed and memory of one arm's training steps. In every round of the timing trial each arm has one turn of several
/// steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArmSpeed {
    pub arm: String,
    /// Seconds per step: a summary over the arm's turns, each with the mean of its steps.
    pub seconds_per_step: Summary,
    /// Step time of the baseline divided by that of this arm: above 1 the arm is faster, and the baseline has 1.
    /// Geometric mean of the ratios within each round.
    pub ratio_to_baseline: Option<f64>,
    /// 95 % t interval of the mean logarithm of the ratio over the rounds, exponentiated: `[low, high]`.
    #[schema(min_items = 2, max_items = 2)]
    pub ratio_interval: Option<[f64; 2]>,
    /// Share of the baseline's step time that the arm saves: `1 - 1 / ratio_to_baseline`.
    pub step_saving: Option<f64>,
    /// The encoder's share of the time of a step with all blocks open, from the fit. This and the next three numbers
    /// are absent for an arm without layer drop, and for one whose steps differ from the baseline's in more than open
    /// blocks.
    pub encoder_share: Option<f64>,
    /// Share of the encoder's work in the whole run that layer drop saves, in closed form from its schedule.
    pub closed_form_saving: Option<f64>,
    /// The step saving if closed blocks took no time: `encoder_share * closed_form_saving`.
    pub limit_saving: Option<f64>,
    /// The part of that limit which the arm reached: `step_saving / limit_saving`.
    pub share_of_limit: Option<f64>,
    /// Tokens of a step divided by the mean of `seconds_per_step`.
    pub tokens_per_second: f64,
    /// One row per number of open blocks that was timed, in rising order.
    pub by_open: Vec<OpenSpeed>,
    /// Memory of the arm's steps. Absent if the timing trial had no warm-up steps to measure it in.
    pub memory: Option<ArmMemory>,
    /// Number of sequences in the largest batch that fits into memory; 0 if not even the smallest batch fits. Absent if
    /// the job did not ask for it.
    pub largest_batch: Option<u32>,
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

/// The speed section, from the job's only timing trial. `None` until that trial has succeeded.
pub(crate) fn speed(facts: &Facts) -> Option<Speed> {
    let (timing, report, device) = facts.trials.iter().find_map(|trial| match (&*trial.recipe, &trial.status) {
        (Recipe::Timing(timing), TrialStatus::Succeeded(recipe::TrialReport::Timing(report))) => {
            Some((timing, report, &trial.device))
        }
        _ => None,
    })?;
    let fit = fit(timing, report, &facts.baseline);
    let arms = facts.arms.iter().filter_map(|arm| arm_speed(arm, timing, report, &facts.baseline, fit)).collect();
    Some(Speed { device: device.clone(), fit, arms })
}

fn arm_speed(
    name: &str,
    timing: &Timing,
    report: &TimingReport,
    baseline: &str,
    fit: Option<EncoderFit>,
) -> Option<ArmSpeed> {
    let arm = timed_arm(report, name)?;
    let seconds_per_step = Summary::of(&arm.turns)?;
    let ratio = timed_arm(report, baseline).and_then(|base| ratio(&base.turns, &arm.turns));
    let step_saving = ratio.map(|(ratio, _)| 1.0 - 1.0 / ratio);
    let has_limit = |recipe: &&Pretrain| recipe.layer_drop.is_some() && has_steps_of(timing, baseline, name);
    let dropping = timed_recipe(timing, name).filter(has_limit);
    let encoder_share = dropping.and(fit).map(|fit| fit.encoder_share(arm.blocks));
    let closed_form_saving = dropping.map(Pretrain::encoder_saving);
    let limit_saving = encoder_share.zip(closed_form_saving).map(|(share, saving)| share * saving);
    let timed_numbers = arm.by_open.iter().filter(|row| row.steps > 0).map(|row| OpenSpeed {
        open_blocks: row.open_blocks,
        steps: row.steps,
        mean_seconds: row.seconds / f64::from(row.steps),
    });
    Some(ArmSpeed {
        arm: name.to_owned(),
        ratio_to_baseline: ratio.map(|(ratio, _)| ratio),
        ratio_interval: ratio.and_then(|(_, interval)| interval),
        step_saving,
        encoder_share,
        closed_form_saving,
        limit_saving,
        share_of_limit: step_saving.zip(limit_saving.filter(|limit| *limit > 0.0)).map(|(saved, limit)| saved / limit),
        tokens_per_second: arm.tokens_per_step as f64 / seconds_per_step.mean,
        by_open: timed_numbers.collect(),
        memory: arm.memory.clone(),
        largest_batch: arm.largest_batch,
        seconds_per_step,
    })
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

/// Step time of `baseline` divided by that of `arm` in a timing report: the number that a job's report has as
/// `ratio_to_baseline`. `None` if one of the two was not timed.
pub fn speed_up(report: &TimingReport, baseline: &str, arm: &str) -> Option<f64> {
    let (ratio, _) = ratio(&timed_arm(report, baseline)?.turns, &timed_arm(report, arm)?.turns)?;
    Some(ratio)
}

/// Geometric mean over the rounds of the baseline's turn divided by the arm's, with its 95 % interval.
fn ratio(baseline: &[f64], arm: &[f64]) -> Option<(f64, Option<[f64; 2]>)> {
    let logs: Vec<f64> = baseline.iter().zip(arm).map(|(base, own)| (base / own).ln()).collect();
    Some((mean(&logs)?.exp(), t_interval(&logs).map(|interval| interval.map(f64::exp))))
}

/// The line through the steps of the baseline and of all arms whose steps do the same work with the same open blocks.
fn fit(timing: &Timing, report: &TimingReport, baseline: &str) -> Option<EncoderFit> {
    let arms = report.arms.iter().filter(|arm| has_steps_of(timing, baseline, &arm.name));
    // Each point is (number of steps, open blocks, mean seconds). The line through means that are weighted by their
    // number of steps is the line through the single steps.
    let points: Vec<(f64, f64, f64)> = arms
        .flat_map(|arm| &arm.by_open)
        .filter(|row| row.steps > 0)
        .map(|row| (f64::from(row.steps), row.open_blocks, row.seconds / f64::from(row.steps)))
        .collect();
    let weight: f64 = points.iter().map(|(w, _, _)| w).sum();
    let (open, seconds) =
        points.iter().fold((0.0, 0.0), |(open, seconds), (w, x, y)| (open + w * x / weight, seconds + w * y / weight));
    let (products, squares) = points.iter().fold((0.0, 0.0), |(products, squares), (w, x, y)| {
        (products + w * (x - open) * (y - seconds), squares + w * (x - open).powi(2))
    });
    let per_block = products / squares;
    let fixed = seconds - per_block * open;
    // With one number of open blocks there is no slope. A slope or an intercept with the wrong sign means that noise
    // exceeds the effect of a block.
    (squares > 0.0 && per_block > 0.0 && fixed >= 0.0).then_some(EncoderFit { fixed, per_block })
}

impl EncoderFit {
    /// The encoder's share of the time of a step with all of its `blocks` open.
    fn encoder_share(self, blocks: u32) -> f64 {
        let encoder = self.per_block * f64::from(blocks);
        encoder / (self.fixed + encoder)
    }
}
