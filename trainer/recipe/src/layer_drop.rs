//! Progressive layer dropping (Zhang & He 2020): theta over time, keep probability over depth, gates per step.
//!
//! A block is x -> x' with `h = x + G ATTN(LN x)/p`, `x' = h + G FFN(LN h)/p`, one G ~ Bernoulli(p) per block and step;
//! closed means identity: no forward, no backward, no gradient. Evaluation opens every block, without scale.
//!
//! The relatives of the method are settings of it: stochastic depth (Huang et al. 2016) is `depth: uniform` with a constant
//! theta; LayerDrop (Fan et al. 2020) is that at 0.8 without scale.

use serde::{Deserialize, Serialize};

use crate::gate::{Ask, Draw, Gate, Sampler, Unit, draw};
use crate::model::{Model, Sublayer};
use crate::problem::Problems;
use crate::schedule::{Course, DEFAULT_LEVELS, DEFAULT_POWER, DEFAULT_SPEED, Moment, Shape};

/// Which way theta goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Direction {
    /// From 1 to the limit: more is dropped as the run goes on (the paper's).
    #[default]
    Increasing,
    /// The same run backwards: most is dropped at the start and nothing at the end, at equal FLOPs.
    Decreasing,
}

/// How the keep probability varies over depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Depth {
    /// Linear, from (nearly) 1 at the first block to theta at the last.
    #[default]
    Linear,
    /// Theta at every block.
    Uniform,
}

/// Where the first block stands on the way from keep probability 1 to theta. The paper contradicts itself: its
/// expected depth (3L-1)/4 means `one`, its released code walks `zero`, later work uses `ild`.
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

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LayerDrop {
    #[serde(default)]
    pub schedule: Shape,
    /// Where theta goes to, from above 0 to 1; at its other end it is 1. The paper's 0.5 where it is not given.
    #[serde(default = "default_limit")]
    pub theta_limit: f64,
    /// Speed of the exponential schedule per step; 100/T by the paper's heuristic where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Exponent of the polynomial schedule; 3 where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<f64>,
    /// Stairs of the step schedule; 4 where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub direction: Direction,
    #[serde(default, skip_serializing_if = "is_default")]
    pub depth: Depth,
    #[serde(default)]
    pub depth_index: DepthIndex,
    /// Whether an open branch is multiplied by 1/p.
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
fn default_true() -> bool {
    true
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl LayerDrop {
    /// The paper's schedule with this limit.
    pub fn progressive(theta_limit: f64) -> Self {
        Self {
            schedule: Shape::default(),
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

    /// `steps` is the budget, where it is counted in steps.
    pub fn check(&self, steps: Option<u64>, problems: &mut Problems) {
        problems.require(self.theta_limit > 0.0 && self.theta_limit <= 1.0, "theta_limit", || {
            format!("{}: the theta limit lies above 0 and is at most 1", self.theta_limit)
        });
        let only = |given: bool, field: &str, of: Shape, name: &str, problems: &mut Problems| {
            problems
                .require(!given || self.schedule == of, field, || format!("only the {name} schedule has a {field}"));
        };
        only(self.gamma.is_some(), "gamma", Shape::Exponential, "exponential", problems);
        only(self.power.is_some(), "power", Shape::Polynomial, "polynomial", problems);
        only(self.levels.is_some(), "levels", Shape::Step, "step", problems);
        problems.require(self.gamma.is_none() || steps.is_some(), "gamma", || {
            "a gamma is a speed per step: a budget in seconds has none".into()
        });
        self.course(steps).check(problems);
        problems.require(self.depth == Depth::Linear || self.depth_index == DepthIndex::One, "depth_index", || {
            "a uniform depth has no index".into()
        });
        problems.require(
            self.direction == Direction::Increasing || self.schedule != Shape::Constant,
            "direction",
            || "a constant theta goes neither way".into(),
        );
        if self.sampler == Sampler::Top {
            problems.require(self.unit == Unit::Block, "unit", || "the top is counted in blocks".into());
            problems
                .require(self.draw == Draw::Batch, "draw", || "by rule, every sequence loses the same blocks".into());
        }
    }

    /// `steps` is the budget, where it is counted in steps.
    fn course(&self, steps: Option<u64>) -> Course {
        Course {
            shape: self.schedule,
            speed: self.gamma.map_or(DEFAULT_SPEED, |gamma| gamma * steps.unwrap_or(1) as f64),
            power: self.power.unwrap_or(DEFAULT_POWER),
            levels: self.levels.unwrap_or(DEFAULT_LEVELS),
            reversed: self.direction == Direction::Decreasing,
        }
    }

    /// theta(t) at `moment`: 1 - (1 - limit) f, with f the schedule's way from 0 to 1. For the exponential this is the
    /// paper's (1 - limit) exp(-gamma t) + limit. `steps` is the budget, where it is counted in steps.
    pub fn theta(&self, moment: &Moment, steps: Option<u64>) -> f64 {
        1.0 - (1.0 - self.theta_limit) * self.course(steps).at(moment)
    }

    /// How deep `block` (1..=`blocks`) stands on the way to theta, from 0 to 1.
    fn depth_of(&self, block: u32, blocks: u32) -> f64 {
        let (l, n) = (f64::from(block), f64::from(blocks));
        match (self.depth, self.depth_index) {
            (Depth::Uniform, _) => 1.0,
            (Depth::Linear, DepthIndex::One) => l / n,
            (Depth::Linear, DepthIndex::Zero) => (l - 1.0) / n,
            // A single block has no way from first to last; it is the first.
            (Depth::Linear, DepthIndex::Ild) => (l - 1.0) / (n - 1.0).max(1.0),
        }
    }

    /// Keep probability of `block` (1..=`blocks`) at a given theta: p_l = 1 - i_l (1 - theta).
    pub fn keep(&self, block: u32, blocks: u32, theta: f64) -> f64 {
        1.0 - self.depth_of(block, blocks) * (1.0 - theta)
    }

    /// The gates of all `sublayers`, in forward order, at a given theta. Depends on nothing else, so every rank and every
    /// replay draws the same.
    pub fn gates(&self, sublayers: &[Sublayer], theta: f64, ask: &Ask) -> Vec<Gate> {
        let blocks = sublayers.len() as u32 / 2;
        let unit_of: Vec<Option<usize>> = (0..sublayers.len()).map(|place| self.unit.of(place, sublayers)).collect();
        let mut keep = Vec::new();
        for (place, unit) in unit_of.iter().enumerate() {
            if *unit == Some(keep.len()) {
                keep.push(self.keep(place as u32 / 2 + 1, blocks, theta));
            }
        }
        draw(ask, &keep, &unit_of, self.draw, self.sampler, self.scale)
    }

    /// Closed-form share of encoder FLOPs saved over a run: (1 - limit) x the schedule's mean x the share of the work that
    /// lies at full depth. For whole blocks that is k (1-limit) [1 - mean of exp(-gamma t)], with k = (L+1)/2L for
    /// `one`, (L-1)/2L for `zero`, 1/2 for `ild`. `steps` is the budget, where it is counted in steps.
    pub fn encoder_saving(&self, model: &Model, length: u32, steps: Option<u64>) -> f64 {
        (1.0 - self.theta_limit) * self.encoder_saving_per_drop(model, length, steps)
    }

    /// The limit at which this schedule saves `saving` of the encoder's FLOPs; `None` where it cannot save that much.
    pub fn limit_that_saves(&self, saving: f64, model: &Model, length: u32, steps: Option<u64>) -> Option<f64> {
        let limit = 1.0 - saving / self.encoder_saving_per_drop(model, length, steps);
        (limit > 0.0 && limit <= 1.0).then_some(limit)
    }

    /// The saving is linear in 1 - limit, with this factor.
    fn encoder_saving_per_drop(&self, model: &Model, length: u32, steps: Option<u64>) -> f64 {
        let sublayers = model.sublayers();
        let flops = |sublayer: Sublayer| model.sublayer_flops(sublayer, length.into());
        let (mut all, mut at_depth) = (0.0, 0.0);
        for (place, &sublayer) in sublayers.iter().enumerate() {
            all += flops(sublayer);
            if self.unit.of(place, &sublayers).is_some() {
                at_depth += flops(sublayer) * self.depth_of(place as u32 / 2 + 1, model.blocks);
            }
        }
        self.course(steps).mean(steps) * at_depth / all
    }
}

#[cfg(test)]
mod tests;
