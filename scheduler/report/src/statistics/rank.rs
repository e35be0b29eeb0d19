//! Exact rank tests of two samples, and the estimate and interval that belong to signed ranks. Every p value is
//! two-sided.
//!
//! Tied values share the mean of their ranks, and the distribution of the statistic is enumerated for exactly these
//! ranks (the conditional permutation distribution), so p is exact with ties too. Ranks are counted in halves, which
//! makes them whole numbers.

use statrs::distribution::{ContinuousCDF, Normal};

use super::sample::{ROUNDING, magnitude, magnitude_of_pairs, mean, sorted};

/// Largest number of values whose distribution is enumerated. Above it the enumeration is slow and the normal
/// approximation good.
const MOST_VALUES: usize = 200;

/// Exact p value of Wilcoxon's signed rank test of `(first, second)` pairs; above 200 pairs, that of the normal
/// approximation. Pairs without a difference are left out, as in Wilcoxon (1945). `None` if no pair differs, or if a
/// value is not finite.
pub fn wilcoxon_signed_rank(pairs: &[(f64, f64)]) -> Option<f64> {
    let all: Vec<f64> = pairs.iter().map(|(first, second)| second - first).collect();
    mean(&all)?;
    let scale = magnitude_of_pairs(pairs);
    let differences: Vec<f64> = all.into_iter().filter(|value| value.abs() > ROUNDING * scale).collect();
    if differences.is_empty() {
        return None;
    }
    let sizes: Vec<f64> = differences.iter().map(|value| value.abs()).collect();
    let ranks = half_ranks(&sizes, scale);
    let positive: usize = ranks.iter().zip(&differences).filter(|(_, value)| **value > 0.0).map(|(rank, _)| rank).sum();
    if ranks.len() <= MOST_VALUES {
        return Some(two_sided(&signed_rank_chances(&ranks), positive));
    }
    let middle = ranks.iter().sum::<usize>() as f64 / 2.0;
    let sd = ranks.iter().map(|rank| (*rank as f64).powi(2)).sum::<f64>().sqrt() / 2.0;
    // Half ranks move in steps of two, half of which is the correction for continuity.
    let distance = ((positive as f64 - middle).abs() - 1.0).max(0.0);
    Some((2.0 * Normal::standard().sf(distance / sd)).min(1.0))
}

/// Item s is the probability that the ranks with a positive sign sum to s if each sign is a fair coin.
fn signed_rank_chances(ranks: &[usize]) -> Vec<f64> {
    let mut chances = vec![0.0; ranks.iter().sum::<usize>() + 1];
    chances[0] = 1.0;
    for &rank in ranks {
        for sum in (0..chances.len()).rev() {
            let with = if sum >= rank { chances[sum - rank] } else { 0.0 };
            chances[sum] = 0.5 * (chances[sum] + with);
        }
    }
    chances
}

/// The pseudomedian of the sample by Hodges and Lehmann (1963): the median of its Walsh averages, the means of any two
/// of its values and the values themselves. `None` for an empty sample or one with a value that is not finite.
pub fn hodges_lehmann(values: &[f64]) -> Option<f64> {
    mean(values)?;
    let sorted = sorted(values);
    let count = walsh_count(sorted.len());
    Some(walsh_average(&sorted, count.div_ceil(2)).midpoint(walsh_average(&sorted, count / 2 + 1)))
}

/// The interval of the pseudomedian, `[low, high]`: the Walsh averages of rank [`walsh_rank`] from both ends. Its
/// confidence is at least `1 - alpha`. `None` for as few values that no interval has it (below 6 at 95 %), or if a
/// value is not finite.
pub fn hodges_lehmann_interval(values: &[f64], alpha: f64) -> Option<[f64; 2]> {
    mean(values)?;
    let rank = walsh_rank(values.len(), alpha)?;
    let sorted = sorted(values);
    Some([rank, walsh_count(sorted.len()) + 1 - rank].map(|rank| walsh_average(&sorted, rank)))
}

/// The rank, from 1, of the Walsh average at each end of the interval of the pseudomedian of `n` values: the largest
/// one such that the signed rank sum is below it with probability `alpha / 2` at most. `None` if there is none.
pub fn walsh_rank(n: usize, alpha: f64) -> Option<usize> {
    if n <= MOST_VALUES {
        let chances = signed_rank_chances(&(1..=n).collect::<Vec<usize>>());
        let below = chances.iter().scan(0.0, |sum, chance| {
            *sum += chance;
            Some(*sum)
        });
        // The sums of powers of two are exact as long as n is below 53.
        let rank = below.take_while(|sum| *sum <= alpha / 2.0 * (1.0 + 1e-12)).count();
        return (rank > 0).then_some(rank);
    }
    let count = n as f64;
    let sd = (count * (count + 1.0) * (2.0 * count + 1.0) / 24.0).sqrt();
    let rank = walsh_count(n) as f64 / 2.0 + Normal::standard().inverse_cdf(alpha / 2.0) * sd + 0.5;
    (rank >= 1.0).then_some(rank as usize)
}

/// Number of Walsh averages of `n` values.
const fn walsh_count(n: usize) -> usize {
    n * (n + 1) / 2
}

/// The Walsh average of this rank, from 1, of values in rising order. It is found by bisection over the numbers of 64
/// bits, so that the averages, of which 10,000 values have 50 million, are counted and not listed.
fn walsh_average(sorted: &[f64], rank: usize) -> f64 {
    let is_reached = |bound: f64| {
        let (mut count, mut end) = (0, sorted.len());
        for (index, value) in sorted.iter().enumerate() {
            while end > index && value.midpoint(sorted[end - 1]) > bound {
                end -= 1;
            }
            if end <= index {
                break;
            }
            count += end - index;
        }
        count >= rank
    };
    let (mut low, mut high) = (order(sorted[0]), order(sorted[sorted.len() - 1]));
    while low < high {
        let middle = low.midpoint(high);
        // The midpoint of two whole numbers is rounded towards zero, which for negative ones is upwards.
        let middle = if middle == high { middle - 1 } else { middle };
        if is_reached(value_at(middle)) { high = middle } else { low = middle + 1 }
    }
    value_at(low)
}

/// The place of a number in the order of all of them.
const fn order(value: f64) -> i64 {
    let bits = value.to_bits().cast_signed();
    if bits < 0 { i64::MIN - bits } else { bits }
}

/// The number with this place in the order of all of them.
const fn value_at(order: i64) -> f64 {
    let bits = if order < 0 { i64::MIN - order } else { order };
    f64::from_bits(bits.cast_unsigned())
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

    /// The Walsh averages in rising order, by listing them.
    fn walsh_by_listing(values: &[f64]) -> Vec<f64> {
        let values = sorted(values);
        let averages = |i: usize| (0..=i).map(move |j| (j, i));
        sorted(&(0..values.len()).flat_map(averages).map(|(j, i)| values[j].midpoint(values[i])).collect::<Vec<_>>())
    }

    #[test]
    fn the_normal_approximation_continues_the_exact_distribution() {
        let pairs = |n: usize| -> Vec<(f64, f64)> { (0..n).map(|i| (0.0, (i as f64 * 0.7).sin() + 0.12)).collect() };
        let (exact, approximate) =
            (wilcoxon_signed_rank(&pairs(200)).unwrap(), wilcoxon_signed_rank(&pairs(201)).unwrap());
        assert!((exact - approximate).abs() < 0.01, "{exact} {approximate}");
        let (exact, approximate) = (walsh_rank(200, 0.05).unwrap(), walsh_rank(201, 0.05).unwrap());
        assert!((1..200).contains(&(approximate - exact)), "{exact} {approximate}");
    }

    proptest! {
        #[test]
        fn walsh_averages_are_found_without_listing_them(
            values in prop::collection::vec(prop_oneof![-2i8..3, -100i8..100].prop_map(|v| f64::from(v) / 7.0), 1..25),
        ) {
            let listed = walsh_by_listing(&values);
            for rank in 1..=listed.len() {
                prop_assert_eq!(walsh_average(&sorted(&values), rank), listed[rank - 1]);
            }
            let (half, count) = (listed.len() / 2, listed.len());
            let middle = if count % 2 == 1 { listed[half] } else { listed[half - 1].midpoint(listed[half]) };
            prop_assert_eq!(hodges_lehmann(&values).unwrap(), middle);
        }

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
        assert_eq!(hodges_lehmann(&[]), None);
        assert_eq!(hodges_lehmann_interval(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.05), None);
        assert_eq!(mann_whitney(&[], &[1.0]), None);
        assert_eq!(mann_whitney(&[f64::NAN], &[1.0]), None);
        assert_eq!(mann_whitney(&[0.0; 101], &[1.0; 100]), None);
    }
}
