//! Speed: only steps that ran interleaved on one device are compared.

use recipe::event::Device;
use recipe::report::{ArmMemory, ArmTiming, TimingReport};
use recipe::{Pretrain, Recipe, Timing};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::facts::{Facts, TrialEnd};
use crate::statistics::{Summary, mean, t_interval};

/// What the timing trial says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Speed {
    /// Where all of it was measured.
    pub device: Option<Device>,
    /// Absent where no line can be fitted: no arm closes blocks, or the steps do not get longer with open blocks.
    pub fit: Option<EncoderFit>,
    /// In the order of the job.
    pub arms: Vec<ArmSpeed>,
}

/// Least squares over the timed steps of the baseline and of every arm whose steps differ from its in open blocks alone:
/// `seconds = fixed + per_block * open blocks`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EncoderFit {
    /// Seconds of a step outside the encoder.
    pub fixed: f64,
    /// Seconds of a step for each open block.
    pub per_block: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArmSpeed {
    pub arm: String,
    /// Over the turns; each turn counts with the mean of its steps.
    pub seconds_per_step: Summary,
    /// Baseline time over this arm's time: above 1 is faster, 1 for the baseline itself. Geometric mean over the rounds, in each of which both
    /// had one turn.
    pub ratio_to_baseline: Option<f64>,
    /// 95 % t interval of the logarithm of the ratio over the rounds, taken back, `[low, high]`.
    pub ratio_interval: Option<[f64; 2]>,
    /// Share of the baseline's step time that is saved: 1 - 1/ratio.
    pub step_saving: Option<f64>,
    /// The encoder's share of a step with every block open, from the fit. Absent, like the three below, for arms without
    /// layer drop and for those that differ from the baseline in more than that.
    pub encoder_share: Option<f64>,
    /// Share of encoder work that layer drop saves over the whole run, in closed form.
    pub closed_form_saving: Option<f64>,
    /// The step saving that the closed form allows: `encoder_share * closed_form_saving`.
    pub limit_saving: Option<f64>,
    /// `step_saving / limit_saving`.
    pub share_of_limit: Option<f64>,
    pub tokens_per_second: f64,
    pub by_open: Vec<OpenSpeed>,
    /// What the arm's steps take; see [`ArmMemory`].
    pub memory: Option<ArmMemory>,
    /// Sequences in the largest batch that fits, where it was looked for.
    pub largest_batch: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OpenSpeed {
    /// In halves: a block of which one sublayer is open counts as half.
    pub open_blocks: f64,
    pub steps: u32,
    pub mean_seconds: f64,
}

pub(crate) fn speed(facts: &Facts) -> Option<Speed> {
    // A job has one timing trial.
    let (timing, report, device) = facts.ended.iter().find_map(|trial| match (&trial.spec.recipe, &trial.end) {
        (Recipe::Timing(timing), TrialEnd::Succeeded(recipe::Report::Timing(report))) => {
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
    let arm = timed(report, name)?;
    let seconds_per_step = Summary::of(&arm.turns)?;
    let ratio = timed(report, baseline).and_then(|base| ratio(&base.turns, &arm.turns));
    let recipe = timing.arms.iter().find(|other| other.name == name).map(|other| &other.recipe);
    let drop = recipe.filter(|recipe| recipe.layer_drop.is_some() && fits(timing, baseline, name));
    let step_saving = ratio.map(|(ratio, _)| 1.0 - 1.0 / ratio);
    let encoder_share = drop.and(fit).map(|fit| fit.encoder_share(arm.blocks));
    let closed_form_saving = drop.map(Pretrain::encoder_saving);
    let limit_saving = encoder_share.zip(closed_form_saving).map(|(share, saving)| share * saving);
    Some(ArmSpeed {
        arm: name.to_owned(),
        ratio_to_baseline: ratio.map(|(ratio, _)| ratio),
        ratio_interval: ratio.and_then(|(_, interval)| interval),
        step_saving,
        encoder_share,
        closed_form_saving,
        limit_saving,
        share_of_limit: step_saving.zip(limit_saving.filter(|limit| *limit > 0.0)).map(|(saved, limit)| saved / limit),
        memory: arm.memory.clone(),
        largest_batch: arm.largest_batch,
        tokens_per_second: arm.tokens_per_step as f64 / seconds_per_step.mean,
        by_open: arm
            .by_open
            .iter()
            .filter(|row| row.steps > 0)
            .map(|row| OpenSpeed {
                open_blocks: row.open_blocks,
                steps: row.steps,
                mean_seconds: row.seconds / f64::from(row.steps),
            })
            .collect(),
        seconds_per_step,
    })
}

/// Whether a step of the arm is a step of the baseline but for the blocks that are open.
fn fits(timing: &Timing, baseline: &str, arm: &str) -> bool {
    let step = |name: &str| {
        let recipe = timing.arms.iter().find(|other| other.name == name).map(|other| &other.recipe)?;
        let Pretrain {
            model, objective, images, optimizer, batch, micro_batches, length, precision, recompute, ..
        } = recipe;
        Some((model, objective, images, optimizer, batch, micro_batches, length, precision, recompute))
    };
    step(arm).is_some() && step(arm) == step(baseline)
}

fn timed<'a>(report: &'a TimingReport, name: &str) -> Option<&'a ArmTiming> {
    report.arms.iter().find(|arm| arm.name == name)
}

/// Baseline time over the arm's time by a timing report: the report's estimate, without its interval.
pub fn speed_up(report: &TimingReport, baseline: &str, arm: &str) -> Option<f64> {
    let (ratio, _) = ratio(&timed(report, baseline)?.turns, &timed(report, arm)?.turns)?;
    Some(ratio)
}

/// Baseline over arm, paired by round: the estimate and its interval.
fn ratio(baseline: &[f64], arm: &[f64]) -> Option<(f64, Option<[f64; 2]>)> {
    let logs: Vec<f64> = baseline.iter().zip(arm).map(|(base, own)| (base / own).ln()).collect();
    Some((mean(&logs)?.exp(), t_interval(&logs).map(|interval| interval.map(f64::exp))))
}

/// One line serves the baseline and the arms that differ from it in their open blocks alone.
fn fit(timing: &Timing, report: &TimingReport, baseline: &str) -> Option<EncoderFit> {
    let rows = report.arms.iter().filter(|arm| fits(timing, baseline, &arm.name)).flat_map(|arm| &arm.by_open);
    // (weight, open blocks, mean seconds): the line through weighted means is the line through the single steps.
    let points: Vec<(f64, f64, f64)> = rows
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
    // No two numbers of open blocks, or noise above signal: no line that means anything.
    (squares > 0.0 && per_block > 0.0 && fixed >= 0.0).then_some(EncoderFit { fixed, per_block })
}

impl EncoderFit {
    /// The encoder's share of a step in which all of `blocks` are open.
    fn encoder_share(self, blocks: u32) -> f64 {
        let encoder = self.per_block * f64::from(blocks);
        encoder / (self.fixed + encoder)
    }
}
