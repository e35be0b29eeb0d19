//! Parametric tests of a difference in centre, and Holm's correction. Every p value is two-sided.

use super::interval::t_interval;
use super::sample::{ROUNDING, magnitude_of_pairs, mean, positive_spread};
use super::spread::two_sided;

/// Mean difference of pairs, with its interval and test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedTTest {
    /// Mean of second minus first.
    pub difference: f64,
    /// 95 % t interval of the mean difference, `[low, high]`.
    pub interval: Option<[f64; 2]>,
    /// Two-sided p value.
    pub p: Option<f64>,
}

/// Paired t test of `(first, second)` pairs, such as the runs of two arms with equal seeds. The result is `None`
/// without a pair, and if a difference is not finite. Interval and p are `None` for a single pair, and if all pairs
/// differ by the same amount.
pub fn paired_t(pairs: &[(f64, f64)]) -> Option<PairedTTest> {
    let differences = differences(pairs)?;
    let difference = mean(&differences)?;
    let p = positive_spread(&differences).and_then(|sd| {
        let n = differences.len() as f64;
        two_sided(difference / (sd / n.sqrt()), n - 1.0)
    });
    Some(PairedTTest { difference, interval: t_interval(&differences), p })
}

/// Second minus first of each pair. Differences that vary by no more than the rounding of the values are all set to
/// their mean. `None` without a pair, and if a difference is not finite.
pub(super) fn differences(pairs: &[(f64, f64)]) -> Option<Vec<f64>> {
    let mut differences: Vec<f64> = pairs.iter().map(|(first, second)| second - first).collect();
    let (mean, scale) = (mean(&differences)?, magnitude_of_pairs(pairs));
    if differences.iter().all(|difference| (difference - mean).abs() <= ROUNDING * scale) {
        differences.fill(mean);
    }
    Some(differences)
}

/// p value of the two one-sided tests that the mean difference of `(first, second)` pairs lies within `margin` of 0
/// (Schuirmann 1987). `None` where a paired t test has none.
pub fn equivalence(pairs: &[(f64, f64)], margin: f64) -> Option<f64> {
    let differences = differences(pairs)?;
    let (mean, sd) = (mean(&differences)?, positive_spread(&differences)?);
    let n = differences.len() as f64;
    let t = (margin - mean.abs()) / (sd / n.sqrt());
    let half = two_sided(t, n - 1.0)? / 2.0;
    Some(if t < 0.0 { 1.0 - half } else { half })
}

/// p value of Welch's t test (Welch 1947) of two independent samples. `None` unless both samples have a spread above 0.
pub fn welch(a: &[f64], b: &[f64]) -> Option<f64> {
    let squared_standard_error = |values: &[f64]| Some(positive_spread(values)?.powi(2) / values.len() as f64);
    let (of_a, of_b) = (squared_standard_error(a)?, squared_standard_error(b)?);
    let freedom = (of_a + of_b).powi(2) / (of_a.powi(2) / (a.len() - 1) as f64 + of_b.powi(2) / (b.len() - 1) as f64);
    two_sided((mean(b)? - mean(a)?) / (of_a + of_b).sqrt(), freedom)
}

/// Returns the p values after Holm's step-down correction (Holm 1979), in the order of the input. If the hypotheses
/// whose adjusted p value is at most alpha are rejected, the probability of rejecting any true one is at most alpha.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        largest = largest.max(((p.len() - rank) as f64 * p[index]).min(1.0));
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn samples_without_spread_have_no_p_value() {
        let same = paired_t(&[(0.6, 0.7), (0.7, 0.8), (0.8, 0.9)]).unwrap();
        assert!((same.difference - 0.1).abs() < 1e-12);
        assert_eq!((same.interval, same.p), (None, None));
        let single = paired_t(&[(1.0, 3.0)]).unwrap();
        assert_eq!(single, PairedTTest { difference: 2.0, interval: None, p: None });
        assert_eq!(paired_t(&[]), None);
        assert_eq!(paired_t(&[(1.0, f64::NAN), (1.0, 2.0)]), None);
        assert_eq!(welch(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    proptest! {
        #[test]
        fn holm_never_lowers_a_p_value_and_keeps_their_order(p in prop::collection::vec(0.0f64..=1.0, 0..12)) {
            let adjusted = holm(&p);
            for i in 0..p.len() {
                prop_assert!(adjusted[i] >= p[i] && adjusted[i] <= 1.0);
                for j in 0..p.len() {
                    prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
                }
            }
        }
    }
}
