//! The facts of a job: everything that its report is computed from.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::id::{JobId, TrialId};
use recipe::event::Device;
use recipe::{Failure, Pretrain, Recipe, Seeds};

use crate::rules::Rules;

/// The facts of a job. Its report depends on nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub job: JobId,
    pub name: String,
    /// Names of the arms, in the order of the job.
    pub arms: Vec<String>,
    /// Name of the baseline, which is one of `arms`.
    pub baseline: String,
    /// Names of the arms that start from a published checkpoint. These arms are neither timed nor pre-trained.
    pub published: BTreeSet<String>,
    /// Hex sha256 of what the job asks and how its answer is judged, as submitted.
    pub preregistration: String,
    /// When a question counts as answered.
    pub rules: Rules,
    /// All trials of the job. Their order has no influence on the report.
    pub trials: Vec<TrialFacts>,
}

/// A trial of the job, in any state.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialFacts {
    pub id: TrialId,
    /// The trial that has to end before this one can start.
    pub waits_for: Option<TrialId>,
    /// Absent for a timing trial, which runs all arms.
    pub arm: Option<String>,
    /// Shared by the trials that differ in their seeds alone, of which a job may have many thousands.
    pub recipe: Arc<Recipe>,
    pub seeds: Seeds,
    /// The device of the last attempt. Absent if the trainer of that attempt never started.
    pub device: Option<Device>,
    pub status: TrialStatus,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TrialStatus {
    /// Blocked, queued, running or paused.
    Unfinished,
    Cancelled,
    Succeeded(recipe::TrialReport),
    Failed(Failure),
}

impl Facts {
    /// Names of the arms that are timed and pre-trained, in the order of the job.
    pub(crate) fn pretrained_arms(&self) -> impl Iterator<Item = &String> {
        self.arms.iter().filter(|arm| !self.published.contains(*arm))
    }

    pub(crate) fn trials_of(&self, arm: &str) -> impl Iterator<Item = &TrialFacts> {
        self.trials.iter().filter(move |trial| trial.arm.as_deref() == Some(arm))
    }

    /// The recipe that the pre-train trials of `arm` share. Absent until one of them has succeeded or failed.
    pub(crate) fn pretrain_recipe(&self, arm: &str) -> Option<&Pretrain> {
        self.trials_of(arm).find_map(|trial| match (&*trial.recipe, &trial.status) {
            (Recipe::Pretrain(recipe), TrialStatus::Succeeded(_) | TrialStatus::Failed(_)) => Some(recipe),
            _ => None,
        })
    }
}

impl TrialStatus {
    /// True if the run diverged. Divergence is a result of the recipe and is counted; any other failure says something
    /// about the machine or the input, and leaves the trial without a result.
    pub(crate) fn is_diverged(&self) -> bool {
        matches!(self, TrialStatus::Failed(failure) if failure.kind.is_divergence())
    }
}
