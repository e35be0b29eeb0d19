//! Exact rank tests of two samples. Every p value is two-sided.
//!
//! Tied values share the mean of their ranks, and the distribution of the statistic is enumerated for exactly these
//! ranks (the conditional permutation distribution), so p is exact with ties too. Ranks are counted in halves, which
//! makes them whole numbers.

use super::sample::{ROUNDING, magnitude, magnitude_of_pairs, mean};

/// Largest number of values that is tested. Above it the enumeration is slow, and the t tests are good approximations.
const MOST_VALUES: usize = 200;

/// Exact p value of Wilcoxon's signed rank test of `(first, second)` pairs. Pairs without a difference are left out, as
/// in Wilcoxon (1945). `None` if no pair differs, if more than 200 differ, or if a value is not finite.
pub fn wilcoxon_signed_rank(pairs: &[(f64, f64)]) -> Option<f64> {
    let all: Vec<f64> = pairs.iter().map(|(first, second)| second - first).collect();
    mean(&all)?;
    let scale = magnitude_of_pairs(pairs);
    let differences: Vec<f64> = all.into_iter().filter(|value| value.abs() > ROUNDING * scale).collect();
    if differences.is_empty() || differences.len() > MOST_VALUES {
        return None;
    }
    let sizes: Vec<f64> = differences.iter().map(|value| value.abs()).collect();
    let ranks = half_ranks(&sizes, scale);
    let positive = ranks.iter().zip(&differences).filter(|(_, value)| **value > 0.0).map(|(rank, _)| rank).sum();
    // chances[s] is the probability that the ranks with a positive sign sum to s if each sign is a fair coin.
    let mut chances = vec![0.0; ranks.iter().sum::<usize>() + 1];
    chances[0] = 1.0;
    for rank in ranks {
        for sum in (0..chances.len()).rev() {
            let with = if sum >= rank { chances[sum - rank] } else { 0.0 };
            chances[sum] = 0.5 * (chances[sum] + with);
        }
    }
    Some(two_sided(&chances, positive))
}

/// Exact p value of the test of two independent samples by Mann and Whitney (1947). `None` if a sample is empty, if
/// there are more than 200 values together, or if a value is not finite.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Option<f64> {
    let all = [a, b].concat();
    if a.is_empty() || b.is_empty() || all.len() > MOST_VALUES {
        return None;
    }
    mean(&all)?;
    let ranks = half_ranks(&all, magnitude(all.iter().copied()));
    let observed = ranks[..a.len()].iter().sum();
    // chances[k][s] is the probability that k of the ranks seen so far belong to the first sample and sum to s. Ranks
    // are drawn without replacement: with r ranks left, m of which the first sample still needs, it gets the next one
    // with probability m / r.
    let total = ranks.iter().sum::<usize>();
    let mut chances = vec![vec![0.0; total + 1]; a.len() + 1];
    chances[0][0] = 1.0;
    for (seen, &rank) in ranks.iter().enumerate() {
        let left = (ranks.len() - seen) as f64;
        for chosen in (0..=a.len().min(seen)).rev() {
            let take = (a.len() - chosen) as f64 / left;
            let row = std::mem::replace(&mut chances[chosen], vec![0.0; total + 1]);
            for (sum, chance) in row.into_iter().enumerate().filter(|(_, chance)| *chance > 0.0) {
                if take > 0.0 {
                    chances[chosen + 1][sum + rank] += chance * take;
                }
                chances[chosen][sum] += chance * (1.0 - take);
            }
        }
    }
    Some(two_sided(&chances[a.len()], observed))
}

/// Twice the rank of each value; ranks count from 1, and tied values share the mean of their ranks. Values are tied if
/// they differ by no more than the rounding of numbers of magnitude `scale`.
fn half_ranks(values: &[f64], scale: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0; values.len()];
    let ties = order.chunk_by(|a, b| (values[*a] - values[*b]).abs() <= ROUNDING * scale);
    let mut below = 0;
    for tie in ties {
        for index in tie {
            ranks[*index] = 2 * below + tie.len() + 1;
        }
        below += tie.len();
    }
    ranks
}

/// Two-sided p value of the `observed` sum under the distribution `chances`.
fn two_sided(chances: &[f64], observed: usize) -> f64 {
    let low: f64 = chances[..=observed].iter().sum();
    let high: f64 = chances[observed..].iter().sum();
    (2.0 * low.min(high)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The p value by listing all 2^n choices of signs.
    fn signed_rank_by_listing(pairs: &[(f64, f64)]) -> f64 {
        let sizes: Vec<f64> = pairs.iter().map(|(a, b)| (b - a).abs()).collect();
        let ranks = half_ranks(&sizes, 1.0);
        let sum = |signs: u32| -> usize { (0..ranks.len()).filter(|i| signs >> i & 1 == 1).map(|i| ranks[i]).sum() };
        let observed: usize = (0..ranks.len()).filter(|&i| pairs[i].1 > pairs[i].0).map(|i| ranks[i]).sum();
        let all = 1u32 << ranks.len();
        let low = (0..all).filter(|&signs| sum(signs) <= observed).count();
        let high = (0..all).filter(|&signs| sum(signs) >= observed).count();
        (2.0 * low.min(high) as f64 / f64::from(all)).min(1.0)
    }

    /// The p value by listing all choices of `a.len()` places.
    fn rank_sum_by_listing(a: &[f64], b: &[f64]) -> f64 {
        let ranks = half_ranks(&[a, b].concat(), 1.0);
        let observed: usize = ranks[..a.len()].iter().sum();
        let sums: Vec<usize> = (0..1u32 << ranks.len())
            .filter(|chosen| chosen.count_ones() as usize == a.len())
            .map(|chosen| (0..ranks.len()).filter(|i| chosen >> i & 1 == 1).map(|i| ranks[i]).sum())
            .collect();
        let low = sums.iter().filter(|sum| **sum <= observed).count();
        let high = sums.iter().filter(|sum| **sum >= observed).count();
        (2.0 * low.min(high) as f64 / sums.len() as f64).min(1.0)
    }

    proptest! {
        // The values are few, so that ties are common.
        #[test]
        fn both_tests_are_exact_with_ties(
            a in prop::collection::vec((0u8..6).prop_map(f64::from), 1..6),
            b in prop::collection::vec((0u8..6).prop_map(f64::from), 1..6),
        ) {
            prop_assert!((mann_whitney(&a, &b).unwrap() - rank_sum_by_listing(&a, &b)).abs() < 1e-12);
            let pairs: Vec<(f64, f64)> = a.into_iter().zip(b).filter(|(a, b)| a != b).collect();
            match wilcoxon_signed_rank(&pairs) {
                Some(p) => prop_assert!((p - signed_rank_by_listing(&pairs)).abs() < 1e-12),
                None => prop_assert!(pairs.is_empty()),
            }
        }
    }

    #[test]
    fn samples_without_ranks_or_with_too_many_values_have_no_p_value() {
        assert_eq!(wilcoxon_signed_rank(&[(1.0, 1.0), (2.0, 2.0)]), None);
        assert_eq!(wilcoxon_signed_rank(&[]), None);
        assert_eq!(mann_whitney(&[], &[1.0]), None);
        assert_eq!(mann_whitney(&[f64::NAN], &[1.0]), None);
        assert_eq!(mann_whitney(&[0.0; 101], &[1.0; 100]), None);
    }
}
