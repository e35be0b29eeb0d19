//! Numbers as the text of a table cell.

use crate::comparison::{Comparison, SpreadRatio};
use crate::statistics::Summary;

/// The text of a number that is not known.
const UNKNOWN: &str = "–";

/// The text of `value`, or a dash if it is not known.
pub(super) fn known<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), text)
}

pub(super) fn number(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$}")
}

/// A share in percent, with one decimal.
pub(super) fn percent(share: Option<f64>) -> String {
    known(share, |share| number(100.0 * share, 1))
}

/// A share in percent, with its interval.
pub(super) fn percent_with_interval(share: Option<f64>, interval: Option<[f64; 2]>) -> String {
    known(share, |share| with_interval(number(100.0 * share, 1), interval, 100.0, 1))
}

/// A mean times `scale`, with its interval.
pub(super) fn mean(summary: Option<&Summary>, scale: f64, decimals: usize) -> String {
    known(summary, |s| with_interval(number(scale * s.mean, decimals), s.interval, scale, decimals))
}

/// A mean difference times `scale`, with its sign and interval.
pub(super) fn difference(comparison: Option<&Comparison>, scale: f64, decimals: usize) -> String {
    let signed = |value: f64| format!("{value:+.decimals$}");
    known(comparison, |c| with_interval(signed(scale * c.mean_difference), c.interval, scale, decimals))
}

/// `value` followed by its interval times `scale`, if the interval is known.
pub(super) fn with_interval(value: String, interval: Option<[f64; 2]>, scale: f64, decimals: usize) -> String {
    match interval.map(|ends| ends.map(|end| scale * end)) {
        Some([low, high]) => format!("{value} [{low:.decimals$}, {high:.decimals$}]"),
        None => value,
    }
}

/// A ratio of spreads, with its interval.
pub(super) fn spread(spread: Option<&SpreadRatio>) -> String {
    known(spread, |spread| with_interval(number(spread.ratio, 2), spread.interval, 1.0, 2))
}

pub(super) fn p_value(p: Option<f64>) -> String {
    known(p, |p| if p < 0.001 { "<0.001".to_owned() } else { number(p, 3) })
}

/// A learning rate, as `1e-4`.
pub(super) fn rate(rate: Option<f64>) -> String {
    known(rate, |rate| format!("{rate:e}"))
}

/// The learning rates of the two sides of a comparison: one if they are equal, else both.
pub(super) fn rates(own: Option<f64>, other: Option<f64>) -> String {
    if own == other { rate(own) } else { format!("{}, {}", rate(own), rate(other)) }
}
