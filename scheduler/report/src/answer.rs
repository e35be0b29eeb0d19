//! The verdicts on an arm in one sentence, as a person would say it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::verdict::{Outcome, Question, Verdict};

/// What the job says of an arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    pub arm: String,
    /// The verdicts in one sentence.
    pub sentence: String,
    /// One verdict per question that the job asks about the arm.
    pub verdicts: Vec<Verdict>,
}

/// The questions that a sentence answers, in its order. The first of those that ask the same is taken.
const HEADLINES: [&[Question]; 4] = [
    &[Question::Speed],
    &[Question::ValidationAccuracy, Question::ValidationLoss],
    &[Question::MeanScore, Question::Score],
    &[Question::ScoreSpread, Question::LossSpread],
];

impl Answer {
    pub(crate) fn new(arm: String, baseline: &str, verdicts: Vec<Verdict>) -> Self {
        let sentence = sentence(&arm, baseline, &verdicts);
        Self { arm, sentence, verdicts }
    }

    fn outcome(&self, question: Question) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| verdict.question == question)
    }

    /// How good the answer is for the arm: the fastest arm that is nowhere worse comes first.
    fn rank(&self) -> (bool, f64) {
        let is_worse = self.verdicts.iter().any(|verdict| verdict.outcome == Outcome::Worse);
        let faster = self.outcome(Question::Speed).filter(|verdict| verdict.outcome == Outcome::Faster);
        (!is_worse, faster.and_then(|verdict| verdict.estimate).unwrap_or(0.0))
    }
}

/// The sentence of the job: that of the fastest arm among those that are nowhere worse than the baseline, or of the
/// first arm. `None` if there is no arm but the baseline.
pub(crate) fn job_sentence(answers: &[Answer]) -> Option<String> {
    // Of equal maxima `max_by` takes the last; in reversed order that is the first arm.
    let best = answers.iter().rev().max_by(|a, b| {
        let (a, b) = (a.rank(), b.rank());
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    })?;
    Some(best.sentence.clone())
}

fn sentence(arm: &str, baseline: &str, verdicts: &[Verdict]) -> String {
    let headlines = HEADLINES.iter().filter_map(|questions| {
        questions.iter().find_map(|question| verdicts.iter().find(|verdict| verdict.question == *question))
    });
    let (told, open): (Vec<&Verdict>, Vec<&Verdict>) =
        headlines.partition(|verdict| verdict.outcome != Outcome::CannotTell);
    let mut known = Vec::new();
    let mut parts = told.as_slice();
    if let [first, rest @ ..] = parts
        && first.question == Question::Speed
    {
        known.push(format!("{arm} is {}", speed(first, baseline)));
        parts = rest;
    }
    if !parts.is_empty() {
        let phrases = list(parts.iter().map(|verdict| phrase(verdict, baseline)).collect());
        known.push(if known.is_empty() { format!("{arm} reaches {phrases}") } else { format!("at {phrases}") });
    }
    let is_named = !known.is_empty();
    let mut clauses: Vec<String> = Some(known.join(", ")).filter(|known| !known.is_empty()).into_iter().collect();
    let is_alike = |a: &&Verdict, b: &&Verdict| is_change(a) && is_change(b) && obstacle(a) == obstacle(b);
    for (place, verdicts) in open.chunk_by(is_alike).enumerate() {
        let subject = if is_named || place > 0 { "it" } else { arm };
        clauses.push(unknown(verdicts, subject, baseline));
    }
    let text = clauses.join("; ") + ".";
    // A name is left as it was written; a clause begins with a capital letter.
    match text.strip_prefix("whether") {
        Some(rest) => format!("Whether{rest}"),
        None => text,
    }
}

fn speed(verdict: &Verdict, baseline: &str) -> String {
    let ratio = verdict.estimate.unwrap_or(f64::NAN);
    match verdict.outcome {
        Outcome::Same => format!("as fast per step as {baseline} within {} %", number(100.0 * verdict.margin, 1)),
        _ => format!("{ratio:.2} times as fast per step as {baseline}{}", interval(verdict, 1.0, 2)),
    }
}

/// What the arm reaches, as a phrase after "at" or "reaches".
fn phrase(verdict: &Verdict, baseline: &str) -> String {
    let value = verdict.estimate.unwrap_or(f64::NAN);
    let is_up = value > 0.0;
    let is_same = verdict.outcome == Outcome::Same;
    match verdict.question {
        Question::ValidationLoss if is_same => format!("the same validation loss within {}", number(verdict.margin, 3)),
        Question::ValidationLoss => {
            let way = if is_up { "higher" } else { "lower" };
            format!(
                "a validation loss {} {way} than that of {baseline}{}",
                number(value.abs(), 3),
                interval(verdict, 1.0, 3)
            )
        }
        Question::Score | Question::MeanScore | Question::ValidationAccuracy => {
            let name = score_name(verdict);
            let points = |value: f64| number(100.0 * value, 1);
            if is_same {
                return format!("the same {name} within {} points", points(verdict.margin));
            }
            let way = if is_up { "higher" } else { "lower" };
            let article = if name.starts_with("a") { "an" } else { "a" };
            format!("{article} {name} {} points {way}{}", points(value.abs()), interval(verdict, 100.0, 1))
        }
        Question::LossSpread | Question::ScoreSpread if is_same => {
            format!("the same spread over seeds within a factor of {}", number(verdict.margin, 2))
        }
        Question::LossSpread | Question::ScoreSpread => {
            format!("a spread over seeds {value:.2} times that of {baseline}{}", interval(verdict, 1.0, 2))
        }
        Question::Speed => speed(verdict, baseline),
    }
}

fn score_name(verdict: &Verdict) -> String {
    match (verdict.question, verdict.task) {
        (Question::ValidationAccuracy, _) => "validation accuracy".into(),
        (_, Some(task)) => format!("score on {}", task.name()),
        _ => "mean GLUE score".into(),
    }
}

/// Questions that cannot be answered for one reason, and what would help.
fn unknown(verdicts: &[&Verdict], subject: &str, baseline: &str) -> String {
    let changed = |verdict: &&Verdict| match verdict.question {
        Question::Speed => String::new(),
        Question::ValidationLoss => "the validation loss".into(),
        Question::Score | Question::MeanScore | Question::ValidationAccuracy => format!("the {}", score_name(verdict)),
        Question::LossSpread | Question::ScoreSpread => "the spread over seeds".into(),
    };
    let does = match verdicts.iter().any(|verdict| is_change(verdict)) {
        true => format!("changes {}", list(verdicts.iter().map(changed).collect())),
        false => format!("is faster than {baseline}"),
    };
    let why = verdicts.first().map(|verdict| obstacle(verdict)).unwrap_or_default();
    format!("whether {subject} {does} cannot be told{why}")
}

/// True for a question that asks whether an arm changes something.
fn is_change(verdict: &Verdict) -> bool {
    verdict.question != Question::Speed
}

/// Why a question cannot be answered, and what would help.
fn obstacle(verdict: &Verdict) -> String {
    match (verdict.more_seeds, &verdict.reason) {
        (Some([few, many]), _) => {
            let range = if few == many { many.to_string() } else { format!("{few} to {many}") };
            format!(" from {} seeds: {range} more would tell", verdict.n)
        }
        (None, Some(reason)) => format!(": {reason}"),
        (None, None) => String::new(),
    }
}

/// The 95 % interval times `scale`, in parentheses, with more decimals where its ends would read the same.
fn interval(verdict: &Verdict, scale: f64, decimals: usize) -> String {
    let Some(ends) = verdict.interval else { return String::new() };
    let text = |decimals: usize| ends.map(|end| format!("{:.decimals$}", scale * end));
    let [low, high] =
        (decimals..decimals + 3).map(text).find(|[low, high]| low != high).unwrap_or_else(|| text(decimals));
    format!(" (95 % {low} to {high})")
}

/// A number without zeros at its end.
fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn list(mut items: Vec<String>) -> String {
    match items.pop() {
        None => String::new(),
        Some(last) if items.is_empty() => last,
        Some(last) => format!("{} and {last}", items.join(", ")),
    }
}
