//! What the numbers say: for each arm and question a verdict, with the evidence for it.
//!
//! A verdict is decided by an interval: inside the margin the arms are the same; else, if it leaves out no difference,
//! one arm is better; else it cannot be told. A wrong verdict needs an interval that misses the truth, so all verdicts
//! of a job together are wrong with probability alpha at most, if each has the level that Holm's correction gives it.

mod questions;

use questions::Pair;
use recipe::Task;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::comparison::ALPHA;
use crate::facts::Facts;
use crate::glue::GlueReport;
use crate::speed::{Speed, Timed};
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
    /// Number of independent values behind the estimate: rounds for speed, pre-train seeds for everything else. With one
    /// checkpoint of each arm, a score has the number of pairs of runs.
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
    let by_arm = facts.trials_by_arm();
    let trials = |arm: &str| by_arm.get(arm).map_or(&[][..], Vec::as_slice);
    let others = facts.arms.iter().filter(|arm| **arm != facts.baseline);
    let asked: Vec<(&String, Vec<Asked>)> = others
        .map(|arm| (arm, Pair { facts, arm, own: trials(arm), base: trials(&facts.baseline) }))
        .map(|(arm, pair)| (arm, pair.questions(timed, speed, glue)))
        .collect();
    let all: Vec<&Asked> = asked.iter().flat_map(|(_, asked)| asked).collect();
    let counted = all.iter().filter(|asked| asked.is_counted).count();
    let mut levels = levels(facts, &all).into_iter();
    let judged = asked.into_iter().filter(|(_, asked)| !asked.is_empty()).map(|(arm, asked)| {
        let verdicts = asked.into_iter().zip(levels.by_ref()).map(|(asked, level)| verdict(facts, asked, level));
        (arm.clone(), verdicts.collect())
    });
    (judged.collect(), counted)
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
fn levels(facts: &Facts, asked: &[&Asked]) -> Vec<Option<Level>> {
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
