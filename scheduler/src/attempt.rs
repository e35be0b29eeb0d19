//! Attempts: executions of a trial on a slot.

use chrono::{DateTime, Utc};
use recipe::event::Device;
use recipe::{Failure, TrialReport, named_enum};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use protocol::id::AttemptId;

named_enum! {
    /// The name of an [`Outcome`], without its data.
    #[derive(sqlx::Type, ToSchema)]
    #[sqlx(type_name = "outcome", rename_all = "snake_case")]
    pub enum OutcomeName {
        Succeeded = "succeeded",
        Failed = "failed",
        /// The lease ran out, or the agent was restarted and its trainer is gone.
        Lost = "lost",
        /// The server interrupted the attempt, which left a checkpoint.
        Preempted = "preempted",
        Cancelled = "cancelled",
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Succeeded { report: Box<TrialReport> },
    Failed { failure: Failure },
    Lost,
    Preempted,
    Cancelled,
}

impl Outcome {
    pub const fn name(&self) -> OutcomeName {
        match self {
            Self::Succeeded { .. } => OutcomeName::Succeeded,
            Self::Failed { .. } => OutcomeName::Failed,
            Self::Lost => OutcomeName::Lost,
            Self::Preempted => OutcomeName::Preempted,
            Self::Cancelled => OutcomeName::Cancelled,
        }
    }

    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed { failure } => Some(failure),
            _ => None,
        }
    }
}

/// An attempt as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    pub id: AttemptId,
    /// Counts from 1 within the trial.
    pub number: u32,
    pub node: String,
    pub slot: u32,
    pub placed_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    /// Absent while the attempt is open.
    pub outcome: Option<OutcomeName>,
    pub failure: Option<Failure>,
    pub device: Option<Device>,
    pub resumed_from: Option<u64>,
    /// The work before the first step, such as `tokenizing`; absent while the trial trains.
    pub phase: Option<String>,
    pub step: u64,
    pub trained_seconds: f64,
}
