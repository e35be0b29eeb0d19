//! Trials: one recipe with one set of seeds each, and their states.

use chrono::{DateTime, Utc};
use recipe::{Failure, FailureKind, KeptBlocks, Seeds, Stage, TrialReport, named_enum};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::attempt::OutcomeName;
use crate::policy::Next;
use protocol::id::{AttemptId, JobId, TrialId};

named_enum! {
    /// The name of a [`State`], without its data.
    #[derive(sqlx::Type, ToSchema)]
    #[sqlx(type_name = "trial_state", rename_all = "snake_case")]
    pub enum TrialState {
        /// The trial waits for another one: for the pre-train trial that makes its checkpoint, or for the timing trial
        /// that sets its budget.
        Blocked = "blocked",
        Queued = "queued",
        Running = "running",
        Succeeded = "succeeded",
        Failed = "failed",
        Cancelled = "cancelled",
        Paused = "paused",
    }
}

impl TrialState {
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// The state of a trial, with the data that exist only in it.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    Blocked { waits_for: TrialId },
    Queued { after_seconds: f64 },
    Running { attempt: AttemptId },
    Succeeded { report: Box<TrialReport> },
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

    /// The state in which a trial begins.
    pub const fn first(waits_for: Option<TrialId>) -> Self {
        match waits_for {
            Some(waits_for) => Self::Blocked { waits_for },
            None => Self::Queued { after_seconds: 0.0 },
        }
    }

    /// Blocked -> Queued if the trial that it waits for succeeded, Cancelled if that trial failed or was cancelled.
    pub fn unblock(self, awaited: TrialState) -> Result<Self, Refused> {
        match (self, awaited) {
            (Self::Blocked { .. }, TrialState::Succeeded) => Ok(Self::Queued { after_seconds: 0.0 }),
            (Self::Blocked { .. }, TrialState::Failed | TrialState::Cancelled) => Ok(Self::Cancelled),
            (other, _) => Err(other.refuse("be unblocked")),
        }
    }

    /// Blocked, Queued, Running or Paused -> Cancelled.
    pub fn cancel(self) -> Result<Self, Refused> {
        if self.name().is_ended() { Err(self.refuse("be cancelled")) } else { Ok(Self::Cancelled) }
    }

    /// Queued -> Running.
    pub fn place(self, attempt: AttemptId) -> Result<Self, Refused> {
        match self {
            Self::Queued { .. } => Ok(Self::Running { attempt }),
            other => Err(other.refuse("be placed")),
        }
    }

    /// Running -> the state that the policy decided on when `ended`, the trial's open attempt, ended.
    pub fn end(self, ended: AttemptId, next: Next) -> Result<Self, Refused> {
        match self {
            Self::Running { attempt } if attempt == ended => Ok(match next {
                Next::Succeed { report } => Self::Succeeded { report },
                Next::Requeue { after, .. } => Self::Queued { after_seconds: after.as_secs_f64() },
                Next::Fail { failure } => Self::Failed { failure },
                Next::Pause => Self::Paused,
                Next::Cancel => Self::Cancelled,
            }),
            other => Err(other.refuse("end this attempt")),
        }
    }

    /// Queued -> Paused. A running trial is paused by ending its attempt; a blocked trial does not run anyway.
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

/// Why a trial does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum WaitReason {
    /// Another trial has to succeed first: the pre-train trial whose checkpoint this one starts from, or the timing
    /// trial that decides how many steps its budget allows.
    Trial { stage: Stage, state: TrialState },
    /// The last attempt did not succeed, and the next one starts at `at`.
    Retry { attempt: u32, outcome: OutcomeName, failure: Option<FailureKind>, at: DateTime<Utc> },
    /// No node is connected.
    Node,
    /// A timing trial needs a node on which nothing else runs.
    IdleNode,
    /// Every suitable slot is in use.
    Slot,
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
    /// The blocks of its checkpoint that a fine-tune trial keeps; absent for other stages.
    pub keep: Option<KeptBlocks>,
    pub seeds: Seeds,
    pub state: TrialState,
    pub waits_for: Option<TrialId>,
    /// Why a blocked or queued trial does not run yet, or why a cancelled one was never tried; absent otherwise.
    pub waiting: Option<WaitReason>,
    pub step: u64,
    pub total_steps: Option<u64>,
    pub trained_seconds: f64,
    pub estimated_end: Option<DateTime<Utc>>,
    pub fingerprint: String,
    /// Number of attempts so far.
    pub attempt_count: u32,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub failure: Option<Failure>,
    pub report: Option<TrialReport>,
    /// Name of the node, and index of the slot, of the last attempt.
    pub node: Option<String>,
    pub slot: Option<u32>,
}

/// Selects the trials of a job. An absent field selects all.
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
    fn only_its_open_attempt_can_end_a_trial() {
        let (mine, zombie) = (AttemptId::new(), AttemptId::new());
        let running = State::Queued { after_seconds: 0.0 }.place(mine).unwrap();
        assert_eq!(running.clone().end(zombie, requeue()).unwrap_err().state, TrialState::Running);
        assert_eq!(running.end(mine, requeue()).unwrap(), State::Queued { after_seconds: 2.0 });
    }

    #[test]
    fn an_ended_trial_refuses_every_transition() {
        let failure = Failure { kind: recipe::FailureKind::BadData, message: "m".into() };
        for ended in [State::Cancelled, State::Failed { failure }] {
            assert!(ended.clone().place(AttemptId::new()).is_err());
            assert!(ended.clone().end(AttemptId::new(), Next::Pause).is_err());
            assert!(ended.clone().unblock(TrialState::Succeeded).is_err());
            assert!(ended.clone().cancel().is_err());
            assert!(ended.clone().pause().is_err());
            assert!(ended.resume().is_err());
        }
        assert!(State::Blocked { waits_for: TrialId::new() }.place(AttemptId::new()).is_err());
        assert!(State::Paused.place(AttemptId::new()).is_err());
    }

    #[test]
    fn a_blocked_trial_follows_the_trial_that_it_waits_for() {
        let blocked = State::first(Some(TrialId::new()));
        assert_eq!(blocked.clone().unblock(TrialState::Succeeded), Ok(State::Queued { after_seconds: 0.0 }));
        for awaited in [TrialState::Failed, TrialState::Cancelled] {
            assert_eq!(blocked.clone().unblock(awaited), Ok(State::Cancelled));
        }
        for awaited in [TrialState::Blocked, TrialState::Queued, TrialState::Running, TrialState::Paused] {
            assert!(blocked.clone().unblock(awaited).is_err());
        }
        assert!(State::first(None).unblock(TrialState::Succeeded).is_err());
    }

    #[test]
    fn every_trial_that_has_not_ended_can_be_cancelled() {
        let (waits_for, attempt) = (TrialId::new(), AttemptId::new());
        let queued = State::Queued { after_seconds: 1.0 };
        for open in [State::Blocked { waits_for }, queued, State::Running { attempt }, State::Paused] {
            assert_eq!(open.cancel(), Ok(State::Cancelled));
        }
    }
}
