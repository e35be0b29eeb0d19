//! The facts of a job: everything that its report is computed from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use protocol::id::{JobId, TrialId};
use recipe::event::Device;
use recipe::{Failure, Pretrain, Recipe, Seeds};
use serde::{Deserialize, Serialize};

use crate::rules::Rules;

/// The facts of a job. Its report depends on nothing else. Written as JSON they are the evidence for the report: whoever
/// reads them back computes the same report to the last bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", content = "result", rename_all = "snake_case")]
pub enum TrialStatus {
    /// Blocked, queued, running or paused.
    Unfinished,
    Cancelled,
    Succeeded(recipe::TrialReport),
    Failed(Failure),
}

/// Facts as they are written: each recipe once, though a job may have thousands of trials with it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    job: JobId,
    name: String,
    arms: Vec<String>,
    baseline: String,
    published: BTreeSet<String>,
    preregistration: String,
    rules: Rules,
    recipes: Vec<Arc<Recipe>>,
    trials: Vec<WrittenTrial>,
}

#[derive(Serialize, Deserialize)]
struct WrittenTrial {
    id: TrialId,
    waits_for: Option<TrialId>,
    arm: Option<String>,
    /// Index in `recipes`.
    recipe: usize,
    seeds: Seeds,
    device: Option<Device>,
    #[serde(flatten)]
    status: TrialStatus,
}

impl From<Facts> for Written {
    fn from(facts: Facts) -> Self {
        let Facts { job, name, arms, baseline, published, preregistration, rules, trials } = facts;
        let (mut recipes, mut known): (Vec<Arc<Recipe>>, HashMap<*const Recipe, usize>) = Default::default();
        let written = |trial: TrialFacts| {
            let TrialFacts { id, waits_for, arm, recipe, seeds, device, status } = trial;
            let recipe = *known.entry(Arc::as_ptr(&recipe)).or_insert_with(|| {
                recipes.push(recipe);
                recipes.len() - 1
            });
            WrittenTrial { id, waits_for, arm, recipe, seeds, device, status }
        };
        let trials = trials.into_iter().map(written).collect();
        Self { job, name, arms, baseline, published, preregistration, rules, recipes, trials }
    }
}

impl TryFrom<Written> for Facts {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { job, name, arms, baseline, published, preregistration, rules, recipes, trials } = written;
        let read = |trial: WrittenTrial| {
            let WrittenTrial { id, waits_for, arm, recipe, seeds, device, status } = trial;
            let recipe = recipes
                .get(recipe)
                .cloned()
                .ok_or_else(|| format!("trial {id} has recipe {recipe}, which is missing"))?;
            Ok(TrialFacts { id, waits_for, arm, recipe, seeds, device, status })
        };
        let trials = trials.into_iter().map(read).collect::<Result<_, String>>()?;
        Ok(Self { job, name, arms, baseline, published, preregistration, rules, trials })
    }
}

impl Facts {
    /// Names of the arms that are timed and pre-trained, in the order of the job.
    pub(crate) fn pretrained_arms(&self) -> impl Iterator<Item = &String> {
        self.arms.iter().filter(|arm| !self.published.contains(*arm))
    }

    /// The trials of each arm.
    pub(crate) fn trials_by_arm(&self) -> BTreeMap<&str, Vec<&TrialFacts>> {
        let mut arms: BTreeMap<&str, Vec<&TrialFacts>> = BTreeMap::new();
        for trial in &self.trials {
            if let Some(arm) = &trial.arm {
                arms.entry(arm).or_default().push(trial);
            }
        }
        arms
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
