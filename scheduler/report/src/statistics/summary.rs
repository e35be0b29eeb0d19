//! One sample in four numbers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::interval::t_interval;
use super::sample::{mean, standard_deviation};

/// Mean of a sample, with its spread and the uncertainty of the mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// Number of values in the sample.
    pub n: usize,
    /// Arithmetic mean of the values.
    pub mean: f64,
    /// Sample standard deviation (divisor n - 1). Absent for a single value.
    pub sd: Option<f64>,
    /// 95 % t interval of the mean, `[low, high]`. Absent for a single value, and if all values are equal.
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
}

impl Summary {
    /// `None` for an empty sample or one with a value that is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            n: values.len(),
            mean: mean(values)?,
            sd: standard_deviation(values),
            interval: t_interval(values),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_the_sample_does_not_determine_are_absent() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN, 2.0]), None);
        assert_eq!(Summary::of(&[1.0, f64::INFINITY]), None);
        assert_eq!(Summary::of(&[0.7]), Some(Summary { n: 1, mean: 0.7, sd: None, interval: None }));
        let two = Summary::of(&[1.0, 3.0]).unwrap();
        // t(0.975, 1) = 12.706; sd / sqrt(2) = 1.
        assert!((two.interval.unwrap()[1] - 2.0 - 12.706_204_736).abs() < 1e-6, "{two:?}");
    }

    #[test]
    fn values_that_are_equal_up_to_rounding_have_no_spread() {
        let equal = [0.1 + 0.2, 0.3, 0.3];
        let summary = Summary::of(&equal).unwrap();
        assert_eq!((summary.sd, summary.interval), (Some(0.0), None));
    }
}
