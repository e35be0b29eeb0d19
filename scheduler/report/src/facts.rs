//! What a report is computed from.

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::{JobId, TrialId};
use recipe::event::Device;
use recipe::{Failure, Pretrain, Recipe, Stage, TrialSpec};

/// Everything that a report is computed from.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub job: JobId,
    pub name: String,
    /// Names, in the order of the job.
    pub arms: Vec<String>,
    /// One of `arms`.
    pub baseline: String,
    /// The arms that start from a published checkpoint: nothing is timed or pre-trained for them.
    pub published: BTreeSet<String>,
    /// The trials that succeeded or failed.
    pub ended: Vec<EndedTrial>,
    /// Per stage, the number of trials that may still end: blocked, queued, running or paused.
    pub unfinished: BTreeMap<Stage, u64>,
    /// Per stage, the number of trials that a person cancelled.
    pub cancelled: BTreeMap<Stage, u64>,
    /// Per arm, the number of fine-tune trials that never started because their pre-train trial failed.
    pub orphaned: BTreeMap<String, u64>,
}

/// A trial that succeeded or failed.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedTrial {
    /// Absent for a timing trial, which runs all arms.
    pub arm: Option<String>,
    pub spec: TrialSpec,
    /// The device of its last attempt; absent if that attempt ended before its trainer had started.
    pub device: Option<Device>,
    pub end: TrialEnd,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TrialEnd {
    Succeeded(recipe::Report),
    Failed(Failure),
}

/// A trial of the job in any state.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialFacts {
    pub id: TrialId,
    /// The trial whose end this one waits or waited for.
    pub waits_for: Option<TrialId>,
    /// As in [`EndedTrial`].
    pub arm: Option<String>,
    pub spec: TrialSpec,
    /// As in [`EndedTrial`].
    pub device: Option<Device>,
    pub status: TrialStatus,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TrialStatus {
    /// Blocked, queued, running or paused.
    Unfinished,
    Cancelled,
    Ended(TrialEnd),
}

impl Facts {
    /// The facts of a job before any of its trials is looked at. [`Facts::add`] completes them.
    pub fn new(job: JobId, name: String, arms: Vec<String>, baseline: String, published: BTreeSet<String>) -> Self {
        Self {
            job,
            name,
            arms,
            baseline,
            published,
            ended: Vec::new(),
            unfinished: BTreeMap::new(),
            cancelled: BTreeMap::new(),
            orphaned: BTreeMap::new(),
        }
    }

    /// Sorts `trials`, which must be all trials of the job, by how they ended.
    pub fn add(&mut self, trials: Vec<TrialFacts>) {
        let has_failed = |trial: &&TrialFacts| matches!(trial.status, TrialStatus::Ended(TrialEnd::Failed(_)));
        let failed: BTreeSet<TrialId> = trials.iter().filter(has_failed).map(|trial| trial.id).collect();
        for trial in trials {
            let stage = trial.spec.recipe.stage();
            match trial.status {
                TrialStatus::Ended(end) => {
                    self.ended.push(EndedTrial { arm: trial.arm, spec: trial.spec, device: trial.device, end });
                }
                TrialStatus::Cancelled => {
                    let parent_failed = trial.waits_for.is_some_and(|parent| failed.contains(&parent));
                    match trial.arm.filter(|_| stage == Stage::Finetune && parent_failed) {
                        Some(arm) => *self.orphaned.entry(arm).or_default() += 1,
                        None => *self.cancelled.entry(stage).or_default() += 1,
                    }
                }
                TrialStatus::Unfinished => *self.unfinished.entry(stage).or_default() += 1,
            }
        }
    }

    /// The arms that are timed and pre-trained, in their order.
    pub(crate) fn pretrained(&self) -> impl Iterator<Item = &String> {
        self.arms.iter().filter(|arm| !self.published.contains(*arm))
    }

    /// The recipe that the pre-train trials of an arm share; absent until one of them has ended.
    pub(crate) fn pretraining(&self, arm: &str) -> Option<&Pretrain> {
        self.ended.iter().find_map(|trial| match &trial.spec.recipe {
            Recipe::Pretrain(recipe) if trial.arm.as_deref() == Some(arm) => Some(recipe),
            _ => None,
        })
    }
}

impl TrialEnd {
    /// True if the run diverged, which is a result of its recipe and is counted. Any other failure tells of the machine or
    /// the input, and leaves the trial without a result.
    pub(crate) fn diverged(&self) -> bool {
        matches!(self, TrialEnd::Failed(failure) if failure.kind.is_divergence())
    }
}
