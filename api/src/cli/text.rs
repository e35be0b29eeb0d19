//! Numbers and times as text for people.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// A duration in at most two units: `45 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 60 => format!("{seconds} s"),
        () if minutes < 60 => format!("{minutes} min {:02} s", seconds % 60),
        () if hours < 24 => format!("{hours} h {:02} min", minutes % 60),
        () => format!("{days} d {} h", hours % 24),
    }
}

/// The time from `now` to `end`; `None` if either is unknown or `end` has passed.
pub(crate) fn until(end: Option<DateTime<Utc>>, now: Option<DateTime<Utc>>) -> Option<Duration> {
    (end? - now?).to_std().ok().filter(|left| !left.is_zero())
}

/// A size in decimal units with at least two significant digits: `13 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// A number of floating-point operations: `1.2 PFLOP`.
pub(crate) fn flops(flops: f64) -> String {
    scaled(flops, &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"])
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit > 0 && value < 9.95 { 1 } else { 0 };
    format!("{value:.digits$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_at_most_two_units() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (273_600, "3 d 4 h")]
        {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_size_changes_its_unit_before_it_has_four_digits() {
        for (size, text) in [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_600, "1.0 MB"), (13_400_000, "13 MB")] {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(flops(1.24e15), "1.2 PFLOP");
    }
}
