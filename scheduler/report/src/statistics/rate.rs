//! Intervals and tests of rates, such as the share of runs that fail. Intervals are `[low, high]` with 95 % confidence.

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

/// 97.5 % quantile of the standard normal distribution: 95 % of it lie within -Z to Z.
pub(super) const Z: f64 = 1.959_963_984_540_054;

/// The Wilson score interval (Wilson 1927) of the rate `hits / n`, within 0 to 1. `None` if `n` is 0.
pub fn wilson_interval(hits: usize, n: usize) -> Option<[f64; 2]> {
    (n > 0 && hits <= n).then(|| score_interval(hits as f64 / n as f64, n as f64, Z))
}

/// The Wilson interval of the rate of runs that belong to groups, such as the fine-tune runs of several checkpoints.
/// Each item holds the hits and the runs of one group.
///
/// Runs of one group are alike, so they tell less than as many independent ones. The interval counts them as the
/// number of independent runs whose rate would vary as much as the mean rate of the groups does, and takes Student's t
/// with one degree of freedom less than there are groups in place of the normal quantile (Korn and Graubard 1998). One
/// group, or groups of one run each, give [`wilson_interval`].
pub fn nested_rate_interval(groups: &[(usize, usize)]) -> Option<[f64; 2]> {
    let groups: Vec<(usize, usize)> = groups.iter().copied().filter(|(_, runs)| *runs > 0).collect();
    let (hits, runs) = groups.iter().fold((0, 0), |(hits, runs), (h, n)| (hits + h, runs + n));
    if groups.len() < 2 || runs == groups.len() {
        return wilson_interval(hits, runs);
    }
    let count = groups.len() as f64;
    let rates = groups.iter().map(|(hits, runs)| *hits as f64 / *runs as f64);
    let rate = rates.clone().sum::<f64>() / count;
    let variance = rates.map(|of_group| (of_group - rate).powi(2)).sum::<f64>() / (count - 1.0) / count;
    let effective = if variance > 0.0 { (rate * (1.0 - rate) / variance).min(runs as f64) } else { runs as f64 };
    let quantile = StudentsT::new(0.0, 1.0, count - 1.0).ok()?.inverse_cdf(0.975);
    Some(score_interval(rate, effective, quantile))
}

/// The difference of two independent rates, second minus first, with its interval: method 10 of Newcombe (1998), which
/// joins the score intervals of both. The rates are over groups of runs as in [`nested_rate_interval`], and are the
/// means of the rates of the groups. `None` if one has no run.
pub fn difference_of_rates(first: &[(usize, usize)], second: &[(usize, usize)]) -> Option<(f64, Option<[f64; 2]>)> {
    let rate = |groups: &[(usize, usize)]| {
        let rates = groups.iter().filter(|(_, runs)| *runs > 0).map(|(hits, runs)| *hits as f64 / *runs as f64);
        super::mean(&rates.collect::<Vec<f64>>())
    };
    let (rate_first, rate_second) = (rate(first)?, rate(second)?);
    let difference = rate_second - rate_first;
    let interval = nested_rate_interval(first).zip(nested_rate_interval(second));
    let joined = interval.map(|([low_first, high_first], [low_second, high_second])| {
        let below = (rate_second - low_second).hypot(high_first - rate_first);
        let above = (high_second - rate_second).hypot(rate_first - low_first);
        [(difference - below).max(-1.0), (difference + above).min(1.0)]
    });
    Some((difference, joined))
}

/// Exact two-sided p value of McNemar's test (McNemar 1947) of paired runs: `first` pairs in which only the first one
/// is a hit, and `second` in which only the second one is. `None` if there is no such pair.
pub fn mcnemar(first: usize, second: usize) -> Option<f64> {
    let pairs = first + second;
    let coin = Binomial::new(0.5, pairs as u64).ok().filter(|_| pairs > 0)?;
    Some((2.0 * coin.cdf(first.min(second) as u64)).min(1.0))
}

/// Wilson's interval of a rate over `n` runs, at `z` standard errors.
fn score_interval(rate: f64, n: f64, z: f64) -> [f64; 2] {
    let weight = 1.0 + z * z / n;
    let centre = (rate + z * z / (2.0 * n)) / weight;
    let half = z * (rate * (1.0 - rate) / n + (z / (2.0 * n)).powi(2)).sqrt() / weight;
    // At the ends the exact values are 0 and 1, from which the formula is off by rounding.
    let low = if rate <= 0.0 { 0.0 } else { centre - half };
    let high = if rate >= 1.0 { 1.0 } else { centre + half };
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_no_trials_or_of_more_hits_than_trials_has_no_interval() {
        assert_eq!(wilson_interval(0, 0), None);
        assert_eq!(wilson_interval(3, 2), None);
        assert_eq!(nested_rate_interval(&[]), None);
        assert_eq!(mcnemar(0, 0), None);
    }

    #[test]
    fn one_group_and_groups_of_one_run_are_independent_runs() {
        assert_eq!(nested_rate_interval(&[(1, 5)]), wilson_interval(1, 5));
        assert_eq!(nested_rate_interval(&[(1, 1), (0, 1), (0, 1), (0, 0)]), wilson_interval(1, 3));
    }

    #[test]
    fn groups_that_differ_count_as_fewer_runs() {
        let width = |[low, high]: [f64; 2]| high - low;
        let alike = nested_rate_interval(&[(2, 10), (2, 10), (2, 10), (2, 10)]).unwrap();
        let apart = nested_rate_interval(&[(0, 10), (8, 10), (0, 10), (0, 10)]).unwrap();
        assert!(width(apart) > 2.0 * width(alike), "{alike:?} {apart:?}");
        assert!(apart[0] >= 0.0 && apart[1] <= 1.0, "{apart:?}");
    }
}
