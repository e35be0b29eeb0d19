//! Attempts: executions of a trial on a slot.

use chrono::{DateTime, Utc};
use recipe::event::Device;
use recipe::{Failure, Report};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use protocol::id::AttemptId;

/// The name of an [`Outcome`], without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "outcome", rename_all = "snake_case")]
pub enum OutcomeName {
    Succeeded,
    Failed,
    /// The lease ran out, or the agent was restarted and its trainer is gone.
    Lost,
    /// The server interrupted the attempt, which left a checkpoint.
    Preempted,
    Cancelled,
}

impl OutcomeName {
    pub const ALL: [OutcomeName; 5] = [Self::Succeeded, Self::Failed, Self::Lost, Self::Preempted, Self::Cancelled];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Preempted => "preempted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Succeeded { report: Box<Report> },
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
