//! From facts to a report.

use crate::answer::Answer;
use crate::content::Report;
use crate::facts::{Facts, TrialStatus};
use crate::rules::Preregistration;
use crate::speed::Timed;
use crate::{answer, effects, glue, notes, pretrain, probe, verdict};

/// Computes the report of a job from its facts.
pub fn report(facts: &Facts) -> Report {
    let timed = Timed::of(facts);
    let speed = timed.as_ref().map(|timed| timed.section(facts));
    let pretrain = pretrain::pretrain(facts, speed.as_ref());
    let glue = glue::glue(facts);
    let (verdicts, questions) = verdict::verdicts(facts, timed.as_ref(), speed.as_ref(), &glue);
    let answers: Vec<Answer> =
        verdicts.into_iter().map(|(arm, verdicts)| Answer::new(arm, &facts.baseline, verdicts)).collect();
    let mut report = Report {
        job: facts.job,
        name: facts.name.clone(),
        baseline: facts.baseline.clone(),
        complete: facts.trials.iter().all(|trial| trial.status != TrialStatus::Unfinished),
        sentence: answer::job_sentence(&answers),
        answers,
        rules: facts.rules,
        preregistration: Preregistration {
            digest: facts.preregistration.clone(),
            questions,
            deviations: notes::deviations(facts),
        },
        effects: effects::effects(facts, &pretrain, timed.as_ref()),
        probes: probe::probes(facts),
        glue_averages: glue::averages(&facts.arms, &glue),
        speed,
        pretrain,
        glue,
        notes: Vec::new(),
    };
    report.notes = notes::notes(facts, &report);
    report
}
