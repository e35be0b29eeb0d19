//! What a job can tell, before it runs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rules::Rules;
use crate::statistics::{detectable_difference, detectable_sameness};

/// The share of studies that are to tell what is there.
const POWER: f64 = 0.8;

/// What the seeds of a job can tell about losses and scores. Differences are in standard deviations of the paired
/// differences over seeds, which nobody knows before the runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Power {
    /// Pre-train seeds of each arm.
    pub seeds: u32,
    /// Number of questions over which the verdicts will be corrected.
    pub questions: usize,
    /// The smallest difference that 8 of 10 studies would tell, in standard deviations. Absent for one seed.
    pub difference: Option<f64>,
    /// The smallest margin within which 8 of 10 studies would tell that arms without a difference are the same, in
    /// standard deviations. Absent for one seed.
    pub sameness: Option<f64>,
    /// The same in one sentence.
    pub sentence: String,
}

impl Power {
    /// The power of `seeds` pairs for one of several questions, at the level that the first step of Holm's correction
    /// gives it.
    pub fn new(seeds: u32, questions: usize, rules: Rules) -> Self {
        let alpha = rules.alpha / questions.max(1) as f64;
        let difference = detectable_difference(seeds as usize, alpha, POWER);
        let sameness = detectable_sameness(seeds as usize, alpha, POWER);
        let sentence = match (difference, sameness) {
            (Some(difference), Some(sameness)) => format!(
                "{seeds} pre-train seeds and {questions} questions: 8 of 10 studies would tell a difference of {} standard \
                 deviations of the paired differences over seeds, and sameness within {}.",
                rounded(difference),
                rounded(sameness)
            ),
            _ => {
                "With one pre-train seed, nothing but speed can be told about an arm: set pretrain.seeds to 3 or more."
                    .into()
            }
        };
        Self { seeds, questions, difference, sameness, sentence }
    }
}

/// Two digits that matter.
fn rounded(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_tells_nothing_and_more_questions_need_larger_differences() {
        let one = Power::new(1, 1, Rules::default());
        assert_eq!((one.difference, one.sameness), (None, None));
        assert!(one.sentence.contains("nothing but speed"));
        let [few, many] = [2, 12].map(|questions| Power::new(5, questions, Rules::default()));
        assert!(few.difference < many.difference && few.sameness < many.sameness, "{few:?} {many:?}");
        // Paired t, n = 5, alpha 0.05, power 0.8: an effect of 1.68 (the fixtures say 5 pairs for 2 and 6 for 1.5).
        let alone = Power::new(5, 1, Rules::default()).difference.unwrap();
        assert!((1.5..2.0).contains(&alone), "{alone}");
    }
}
