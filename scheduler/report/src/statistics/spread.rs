//! The spread of two arms: ratios of standard deviations with their intervals, and tests of equal spread.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::estimate::Estimate;
use super::rate::Z;
use super::sample::{ROUNDING, magnitude, magnitude_of_pairs, mean, median, positive_spread, sorted};

/// Fewest runs of a sample for [`bonett_interval`]: with 3 it covers 80 to 93 % instead of 95 %.
const LEAST_FOR_BONETT: usize = 5;

/// Logarithm of the standard deviation of second over first, over `groups` such as checkpoints, each with the runs of
/// the two arms. A group gives one value, half the logarithm of its ratio of variances (Bartlett and Kendall 1946), so
/// the spread between groups has no part in it. Groups in which one of the two has no spread, or in which the two have
/// different numbers of runs, are left out. `None` without a group.
pub fn spread_within(groups: &[(Vec<f64>, Vec<f64>)]) -> Option<Estimate> {
    let has_equal_numbers = |(first, second): &&(Vec<f64>, Vec<f64>)| first.len() == second.len();
    let logarithm =
        |(first, second): &(Vec<f64>, Vec<f64>)| Some((positive_spread(second)? / positive_spread(first)?).ln());
    Estimate::of_mean(&groups.iter().filter(has_equal_numbers).filter_map(logarithm).collect::<Vec<f64>>())
}

/// Logarithm of the standard deviation of second over first, over `(first, second)` pairs such as the runs of two arms
/// with equal seeds: the mean of the jackknife's pseudo-values (Miller 1968; paired, so that what the pairs share
/// cancels). `None` below three pairs, or without spread when any one pair is left out.
pub fn spread_of_pairs(pairs: &[(f64, f64)]) -> Option<Estimate> {
    if pairs.len() < 3 {
        return None;
    }
    let logarithm = |pairs: &[(f64, f64)]| {
        let side = |side: fn(&(f64, f64)) -> f64| positive_spread(&pairs.iter().map(side).collect::<Vec<f64>>());
        Some((side(|pair| pair.1)? / side(|pair| pair.0)?).ln())
    };
    let n = pairs.len() as f64;
    let all = logarithm(pairs)?;
    let without = (0..pairs.len()).map(|left_out| logarithm(&[&pairs[..left_out], &pairs[left_out + 1..]].concat()));
    let values: Option<Vec<f64>> = without.map(|of_rest| Some(n * all - (n - 1.0) * of_rest?)).collect();
    Estimate::of_mean(&values?)
}

/// p value of the test of equal spread of pairs by Pitman (1939) and Morgan (1939): the correlation of sum and
/// difference. It is exact for normal pairs, and wrong where runs fail. `None` below three pairs, or without spread.
pub fn pitman_morgan(pairs: &[(f64, f64)]) -> Option<f64> {
    let sums: Vec<f64> = pairs.iter().map(|(first, second)| first + second).collect();
    let differences: Vec<f64> = pairs.iter().map(|(first, second)| second - first).collect();
    let freedom = pairs.len() as f64 - 2.0;
    if freedom < 1.0 || positive_spread(&differences)? <= ROUNDING * magnitude_of_pairs(pairs) {
        return None;
    }
    let (of_sums, of_differences) = (mean(&sums)?, mean(&differences)?);
    let products = sums.iter().zip(&differences).map(|(s, d)| (s - of_sums) * (d - of_differences)).sum::<f64>();
    let spread = (freedom + 1.0) * positive_spread(&sums)? * positive_spread(&differences)?;
    let correlation = (products / spread).clamp(-1.0, 1.0);
    let t = correlation * (freedom / (1.0 - correlation * correlation)).sqrt();
    two_sided(t, freedom)
}

/// p value of the test of equal spread by Brown and Forsythe (1974) without its structural zeros: the smallest distance
/// from the median of each sample is left out (Hines and O'Hara Hines 2000), because for odd n it is always 0, and with
/// it a test of three against three runs can never reject. `None` below three runs in a sample, or if the distances
/// from the median do not vary within the samples.
pub fn brown_forsythe(a: &[f64], b: &[f64]) -> Option<f64> {
    let distances = |values: &[f64]| {
        let middle = median(values)?;
        let distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
        (values.len() > 2).then(|| sorted(&distances)[1..].to_vec())
    };
    let (from_a, from_b) = (distances(a)?, distances(b)?);
    let (mean_a, mean_b) = (mean(&from_a)?, mean(&from_b)?);
    let squares = |values: &[f64], centre: f64| values.iter().map(|value| (value - centre).powi(2)).sum::<f64>();
    let within = squares(&from_a, mean_a) + squares(&from_b, mean_b);
    let (n_a, n_b) = (from_a.len() as f64, from_b.len() as f64);
    let freedom = n_a + n_b - 2.0;
    if within.sqrt() <= ROUNDING * magnitude(a.iter().chain(b).copied()) {
        return None;
    }
    two_sided((mean_b - mean_a) / (within / freedom * (1.0 / n_a + 1.0 / n_b)).sqrt(), freedom)
}

/// The ratio of the standard deviation of `b` to that of `a`, two samples of independent runs, with its 95 % interval
/// `[low, high]` by Bonett (2006), which takes the kurtosis of the samples into account. The interval is absent below
/// five runs in a sample. `None` unless both have a spread.
pub fn bonett_interval(a: &[f64], b: &[f64]) -> Option<(f64, Option<[f64; 2]>)> {
    let ratio = positive_spread(b)? / positive_spread(a)?;
    if !ratio.is_finite() || a.len().min(b.len()) < LEAST_FOR_BONETT {
        return Some((ratio, None)).filter(|(ratio, _)| ratio.is_finite());
    }
    let [n_a, n_b] = [a, b].map(|values| values.len() as f64);
    let squares = |values: &[f64]| Some((values.len() as f64 - 1.0) * positive_spread(values)?.powi(2));
    let fourths = |values: &[f64]| {
        let n = values.len() as f64;
        let centre = trimmed_mean(values, 0.5 / (n - 4.0).sqrt())?;
        Some(values.iter().map(|value| (value - centre).powi(4)).sum::<f64>())
    };
    let kurtosis = (n_a + n_b) * (fourths(a)? + fourths(b)?) / (squares(a)? + squares(b)?).powi(2);
    let of_sample = |n: f64| (kurtosis - (n - 3.0) / n) / (n - 1.0);
    let error = (of_sample(n_a) + of_sample(n_b)).sqrt();
    // The equaliser of unequal sizes; it is 1 for equal ones.
    let equaliser = (n_b / (n_b - Z)) / (n_a / (n_a - Z));
    let end = |side: f64| ratio * (0.5 * (equaliser.ln() + side * Z * error)).exp();
    let interval = [end(-1.0), end(1.0)];
    Some((ratio, Some(interval).filter(|ends| ends.iter().all(|end| end.is_finite()))))
}

/// The mean without the share `trim` of the values at each end. A value that is cut in part counts for the rest.
fn trimmed_mean(values: &[f64], trim: f64) -> Option<f64> {
    let sorted = sorted(values);
    let cut = (trim * sorted.len() as f64).floor() as usize;
    mean(sorted.get(cut..sorted.len().checked_sub(cut)?)?)
}

/// Two-sided p value of the statistic `t` at `freedom` degrees of freedom. `None` if it is not a number.
pub(super) fn two_sided(t: f64, freedom: f64) -> Option<f64> {
    if t.is_nan() {
        return None;
    }
    let p = 2.0 * StudentsT::new(0.0, 1.0, freedom).ok()?.sf(t.abs().min(1e300));
    Some(p.min(1.0)).filter(|p| p.is_finite())
}
