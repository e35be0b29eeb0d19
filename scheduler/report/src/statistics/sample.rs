//! Centre and spread of one sample.

/// A spread is rounding error if it is at most this share of the largest magnitude in the sample.
pub(super) const ROUNDING: f64 = 1e-12;

/// Arithmetic mean. `None` for an empty sample or one with a value that is not finite.
pub fn mean(values: &[f64]) -> Option<f64> {
    let usable = !values.is_empty() && values.iter().all(|value| value.is_finite());
    usable.then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation, with divisor n - 1. Exactly 0 if the values differ by rounding only.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let sd = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt();
    Some(if sd > ROUNDING * magnitude(values.iter().copied()) { sd } else { 0.0 })
}

/// The middle value, or the mean of the two middle values of a sample of even size.
pub fn median(values: &[f64]) -> Option<f64> {
    mean(values)?;
    let sorted = sorted(values);
    let half = sorted.len() / 2;
    Some(if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 })
}

/// Expected maximum of `k` values drawn from the sample with replacement (Dodge et al. 2019):
/// `sum_i v_i [(i/n)^k - ((i-1)/n)^k]` over the n values in rising order, i from 1.
pub fn expected_maximum(values: &[f64], k: u32) -> Option<f64> {
    mean(values).filter(|_| k > 0)?;
    let sorted = sorted(values);
    let n = sorted.len() as f64;
    let below = |i: usize| (i as f64 / n).powi(k.cast_signed());
    Some(sorted.iter().enumerate().map(|(i, value)| value * (below(i + 1) - below(i))).sum())
}

/// The largest absolute value; 0 for an empty sample.
pub(super) fn magnitude(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |largest, value| value.abs().max(largest))
}

/// The largest absolute value on either side of the pairs.
pub(super) fn magnitude_of_pairs(pairs: &[(f64, f64)]) -> f64 {
    magnitude(pairs.iter().flat_map(|&(first, second)| [first, second]))
}

/// The standard deviation, if it is above 0.
pub(super) fn positive_spread(values: &[f64]) -> Option<f64> {
    standard_deviation(values).filter(|sd| *sd > 0.0)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_maximum_of_no_draws_is_unknown() {
        assert_eq!(expected_maximum(&[1.0], 0), None);
    }

    proptest! {
        #[test]
        fn at_most_half_of_the_values_lie_on_either_side_of_the_median(
            values in prop::collection::vec(-1e6f64..1e6, 1..40),
        ) {
            let middle = median(&values).unwrap();
            let half = values.len() / 2;
            prop_assert!(values.iter().filter(|value| **value < middle).count() <= half);
            prop_assert!(values.iter().filter(|value| **value > middle).count() <= half);
        }

        #[test]
        fn the_expected_maximum_rises_with_the_number_of_draws_and_starts_at_the_mean(
            values in prop::collection::vec(-1e3f64..1e3, 1..20),
            k in 1u32..30,
        ) {
            let best = |k| expected_maximum(&values, k).unwrap();
            prop_assert!(best(k) <= best(k + 1) + 1e-9);
            prop_assert!((best(1) - mean(&values).unwrap()).abs() < 1e-9);
        }
    }
}
