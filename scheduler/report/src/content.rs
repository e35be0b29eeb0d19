//! The content of a report.

use protocol::id::JobId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::effects::Effect;
use crate::glue::{GlueAverage, GlueReport};
use crate::pretrain::PretrainArm;
use crate::probe::ProbeArm;
use crate::speed::Speed;

/// The answer of a job. A number that the facts do not support is absent, and a note gives the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    pub job: JobId,
    pub name: String,
    pub baseline: String,
    /// True if no trial is left that could still change the report.
    pub complete: bool,
    /// Absent until a timing trial has succeeded.
    pub speed: Option<Speed>,
    /// One row per arm that is pre-trained, in the order of the job.
    pub pretrain: Vec<PretrainArm>,
    /// The effects of layer drop and of the norm, alone and together, between arms that differ in nothing else.
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
