//! When a question of a job counts as answered.

use recipe::problem::Problems;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When a question counts as answered. The rules are part of a job and cannot be changed after its submission, so that
/// nobody chooses them by their outcome.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Probability that any verdict of the job is wrong, at most: Holm's correction (Holm 1979) is over all of them.
    #[schema(minimum = 0.000001, maximum = 0.5)]
    pub alpha: f64,
    pub margins: Margins,
}

/// The largest differences that do not matter. An arm is "the same" in a measure if the interval of its difference from
/// the baseline lies within the margin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Margins {
    /// Share of the step time: with 0.02, arms are as fast if one takes at most 1.02 times as long as the other.
    #[schema(exclusive_minimum = 0)]
    pub speed: f64,
    /// Validation loss, in nats.
    #[schema(exclusive_minimum = 0)]
    pub loss: f64,
    /// GLUE score or validation accuracy, as a fraction: 0.01 is one point.
    #[schema(exclusive_minimum = 0)]
    pub score: f64,
    /// Factor of the standard deviation over seeds, above 1.
    #[schema(exclusive_minimum = 1)]
    pub spread: f64,
}

/// What was fixed before the first trial ran, and what came out differently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Preregistration {
    /// Hex sha256 of what the job asks and how its answer is judged, as submitted.
    pub digest: String,
    /// Number of questions over which the verdicts are corrected: those for which the job plans several pre-train seeds, or
    /// enough rounds of the timing trial.
    pub questions: usize,
    /// What did not run as planned: trials that were cancelled or that failed without a result, and devices that differ.
    pub deviations: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { alpha: 0.05, margins: Margins::default() }
    }
}

impl Default for Margins {
    fn default() -> Self {
        Self { speed: 0.02, loss: 0.02, score: 0.01, spread: 1.5 }
    }
}

impl Rules {
    /// The smallest probability of a wrong verdict that has a meaning for tens of seeds.
    pub const LEAST_ALPHA: f64 = 1e-6;
    pub const MOST_ALPHA: f64 = 0.5;

    /// Notes values with which no verdict, or any verdict, would be given.
    pub fn check(&self, problems: &mut Problems) {
        let Margins { speed, loss, score, spread } = self.margins;
        let alphas = Self::LEAST_ALPHA..=Self::MOST_ALPHA;
        problems.require(alphas.contains(&self.alpha), "alpha", || {
            format!("{}: choose a probability from {} to {}", self.alpha, Self::LEAST_ALPHA, Self::MOST_ALPHA)
        });
        problems.within("margins", |problems| {
            for (field, margin) in [("speed", speed), ("loss", loss), ("score", score)] {
                problems.require(margin > 0.0 && margin.is_finite(), field, || {
                    format!("a margin of {margin}: choose a positive number, because no two runs are exactly equal")
                });
            }
            problems.require(spread > 1.0 && spread.is_finite(), "spread", || {
                format!("a factor of {spread}: choose a number above 1, because no two spreads are exactly equal")
            });
        });
    }
}
