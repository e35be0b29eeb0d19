//! Progressive layer dropping (Zhang & He 2020): theta over time, keep probability over depth, gates per step.
//!
//! A block is x -> x' with `h = x + G ATTN(LN x)/p`, `x' = h + G FFN(LN h)/p`, one G ~ Bernoulli(p) per block and step;
//! closed means identity: no forward, no backward, no gradient. Evaluation opens every block, without scale.

use serde::{Deserialize, Serialize};

use crate::problem::Problems;
use crate::seeds::{Purpose, generator, uniform};

/// Theta over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ThetaSchedule {
    /// theta(t) = (1 - limit) exp(-gamma t) + limit (the paper's equation).
    #[default]
    Exponential,
    /// theta(t) = limit from the first step.
    Constant,
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
    pub schedule: ThetaSchedule,
    /// Theta at the end of the run, from above 0 to 1.
    pub theta_limit: f64,
    /// Speed of the exponential schedule per step; 100/T by the paper's heuristic where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    #[serde(default)]
    pub depth_index: DepthIndex,
    /// Whether an open branch is multiplied by 1/p.
    #[serde(default = "default_true")]
    pub scale: bool,
}

fn default_true() -> bool {
    true
}

/// One block's draw at one step. Made in one place, so that the probability of the draw and its scale cannot differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    pub open: bool,
    /// Factor on both branches of an open block: 1/p, or 1 where scaling is off.
    pub scale: f64,
}

impl Gate {
    /// What evaluation, validation and fine-tuning use.
    pub const OPEN: Gate = Gate { open: true, scale: 1.0 };
}

impl LayerDrop {
    pub fn check(&self, problems: &mut Problems) {
        problems.require(self.theta_limit > 0.0 && self.theta_limit <= 1.0, "theta_limit", || {
            format!("{}: the theta limit lies above 0 and is at most 1", self.theta_limit)
        });
        if let Some(gamma) = self.gamma {
            problems.require(gamma > 0.0 && gamma.is_finite(), "gamma", || format!("{gamma}: a positive number"));
            problems.require(self.schedule == ThetaSchedule::Exponential, "gamma", || {
                "only the exponential schedule has a gamma".into()
            });
        }
    }

    /// The gamma in force for a run of `total` steps.
    pub fn gamma(&self, total: u64) -> f64 {
        self.gamma.unwrap_or(100.0 / total.max(1) as f64)
    }

    /// theta(t) at `step` (from 0) of `total`.
    pub fn theta(&self, step: u64, total: u64) -> f64 {
        match self.schedule {
            ThetaSchedule::Exponential => {
                (1.0 - self.theta_limit) * (-self.gamma(total) * step as f64).exp() + self.theta_limit
            }
            ThetaSchedule::Constant => self.theta_limit,
        }
    }

    /// Keep probability of `block` (1..=`blocks`) at a given theta: p_l = 1 - i_l (1 - theta).
    pub fn keep(&self, block: u32, blocks: u32, theta: f64) -> f64 {
        let (l, n) = (f64::from(block), f64::from(blocks));
        let depth = match self.depth_index {
            DepthIndex::One => l / n,
            DepthIndex::Zero => (l - 1.0) / n,
            // A single block has no way from first to last; it is the first.
            DepthIndex::Ild => (l - 1.0) / (n - 1.0).max(1.0),
        };
        1.0 - depth * (1.0 - theta)
    }

    /// The gates of all blocks, first block first, at `step` of `total`. Depends on nothing else, so every rank and every
    /// replay draws the same; independent draws per block.
    pub fn gates(&self, blocks: u32, step: u64, total: u64, seed: u64) -> Vec<Gate> {
        let theta = self.theta(step, total);
        (1..=blocks)
            .map(|block| {
                let p = self.keep(block, blocks, theta);
                let open = uniform(&mut generator(seed, Purpose::Gate, step, u64::from(block))) < p;
                Gate { open, scale: if self.scale { 1.0 / p } else { 1.0 } }
            })
            .collect()
    }

    /// Expected number of open blocks at `step`.
    pub fn expected_open(&self, blocks: u32, step: u64, total: u64) -> f64 {
        let theta = self.theta(step, total);
        (1..=blocks).map(|block| self.keep(block, blocks, theta)).sum()
    }

    /// Closed-form share of encoder work saved over a run of `total` steps: k (1-limit) [1 - mean of exp(-gamma t)], with
    /// k = (L+1)/2L for `one`, (L-1)/2L for `zero`, 1/2 for `ild`.
    pub fn encoder_saving(&self, blocks: u32, total: u64) -> f64 {
        let n = f64::from(blocks);
        let k = match self.depth_index {
            DepthIndex::One => (n + 1.0) / (2.0 * n),
            DepthIndex::Zero => (n - 1.0) / (2.0 * n),
            DepthIndex::Ild if blocks == 1 => 0.0,
            DepthIndex::Ild => 0.5,
        };
        let drop = 1.0 - self.theta_limit;
        match self.schedule {
            ThetaSchedule::Constant => k * drop,
            ThetaSchedule::Exponential => {
                let (g, t) = (self.gamma(total), total.max(1) as f64);
                // Geometric sum of exp(-g s) over s = 0..T-1.
                k * drop * (1.0 - (-g * t).exp_m1() / (-g).exp_m1() / t)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exponential(theta_limit: f64, gamma: Option<f64>, depth_index: DepthIndex) -> LayerDrop {
        LayerDrop { schedule: ThetaSchedule::Exponential, theta_limit, gamma, depth_index, scale: true }
    }

    const INDEXES: [DepthIndex; 3] = [DepthIndex::One, DepthIndex::Zero, DepthIndex::Ild];

    proptest! {
        #[test]
        fn theta_starts_at_one_falls_and_ends_at_its_limit(limit in 0.01f64..1.0, total in 10u64..1_000_000) {
            let drop = exponential(limit, None, DepthIndex::One);
            prop_assert_eq!(drop.theta(0, total), 1.0);
            prop_assert!((drop.theta(total, total) - limit).abs() < 1e-9);
            prop_assert!(drop.theta(total / 2, total) <= drop.theta(total / 4, total));
        }

        #[test]
        fn the_expected_depth_is_the_closed_form(limit in 0.01f64..1.0, blocks in 1u32..49, which in 0usize..3) {
            let drop = LayerDrop { schedule: ThetaSchedule::Constant, ..exponential(limit, None, INDEXES[which]) };
            let expected = f64::from(blocks) * (1.0 - drop.encoder_saving(blocks, 100));
            prop_assert!((drop.expected_open(blocks, 5, 100) - expected).abs() < 1e-9);
        }

        #[test]
        fn the_closed_form_saving_is_the_mean_over_steps(limit in 0.05f64..1.0, total in 2u64..3000, gamma in 1e-4f64..0.5) {
            let drop = exponential(limit, Some(gamma), DepthIndex::One);
            let mean = (0..total).map(|t| 1.0 - drop.expected_open(12, t, total) / 12.0).sum::<f64>() / total as f64;
            prop_assert!((drop.encoder_saving(12, total) - mean).abs() < 1e-9);
        }
    }

    #[test]
    fn the_papers_depths_come_out() {
        // Expected depth at theta = 0.5, L = 12: (3L-1)/4 for `one`, (3L+1)/4 for `zero`.
        let at = |index| {
            LayerDrop { schedule: ThetaSchedule::Constant, ..exponential(0.5, None, index) }.expected_open(12, 0, 1)
        };
        assert!((at(DepthIndex::One) - 35.0 / 4.0).abs() < 1e-12);
        assert!((at(DepthIndex::Zero) - 37.0 / 4.0).abs() < 1e-12);
        assert!((at(DepthIndex::Ild) - 9.0).abs() < 1e-12);
    }

    #[test]
    fn marginals_match_the_keep_probability_and_scaled_gates_average_one() {
        let drop = LayerDrop { schedule: ThetaSchedule::Constant, ..exponential(0.5, None, DepthIndex::One) };
        let n = 20_000u64;
        let (mut open, mut scaled) = ([0.0f64; 12], [0.0f64; 12]);
        for step in 0..n {
            for (l, gate) in drop.gates(12, step, n, 3).into_iter().enumerate() {
                open[l] += f64::from(u8::from(gate.open));
                scaled[l] += if gate.open { gate.scale } else { 0.0 };
            }
        }
        for l in 0..12u32 {
            let p = drop.keep(l + 1, 12, 0.5);
            let error = (p * (1.0 - p) / n as f64).sqrt();
            assert!((open[l as usize] / n as f64 - p).abs() < 4.0 * error, "block {}", l + 1);
            assert!((scaled[l as usize] / n as f64 - 1.0).abs() < 4.0 * error / p, "block {}", l + 1);
        }
    }

    #[test]
    fn the_draw_and_its_scale_use_one_probability() {
        // The released code drew with p_i and scaled by 1/p_{i+1}.
        let drop = exponential(0.5, Some(0.01), DepthIndex::Zero);
        for step in [0, 10, 1000] {
            for (l, gate) in (1u32..).zip(drop.gates(12, step, 2000, 0)) {
                assert_eq!(gate.scale, 1.0 / drop.keep(l, 12, drop.theta(step, 2000)));
            }
        }
        assert!((0..500).all(|t| drop.gates(12, t, 2000, 9)[0].open), "`zero` never closes the first block");
    }
}
