//! The report of a job: how much faster, at the same quality, on the same hardware, and does it change the spread?
//!
//! [`report`] is a pure function of [`Facts`]; the same facts, in any order, give the same report. A number that the
//! facts do not support is absent, and a note says why.

mod comparison;
mod effects;
mod gather;
mod glue;
mod markdown;
mod notes;
mod pretrain;
mod probe;
mod selection;
mod speed;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use recipe::event::Device;
use recipe::{Failure, Pretrain, Recipe, Stage, TrialSpec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::JobId;

pub use comparison::Comparison;
pub use effects::{Effect, Factor};
pub use glue::{BestOf, GlueArm, GlueReport, GlueScore};
pub use pretrain::{PretrainArm, PretrainSeed};
pub use probe::{BlockMeans, ProbeArm};
pub use selection::{GlueAverage, Selected, selected};
pub use speed::{ArmSpeed, EncoderFit, OpenSpeed, Speed, speed_up};

/// Everything that a report is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub job: JobId,
    pub name: String,
    /// Names, in the order of the job.
    pub arms: Vec<String>,
    /// One of `arms`.
    pub baseline: String,
    /// Those of `arms` that start from a published checkpoint: nothing is timed or pre-trained for them.
    pub published: BTreeSet<String>,
    /// The trials that succeeded or failed.
    pub ended: Vec<EndedTrial>,
    /// How many trials of a stage may still end: blocked, queued, running or paused.
    pub unfinished: BTreeMap<Stage, u64>,
    /// How many trials of a stage a person cancelled.
    pub cancelled: BTreeMap<Stage, u64>,
    /// How many fine-tune trials of an arm never started because their pre-train trial failed.
    pub orphaned: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EndedTrial {
    /// Absent for a timing trial, which runs all arms.
    pub arm: Option<String>,
    pub spec: TrialSpec,
    /// Where its last attempt ran, if that got as far as to say so.
    pub device: Option<Device>,
    pub end: TrialEnd,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TrialEnd {
    Succeeded(recipe::Report),
    Failed(Failure),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    pub job: JobId,
    pub name: String,
    pub baseline: String,
    /// Whether no trial is left that could still change the report.
    pub complete: bool,
    /// Absent until a timing trial has succeeded.
    pub speed: Option<Speed>,
    /// One row per arm that is pre-trained, in the order of the job.
    pub pretrain: Vec<PretrainArm>,
    /// What layer drop and the norm do alone and together, where arms differ in nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// One entry per arm whose checkpoints were probed, in the order of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeArm>,
    /// One entry per task that has a run, in the order of the GLUE table.
    pub glue: Vec<GlueReport>,
    /// One entry per arm and choice of kept blocks that has a score: arms in the order of the job, the deepest first.
    pub glue_averages: Vec<GlueAverage>,
    /// What a reader must know before using the numbers: what is missing, what is small, what was left out.
    pub notes: Vec<String>,
}

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
    report.glue_averages = selection::averages(&facts.arms, &report.glue);
    report.notes = notes::notes(facts, &report);
    report
}

impl TrialEnd {
    /// That a run diverged is a result of its recipe: it is counted. Any other failure says something about
    /// the machine or the input, and leaves the trial without a result.
    fn diverged(&self) -> bool {
        matches!(self, TrialEnd::Failed(failure) if failure.kind.is_divergence())
    }
}

impl Facts {
    /// The arms that are timed and pre-trained, in their order.
    fn pretrained(&self) -> impl Iterator<Item = &String> {
        self.arms.iter().filter(|arm| !self.published.contains(*arm))
    }

    /// What the seeds of an arm have in common, once one of them has ended.
    fn pretraining(&self, arm: &str) -> Option<&Pretrain> {
        self.ended.iter().find_map(|trial| match &trial.spec.recipe {
            Recipe::Pretrain(recipe) if trial.arm.as_deref() == Some(arm) => Some(recipe),
            _ => None,
        })
    }
}
