//! Tests of a difference in centre or spread. Every p is two-sided.

use statrs::distribution::{ContinuousCDF, FisherSnedecor, StudentsT};

use super::{ROUNDING, magnitude, mean, median, positive_spread, t_interval};

/// Mean difference of pairs, with what is known about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedT {
    /// Mean of second minus first.
    pub difference: f64,
    pub interval: Option<[f64; 2]>,
    pub p: Option<f64>,
}

/// Paired t test of `(first, second)` pairs that share what they were drawn with. Interval and p are `None` for a
/// single pair, and where every pair differs by the same amount.
pub fn paired_t(pairs: &[(f64, f64)]) -> Option<PairedT> {
    let mut differences: Vec<f64> = pairs.iter().map(|(first, second)| second - first).collect();
    let difference = mean(&differences)?;
    settle(&mut differences, pairs, difference);
    let p = positive_spread(&differences).and_then(|sd| {
        let n = differences.len() as f64;
        two_sided(difference / (sd / n.sqrt()), n - 1.0)
    });
    Some(PairedT { difference, interval: t_interval(&differences), p })
}

/// Differences that vary by no more than the rounding of the values they were taken from are equal.
fn settle(differences: &mut [f64], pairs: &[(f64, f64)], mean: f64) {
    let scale = pairs.iter().fold(0.0_f64, |most, (first, second)| most.max(first.abs()).max(second.abs()));
    if differences.iter().all(|difference| (difference - mean).abs() <= ROUNDING * scale) {
        differences.fill(mean);
    }
}

/// Welch's t test of two independent samples; the p value. `None` unless both have two values and some spread.
pub fn welch(a: &[f64], b: &[f64]) -> Option<f64> {
    let error = |values: &[f64]| Some(positive_spread(values)?.powi(2) / values.len() as f64);
    let (error_a, error_b) = (error(a)?, error(b)?);
    let freedom =
        (error_a + error_b).powi(2) / (error_a.powi(2) / (a.len() - 1) as f64 + error_b.powi(2) / (b.len() - 1) as f64);
    two_sided((mean(b)? - mean(a)?) / (error_a + error_b).sqrt(), freedom)
}

/// Brown and Forsythe's test of equal spread (Levene's test around the median); the p value. `None` where the distances
/// from the median do not vary within the samples, as with two values each.
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
    if within.sqrt() <= ROUNDING * magnitude(a).max(magnitude(b)) {
        return None;
    }
    let freedom = n_a + n_b - 2.0;
    let between = n_a * (mean_a - centre).powi(2) + n_b * (mean_b - centre).powi(2);
    Some(FisherSnedecor::new(1.0, freedom).ok()?.sf(between / (within / freedom)))
}

/// Holm's step-down correction: each p so adjusted that rejecting below alpha keeps the family-wise error at alpha. In
/// the order of the input.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut most = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        most = most.max(((p.len() - rank) as f64 * p[index]).min(1.0));
        adjusted[index] = most;
    }
    adjusted
}

fn two_sided(t: f64, freedom: f64) -> Option<f64> {
    Some((2.0 * StudentsT::new(0.0, 1.0, freedom).ok()?.sf(t.abs())).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_spread_there_is_no_test() {
        let same = paired_t(&[(0.6, 0.7), (0.7, 0.8), (0.8, 0.9)]).unwrap();
        assert!((same.difference - 0.1).abs() < 1e-12);
        assert_eq!((same.interval, same.p), (None, None));
        let single = paired_t(&[(1.0, 3.0)]).unwrap();
        assert_eq!(single, PairedT { difference: 2.0, interval: None, p: None });
        assert_eq!(paired_t(&[]), None);
        assert_eq!(paired_t(&[(1.0, f64::NAN), (1.0, 2.0)]), None);
        assert_eq!(welch(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(brown_forsythe(&[1.0, 2.0], &[1.0, 5.0]), None);
        assert_eq!(brown_forsythe(&[0.1, 0.1, 0.1], &[0.3, 0.3, 0.3]), None);
    }

    proptest! {
        #[test]
        fn holm_never_lowers_a_p_and_keeps_their_order(p in prop::collection::vec(0.0f64..=1.0, 0..12)) {
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
