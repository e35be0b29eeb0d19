//! Centre and spread of one sample.

/// A spread is rounding error if it is at most this share of the largest magnitude in the sample.
pub(super) const ROUNDING: f64 = 1e-12;

/// Arithmetic mean. `None` for an empty sample, or if a value or the sum is not finite.
pub fn mean(values: &[f64]) -> Option<f64> {
    let usable = !values.is_empty() && values.iter().all(|value| value.is_finite());
    usable.then(|| values.iter().sum::<f64>() / values.len() as f64).filter(|mean| mean.is_finite())
}

/// Sample standard deviation, with divisor n - 1. Exactly 0 if the values differ by rounding only. `None` if it is not
/// finite.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let sd = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt();
    let is_rounding = sd <= ROUNDING * magnitude(values.iter().copied());
    Some(if is_rounding { 0.0 } else { sd }).filter(|sd| sd.is_finite())
}

/// The middle value, or the mean of the two middle values of a sample of even size.
pub fn median(values: &[f64]) -> Option<f64> {
    mean(values)?;
    let mut values = values.to_vec();
    let half = values.len() / 2;
    let is_odd = values.len() % 2 == 1;
    let (below, upper, _) = values.select_nth_unstable_by(half, f64::total_cmp);
    if is_odd {
        return Some(*upper);
    }
    Some((below.iter().copied().fold(f64::NEG_INFINITY, f64::max) + *upper) / 2.0)
}

/// Expected maximum of `k` values drawn from the sample without replacement, `sum_i v_i C(i-1, k-1) / C(n, k)` over the n
/// values in rising order, i from 1: the U-statistic, which is unbiased (Tang et al. 2020). `None` if `k` is 0 or above
/// n.
pub fn expected_maximum(values: &[f64], k: u32) -> Option<f64> {
    let (n, k) = (values.len(), k as usize);
    mean(values).filter(|_| (1..=n).contains(&k))?;
    // The chance that the largest of the k values is the i-th, from the largest value down: first k / n, then times
    // (i - k) / (i - 1) for each step from the i-th to the one below.
    let mut chance = k as f64 / n as f64;
    let mut expected = 0.0;
    for (index, value) in sorted(values).into_iter().enumerate().rev() {
        expected += chance * value;
        if index == 0 {
            break;
        }
        chance *= (index + 1).saturating_sub(k) as f64 / index as f64;
    }
    Some(expected)
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

/// The values in rising order.
pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
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
        assert_eq!(expected_maximum(&[1.0], 2), None);
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
        fn the_expected_maximum_rises_from_the_mean_to_the_largest_value(
            values in prop::collection::vec(-1e3f64..1e3, 1..20),
        ) {
            let best = |k| expected_maximum(&values, k).unwrap();
            let n = values.len() as u32;
            prop_assert!((1..n).all(|k| best(k) <= best(k + 1) + 1e-9));
            prop_assert!((best(1) - mean(&values).unwrap()).abs() < 1e-9);
            prop_assert!((best(n) - values.iter().copied().fold(f64::MIN, f64::max)).abs() < 1e-9);
        }
    }
}
