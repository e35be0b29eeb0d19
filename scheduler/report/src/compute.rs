//! From facts to a report.

use crate::content::Report;
use crate::facts::Facts;
use crate::{effects, glue, notes, pretrain, probe, speed};

/// Computes the report.
pub fn report(facts: &Facts) -> Report {
    let speed = speed::speed(facts);
    let mut report = Report {
        job: facts.job,
        name: facts.name.clone(),
        baseline: facts.baseline.clone(),
        complete: facts.unfinished.values().all(|count| *count == 0),
        pretrain: pretrain::pretrain(facts, speed.as_ref()),
        effects: Vec::new(),
        speed,
        probes: probe::probes(facts),
        glue: glue::glue(facts),
        glue_averages: Vec::new(),
        notes: Vec::new(),
    };
    report.effects = effects::effects(facts, &report.pretrain, report.speed.as_ref());
    report.glue_averages = glue::averages(&facts.arms, &report.glue);
    report.notes = notes::notes(facts, &report);
    report
}
