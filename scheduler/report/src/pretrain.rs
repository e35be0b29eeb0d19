//! Pre-training: the validation loss of each seed, and the hours that it took.

use recipe::{FailureKind, ImageObjective, Recipe};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::{Comparison, Run, Runs, Shared};
use crate::facts::{Facts, TrialStatus};
use crate::speed::Speed;
use crate::statistics::{Summary, mean, wilson_interval};

/// The differences that two shares can have.
const SHARES_DIFFER_BY: [f64; 2] = [-1.0, 1.0];

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
    /// Validation loss of the full-depth model at the end of the budget. A seed that diverged counts with `guess_loss`.
    pub validation_loss: Option<Summary>,
    /// Mean validation loss of the seeds that did not diverge. Absent if none diverged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub loss_without_failures: Option<f64>,
    /// Validation loss of a guess that gives every answer the same probability. Absent until a seed of an arm with the
    /// same measure has succeeded; without it, seeds that diverged are in no mean.
    pub guess_loss: Option<f64>,
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
    let baseline = Seeds::of(facts, &facts.baseline, None);
    facts.pretrained_arms().map(|arm| pretrain_arm(facts, arm, &baseline, speed)).collect()
}

fn pretrain_arm(facts: &Facts, arm: &str, baseline: &Seeds, speed: Option<&Speed>) -> PretrainArm {
    let own = Seeds::of(facts, arm, speed.and_then(|speed| speed.arm(arm)).map(|row| row.seconds_per_step));
    let is_baseline = arm == facts.baseline;
    let compare = |measure: fn(&Seeds) -> Runs, range| {
        Shared::of_pretraining(&measure(&own), &measure(baseline)).compare(arm, range).filter(|_| !is_baseline)
    };
    let summary = |runs: Runs| Summary::of(&runs.into_values().map(|run| run.value).collect::<Vec<f64>>());
    let (recipe, baseline_recipe) = (facts.pretrain_recipe(arm), facts.pretrain_recipe(&facts.baseline));
    let other_measure =
        recipe.zip(baseline_recipe).is_some_and(|(own, base)| !own.objective.is_measured_like(&base.objective));
    let diverged = own.seeds.iter().filter(|seed| seed.is_diverged()).count();
    let survivors: Vec<f64> = own.seeds.iter().filter_map(|seed| seed.validation_loss).collect();
    PretrainArm {
        arm: arm.to_owned(),
        learning_rate: recipe.map(|recipe| recipe.learning_rate.peak),
        diverged,
        diverged_interval: wilson_interval(diverged, results(&own.seeds)),
        validation_loss: summary(own.losses()),
        loss_without_failures: mean(&survivors).filter(|_| diverged > 0),
        guess_loss: own.guess_loss,
        other_measure,
        comparison: compare(Seeds::losses, None).filter(|_| !other_measure),
        validation_accuracy: summary(own.accuracies()),
        accuracy_comparison: compare(Seeds::accuracies, Some(SHARES_DIFFER_BY)),
        seeds: own.seeds,
    }
}

/// The pre-train runs of an arm that have ended.
pub(crate) struct Seeds {
    /// In rising order of their seeds.
    seeds: Vec<PretrainSeed>,
    guess_loss: Option<f64>,
    /// Share of held-out images that a guess classifies correctly. Absent unless the arm classifies images.
    guess_accuracy: Option<f64>,
}

impl Seeds {
    /// `step_seconds` is the time of a mean step of the arm in the timing trial.
    pub(crate) fn of(facts: &Facts, arm: &str, step_seconds: Option<f64>) -> Self {
        let guess_loss = guess_loss(facts, arm);
        let is_classifier = matches!(
            facts.pretrain_recipe(arm).and_then(|recipe| recipe.images),
            Some(ImageObjective::Classifier { .. })
        );
        // A guess among k classes has the loss ln k and is right in one of k cases.
        let guess_accuracy = guess_loss.filter(|_| is_classifier).map(|loss| (-loss).exp());
        Self { seeds: seeds(facts, arm, step_seconds), guess_loss, guess_accuracy }
    }

    /// Validation losses by seed. A seed that diverged has that of a guess.
    pub(crate) fn losses(&self) -> Runs {
        self.runs(self.guess_loss, |seed| seed.validation_loss)
    }

    /// Validation accuracies by seed. A seed that diverged has that of a guess.
    pub(crate) fn accuracies(&self) -> Runs {
        self.runs(self.guess_accuracy, |seed| seed.validation_accuracy)
    }

    fn runs(&self, guess: Option<f64>, measure: impl Fn(&PretrainSeed) -> Option<f64>) -> Runs {
        let run = |seed: &PretrainSeed| {
            let failed = seed.is_diverged();
            let value = if failed { guess } else { measure(seed) }?;
            Some(((seed.seed, 0), Run { value, failed }))
        };
        self.seeds.iter().filter_map(run).collect()
    }
}

/// True for a loss that a trainer can have computed: it has 32 bits.
fn is_loss(loss: &f64) -> bool {
    loss.abs() <= f64::from(f32::MAX)
}

/// The validation loss of a guess in the measure of `arm`: every run with the same measure and outputs reports the same
/// one, so a run that diverged takes it from one that did not.
fn guess_loss(facts: &Facts, arm: &str) -> Option<f64> {
    let own = facts.pretrain_recipe(arm)?;
    facts.trials.iter().find_map(|trial| match (&*trial.recipe, &trial.status) {
        (Recipe::Pretrain(recipe), TrialStatus::Succeeded(recipe::TrialReport::Pretrain(report)))
            if recipe.objective.is_measured_like(&own.objective)
                && (&recipe.vocabulary, recipe.images) == (&own.vocabulary, own.images) =>
        {
            report.guess_loss.filter(is_loss)
        }
        _ => None,
    })
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
                validation_loss: report.map(|report| report.validation_loss).filter(is_loss),
                validation_accuracy: report
                    .and_then(|report| report.validation_accuracy)
                    .filter(|share| (0.0..=1.0).contains(share)),
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
