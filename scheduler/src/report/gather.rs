//! From a job and its trials to the facts of its report.

use std::collections::BTreeSet;

use recipe::Stage;

use super::{EndedTrial, Facts, TrialEnd};
use crate::id::TrialId;
use crate::job::Job;
use crate::trial::{TrialFacts, TrialState};

impl Facts {
    /// `trials` are all trials of the job.
    pub fn new(job: &Job, trials: Vec<TrialFacts>) -> Self {
        let mut facts = Self {
            job: job.summary.id,
            name: job.summary.name.clone(),
            arms: job.summary.arms.clone(),
            baseline: job.summary.baseline.clone(),
            published: job.spec.arms.iter().filter(|arm| !arm.pretrains()).map(|arm| arm.name.clone()).collect(),
            ended: Vec::new(),
            unfinished: Default::default(),
            cancelled: Default::default(),
            orphaned: Default::default(),
        };
        let failed: BTreeSet<TrialId> =
            trials.iter().filter(|trial| trial.state == TrialState::Failed).map(|trial| trial.id).collect();
        for trial in trials {
            let end = match (trial.state, trial.report, trial.failure) {
                (TrialState::Succeeded, Some(report), _) => TrialEnd::Succeeded(report),
                (TrialState::Failed, _, Some(failure)) => TrialEnd::Failed(failure),
                (TrialState::Cancelled, ..) => {
                    let orphan = trial.stage == Stage::Finetune
                        && trial.waits_for.is_some_and(|pretrain| failed.contains(&pretrain));
                    match trial.arm.filter(|_| orphan) {
                        Some(arm) => *facts.orphaned.entry(arm).or_default() += 1,
                        None => *facts.cancelled.entry(trial.stage).or_default() += 1,
                    }
                    continue;
                }
                // The database ties a report to success and a failure to failing: what is left has not ended.
                _ => {
                    *facts.unfinished.entry(trial.stage).or_default() += 1;
                    continue;
                }
            };
            facts.ended.push(EndedTrial { arm: trial.arm, spec: trial.spec, device: trial.device, end });
        }
        facts
    }
}
