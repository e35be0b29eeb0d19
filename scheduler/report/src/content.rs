//! The content of a report.

use protocol::id::JobId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::effects::Effect;
use crate::glue::{GlueAverage, GlueReport};
use crate::pretrain::PretrainArm;
use crate::probe::ProbeArm;
use crate::rules::{Preregistration, Rules};
use crate::speed::Speed;

/// The report of a job: how its arms differ in speed, validation loss and GLUE scores. Scores and shares are fractions
/// (0.53, not 53). A number that the trials do not determine is absent, and a note gives the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    pub job: JobId,
    /// Name of the job.
    pub name: String,
    /// Name of the arm that the others are compared with.
    pub baseline: String,
    /// True if all trials of the job have ended, so that the report no longer changes.
    pub complete: bool,
    /// The answer of the job in one sentence: that of the fastest arm among those that are nowhere worse than the
    /// baseline, or of the first arm. Absent if the job compares nothing.
    pub sentence: Option<String>,
    /// What the job says of each arm about which it asks a question, in the order of the job.
    pub answers: Vec<Answer>,
    /// When a question counts as answered.
    pub rules: Rules,
    pub preregistration: Preregistration,
    /// Time per step. Absent until the timing trial has succeeded.
    pub speed: Option<Speed>,
    /// One row per arm that is pre-trained, in the order of the job.
    pub pretrain: Vec<PretrainArm>,
    /// Effects of layer drop, of the norm and of both, between arms whose recipes are otherwise equal. Left out if
    /// every effect is a comparison with the baseline at one learning rate, because `pretrain` and `speed` have these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// One entry per arm with a probed checkpoint, in the order of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeArm>,
    /// One entry per GLUE task with a run that has a result: CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI.
    pub glue: Vec<GlueReport>,
    /// One entry per arm and choice of kept blocks that has a score: arms in the order of the job, then most blocks
    /// first.
    pub glue_averages: Vec<GlueAverage>,
    /// Sentences that a reader should know before using the numbers: what is missing, rests on few values or was left
    /// out.
    pub notes: Vec<String>,
}
