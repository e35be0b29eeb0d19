//! What varies over a run, as functions of the share of its budget that is used up.
//!
//! A budget is counted in steps or in seconds; in shares of it, every schedule decays over the same budget, whatever its
//! unit (Kaddour et al. 2023, arXiv 2307.06440).

use serde::{Deserialize, Serialize};

use crate::problem::Problems;

/// The place of a step in its run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Optimiser updates made before it.
    pub step: u64,
    /// Share of the budget used up before it, from 0 up to, not including, 1.
    pub share: f64,
    /// Share of the budget that it takes.
    pub width: f64,
}

impl Moment {
    /// Step `step` (from 0) of a budget of `total` steps.
    pub fn of_step(step: u64, total: u64) -> Self {
        let total = total.max(1) as f64;
        Self { step, share: step as f64 / total, width: 1.0 / total }
    }
}

/// The shape of a way from 0 at the start of a run to 1 at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Shape {
    /// 1 - exp(-gamma t), the paper's equation; gamma is 100 over the budget where none is given.
    #[default]
    Exponential,
    /// u
    Linear,
    /// u^power
    Polynomial,
    /// (1 - cos(pi u))/2
    Cosine,
    /// `levels` equal stairs, the first at 0, the last at 1.
    Step,
    /// 1 from the first step on.
    Constant,
}

/// A [`Shape`] with its numbers; those that a shape does not have are absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course {
    pub shape: Shape,
    /// Speed of the exponential, per budget (the paper's gamma times T).
    pub speed: f64,
    pub power: f64,
    pub levels: u32,
    /// The way run backwards: as much of everything in all, the end first.
    pub reversed: bool,
}

/// The paper's heuristic: gamma = 100/T.
pub const DEFAULT_SPEED: f64 = 100.0;
pub const DEFAULT_POWER: f64 = 3.0;
pub const DEFAULT_LEVELS: u32 = 4;

impl Course {
    /// How far along the way `moment` is, from 0 to 1.
    pub fn at(&self, moment: &Moment) -> f64 {
        // Backwards, a step stands where it would stand counted from the end, so that a run's sum stays what it was.
        let left = 1.0 - moment.share - moment.width;
        let u = match self.reversed {
            false => moment.share,
            // The last step stands at 0, and not at what rounding makes of it.
            true if left < 1e-6 * moment.width => 0.0,
            true => left,
        };
        match self.shape {
            Shape::Exponential => -(-self.speed * u).exp_m1(),
            Shape::Linear => u,
            Shape::Polynomial => u.powf(self.power),
            Shape::Cosine => 0.5 * (1.0 - (std::f64::consts::PI * u).cos()),
            Shape::Step => {
                let levels = f64::from(self.levels);
                // A share is a quotient of whole numbers: 3 of 6 steps must reach the second of two stairs.
                ((u * levels + 1e-9).floor() / (levels - 1.0)).min(1.0)
            }
            Shape::Constant => 1.0,
        }
    }

    /// Mean of [`Course::at`] over the steps of a budget of `total`; over the whole of a budget in another unit.
    pub fn mean(&self, total: Option<u64>) -> f64 {
        let half_step = total.map_or(0.0, |total| 0.5 / total.max(1) as f64);
        match self.shape {
            Shape::Exponential => {
                let decayed = -(-self.speed).exp_m1();
                // Geometric sum of exp(-speed s/T) over s = 0..T-1, over T.
                1.0 - match total {
                    Some(total) => decayed / -(-self.speed / total.max(1) as f64).exp_m1() / total.max(1) as f64,
                    None => decayed / self.speed,
                }
            }
            // Of the cosine's values at 0, 1/T .. (T-1)/T all but the first cancel in pairs.
            Shape::Linear | Shape::Cosine => 0.5 - half_step,
            Shape::Polynomial => match total {
                Some(total) if total <= 10_000 => {
                    (0..total).map(|t| (t as f64 / total as f64).powf(self.power)).sum::<f64>() / total as f64
                }
                // Euler-Maclaurin to the first derivative.
                _ => 1.0 / (self.power + 1.0) - half_step + self.power * half_step * half_step / 3.0,
            },
            Shape::Step => match total {
                Some(total) => {
                    let (levels, total) = (u128::from(self.levels), u128::from(total));
                    // Level j holds the steps from ceil(j T/k) up to ceil((j+1) T/k).
                    let first = |level: u128| (level * total).div_ceil(levels);
                    let sum: u128 = (0..levels).map(|level| level * (first(level + 1) - first(level))).sum();
                    sum as f64 / ((levels - 1) * total) as f64
                }
                None => 0.5,
            },
            Shape::Constant => 1.0,
        }
    }

    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.require(self.speed > 0.0 && self.speed.is_finite(), "gamma", || "a positive number".into());
        problems.require(self.power > 0.0 && self.power <= 100.0, "power", || {
            format!("{}: above 0 and at most 100", self.power)
        });
        problems.require((2..=1000).contains(&self.levels), "levels", || format!("{}: 2 to 1000 stairs", self.levels));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPES: [Shape; 6] =
        [Shape::Exponential, Shape::Linear, Shape::Polynomial, Shape::Cosine, Shape::Step, Shape::Constant];

    fn course(shape: usize, speed: f64, power: f64, levels: u32, reversed: bool) -> Course {
        Course { shape: SHAPES[shape], speed, power, levels, reversed }
    }

    proptest! {
        #[test]
        fn the_mean_is_the_mean_over_steps_in_both_directions(
            shape in 0usize..6, speed in 0.1f64..200.0, power in 0.2f64..8.0, levels in 2u32..9, reversed: bool,
            total in 1u64..3000,
        ) {
            let course = course(shape, speed, power, levels, reversed);
            let sum: f64 = (0..total).map(|step| course.at(&Moment::of_step(step, total))).sum();
            prop_assert!((course.mean(Some(total)) - sum / total as f64).abs() < 1e-6, "{course:?}");
        }

        #[test]
        fn a_way_rises_from_0_to_1_and_backwards_falls(
            shape in 0usize..6, speed in 20.0f64..200.0, power in 0.2f64..8.0, levels in 2u32..9, total in 1000u64..3000,
        ) {
            for reversed in [false, true] {
                let course = course(shape, speed, power, levels, reversed);
                let mut values: Vec<f64> = (0..total).map(|t| course.at(&Moment::of_step(t, total))).collect();
                if reversed {
                    values.reverse();
                }
                prop_assert!(values.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
                prop_assert!(values[0] == 0.0 || course.shape == Shape::Constant || (reversed && values[0] < 1e-9));
                prop_assert!((values[values.len() - 1] - 1.0).abs() < 0.02);
            }
        }

        #[test]
        fn a_long_budget_has_the_mean_of_the_whole(shape in 0usize..6, power in 0.5f64..8.0) {
            let course = course(shape, 100.0, power, 4, false);
            prop_assert!((course.mean(Some(100_000_000)) - course.mean(None)).abs() < 1e-6);
        }
    }
}
