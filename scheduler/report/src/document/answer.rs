//! The verdicts of the job.

use super::cell::{known, p_value, with_interval};
use super::part::Part;
use super::table::Table;
use crate::answer::Answer;
use crate::rules::{Margins, Preregistration, Rules};
use crate::verdict::{Outcome, Question, Verdict};

/// A row of the table: an arm with one of its verdicts.
type OfArm<'a> = (&'a str, &'a Verdict);

pub(super) fn section(answers: &[Answer], rules: &Rules, questions: usize) -> Vec<Part> {
    if answers.is_empty() {
        return Vec::new();
    }
    let rows: Vec<OfArm<'_>> = answers
        .iter()
        .flat_map(|answer| answer.verdicts.iter().map(move |verdict| (answer.arm.as_str(), verdict)))
        .collect();
    let table = Table::of(&rows)
        .left("Arm", |(arm, _)| (*arm).to_owned())
        .left("Question", |(_, verdict)| question(verdict))
        .left("Verdict", |(_, verdict)| outcome(verdict.outcome).to_owned())
        .right("Found", |(_, verdict)| found(verdict))
        .right("Margin", |(_, verdict)| margin(verdict))
        .right("n", |(_, verdict)| verdict.n.to_string())
        .right("p, Holm", |(_, verdict)| p_value(verdict.p))
        .right("More seeds", |(_, verdict)| {
            known(
                verdict.more_seeds,
                |[few, many]| if few == many { few.to_string() } else { format!("{few} to {many}") },
            )
        })
        .left("Why it cannot be told", |(_, verdict)| verdict.reason.clone().unwrap_or_default());
    let mut section = vec![Part::heading("Answer")];
    if answers.len() > 1 {
        section.push(Part::List(answers.iter().map(|answer| answer.sentence.clone()).collect()));
    }
    section.push(
        format!(
        "Found: arm against baseline; ratios for speed and spread, differences in nats for losses and in points for \
         scores. Same: the interval lies within the margin. n: rounds for speed, else pre-train seeds. p: the smallest \
         probability of a wrong verdict with which there would be one, corrected over the {} questions that the job can \
         answer (Holm 1979); a verdict needs at most {}. More seeds: how many more pre-train seeds would tell if nothing \
         changes; about 6 of 10 studies are decided by the first number and 8 to 9 by the second.",
        questions, rules.alpha
    )
        .into(),
    );
    section.push(table.into());
    section
}

/// What was fixed before the first trial ran.
pub(super) fn preregistration_section(preregistration: &Preregistration, rules: &Rules) -> Vec<Part> {
    let Margins { speed, loss, score, spread } = rules.margins;
    let fixed = format!(
        "The questions, their margins (speed {} %, loss {}, score {} points, spread {}x) and alpha ({}) were fixed at \
         submission: sha256 {}.",
        rounded(100.0 * speed),
        rounded(loss),
        rounded(100.0 * score),
        rounded(spread),
        rules.alpha,
        preregistration.digest
    );
    let deviations = match preregistration.deviations.as_slice() {
        [] => "Everything that has ended ran as planned.".into(),
        deviations => Part::List(deviations.to_vec()),
    };
    vec![Part::heading("Preregistration"), fixed.into(), deviations]
}

fn question(verdict: &Verdict) -> String {
    let name = match verdict.question {
        Question::Speed => "speed of a step",
        Question::ValidationLoss => "validation loss",
        Question::ValidationAccuracy => "validation accuracy",
        Question::Score => {
            return verdict.task.map_or_else(|| "score".into(), |task| format!("score on {}", task.name()));
        }
        Question::MeanScore => "mean GLUE score",
        Question::LossSpread => "spread of losses over seeds",
        Question::ScoreSpread => "spread of scores over seeds",
    };
    name.to_owned()
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Faster => "faster",
        Outcome::Slower => "slower",
        Outcome::Better => "better",
        Outcome::Worse => "worse",
        Outcome::Steadier => "steadier",
        Outcome::LessSteady => "less steady",
        Outcome::Same => "same",
        Outcome::CannotTell => "cannot tell",
    }
}

fn found(verdict: &Verdict) -> String {
    let text = |value: f64| match verdict.question {
        Question::Speed | Question::LossSpread | Question::ScoreSpread => (format!("{value:.2}x"), 1.0, 2),
        Question::ValidationLoss => (format!("{value:+.4}"), 1.0, 4),
        _ => (format!("{:+.1}", 100.0 * value), 100.0, 1),
    };
    known(verdict.estimate, |value| {
        let (text, scale, decimals) = text(value);
        with_interval(text, verdict.interval, scale, decimals)
    })
}

fn margin(verdict: &Verdict) -> String {
    match verdict.question {
        Question::Speed => format!("{} %", rounded(100.0 * verdict.margin)),
        Question::LossSpread | Question::ScoreSpread => format!("{}x", rounded(verdict.margin)),
        Question::ValidationLoss => rounded(verdict.margin),
        _ => rounded(100.0 * verdict.margin),
    }
}

/// A number without the rounding of its product with 100.
fn rounded(value: f64) -> String {
    ((value * 1e6).round() / 1e6).to_string()
}
