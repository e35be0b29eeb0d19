//! Progressive layer dropping (Zhang & He 2020): theta over time, keep probability over depth, gates per step.
//!
//! A block is x -> x' with `h = x + G ATTN(LN x)/p`, `x' = h + G FFN(LN h)/p`, one G ~ Bernoulli(p) per block and step;
//! closed means identity: no forward, no backward, no gradient. Evaluation opens every block, without scale.
//!
//! Related methods are settings of this one. Stochastic depth (Huang et al. 2016) is `depth: uniform` with a constant
//! theta; LayerDrop (Fan et al. 2020) is the same at a theta of 0.8 without scale.

use serde::{Deserialize, Serialize};

use crate::gate::{Draw, DrawKey, Gate, Sampler, Unit, draw};
use crate::json::{default_true, is_default};
use crate::model::{Model, Sublayer};
use crate::problem::Problems;
use crate::schedule::{Curve, DEFAULT_GAMMA_TOTAL, DEFAULT_LEVELS, DEFAULT_POWER, Moment, Schedule};

/// The direction of theta over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Direction {
    /// From 1 to the limit, as in the paper: more and more blocks are dropped.
    #[default]
    Increasing,
    /// The schedule reversed in time: most blocks are dropped at the start and none at the end, at equal FLOPs.
    Decreasing,
}

/// How the keep probability depends on the depth of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Depth {
    /// It falls linearly from (nearly) 1 at the first block to theta at the last.
    #[default]
    Linear,
    /// It is theta at every block.
    Uniform,
}

/// How a linear depth counts blocks: the index i of block l of L, at which the keep probability is 1 - i (1 - theta).
/// The paper contradicts itself: its expected depth (3L-1)/4 means `one`, but its released code does `zero`; later work
/// uses `ild`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum DepthIndex {
    /// l/L for l = 1..L.
    #[default]
    One,
    /// (l-1)/L for l = 1..L: the first block is never closed.
    Zero,
    /// (l-1)/(L-1): from 0 at the first block to 1 at the last.
    Ild,
}

/// The settings of layer drop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LayerDrop {
    #[serde(default)]
    pub schedule: Schedule,
    /// The value of theta at the far end of the schedule, above 0 and at most 1; at the near end it is 1. By default
    /// 0.5, as in the paper.
    #[serde(default = "default_limit")]
    pub theta_limit: f64,
    /// Decay rate of the exponential schedule per step. By default 100/T for T steps, the paper's heuristic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Exponent of the polynomial schedule; 3 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<f64>,
    /// Number of stairs of the step schedule; 4 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub direction: Direction,
    #[serde(default, skip_serializing_if = "is_default")]
    pub depth: Depth,
    #[serde(default)]
    pub depth_index: DepthIndex,
    /// True if the branch of an open sublayer is multiplied by 1/p.
    #[serde(default = "default_true")]
    pub scale: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub unit: Unit,
    #[serde(default, skip_serializing_if = "is_default")]
    pub draw: Draw,
    #[serde(default, skip_serializing_if = "is_default")]
    pub sampler: Sampler,
}

fn default_limit() -> f64 {
    0.5
}

impl LayerDrop {
    /// The paper's settings, with this theta limit.
    pub fn progressive(theta_limit: f64) -> Self {
        Self {
            schedule: Schedule::default(),
            theta_limit,
            gamma: None,
            power: None,
            levels: None,
            direction: Direction::default(),
            depth: Depth::default(),
            depth_index: DepthIndex::default(),
            scale: true,
            unit: Unit::default(),
            draw: Draw::default(),
            sampler: Sampler::default(),
        }
    }

    /// `steps` is the budget in steps; `None` for a budget in another unit.
    pub fn check(&self, steps: Option<u64>, problems: &mut Problems) {
        problems.require(self.theta_limit > 0.0 && self.theta_limit <= 1.0, "theta_limit", || {
            format!("a theta limit of {}: choose one above 0 and at most 1", self.theta_limit)
        });
        for (field, is_given, owner) in [
            ("gamma", self.gamma.is_some(), Schedule::Exponential),
            ("power", self.power.is_some(), Schedule::Polynomial),
            ("levels", self.levels.is_some(), Schedule::Step),
        ] {
            problems.require(!is_given || self.schedule == owner, field, || {
                format!("`{field}` applies to the {} schedule only: leave it out", owner.name())
            });
        }
        problems.require(self.gamma.is_none() || steps.is_some(), "gamma", || {
            "`gamma` is a rate per step, but the budget is in seconds: leave `gamma` out, or set the budget in steps"
                .into()
        });
        self.curve(steps).check(problems);
        problems.require(self.depth == Depth::Linear || self.depth_index == DepthIndex::One, "depth_index", || {
            "`depth_index` has no effect on a uniform depth: leave it out".into()
        });
        problems.require(
            self.direction == Direction::Increasing || self.schedule != Schedule::Constant,
            "direction",
            || "`direction` has no effect on a constant schedule: leave it out".into(),
        );
        if self.sampler == Sampler::Top {
            problems.require(self.unit == Unit::Block, "unit", || {
                "the sampler `top` closes whole blocks: leave `unit` out or set it to `block`".into()
            });
            problems.require(self.draw == Draw::Batch, "draw", || {
                "the sampler `top` closes the same blocks for all sequences: leave `draw` out or set it to `batch`"
                    .into()
            });
        }
    }

    fn curve(&self, steps: Option<u64>) -> Curve {
        Curve {
            schedule: self.schedule,
            gamma_total: self.gamma.map_or(DEFAULT_GAMMA_TOTAL, |gamma| gamma * steps.unwrap_or(1) as f64),
            power: self.power.unwrap_or(DEFAULT_POWER),
            levels: self.levels.unwrap_or(DEFAULT_LEVELS),
            reversed: self.direction == Direction::Decreasing,
        }
    }

    /// theta(t) at `moment`: 1 - (1 - limit) f, with f the value of the schedule. For the exponential this is the
    /// paper's (1 - limit) exp(-gamma t) + limit. `steps` is the budget in steps; `None` for a budget in another unit.
    pub fn theta(&self, moment: &Moment, steps: Option<u64>) -> f64 {
        1.0 - (1.0 - self.theta_limit) * self.curve(steps).at(moment)
    }

    /// The index of `block` (1..=`blocks`) over depth, from 0 to 1; see [`DepthIndex`].
    fn depth_of(&self, block: u32, blocks: u32) -> f64 {
        let (l, n) = (f64::from(block), f64::from(blocks));
        match (self.depth, self.depth_index) {
            (Depth::Uniform, _) => 1.0,
            (Depth::Linear, DepthIndex::One) => l / n,
            (Depth::Linear, DepthIndex::Zero) => (l - 1.0) / n,
            // A single block counts as the first.
            (Depth::Linear, DepthIndex::Ild) => (l - 1.0) / (n - 1.0).max(1.0),
        }
    }

    /// Keep probability of `block` (1..=`blocks`) at this theta: p_l = 1 - i_l (1 - theta).
    pub fn keep(&self, block: u32, blocks: u32, theta: f64) -> f64 {
        1.0 - self.depth_of(block, blocks) * (1.0 - theta)
    }

    /// The gates of all `sublayers`, in forward order, at this theta. They depend on nothing else, so every rank and
    /// every replay draws the same.
    pub fn gates(&self, sublayers: &[Sublayer], theta: f64, key: &DrawKey) -> Vec<Gate> {
        let blocks = sublayers.len() as u32 / 2;
        let unit_of: Vec<Option<usize>> = (0..sublayers.len()).map(|place| self.unit.of(place, sublayers)).collect();
        let mut keep = Vec::new();
        for (place, unit) in unit_of.iter().enumerate() {
            if *unit == Some(keep.len()) {
                keep.push(self.keep(place as u32 / 2 + 1, blocks, theta));
            }
        }
        draw(key, &keep, &unit_of, self.draw, self.sampler, self.scale)
    }

    /// Closed-form share of encoder FLOPs that is saved over a run: (1 - limit) x the mean of the schedule x the mean
    /// depth index, weighted by FLOPs. For whole blocks that is k (1-limit) [1 - mean of exp(-gamma t)], with k =
    /// (L+1)/2L for `one`, (L-1)/2L for `zero`, 1/2 for `ild`. `steps` is the budget in steps; `None` for a budget in
    /// another unit.
    pub fn encoder_saving(&self, model: &Model, length: u32, steps: Option<u64>) -> f64 {
        (1.0 - self.theta_limit) * self.encoder_saving_per_drop(model, length, steps)
    }

    /// The theta limit at which this schedule saves the share `saving` of the encoder's FLOPs; `None` if no limit does.
    pub fn limit_that_saves(&self, saving: f64, model: &Model, length: u32, steps: Option<u64>) -> Option<f64> {
        let limit = 1.0 - saving / self.encoder_saving_per_drop(model, length, steps);
        (limit > 0.0 && limit <= 1.0).then_some(limit)
    }

    /// Mean number of open blocks over a run, in closed form. A block of which one sublayer is open counts as half.
    pub fn mean_open_blocks(&self, model: &Model, steps: Option<u64>) -> f64 {
        let saving = (1.0 - self.theta_limit) * self.saving_per_drop(model, steps, |_| 1.0);
        f64::from(model.blocks) * (1.0 - saving)
    }

    /// The saving divided by 1 - limit, in which it is linear.
    fn encoder_saving_per_drop(&self, model: &Model, length: u32, steps: Option<u64>) -> f64 {
        self.saving_per_drop(model, steps, |sublayer| model.sublayer_flops(sublayer, length.into()))
    }

    /// The share of the sublayers, by weight, that is closed over a run, divided by 1 - limit.
    fn saving_per_drop(&self, model: &Model, steps: Option<u64>, weight: impl Fn(Sublayer) -> f64) -> f64 {
        let sublayers = model.sublayers();
        let (mut all, mut weighted) = (0.0, 0.0);
        for (place, &sublayer) in sublayers.iter().enumerate() {
            all += weight(sublayer);
            if self.unit.of(place, &sublayers).is_some() {
                weighted += weight(sublayer) * self.depth_of(place as u32 / 2 + 1, model.blocks);
            }
        }
        self.curve(steps).mean(steps) * weighted / all
    }
}

#[cfg(test)]
mod tests;
