//! One recipe with one set of seeds, and the states that it goes through.

use chrono::{DateTime, Utc};
use recipe::{Failure, Keep, Report, Seeds, Stage};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use protocol::id::{AttemptId, JobId, TrialId};
use crate::policy::Next;

/// The name of a state, where what it owns does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "trial_state", rename_all = "snake_case")]
pub enum TrialState {
    /// Waits for its pre-train trial.
    Blocked,
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    Paused,
}

impl TrialState {
    pub const ALL: [TrialState; 7] =
        [Self::Blocked, Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Paused];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Paused => "paused",
        }
    }

    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// The state of a trial, with what exists only in it.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    Blocked { waits_for: TrialId },
    Queued { after_seconds: f64 },
    Running { attempt: AttemptId },
    Succeeded { report: Box<Report> },
    Failed { failure: Failure },
    Cancelled,
    Paused,
}

/// A transition that the state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trial that is {} cannot {verb}", state.name())]
pub struct Refused {
    pub state: TrialState,
    pub verb: &'static str,
}

impl State {
    pub const fn name(&self) -> TrialState {
        match self {
            Self::Blocked { .. } => TrialState::Blocked,
            Self::Queued { .. } => TrialState::Queued,
            Self::Running { .. } => TrialState::Running,
            Self::Succeeded { .. } => TrialState::Succeeded,
            Self::Failed { .. } => TrialState::Failed,
            Self::Cancelled => TrialState::Cancelled,
            Self::Paused => TrialState::Paused,
        }
    }

    /// Queued -> Running.
    pub fn place(self, attempt: AttemptId) -> Result<Self, Refused> {
        match self {
            Self::Queued { .. } => Ok(Self::Running { attempt }),
            other => Err(other.refuse("be placed")),
        }
    }

    /// Running -> what policy decided when that very attempt ended.
    pub fn end(self, ended: AttemptId, next: Next) -> Result<Self, Refused> {
        match self {
            Self::Running { attempt } if attempt == ended => Ok(match next {
                Next::Succeed { report } => Self::Succeeded { report },
                Next::Requeue { after, .. } => Self::Queued { after_seconds: after.as_secs_f64() },
                Next::Fail { failure } => Self::Failed { failure },
                Next::Pause => Self::Paused,
            }),
            other => Err(other.refuse("end this attempt")),
        }
    }

    /// Queued -> Paused. One that runs is paused by ending its attempt, one that is blocked would not run anyway.
    pub fn pause(self) -> Result<Self, Refused> {
        match self {
            Self::Queued { .. } => Ok(Self::Paused),
            other => Err(other.refuse("be paused")),
        }
    }

    /// Paused -> Queued.
    pub fn resume(self) -> Result<Self, Refused> {
        match self {
            Self::Paused => Ok(Self::Queued { after_seconds: 0.0 }),
            other => Err(other.refuse("be resumed")),
        }
    }

    fn refuse(&self, verb: &'static str) -> Refused {
        Refused { state: self.name(), verb }
    }
}

/// A trial as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrialView {
    pub id: TrialId,
    pub job: JobId,
    pub stage: Stage,
    /// Absent for a timing trial, which runs every arm.
    pub arm: Option<String>,
    pub task: Option<String>,
    pub learning_rate: Option<f64>,
    /// Which blocks of its checkpoint a fine-tune trial keeps.
    #[serde(default)]
    pub keep: Option<Keep>,
    pub seeds: Seeds,
    pub state: TrialState,
    pub waits_for: Option<TrialId>,
    /// What a trial that does not run is waiting for, in words.
    pub pending_reason: Option<String>,
    pub step: u64,
    pub total_steps: Option<u64>,
    pub trained_seconds: f64,
    pub estimated_end: Option<DateTime<Utc>>,
    pub fingerprint: String,
    /// How many there have been.
    pub attempts: u32,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub failure: Option<Failure>,
    pub report: Option<Report>,
    /// Where it runs or last ran: node name and slot index.
    pub node: Option<String>,
    pub slot: Option<u32>,
}

/// Which trials of a job to list; absent means all.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct TrialFilter {
    pub stage: Option<Stage>,
    pub arm: Option<String>,
    pub state: Option<TrialState>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn requeue() -> Next {
        Next::Requeue { after: Duration::from_secs(2), forget_checkpoint: false }
    }

    #[test]
    fn only_the_attempt_that_runs_can_end_a_trial() {
        let (mine, zombie) = (AttemptId::new(), AttemptId::new());
        let running = State::Queued { after_seconds: 0.0 }.place(mine).unwrap();
        assert_eq!(running.clone().end(zombie, requeue()).unwrap_err().state, TrialState::Running);
        assert_eq!(running.end(mine, requeue()).unwrap(), State::Queued { after_seconds: 2.0 });
    }

    #[test]
    fn what_has_ended_stays_as_it_is() {
        let failure = Failure { kind: recipe::FailureKind::BadData, message: "m".into() };
        for ended in [State::Cancelled, State::Failed { failure }] {
            assert!(ended.clone().place(AttemptId::new()).is_err());
            assert!(ended.clone().end(AttemptId::new(), Next::Pause).is_err());
            assert!(ended.clone().pause().is_err());
            assert!(ended.resume().is_err());
        }
        assert!(State::Blocked { waits_for: TrialId::new() }.place(AttemptId::new()).is_err());
        assert!(State::Paused.place(AttemptId::new()).is_err());
    }
}
