//! An effect with what is known of its error: enough for an interval at any level and for a test of any value.

use statrs::distribution::{ChiSquared, ContinuousCDF, StudentsT};

use super::rank::{hodges_lehmann, hodges_lehmann_interval, wilcoxon_signed_rank};
use super::sample::{mean, positive_spread};
use super::spread::two_sided;

/// More values than this are not worth planning for.
const MOST_VALUES: usize = 10_000;

/// An estimate of an effect from independent values.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The effect.
    pub centre: f64,
    /// Number of independent values.
    pub n: usize,
    error: Error,
}

#[derive(Debug, Clone, PartialEq)]
enum Error {
    /// There is one value, or all are equal, from which a model would conclude certainty.
    Unknown,
    /// The mean of normal values with this sample standard deviation.
    Mean { sd: f64 },
    /// The median of the distribution of these values, which is symmetric.
    Ranks { values: Vec<f64> },
}

impl Estimate {
    /// The mean of `values`, with Student's t. `None` without a value, or if one is not finite.
    pub fn of_mean(values: &[f64]) -> Option<Self> {
        let error = positive_spread(values).map_or(Error::Unknown, |sd| Error::Mean { sd });
        Some(Self { centre: mean(values)?, n: values.len(), error })
    }

    /// The mean of second minus first over `(first, second)` pairs. Differences that vary by rounding only are equal.
    pub fn of_differences(pairs: &[(f64, f64)]) -> Option<Self> {
        Self::of_mean(&super::difference::differences(pairs)?)
    }

    /// The pseudomedian of `values` by Hodges and Lehmann (1963), with signed ranks. `None` without a value, or if one
    /// is not finite.
    pub fn of_pseudomedian(values: &[f64]) -> Option<Self> {
        let error = match positive_spread(values) {
            Some(_) => Error::Ranks { values: values.to_vec() },
            None => Error::Unknown,
        };
        Some(Self { centre: hodges_lehmann(values)?, n: values.len(), error })
    }

    /// The interval that covers the true effect with probability `1 - alpha`, `[low, high]`. Absent if the error is
    /// unknown, or if no interval from as few values covers that much.
    pub fn interval(&self, alpha: f64) -> Option<[f64; 2]> {
        match &self.error {
            Error::Unknown => None,
            Error::Mean { sd } => {
                let half = quantile(self.n, alpha)? * sd / (self.n as f64).sqrt();
                Some([self.centre - half, self.centre + half])
            }
            Error::Ranks { values } => hodges_lehmann_interval(values, alpha),
        }
        .filter(|ends| ends.iter().all(|end| end.is_finite()))
    }

    /// Two-sided p value of the hypothesis that the true effect is `value`: the smallest alpha at which the interval
    /// leaves it out. Absent if the error is unknown.
    pub fn p_of(&self, value: f64) -> Option<f64> {
        match &self.error {
            Error::Unknown => None,
            Error::Mean { sd } => two_sided((self.centre - value) / (sd / (self.n as f64).sqrt()), self.n as f64 - 1.0),
            Error::Ranks { values } => {
                wilcoxon_signed_rank(&values.iter().map(|own| (value, *own)).collect::<Vec<(f64, f64)>>())
            }
        }
    }

    /// The effect in standard deviations of the values, corrected for their number: Hedges' g with the exact factor
    /// (Hedges 1981). Absent below three values.
    pub fn size(&self) -> Option<f64> {
        let Error::Mean { sd } = self.error else { return None };
        let freedom = self.n as f64 - 1.0;
        let ln_gamma = statrs::function::gamma::ln_gamma;
        let factor = (ln_gamma(freedom / 2.0) - ln_gamma((freedom - 1.0) / 2.0)).exp() / (freedom / 2.0).sqrt();
        Some(self.centre / sd * factor).filter(|_| self.n > 2)
    }

    /// How many more values would tell whether the effect is inside `margin` or different from 0, at level `alpha`, if
    /// the mean stays as it is: `[few, many]`. The first number holds if the spread of the values is what it is in this
    /// sample, the second if it is as large as the upper end of its one-sided 80 % interval. Absent if the error is
    /// unknown, or if 10,000 values would not do.
    pub fn more_values(&self, margin: f64, alpha: f64) -> Option<[usize; 2]> {
        let Error::Mean { sd } = self.error else { return None };
        let freedom = self.n as f64 - 1.0;
        let widest = (freedom / ChiSquared::new(freedom).ok()?.inverse_cdf(0.2)).sqrt();
        let needed = self.centre.abs().max(margin - self.centre.abs());
        let enough = |factor: f64| {
            let is_enough = |n: usize| {
                quantile(n, alpha).is_some_and(|quantile| quantile * sd * factor / (n as f64).sqrt() < needed)
            };
            first_at_which(self.n.max(2), MOST_VALUES, is_enough)
        };
        let [few, many] = [enough(1.0)?, enough(widest)?];
        Some([(few - self.n).max(1), (many - self.n).max(1)])
    }
}

/// The quantile of Student's t for an interval of the mean of `n` values.
fn quantile(n: usize, alpha: f64) -> Option<f64> {
    Some(StudentsT::new(0.0, 1.0, n as f64 - 1.0).ok()?.inverse_cdf(1.0 - alpha / 2.0))
}

/// The first number of `low..=high` at which `holds`, which is false and then true, is true.
fn first_at_which(low: usize, high: usize, holds: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (low, high);
    if !holds(high) {
        return None;
    }
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_value_and_equal_values_have_no_error() {
        for values in [&[0.3][..], &[0.1 + 0.2, 0.3, 0.3]] {
            for estimate in [Estimate::of_mean(values), Estimate::of_pseudomedian(values)] {
                let estimate = estimate.unwrap();
                assert!((estimate.centre - 0.3).abs() < 1e-12);
                assert_eq!(
                    (estimate.interval(0.05), estimate.p_of(0.0), estimate.more_values(1.0, 0.05)),
                    (None, None, None)
                );
            }
        }
        assert_eq!(Estimate::of_mean(&[]), None);
        assert_eq!(Estimate::of_pseudomedian(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn more_values_end_at_the_number_that_tells() {
        // Differences with mean 0.005 and sd 0.01, and a margin of 0.02.
        let values: Vec<f64> = [-1.0, 0.0, 1.0, -1.0, 1.0].iter().map(|z| 0.005 + 0.01 * z).collect();
        let estimate = Estimate::of_mean(&values).unwrap();
        let [few, many] = estimate.more_values(0.02, 0.05).unwrap();
        assert!(few <= many, "{few} {many}");
        let n = (5 + few) as f64;
        let half = |n: f64| StudentsT::new(0.0, 1.0, n - 1.0).unwrap().inverse_cdf(0.975) * 0.01 / n.sqrt();
        assert!(half(n) < 0.015, "{}", half(n));
        assert_eq!(Estimate::of_mean(&[1e-9, 1.0, -1.0]).unwrap().more_values(0.0, 0.05), None);
    }

    proptest! {
        #[test]
        fn the_interval_leaves_out_what_the_test_rejects(
            values in prop::collection::vec(-3.0f64..3.0, 7..30),
            value in -2.0f64..2.0,
        ) {
            for estimate in [Estimate::of_mean(&values).unwrap(), Estimate::of_pseudomedian(&values).unwrap()] {
                let [low, high] = estimate.interval(0.05).unwrap();
                let is_rejected = estimate.p_of(value).unwrap() <= 0.05;
                prop_assert_eq!(is_rejected, value < low || high < value, "{:?} {} {}", estimate, low, high);
                prop_assert!(low <= estimate.centre && estimate.centre <= high);
                let [wider_low, wider_high] = estimate.interval(0.02).unwrap();
                prop_assert!(wider_low <= low && high <= wider_high);
            }
        }
    }
}
