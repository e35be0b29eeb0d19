//! Pre-training: the validation loss of each seed, and the hours that it took.

use recipe::{FailureKind, Recipe};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::{Comparison, Runs, compare};
use crate::facts::{Facts, TrialEnd};
use crate::speed::Speed;
use crate::statistics::{Summary, wilson_interval};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PretrainArm {
    pub arm: String,
    /// Peak of the learning rate; absent while no seed has ended.
    #[serde(default)]
    pub learning_rate: Option<f64>,
    /// The seeds that have ended, in rising order.
    pub seeds: Vec<PretrainSeed>,
    /// How many of them diverged, or came to a loss that is not finite.
    #[serde(default)]
    pub diverged: usize,
    /// 95 % Wilson interval of the share that diverged, `[low, high]`. Seeds that failed otherwise do not count.
    #[serde(default)]
    pub diverged_interval: Option<[f64; 2]>,
    /// At full depth, without scale, at the end of the budget; over the seeds that have one.
    pub validation_loss: Option<Summary>,
    /// Whether the objective makes the loss another measure than the baseline's, so that the two are not compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_measure: bool,
    /// Of the loss, against the baseline, over shared seeds. Absent for the baseline itself.
    pub comparison: Option<Comparison>,
    /// Of a classifier of images: the share of held-out images whose class is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<Summary>,
    /// Of the accuracy, like `comparison`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_comparison: Option<Comparison>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PretrainSeed {
    pub seed: u64,
    pub steps: Option<u64>,
    pub validation_loss: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// Wall time of training steps alone, over all attempts.
    pub hours: Option<f64>,
    /// What the steps would have taken on the device of the timing trial: hours that can be compared, wherever a trial ran.
    pub reference_hours: Option<f64>,
    pub failure: Option<FailureKind>,
}

pub(crate) fn pretrain(facts: &Facts, speed: Option<&Speed>) -> Vec<PretrainArm> {
    let step_seconds = |arm: &str| {
        let timed = speed?.arms.iter().find(|timed| timed.arm == arm)?;
        Some(timed.seconds_per_step.mean)
    };
    let baseline = seeds(facts, &facts.baseline, None);
    let row = |arm: &String| {
        let seeds = seeds(facts, arm, step_seconds(arm));
        let diverged = seeds.iter().filter(|seed| seed.diverged()).count();
        // One measure of the seeds, and how it compares.
        let measured = |measure: fn(&PretrainSeed) -> Option<f64>| {
            let runs = |seeds: &[PretrainSeed]| -> Runs {
                seeds.iter().filter_map(|seed| Some(((seed.seed, 0), measure(seed)?))).collect()
            };
            let own = runs(&seeds);
            let comparison = if *arm == facts.baseline { None } else { compare(arm, &own, &runs(&baseline)) };
            (Summary::of(&own.values().copied().collect::<Vec<f64>>()), comparison)
        };
        let recipes = facts.pretraining(arm).zip(facts.pretraining(&facts.baseline));
        let other_measure = recipes.is_some_and(|(own, base)| !own.objective.is_measured_like(&base.objective));
        let (validation_loss, comparison) = measured(|seed| seed.validation_loss);
        let (validation_accuracy, accuracy_comparison) = measured(|seed| seed.validation_accuracy);
        PretrainArm {
            arm: arm.clone(),
            diverged_interval: wilson_interval(diverged, results(&seeds)),
            learning_rate: facts.pretraining(arm).map(|recipe| recipe.learning_rate.peak),
            seeds,
            diverged,
            validation_loss,
            other_measure,
            comparison: comparison.filter(|_| !other_measure),
            validation_accuracy,
            accuracy_comparison,
        }
    };
    facts.pretrained().map(row).collect()
}

/// How many seeds came to a result of their recipe, be it that they diverged.
fn results(seeds: &[PretrainSeed]) -> usize {
    seeds.iter().filter(|seed| seed.failure.is_none() || seed.diverged()).count()
}

impl PretrainArm {
    pub(crate) fn results(&self) -> usize {
        results(&self.seeds)
    }

    pub(crate) fn diverged_share(&self) -> Option<f64> {
        Some(self.results()).filter(|results| *results > 0).map(|results| self.diverged as f64 / results as f64)
    }

    pub(crate) fn losses(&self) -> Runs {
        self.seeds.iter().filter_map(|seed| Some(((seed.seed, 0), seed.validation_loss?))).collect()
    }
}

impl PretrainSeed {
    pub(crate) fn diverged(&self) -> bool {
        match self.failure {
            Some(failure) => failure.is_divergence(),
            None => self.validation_loss.is_none(),
        }
    }
}

/// `step_seconds` is the arm's mean step in the timing trial.
fn seeds(facts: &Facts, arm: &str, step_seconds: Option<f64>) -> Vec<PretrainSeed> {
    let ended = facts.ended.iter().filter(|trial| trial.arm.as_deref() == Some(arm));
    let mut seeds: Vec<PretrainSeed> = ended
        .filter(|trial| matches!(trial.spec.recipe, Recipe::Pretrain(_)))
        .filter_map(|trial| {
            let seed = trial.spec.seeds.init;
            match &trial.end {
                TrialEnd::Succeeded(recipe::Report::Pretrain(report)) => Some(PretrainSeed {
                    seed,
                    steps: Some(report.steps),
                    validation_loss: Some(report.validation_loss).filter(|loss| loss.is_finite()),
                    validation_accuracy: report.validation_accuracy,
                    hours: Some(report.trained_seconds / 3600.0),
                    reference_hours: step_seconds.map(|seconds| report.steps as f64 * seconds / 3600.0),
                    failure: None,
                }),
                TrialEnd::Failed(failure) => Some(PretrainSeed {
                    seed,
                    steps: None,
                    validation_loss: None,
                    validation_accuracy: None,
                    hours: None,
                    reference_hours: None,
                    failure: Some(failure.kind),
                }),
                // A report of another stage is refused where it is stored.
                TrialEnd::Succeeded(_) => None,
            }
        })
        .collect();
    seeds.sort_by_key(|seed| seed.seed);
    seeds
}
