//! Pre-training: the validation loss of each seed, and the hours that it took.

use recipe::{FailureKind, Recipe};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::{Comparison, RunValues, compare};
use crate::facts::{Facts, TrialStatus};
use crate::speed::Speed;
use crate::statistics::{Summary, wilson_interval};

/// The pre-train runs of one arm, one per seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PretrainArm {
    pub arm: String,
    /// Peak learning rate. Absent while no seed has ended.
    pub learning_rate: Option<f64>,
    /// The seeds that have ended, in rising order.
    pub seeds: Vec<PretrainSeed>,
    /// Number of seeds that diverged or ended with a loss that is not finite.
    pub diverged: usize,
    /// 95 % Wilson interval of the share of seeds that diverged, `[low, high]`. Seeds that failed for another reason
    /// are left out of the share.
    #[schema(min_items = 2, max_items = 2)]
    pub diverged_interval: Option<[f64; 2]>,
    /// Validation loss of the full-depth model at the end of the budget, over the seeds that have a finite one.
    pub validation_loss: Option<Summary>,
    /// True if the arm's objective measures another quantity than the baseline's, so that their losses are not
    /// compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_measure: bool,
    /// Difference in validation loss from the baseline, over shared seeds. Absent for the baseline itself.
    pub comparison: Option<Comparison>,
    /// Share of held-out images that are classified correctly. Only for arms that classify images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub validation_accuracy: Option<Summary>,
    /// Difference in validation accuracy from the baseline, over shared seeds. Absent for the baseline itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub accuracy_comparison: Option<Comparison>,
}

/// A pre-train run that has ended. A run that failed has a `failure` and no numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PretrainSeed {
    pub seed: u64,
    /// Number of training steps.
    pub steps: Option<u64>,
    /// Validation loss of the full-depth model at the end of the budget. Absent if it is not finite.
    pub validation_loss: Option<f64>,
    /// Share of held-out images that are classified correctly. Only for arms that classify images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub validation_accuracy: Option<f64>,
    /// Wall time of the training steps over all attempts, in hours. Validation, checkpoints and waiting are not
    /// included.
    pub hours: Option<f64>,
    /// Hours that the steps would have taken at the arm's step time in the timing trial. Comparable between runs on
    /// different devices. Absent if the arm was not timed.
    pub reference_hours: Option<f64>,
    pub failure: Option<FailureKind>,
}

pub(crate) fn pretrain(facts: &Facts, speed: Option<&Speed>) -> Vec<PretrainArm> {
    let baseline = seeds(facts, &facts.baseline, None);
    facts.pretrained_arms().map(|arm| pretrain_arm(facts, arm, &baseline, speed)).collect()
}

fn pretrain_arm(facts: &Facts, arm: &str, baseline: &[PretrainSeed], speed: Option<&Speed>) -> PretrainArm {
    let step_seconds = speed.and_then(|speed| speed.arm(arm)).map(|row| row.seconds_per_step.mean);
    let seeds = seeds(facts, arm, step_seconds);
    let diverged = seeds.iter().filter(|seed| seed.is_diverged()).count();
    let summarised = |measure: fn(&PretrainSeed) -> Option<f64>| {
        let own = values(&seeds, measure);
        let comparison = if arm == facts.baseline { None } else { compare(arm, &own, &values(baseline, measure)) };
        (Summary::of(&own.into_values().collect::<Vec<f64>>()), comparison)
    };
    let (validation_loss, comparison) = summarised(|seed| seed.validation_loss);
    let (validation_accuracy, accuracy_comparison) = summarised(|seed| seed.validation_accuracy);
    let (recipe, baseline_recipe) = (facts.pretrain_recipe(arm), facts.pretrain_recipe(&facts.baseline));
    let other_measure =
        recipe.zip(baseline_recipe).is_some_and(|(own, base)| !own.objective.is_measured_like(&base.objective));
    PretrainArm {
        arm: arm.to_owned(),
        learning_rate: recipe.map(|recipe| recipe.learning_rate.peak),
        diverged,
        diverged_interval: wilson_interval(diverged, results(&seeds)),
        seeds,
        validation_loss,
        other_measure,
        comparison: comparison.filter(|_| !other_measure),
        validation_accuracy,
        accuracy_comparison,
    }
}

fn values(seeds: &[PretrainSeed], measure: impl Fn(&PretrainSeed) -> Option<f64>) -> RunValues {
    seeds.iter().filter_map(|seed| Some(((seed.seed, 0), measure(seed)?))).collect()
}

/// Number of seeds with a result: a loss, or divergence.
fn results(seeds: &[PretrainSeed]) -> usize {
    seeds.iter().filter(|seed| seed.failure.is_none() || seed.is_diverged()).count()
}

impl PretrainArm {
    /// Number of seeds with a result: a loss, or divergence.
    pub(crate) fn results(&self) -> usize {
        results(&self.seeds)
    }

    /// Share of the seeds with a result that diverged. `None` if no seed has a result.
    pub(crate) fn diverged_share(&self) -> Option<f64> {
        Some(self.results()).filter(|results| *results > 0).map(|results| self.diverged as f64 / results as f64)
    }

    /// Validation losses by seed.
    pub(crate) fn losses(&self) -> RunValues {
        values(&self.seeds, |seed| seed.validation_loss)
    }
}

impl PretrainSeed {
    fn is_diverged(&self) -> bool {
        match self.failure {
            Some(failure) => failure.is_divergence(),
            None => self.validation_loss.is_none(),
        }
    }
}

/// The seeds of an arm that have ended, in rising order. `step_seconds` is the arm's mean step time in the timing
/// trial.
fn seeds(facts: &Facts, arm: &str, step_seconds: Option<f64>) -> Vec<PretrainSeed> {
    let trials = facts.trials_of(arm).filter(|trial| matches!(*trial.recipe, Recipe::Pretrain(_)));
    let mut seeds: Vec<PretrainSeed> = trials
        .filter_map(|trial| {
            let (report, failure) = match &trial.status {
                TrialStatus::Succeeded(recipe::TrialReport::Pretrain(report)) => (Some(report), None),
                TrialStatus::Failed(failure) => (None, Some(failure.kind)),
                // A report of another stage is refused before it is stored.
                TrialStatus::Succeeded(_) | TrialStatus::Unfinished | TrialStatus::Cancelled => return None,
            };
            Some(PretrainSeed {
                seed: trial.seeds.init,
                steps: report.map(|report| report.steps),
                validation_loss: report.map(|report| report.validation_loss).filter(|loss| loss.is_finite()),
                validation_accuracy: report.and_then(|report| report.validation_accuracy),
                hours: report.map(|report| report.trained_seconds / 3600.0),
                reference_hours: report
                    .zip(step_seconds)
                    .map(|(report, seconds)| report.steps as f64 * seconds / 3600.0),
                failure,
            })
        })
        .collect();
    seeds.sort_by_key(|seed| seed.seed);
    seeds
}
