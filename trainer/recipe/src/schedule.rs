//! Schedules: pure functions of the share of the budget that is spent.
//!
//! A budget is counted in steps or in seconds. A schedule over shares of the budget decays fully over either (Kaddour
//! et al. 2023, arXiv 2307.06440).

use crate::named_enum;
use crate::problem::Problems;

/// The place of a step in its run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Optimiser updates made before it.
    pub step: u64,
    /// Share of the budget spent before it: at least 0 and below 1.
    pub share: f64,
    /// Share of the budget that the step itself takes.
    pub width: f64,
}

impl Moment {
    /// Step `step` (from 0) of a budget of `total` steps.
    pub fn of_step(step: u64, total: u64) -> Self {
        let total = total.max(1) as f64;
        Self { step, share: step as f64 / total, width: 1.0 / total }
    }
}

named_enum! {
    /// The form of a schedule: a function f of the share u of the budget that is spent. It rises from 0 at the start of
    /// a run to 1 at its end.
    #[derive(Default)]
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
    pub enum Schedule {
        /// 1 - exp(-gamma t) at step t, the paper's equation. By default, gamma is 100 over the budget.
        #[default]
        Exponential = "exponential",
        /// u
        Linear = "linear",
        /// u^power
        Polynomial = "polynomial",
        /// (1 - cos(pi u))/2
        Cosine = "cosine",
        /// `levels` stairs of equal width, the first at 0, the last at 1.
        Step = "step",
        /// 1 at every step.
        Constant = "constant",
    }
}

/// A [`Schedule`] with all its parameters. A form ignores the parameters that it does not have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    pub schedule: Schedule,
    /// Gamma times the budget, for the exponential: the paper's gamma is per step, this one per budget of any unit.
    pub gamma_total: f64,
    pub power: f64,
    pub levels: u32,
    /// True if the curve is reversed in time; its mean does not change.
    pub reversed: bool,
}

/// The paper's heuristic: gamma = 100/T for T steps.
pub const DEFAULT_GAMMA_TOTAL: f64 = 100.0;
pub const DEFAULT_POWER: f64 = 3.0;
pub const DEFAULT_LEVELS: u32 = 4;

impl Curve {
    /// The value at `moment`, from 0 to 1.
    pub fn at(&self, moment: &Moment) -> f64 {
        // A reversed curve takes the steps in reverse order, so that the sum over a run does not change.
        let left = 1.0 - moment.share - moment.width;
        let u = match self.reversed {
            false => moment.share,
            // The last step is at exactly 0, without a rounding error.
            true if left < 1e-6 * moment.width => 0.0,
            true => left,
        };
        match self.schedule {
            Schedule::Exponential => -(-self.gamma_total * u).exp_m1(),
            Schedule::Linear => u,
            Schedule::Polynomial => u.powf(self.power),
            Schedule::Cosine => 0.5 * (1.0 - (std::f64::consts::PI * u).cos()),
            Schedule::Step => {
                let levels = f64::from(self.levels);
                // A share is a rounded quotient: 3 of 6 steps must reach the second of two stairs all the same.
                ((u * levels + 1e-9).floor() / (levels - 1.0)).min(1.0)
            }
            Schedule::Constant => 1.0,
        }
    }

    /// Mean of [`Curve::at`] over a budget of `total` steps; `None` for the mean over a budget in another unit.
    pub fn mean(&self, total: Option<u64>) -> f64 {
        let half_step = total.map_or(0.0, |total| 0.5 / total.max(1) as f64);
        match self.schedule {
            Schedule::Exponential => {
                let decayed = -(-self.gamma_total).exp_m1();
                // The sum of exp(-gamma_total s/T) over s = 0..T-1 is geometric; divided by T, it is the mean.
                1.0 - match total {
                    Some(total) => decayed / -(-self.gamma_total / total.max(1) as f64).exp_m1() / total.max(1) as f64,
                    None => decayed / self.gamma_total,
                }
            }
            // The cosine's values at 1/T .. (T-1)/T cancel in pairs; the value at 0 remains.
            Schedule::Linear | Schedule::Cosine => 0.5 - half_step,
            Schedule::Polynomial => match total {
                Some(total) if total <= 10_000 => {
                    (0..total).map(|t| (t as f64 / total as f64).powf(self.power)).sum::<f64>() / total as f64
                }
                // Euler-Maclaurin to the first derivative.
                _ => 1.0 / (self.power + 1.0) - half_step + self.power * half_step * half_step / 3.0,
            },
            Schedule::Step => match total {
                Some(total) => {
                    let (levels, total) = (u128::from(self.levels), u128::from(total));
                    // Level j holds the steps from ceil(j T/k) up to ceil((j+1) T/k).
                    let first = |level: u128| (level * total).div_ceil(levels);
                    let sum: u128 = (0..levels).map(|level| level * (first(level + 1) - first(level))).sum();
                    sum as f64 / ((levels - 1) * total) as f64
                }
                None => 0.5,
            },
            Schedule::Constant => 1.0,
        }
    }

    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.require(self.gamma_total > 0.0 && self.gamma_total.is_finite(), "gamma", || {
            "`gamma` has to be a positive number".into()
        });
        problems.require(self.power > 0.0 && self.power <= 100.0, "power", || {
            format!("a power of {}: choose one above 0 and at most 100", self.power)
        });
        problems.require((2..=1000).contains(&self.levels), "levels", || {
            format!("{} levels: 2 to 1000 are allowed", self.levels)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn curve(schedule: Schedule, gamma_total: f64, power: f64, levels: u32, reversed: bool) -> Curve {
        Curve { schedule, gamma_total, power, levels, reversed }
    }

    fn any_schedule() -> impl Strategy<Value = Schedule> {
        prop::sample::select(Schedule::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn the_closed_form_mean_is_the_mean_over_steps_in_both_directions(
            schedule in any_schedule(), gamma_total in 0.1f64..200.0, power in 0.2f64..8.0, levels in 2u32..9,
            reversed: bool,
            total in 1u64..3000,
        ) {
            let curve = curve(schedule, gamma_total, power, levels, reversed);
            let sum: f64 = (0..total).map(|step| curve.at(&Moment::of_step(step, total))).sum();
            prop_assert!((curve.mean(Some(total)) - sum / total as f64).abs() < 1e-6, "{curve:?}");
        }

        #[test]
        fn a_curve_rises_from_0_to_1_and_a_reversed_one_falls(
            schedule in any_schedule(), gamma_total in 20.0f64..200.0, power in 0.2f64..8.0, levels in 2u32..9,
            total in 1000u64..3000,
        ) {
            for reversed in [false, true] {
                let curve = curve(schedule, gamma_total, power, levels, reversed);
                let mut values: Vec<f64> = (0..total).map(|t| curve.at(&Moment::of_step(t, total))).collect();
                if reversed {
                    values.reverse();
                }
                prop_assert!(values.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
                let is_constant = schedule == Schedule::Constant;
                prop_assert!(values[0] == 0.0 || is_constant || (reversed && values[0] < 1e-9));
                prop_assert!((values[values.len() - 1] - 1.0).abs() < 0.02);
            }
        }

        #[test]
        fn the_mean_over_many_steps_is_that_of_the_whole_budget(schedule in any_schedule(), power in 0.5f64..8.0) {
            let curve = curve(schedule, 100.0, power, 4, false);
            prop_assert!((curve.mean(Some(100_000_000)) - curve.mean(None)).abs() < 1e-6);
        }
    }
}
