//! A straight line through points of which some are far off.

use super::sample::median;

/// Residuals beyond this number of standard deviations lose weight; for normal residuals the line is then 95 % as
/// efficient as least squares (Huber 1981).
const TUNING: f64 = 1.345;

/// The median of the absolute values of normal residuals, in standard deviations.
const NORMAL_MEDIAN: f64 = 0.674_489_750_196_081_7;

/// Reweighting converges linearly; this many rounds leave nothing to gain.
const MOST_ITERATIONS: usize = 100;

/// The line `y = intercept + slope * x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    pub intercept: f64,
    pub slope: f64,
}

impl Line {
    pub fn at(self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }

    /// Huber's line (Huber 1964) through the points `(x, y)`, by iteratively reweighted least squares with the median
    /// absolute residual as scale. `None` if the points have fewer than two different x, or a value is not finite.
    pub fn huber(points: &[(f64, f64)]) -> Option<Self> {
        let mut line = Self::weighted(points, |_| 1.0)?;
        for _ in 0..MOST_ITERATIONS {
            let residuals: Vec<f64> = points.iter().map(|(x, y)| (y - line.at(*x)).abs()).collect();
            let scale = median(&residuals)? / NORMAL_MEDIAN;
            let bound = TUNING * scale;
            // At least half of the points lie on the line.
            if scale <= f64::EPSILON * line.intercept.abs().max(line.slope.abs()) {
                break;
            }
            let next =
                Self::weighted(points, |index| if residuals[index] <= bound { 1.0 } else { bound / residuals[index] })?;
            let is_settled = (next.intercept - line.intercept).abs() <= 1e-10 * scale
                && (next.slope - line.slope).abs() <= 1e-10 * scale;
            line = next;
            if is_settled {
                break;
            }
        }
        Some(line)
    }

    /// The line of weighted least squares; `weight` gives the weight of the point with this index.
    fn weighted(points: &[(f64, f64)], weight: impl Fn(usize) -> f64) -> Option<Self> {
        let weighted = || points.iter().enumerate().map(|(index, (x, y))| (weight(index), *x, *y));
        let total: f64 = weighted().map(|(w, ..)| w).sum();
        let (mean_x, mean_y) =
            weighted().fold((0.0, 0.0), |(sx, sy), (w, x, y)| (sx + w * x / total, sy + w * y / total));
        let (products, squares) = weighted().fold((0.0, 0.0), |(products, squares), (w, x, y)| {
            (products + w * (x - mean_x) * (y - mean_y), squares + w * (x - mean_x).powi(2))
        });
        let slope = products / squares;
        let intercept = mean_y - slope * mean_x;
        // Equal x differ from their mean by rounding.
        let varies = squares > 1e-20 * total * (1.0 + mean_x * mean_x);
        (varies && slope.is_finite() && intercept.is_finite()).then_some(Self { intercept, slope })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_give_that_line_and_a_few_wild_ones_move_it_little() {
        let on = |x: f64| (x, 0.2 + 0.05 * x);
        let exact: Vec<(f64, f64)> = (0..40).map(|i| on(f64::from(i % 9))).collect();
        let line = Line::huber(&exact).unwrap();
        assert!((line.intercept - 0.2).abs() < 1e-12 && (line.slope - 0.05).abs() < 1e-12, "{line:?}");
        let mut wild: Vec<(f64, f64)> = (0..40)
            .map(|i| {
                let (x, y) = on(f64::from(i % 9));
                (x, y + 0.001 * f64::from(i * 7 % 11 - 5))
            })
            .collect();
        wild[3].1 *= 20.0;
        wild[17].1 *= 4.0;
        let line = Line::huber(&wild).unwrap();
        assert!((line.at(4.0) - 0.4).abs() < 0.002 && (line.slope - 0.05).abs() < 0.001, "{line:?}");
    }

    #[test]
    fn points_with_one_x_have_no_line() {
        assert_eq!(Line::huber(&[]), None);
        assert_eq!(Line::huber(&[(12.0, 1.0), (12.0, 1.1)]), None);
        assert_eq!(Line::huber(&[(0.1 + 0.2, 1.0), (0.3, 1.1)]), None);
        assert_eq!(Line::huber(&[(1.0, f64::NAN), (2.0, 1.0)]), None);
        assert_eq!(Line::huber(&[(1.0, f64::MAX), (2.0, -f64::MAX)]), None);
    }
}
