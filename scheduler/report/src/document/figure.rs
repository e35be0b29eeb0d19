//! Figures: what each arm was measured at, with every seed and the interval, as SVG.

use std::fmt::Write;

/// Rows of points on one axis.
pub(super) struct Figure {
    pub(super) title: String,
    /// What the axis measures, with its unit.
    pub(super) axis: String,
    /// A value to compare with, such as 1 for a ratio.
    pub(super) reference: Option<f64>,
    pub(super) rows: Vec<Row>,
}

pub(super) struct Row {
    pub(super) label: String,
    /// One value per seed.
    pub(super) points: Vec<f64>,
    pub(super) estimate: Option<f64>,
    pub(super) interval: Option<[f64; 2]>,
}

/// Width of the figure, of its labels and height of a row, in units of the SVG.
const WIDTH: f64 = 720.0;
const LABELS: f64 = 180.0;
const ROW: f64 = 28.0;
const RIGHT: f64 = 90.0;

impl Figure {
    /// The figure, or nothing if no row has a number.
    pub(super) fn to_svg(&self) -> Option<String> {
        let numbers = self
            .rows
            .iter()
            .flat_map(|row| row.points.iter().copied().chain(row.estimate).chain(row.interval.into_iter().flatten()));
        let (least, most) = numbers
            .chain(self.reference)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
        if !(least.is_finite() && most.is_finite()) {
            return None;
        }
        let step = tick_step((most - least).max(1e-9 * most.abs()).max(1e-12));
        let (low, high) = ((least / step).floor() * step, (most / step).ceil() * step);
        let (low, high) = if high > low { (low, high) } else { (low - step, low + step) };
        let x = |value: f64| LABELS + (value - low) / (high - low) * (WIDTH - LABELS - RIGHT);
        let height = ROW * self.rows.len() as f64;
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">",
            height + 48.0,
            super::html::escaped(&self.title)
        );
        let ticks = (0..=((high - low) / step).round() as u32).map(|tick| low + f64::from(tick) * step);
        for tick in ticks {
            let at = x(tick);
            // Writing to a string cannot fail.
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{height}\"/>\
                 <text class=\"tick\" x=\"{at:.1}\" y=\"{}\">{tick:.decimals$}</text>",
                height + 16.0
            );
        }
        if let Some(reference) = self.reference {
            let at = x(reference);
            let _ = write!(svg, "<line class=\"reference\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{height}\"/>");
        }
        for (number, row) in self.rows.iter().enumerate() {
            let y = ROW * (number as f64 + 0.5);
            let _ = write!(
                svg,
                "<text class=\"label\" x=\"{}\" y=\"{}\">{}</text>",
                LABELS - 12.0,
                y + 4.0,
                super::html::escaped(&shortened(&row.label))
            );
            for point in &row.points {
                let _ = write!(svg, "<circle class=\"seed\" cx=\"{:.1}\" cy=\"{y}\" r=\"3\"/>", x(*point));
            }
            if let Some([from, to]) = row.interval {
                let _ = write!(
                    svg,
                    "<line class=\"interval\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\"/>",
                    x(from),
                    x(to)
                );
            }
            if let Some(estimate) = row.estimate {
                let _ = write!(
                    svg,
                    "<circle class=\"estimate\" cx=\"{:.1}\" cy=\"{y}\" r=\"4.5\"/>\
                     <text class=\"value\" x=\"{}\" y=\"{}\">{estimate:.*}</text>",
                    x(estimate),
                    WIDTH - RIGHT + 14.0,
                    y + 4.0,
                    decimals + 1
                );
            }
        }
        let _ = write!(
            svg,
            "<text class=\"axis\" x=\"{:.1}\" y=\"{}\">{}</text></svg>",
            (LABELS + WIDTH - RIGHT) / 2.0,
            height + 38.0,
            super::html::escaped(&self.axis)
        );
        Some(svg)
    }
}

/// A distance between ticks of 1, 2 or 5 times a power of ten, for four to eight ticks over `range`.
fn tick_step(range: f64) -> f64 {
    let power = 10_f64.powf((range / 5.0).log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| range / (factor * power) <= 7.0);
    power * factor.unwrap_or(10.0)
}

fn shortened(label: &str) -> String {
    const MOST: usize = 24;
    if label.chars().count() <= MOST {
        return label.to_owned();
    }
    label.chars().take(MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_and_few() {
        for range in [0.003, 0.1, 1.0, 7.0, 99.0, 12_345.0] {
            let count = range / tick_step(range);
            assert!((2.0..=7.0).contains(&count), "{range}: {count}");
        }
    }

    #[test]
    fn a_figure_without_a_number_is_left_out_and_one_with_equal_numbers_is_not() {
        let row = |points: Vec<f64>| Row { label: "<pld>".into(), points, estimate: None, interval: None };
        let figure = |points| Figure { title: "t".into(), axis: "a".into(), reference: None, rows: vec![row(points)] };
        assert_eq!(figure(vec![]).to_svg(), None);
        let svg = figure(vec![0.5, 0.5]).to_svg().unwrap();
        assert!(svg.contains("&lt;pld&gt;") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
