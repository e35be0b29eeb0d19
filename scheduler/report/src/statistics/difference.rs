//! Parametric tests of a difference in centre or in spread, and Holm's correction. Every p value of a difference in
//! centre is two-sided.

use statrs::distribution::{ContinuousCDF, FisherSnedecor, StudentsT};

use super::interval::t_interval;
use super::sample::{ROUNDING, magnitude, magnitude_of_pairs, mean, median, positive_spread};

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
    let mut differences: Vec<f64> = pairs.iter().map(|(first, second)| second - first).collect();
    let difference = mean(&differences)?;
    remove_rounding(&mut differences, difference, magnitude_of_pairs(pairs));
    let p = positive_spread(&differences).and_then(|sd| {
        let n = differences.len() as f64;
        two_sided(difference / (sd / n.sqrt()), n - 1.0)
    });
    Some(PairedTTest { difference, interval: t_interval(&differences), p })
}

/// Sets all differences to their mean if they vary by no more than the rounding of values of magnitude `scale`.
fn remove_rounding(differences: &mut [f64], mean: f64, scale: f64) {
    if differences.iter().all(|difference| (difference - mean).abs() <= ROUNDING * scale) {
        differences.fill(mean);
    }
}

/// p value of Welch's t test (Welch 1947) of two independent samples. `None` unless both samples have a spread above 0.
pub fn welch(a: &[f64], b: &[f64]) -> Option<f64> {
    let squared_standard_error = |values: &[f64]| Some(positive_spread(values)?.powi(2) / values.len() as f64);
    let (of_a, of_b) = (squared_standard_error(a)?, squared_standard_error(b)?);
    let freedom = (of_a + of_b).powi(2) / (of_a.powi(2) / (a.len() - 1) as f64 + of_b.powi(2) / (b.len() - 1) as f64);
    two_sided((mean(b)? - mean(a)?) / (of_a + of_b).sqrt(), freedom)
}

/// p value of the test of equal spread by Brown and Forsythe (1974), which is Levene's test around the median. `None`
/// if the distances from the median do not vary within the samples, as with two values each.
pub fn brown_forsythe(a: &[f64], b: &[f64]) -> Option<f64> {
    let distances = |values: &[f64]| {
        let middle = median(values)?;
        Some(values.iter().map(|value| (value - middle).abs()).collect::<Vec<f64>>())
    };
    let (from_a, from_b) = (distances(a)?, distances(b)?);
    let (mean_a, mean_b) = (mean(&from_a)?, mean(&from_b)?);
    let squares = |values: &[f64], centre: f64| values.iter().map(|value| (value - centre).powi(2)).sum::<f64>();
    let (n_a, n_b) = (a.len() as f64, b.len() as f64);
    let centre = (n_a * mean_a + n_b * mean_b) / (n_a + n_b);
    let within = squares(&from_a, mean_a) + squares(&from_b, mean_b);
    if within.sqrt() <= ROUNDING * magnitude(a.iter().chain(b).copied()) {
        return None;
    }
    let freedom = n_a + n_b - 2.0;
    let between = n_a * (mean_a - centre).powi(2) + n_b * (mean_b - centre).powi(2);
    Some(FisherSnedecor::new(1.0, freedom).ok()?.sf(between / (within / freedom)))
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

/// Two-sided p value of the statistic `t` at `freedom` degrees of freedom.
fn two_sided(t: f64, freedom: f64) -> Option<f64> {
    Some((2.0 * StudentsT::new(0.0, 1.0, freedom).ok()?.sf(t.abs())).min(1.0))
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
        assert_eq!(brown_forsythe(&[1.0, 2.0], &[1.0, 5.0]), None);
        assert_eq!(brown_forsythe(&[0.1, 0.1, 0.1], &[0.3, 0.3, 0.3]), None);
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
