//! Exact rank tests. Every p is two-sided.
//!
//! Ties share their mean rank, and the distribution is enumerated for just these ranks (the conditional permutation
//! distribution), so p is exact with ties too. Ranks are counted in halves to stay whole.

use super::{ROUNDING, magnitude, mean};

/// Above this many values the enumeration gets slow and the t tests are good: no answer.
const MOST: usize = 200;

/// Wilcoxon's signed rank test of `(first, second)` pairs; the exact p value. Pairs without a difference are left out,
/// after Wilcoxon. `None` where no pair differs, where there are more than 200, or a value is not finite.
pub fn wilcoxon_signed_rank(pairs: &[(f64, f64)]) -> Option<f64> {
    let all: Vec<f64> = pairs.iter().map(|(first, second)| second - first).collect();
    mean(&all)?;
    let scale = pairs.iter().fold(0.0_f64, |most, (first, second)| most.max(first.abs()).max(second.abs()));
    let differences: Vec<f64> = all.into_iter().filter(|value| value.abs() > ROUNDING * scale).collect();
    if differences.is_empty() || differences.len() > MOST {
        return None;
    }
    let sizes: Vec<f64> = differences.iter().map(|value| value.abs()).collect();
    let ranks = half_ranks(&sizes, scale);
    let positive = ranks.iter().zip(&differences).filter(|(_, value)| **value > 0.0).map(|(rank, _)| rank).sum();
    // chances[s]: that the positive ranks sum to s, when each sign is a fair coin.
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

/// Mann and Whitney's test of two independent samples; the exact p value. `None` where one is empty, where there are
/// more than 200 values, or one is not finite.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Option<f64> {
    let all = [a, b].concat();
    if a.is_empty() || b.is_empty() || all.len() > MOST {
        return None;
    }
    mean(&all)?;
    let ranks = half_ranks(&all, magnitude(&all));
    let observed = ranks[..a.len()].iter().sum();
    // chances[k][s]: that k of the ranks seen so far are the first sample's and sum to s. Drawn without replacement:
    // with r ranks left and m of them still to be chosen, the next one is chosen with chance m / r.
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

/// Twice the rank of each value, from 2; equal values share the mean of their ranks.
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

fn two_sided(chances: &[f64], observed: usize) -> f64 {
    let low: f64 = chances[..=observed].iter().sum();
    let high: f64 = chances[observed..].iter().sum();
    (2.0 * low.min(high)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All 2^n signs.
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

    /// All choices of `a.len()` places.
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
        // Few distinct values, so that ties are common.
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
    fn what_has_no_ranks_has_no_p() {
        assert_eq!(wilcoxon_signed_rank(&[(1.0, 1.0), (2.0, 2.0)]), None);
        assert_eq!(wilcoxon_signed_rank(&[]), None);
        assert_eq!(mann_whitney(&[], &[1.0]), None);
        assert_eq!(mann_whitney(&[f64::NAN], &[1.0]), None);
        assert_eq!(mann_whitney(&[0.0; 101], &[1.0; 100]), None);
    }
}
