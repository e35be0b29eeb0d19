//! From facts to a report.

use crate::content::Report;
use crate::facts::{Facts, TrialStatus};
use crate::{effects, glue, notes, pretrain, probe, speed};

/// Computes the report of a job from its facts.
pub fn report(facts: &Facts) -> Report {
    let speed = speed::speed(facts);
    let pretrain = pretrain::pretrain(facts, speed.as_ref());
    let glue = glue::glue(facts);
    let mut report = Report {
        job: facts.job,
        name: facts.name.clone(),
        baseline: facts.baseline.clone(),
        complete: facts.trials.iter().all(|trial| trial.status != TrialStatus::Unfinished),
        effects: effects::effects(facts, &pretrain, speed.as_ref()),
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
