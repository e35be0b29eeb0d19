//! What the numbers say: for each arm and question a verdict, with the evidence for it.
//!
//! A verdict is decided by an interval: inside the margin the arms are the same; else, if it leaves out no difference,
//! one arm is better; else it cannot be told. A wrong verdict needs an interval that misses the truth, so all verdicts
//! of a job together are wrong with probability alpha at most, if each has the level that Holm's correction gives it.

use std::collections::BTreeSet;

use recipe::{Recipe, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::{ALPHA, Shared, Units};
use crate::facts::{Facts, TrialFacts, TrialStatus};
use crate::glue::{GlueReport, average_pair};
use crate::pretrain::Seeds;
use crate::speed::{LEAST_ROUNDS, Speed, Timed};
use crate::statistics::{Estimate, holm};

/// The answer to one question about an arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    pub question: Question,
    /// The task of a question about a score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub task: Option<Task>,
    pub outcome: Outcome,
    /// What was measured: a ratio for speed and spread (arm over baseline, above 1 the arm is faster, or its spread
    /// larger), else a difference (arm minus baseline). Absent if nothing was measured.
    pub estimate: Option<f64>,
    /// 95 % interval of `estimate`, `[low, high]`.
    #[schema(min_items = 2, max_items = 2)]
    pub interval: Option<[f64; 2]>,
    /// The margin within which the arms are the same, in the unit of `estimate`; a share of the step time for speed.
    pub margin: f64,
    /// Number of independent values behind the estimate: rounds for speed, pre-train seeds for everything else.
    pub n: usize,
    /// The smallest alpha with which there would be a verdict, after Holm's correction over all verdicts of the job.
    /// Absent if the estimate has no interval.
    pub p: Option<f64>,
    /// How many more pre-train seeds would tell, `[few, many]`, if the difference stays as it is: about 6 of 10 studies
    /// are decided by the first number, and 8 to 9 of 10 by the second. Only where it cannot be told and seeds would
    /// help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 2, max_items = 2)]
    pub more_seeds: Option<[usize; 2]>,
    /// Why it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<String>,
}

/// A question about an arm and the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Is a training step faster?
    Speed,
    /// Is the validation loss of pre-training lower?
    ValidationLoss,
    /// Is the validation accuracy of pre-training on images higher?
    ValidationAccuracy,
    /// Is the score on a GLUE task higher?
    Score,
    /// Is the mean score over the GLUE tasks higher?
    MeanScore,
    /// Do validation losses vary less over pre-train seeds?
    LossSpread,
    /// Do the scores of a checkpoint vary less over fine-tune seeds? The mean over the GLUE tasks.
    ScoreSpread,
}

/// What an interval says of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Faster,
    Slower,
    Better,
    Worse,
    Steadier,
    LessSteady,
    /// The arms are the same within the margin.
    Same,
    CannotTell,
}

/// A question with what was measured.
struct Asked {
    arm: String,
    question: Question,
    task: Option<Task>,
    /// The estimate, as a logarithm for ratios.
    estimate: Option<Estimate>,
    /// Why there can be no verdict, whatever the estimate says.
    obstacle: Option<String>,
    /// True if the job has the rounds or seeds for an interval, so that the question is one of those that Holm's
    /// correction counts. This follows from the job alone, and not from what is measured.
    is_counted: bool,
}

impl Question {
    const fn is_ratio(self) -> bool {
        matches!(self, Self::Speed | Self::LossSpread | Self::ScoreSpread)
    }

    /// The outcomes of an estimate above 0 and of one below.
    const fn outcomes(self) -> [Outcome; 2] {
        match self {
            Self::Speed => [Outcome::Faster, Outcome::Slower],
            Self::ValidationLoss => [Outcome::Worse, Outcome::Better],
            Self::ValidationAccuracy | Self::Score | Self::MeanScore => [Outcome::Better, Outcome::Worse],
            Self::LossSpread | Self::ScoreSpread => [Outcome::LessSteady, Outcome::Steadier],
        }
    }

    /// The margin as people write it.
    const fn margin(self, facts: &Facts) -> f64 {
        let margins = facts.rules.margins;
        match self {
            Self::Speed => margins.speed,
            Self::ValidationLoss => margins.loss,
            Self::ValidationAccuracy | Self::Score | Self::MeanScore => margins.score,
            Self::LossSpread | Self::ScoreSpread => margins.spread,
        }
    }

    /// The margin in the unit of an estimate.
    fn margin_of_estimate(self, facts: &Facts) -> f64 {
        let margin = self.margin(facts);
        match self {
            Self::Speed => margin.ln_1p(),
            Self::LossSpread | Self::ScoreSpread => margin.ln(),
            _ => margin,
        }
    }
}

/// The verdicts of each arm about which the job asks a question, in the order of the job, and the number of questions
/// over which they are corrected.
pub(crate) fn verdicts(
    facts: &Facts,
    timed: Option<&Timed<'_>>,
    speed: Option<&Speed>,
    glue: &[GlueReport],
) -> (Vec<(String, Vec<Verdict>)>, usize) {
    let arms: Vec<&String> = facts.arms.iter().filter(|arm| **arm != facts.baseline).collect();
    let asked: Vec<Asked> = arms.iter().flat_map(|arm| questions(facts, timed, speed, glue, arm)).collect();
    let levels = levels(facts, &asked);
    let counted = asked.iter().filter(|asked| asked.is_counted).count();
    let mut verdicts =
        asked.into_iter().zip(levels).map(|(asked, level)| (asked.arm.clone(), verdict(facts, asked, level)));
    let mut all: Vec<(String, Vec<Verdict>)> = arms.into_iter().map(|arm| (arm.clone(), Vec::new())).collect();
    for (arm, verdict) in &mut verdicts {
        all.iter_mut().filter(|(name, _)| *name == arm).for_each(|(_, own)| own.push(verdict.clone()));
    }
    all.retain(|(_, verdicts)| !verdicts.is_empty());
    (all, counted)
}

/// What Holm's correction leaves of one question.
#[derive(Clone, Copy)]
struct Level {
    /// The smallest alpha with which there would be a verdict, before and after the correction.
    p: f64,
    adjusted: f64,
    /// The alpha of the question's own interval.
    alpha: f64,
}

/// The level of each question. `None` for one without an interval, or with an obstacle.
fn levels(facts: &Facts, asked: &[Asked]) -> Vec<Option<Level>> {
    let smallest: Vec<Option<f64>> = asked.iter().map(|asked| smallest_alpha(facts, asked)).collect();
    let counted: Vec<usize> = (0..asked.len()).filter(|index| asked[*index].is_counted).collect();
    let p: Vec<f64> = counted.iter().map(|index| smallest[*index].unwrap_or(1.0)).collect();
    let mut levels = vec![None; asked.len()];
    for (place, (index, adjusted)) in counted.into_iter().zip(holm(&p)).enumerate() {
        let rank = (0..p.len()).filter(|other| (p[*other], *other) < (p[place], place)).count();
        let alpha = facts.rules.alpha / (p.len() - rank) as f64;
        levels[index] = smallest[index].map(|p| Level { p, adjusted, alpha });
    }
    levels
}

/// The smallest alpha at which the interval lies inside the margin or leaves out 0.
fn smallest_alpha(facts: &Facts, asked: &Asked) -> Option<f64> {
    let estimate = asked.estimate.as_ref().filter(|_| asked.obstacle.is_none())?;
    let margin = asked.question.margin_of_estimate(facts);
    let differs = estimate.p_of(0.0)?;
    if estimate.centre.abs() >= margin {
        return Some(differs);
    }
    let is_same = estimate.p_of(margin)?.max(estimate.p_of(-margin)?);
    Some(differs.min(is_same))
}

fn verdict(facts: &Facts, asked: Asked, level: Option<Level>) -> Verdict {
    let Asked { question, task, estimate, obstacle, .. } = asked;
    let unit = |value: f64| if question.is_ratio() { value.exp() } else { value };
    let margin = question.margin_of_estimate(facts);
    let decisive = level.filter(|level| level.adjusted <= facts.rules.alpha);
    let ends = decisive.and_then(|level| estimate.as_ref()?.interval(level.alpha));
    let [above, below] = question.outcomes();
    let outcome = match ends {
        Some([low, high]) if -margin < low && high < margin => Outcome::Same,
        Some([low, _]) if low > 0.0 => above,
        Some([_, high]) if high < 0.0 => below,
        _ => Outcome::CannotTell,
    };
    let is_open = outcome == Outcome::CannotTell;
    let more = estimate.as_ref().filter(|_| is_open && question != Question::Speed && obstacle.is_none());
    let alpha = level.map_or(facts.rules.alpha, |level| level.alpha);
    let undecided = || undecided(&estimate, level, facts.rules.alpha);
    Verdict {
        question,
        task,
        outcome,
        estimate: estimate.as_ref().map(|estimate| unit(estimate.centre)),
        interval: estimate.as_ref().and_then(|estimate| estimate.interval(ALPHA)).map(|ends| ends.map(unit)),
        margin: question.margin(facts),
        n: estimate.as_ref().map_or(0, |estimate| estimate.n),
        p: level.map(|level| level.adjusted),
        more_seeds: more.and_then(|estimate| estimate.more_values(margin, alpha)),
        reason: is_open.then(|| obstacle.unwrap_or_else(undecided)),
    }
}

/// Why an estimate without an obstacle decides nothing.
fn undecided(estimate: &Option<Estimate>, level: Option<Level>, alpha: f64) -> String {
    match (estimate, level) {
        (None, _) => "there is no pair of runs to compare".into(),
        (Some(estimate), None) if estimate.n == 1 => "there is one pair of runs, from which no interval follows".into(),
        (Some(_), None) => "the differences are too few or all equal, from which no interval follows".into(),
        (Some(_), Some(level)) if level.p <= alpha => {
            "it would be told if this were the only question, but not among all questions of the job".into()
        }
        (Some(_), Some(_)) => "the interval holds both no difference and one beyond the margin".into(),
    }
}

/// All questions about an arm that the job asks.
fn questions(
    facts: &Facts,
    timed: Option<&Timed<'_>>,
    speed: Option<&Speed>,
    glue: &[GlueReport],
    arm: &str,
) -> Vec<Asked> {
    let mut asked = Vec::new();
    let mut ask = |question, task, estimate, obstacle, is_counted| {
        asked.push(Asked { arm: arm.to_owned(), question, task, estimate, obstacle, is_counted });
    };
    let is_pretrained = !facts.published.contains(arm) && !facts.published.contains(&facts.baseline);
    let rounds = facts.trials.iter().find_map(|trial| match &*trial.recipe {
        Recipe::Timing(timing) => Some(timing.rounds as usize),
        _ => None,
    });
    if let Some(rounds) = rounds.filter(|_| is_pretrained) {
        let estimate = timed.and_then(|timed| timed.speed_up(arm, &facts.baseline));
        let obstacle = speed_obstacle(facts, speed, estimate.as_ref());
        ask(Question::Speed, None, estimate, obstacle, rounds >= LEAST_ROUNDS);
    }
    if is_pretrained && let Some(questions) = pretrain_questions(facts, arm) {
        let obstacle = &questions.obstacle;
        ask(Question::ValidationLoss, None, questions.loss, obstacle.clone(), questions.seeds > 1);
        if let Some(accuracy) = questions.accuracy {
            ask(Question::ValidationAccuracy, None, Some(accuracy), obstacle.clone(), questions.seeds > 1);
        }
        ask(Question::LossSpread, None, questions.spread, obstacle.clone(), questions.seeds > 2);
    }
    let tasks: Vec<Task> = Task::ALL.into_iter().filter(|task| has_runs(facts, arm, *task)).collect();
    let checkpoints = seeds(facts, arm, |trial| match &*trial.recipe {
        Recipe::Finetune(recipe) => Some(recipe.from_seeds.init),
        _ => None,
    });
    let one = || (checkpoints < 2).then(one_checkpoint);
    for task in &tasks {
        let report = glue.iter().find(|report| report.task == *task);
        let shared = report.and_then(|report| report.selected_pair(arm, &facts.baseline));
        let estimate = shared.as_ref().and_then(|shared| Estimate::of_differences(&shared.pairs()));
        let few = shared.is_some_and(|shared| shared.units() == Units::RunsOfOneCheckpoint).then(one_checkpoint);
        let obstacle = one().or_else(|| finetune_obstacle(facts, arm, Some(*task))).or(few);
        ask(Question::Score, Some(*task), estimate, obstacle, checkpoints > 1);
    }
    if !tasks.is_empty() {
        let average = average_pair(glue, arm, &facts.baseline);
        let obstacle = one().or_else(|| finetune_obstacle(facts, arm, None));
        if tasks.len() > 1 {
            let estimate = average.as_ref().and_then(|average| Estimate::of_differences(&average.pairs));
            ask(Question::MeanScore, None, estimate, obstacle.clone(), checkpoints > 1);
        }
        let estimate = average.as_ref().and_then(|average| Estimate::of_mean(&average.spreads));
        ask(Question::ScoreSpread, None, estimate, obstacle, checkpoints > 1);
    }
    asked
}

/// What pre-training says of an arm.
struct PretrainQuestions {
    loss: Option<Estimate>,
    accuracy: Option<Estimate>,
    spread: Option<Estimate>,
    obstacle: Option<String>,
    /// Number of seeds that the job plans for both arms.
    seeds: usize,
}

/// `None` if one of the two is not pre-trained in this job.
fn pretrain_questions(facts: &Facts, arm: &str) -> Option<PretrainQuestions> {
    let recipe = |arm: &str| {
        facts.trials_of(arm).find_map(|trial| match &*trial.recipe {
            Recipe::Pretrain(recipe) => Some(recipe),
            _ => None,
        })
    };
    let (own, base) = (recipe(arm)?, recipe(&facts.baseline)?);
    let is_comparable = own.objective.is_measured_like(&base.objective) && own.images == base.images;
    let (runs, baseline) = (Seeds::of(facts, arm, None), Seeds::of(facts, &facts.baseline, None));
    let losses = Shared::of_pretraining(&runs.losses(), &baseline.losses());
    let accuracies = Shared::of_pretraining(&runs.accuracies(), &baseline.accuracies());
    let pending = pending(facts, |trial_arm, recipe| {
        matches!(recipe, Recipe::Pretrain(_)) && (trial_arm == arm || trial_arm == facts.baseline)
    });
    Some(PretrainQuestions {
        loss: Estimate::of_differences(&losses.pairs()),
        accuracy: Estimate::of_differences(&accuracies.pairs()),
        spread: losses.spread(),
        obstacle: match is_comparable {
            true => pending,
            false => Some("the objectives of the two measure different things".into()),
        },
        seeds: seeds(facts, arm, |trial| matches!(&*trial.recipe, Recipe::Pretrain(_)).then_some(trial.seeds.init)),
    })
}

/// Number of pre-train seeds that the job plans for the runs of both arms; `seed` gives that of a run that counts.
fn seeds(facts: &Facts, arm: &str, seed: impl Fn(&TrialFacts) -> Option<u64>) -> usize {
    let own = |arm: &str| -> BTreeSet<u64> { facts.trials_of(arm).filter_map(&seed).collect() };
    own(arm).intersection(&own(&facts.baseline)).count()
}

/// True if the job fine-tunes `arm` and the baseline on `task`.
fn has_runs(facts: &Facts, arm: &str, task: Task) -> bool {
    let has = |arm: &str| {
        facts.trials_of(arm).any(|trial| matches!(&*trial.recipe, Recipe::Finetune(recipe) if recipe.task == task))
    };
    has(arm) && has(&facts.baseline)
}

fn finetune_obstacle(facts: &Facts, arm: &str, task: Option<Task>) -> Option<String> {
    pending(facts, |trial_arm, recipe| {
        let is_of_task = match recipe {
            Recipe::Finetune(recipe) => task.is_none_or(|task| recipe.task == task),
            _ => false,
        };
        is_of_task && (trial_arm == arm || trial_arm == facts.baseline)
    })
}

fn one_checkpoint() -> String {
    "there is one pre-train seed: the runs of one checkpoint say nothing about those of another".into()
}

/// Runs that have not ended. A verdict from the first ones would be wrong more often than its level says, because one
/// would look until it pleases.
fn pending(facts: &Facts, is_counted: impl Fn(&str, &Recipe) -> bool) -> Option<String> {
    let counted = |status: fn(&TrialStatus) -> bool| {
        let trials = facts.trials.iter().filter(|trial| is_counted(trial.arm.as_deref().unwrap_or(""), &trial.recipe));
        trials.filter(|trial| status(&trial.status)).count()
    };
    let (open, all) = (counted(|status| *status == TrialStatus::Unfinished), counted(|_| true));
    (open > 0).then(|| format!("{open} of {all} runs have not ended"))
}

fn speed_obstacle(facts: &Facts, speed: Option<&Speed>, estimate: Option<&Estimate>) -> Option<String> {
    let Some(speed) = speed else { return Some("no timing trial has succeeded".into()) };
    let Some(estimate) = estimate else { return Some("the timing trial has no steps of one of the two arms".into()) };
    let Some([low, high]) = estimate.interval(ALPHA) else {
        return Some(match speed.rounds {
            rounds @ 0..LEAST_ROUNDS => {
                format!("an interval needs {LEAST_ROUNDS} rounds of the timing trial, which has {rounds}")
            }
            _ => "all rounds of the timing trial agree exactly, from which no interval follows".into(),
        });
    };
    if high - low > std::f64::consts::LN_2 {
        return Some("the interval of the speed-up spans a factor of two".into());
    }
    let margin = Question::Speed.margin_of_estimate(facts);
    let [low, high] = speed.control.as_ref()?.interval?.map(f64::ln);
    (low > margin || high < -margin).then(|| {
        "the timing trial finds a difference beyond the margin between the baseline and itself, so something else on \
         the machine decided"
            .into()
    })
}
