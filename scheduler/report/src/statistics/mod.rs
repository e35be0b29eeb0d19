//! Statistics of small samples, by formula and by enumeration. Pure functions of numbers.
//!
//! One rule for what cannot be known: the answer is `None`, never a number that looks like one.
//!
//! | sample | mean, median | sd | interval, test |
//! |---|---|---|---|
//! | empty, or with a value that is not finite | `None` | `None` | `None` |
//! | one value | the value | `None` | `None` |
//! | two values and more | by formula | by formula | by formula |
//! | all values equal (up to rounding) | the value | 0 | `None`: the normal model would claim certainty |
//!
//! A run that diverged has no score. The caller counts it and leaves it out of the sample; it never enters as NaN.

mod interval;
mod rank;
mod test;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use interval::{t_interval, wilson_interval};
pub use rank::{mann_whitney, wilcoxon_signed_rank};
pub use test::{PairedT, brown_forsythe, holm, paired_t, welch};

/// How much of the largest magnitude a spread must exceed to be more than the rounding of the values themselves.
const ROUNDING: f64 = 1e-12;

/// Centre, spread and what is known about the centre.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// Values in the sample.
    pub n: usize,
    pub mean: f64,
    /// Sample standard deviation (divisor n - 1); absent for one value.
    pub sd: Option<f64>,
    /// 95 % t interval of the mean, `[low, high]`.
    pub interval: Option<[f64; 2]>,
}

impl Summary {
    /// `None` for a sample that is empty or holds a value that is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            n: values.len(),
            mean: mean(values)?,
            sd: standard_deviation(values),
            interval: t_interval(values),
        })
    }
}

pub fn mean(values: &[f64]) -> Option<f64> {
    let usable = !values.is_empty() && values.iter().all(|value| value.is_finite());
    usable.then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation, divisor n - 1. Exactly 0 where the values differ by no more than rounding.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let sd = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt();
    Some(if sd > ROUNDING * magnitude(values) { sd } else { 0.0 })
}

/// The middle value; the mean of the two middle ones where their number is even.
pub fn median(values: &[f64]) -> Option<f64> {
    mean(values)?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    Some(if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 })
}

/// Expected best of `k` runs drawn with replacement from these (Dodge et al. 2019):
/// `EVP(k) = sum_i v_i [(i/n)^k - ((i-1)/n)^k]` over the values in rising order, i from 1.
pub fn expected_maximum(values: &[f64], k: u32) -> Option<f64> {
    mean(values).filter(|_| k > 0)?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let below = |i: usize| (i as f64 / n).powi(k.cast_signed());
    Some(sorted.iter().enumerate().map(|(i, value)| value * (below(i + 1) - below(i))).sum())
}

fn magnitude(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| value.abs().max(most))
}

/// The standard deviation where there is any spread to speak of.
fn positive_spread(values: &[f64]) -> Option<f64> {
    standard_deviation(values).filter(|sd| *sd > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_known_is_none() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN, 2.0]), None);
        assert_eq!(Summary::of(&[1.0, f64::INFINITY]), None);
        assert_eq!(Summary::of(&[0.7]), Some(Summary { n: 1, mean: 0.7, sd: None, interval: None }));
        let two = Summary::of(&[1.0, 3.0]).unwrap();
        // t(0.975, 1) = 12.706; sd / sqrt(2) = 1.
        assert!((two.interval.unwrap()[1] - 2.0 - 12.706_204_736).abs() < 1e-6, "{two:?}");
        assert_eq!(expected_maximum(&[1.0], 0), None);
    }

    #[test]
    fn equal_values_have_no_spread_even_after_rounding() {
        let equal = [0.1 + 0.2, 0.3, 0.3];
        let summary = Summary::of(&equal).unwrap();
        assert_eq!((summary.sd, summary.interval), (Some(0.0), None));
    }

    proptest! {
        #[test]
        fn the_median_splits_the_sample(values in prop::collection::vec(-1e6f64..1e6, 1..40)) {
            let middle = median(&values).unwrap();
            let half = values.len() / 2;
            prop_assert!(values.iter().filter(|value| **value < middle).count() <= half);
            prop_assert!(values.iter().filter(|value| **value > middle).count() <= half);
        }

        #[test]
        fn the_best_of_more_runs_is_never_worse(values in prop::collection::vec(-1e3f64..1e3, 1..20), k in 1u32..30) {
            let best = |k| expected_maximum(&values, k).unwrap();
            prop_assert!(best(k) <= best(k + 1) + 1e-9);
            prop_assert!((best(1) - mean(&values).unwrap()).abs() < 1e-9);
        }
    }
}
