//! What a number of pairs can tell, before there is any: the paired t test and the interval within a margin.
//!
//! Effects and margins are in standard deviations of the differences of the pairs. Both powers are integrals over the
//! sample standard deviation s, which is that of a chi distribution: given s, the rest is normal.

use statrs::distribution::{ChiSquared, Continuous, ContinuousCDF, Normal, StudentsT};

/// Parts of the integral by Simpson's rule; its error is then far below the four digits that anybody reads.
const PARTS: usize = 2_000;

/// Probability that a paired t test of `n` pairs at level `alpha` rejects if the true effect is `effect`. `None` below
/// two pairs.
pub fn power_of_difference(effect: f64, n: usize, alpha: f64) -> Option<f64> {
    let shift = effect.abs() * (n as f64).sqrt();
    over_spreads(n, alpha, |bound| {
        let normal = Normal::standard();
        normal.sf(bound - shift) + normal.cdf(-bound - shift)
    })
}

/// Probability that the `1 - alpha` interval of `n` pairs lies within `margin` if there is no effect. `None` below two
/// pairs.
pub fn power_of_sameness(margin: f64, n: usize, alpha: f64) -> Option<f64> {
    let room = margin * (n as f64).sqrt();
    over_spreads(n, alpha, |bound| (2.0 * Normal::standard().cdf(room - bound) - 1.0).max(0.0))
}

/// The smallest effect for which [`power_of_difference`] is at least `power`. `None` below two pairs.
pub fn detectable_difference(n: usize, alpha: f64, power: f64) -> Option<f64> {
    smallest(power, |effect| power_of_difference(effect, n, alpha))
}

/// The smallest margin for which [`power_of_sameness`] is at least `power`. `None` below two pairs.
pub fn detectable_sameness(n: usize, alpha: f64, power: f64) -> Option<f64> {
    smallest(power, |margin| power_of_sameness(margin, n, alpha))
}

/// The mean over the sample standard deviation s of what `given` says of the bound t(1 - alpha/2) s of the test, in
/// standard errors.
fn over_spreads(n: usize, alpha: f64, given: impl Fn(f64) -> f64) -> Option<f64> {
    let freedom = n.checked_sub(1).filter(|freedom| *freedom > 0)? as f64;
    let quantile = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(1.0 - alpha / 2.0);
    let squared = ChiSquared::new(freedom).ok()?;
    // All but 1e-12 of the distribution of s.
    let most = (squared.inverse_cdf(1.0 - 1e-12) / freedom).sqrt();
    let integrand = |s: f64| 2.0 * freedom * s * squared.pdf(freedom * s * s) * given(quantile * s);
    let width = most / PARTS as f64;
    let weighted = (0..=PARTS).map(|part| {
        let weight = match part {
            0 | PARTS => 1.0,
            part if part % 2 == 1 => 4.0,
            _ => 2.0,
        };
        // The density of one degree of freedom has no value at 0, where its product with s has the limit of the next.
        weight * integrand((part as f64).max(1e-6) * width)
    });
    Some((weighted.sum::<f64>() * width / 3.0).clamp(0.0, 1.0))
}

/// The smallest value at which `power_at`, which rises from 0 to 1, reaches `power`.
fn smallest(power: f64, power_at: impl Fn(f64) -> Option<f64>) -> Option<f64> {
    let (mut low, mut high) = (0.0, 1.0);
    while power_at(high)? < power && high < 1e6 {
        high *= 2.0;
    }
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if power_at(middle)? < power { low = middle } else { high = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_effect_the_power_is_the_level_and_one_pair_has_none() {
        for n in [2, 3, 10, 100] {
            assert!((power_of_difference(0.0, n, 0.05).unwrap() - 0.05).abs() < 1e-6, "{n}");
        }
        assert_eq!(power_of_difference(1.0, 1, 0.05), None);
        assert_eq!(detectable_sameness(1, 0.05, 0.8), None);
    }

    #[test]
    fn what_can_be_told_shrinks_with_the_number_of_pairs() {
        let found = [3, 5, 10, 30].map(|n| detectable_difference(n, 0.05, 0.8).unwrap());
        assert!(found.is_sorted_by(|a, b| a > b), "{found:?}");
        for (n, effect) in [3, 5, 10, 30].into_iter().zip(found) {
            assert!((power_of_difference(effect, n, 0.05).unwrap() - 0.8).abs() < 1e-9);
        }
    }
}
