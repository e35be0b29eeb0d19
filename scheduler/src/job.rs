//! Jobs: the submission of a client, and the job as the API shows it.

use chrono::{DateTime, Utc};
use recipe::named_enum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::trial::TrialState;
use protocol::id::JobId;
use report::{Facts, TrialFacts};

pub mod limits;
mod spec;
pub(crate) use spec::default_length;
pub use spec::{
    ArmSpec, GlueSpec, JobSpec, KeepChoice, Match, ModelChoice, PretrainSpec, ProbeSpec, TimingSpec, TrainVocabulary,
    VocabularyChoice,
};

named_enum! {
    /// The status of a job. It is derived from the trials of the job, never stored.
    #[derive(ToSchema)]
    pub enum JobStatus {
        Queued = "queued",
        Running = "running",
        Succeeded = "succeeded",
        /// All trials have ended, some of them without success.
        Partial = "partial",
        /// All trials have ended, and none that the others depend on succeeded.
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

/// The number of a job's trials in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct TrialCounts {
    pub blocked: i64,
    pub queued: i64,
    pub running: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub paused: i64,
}

impl TrialCounts {
    /// The count of the trials in `state`.
    pub fn of(&mut self, state: TrialState) -> &mut i64 {
        match state {
            TrialState::Blocked => &mut self.blocked,
            TrialState::Queued => &mut self.queued,
            TrialState::Running => &mut self.running,
            TrialState::Succeeded => &mut self.succeeded,
            TrialState::Failed => &mut self.failed,
            TrialState::Cancelled => &mut self.cancelled,
            TrialState::Paused => &mut self.paused,
        }
    }

    pub const fn total(&self) -> i64 {
        let Self { blocked, queued, running, paused, succeeded: _, failed: _, cancelled: _ } = *self;
        self.ended() + blocked + queued + running + paused
    }

    /// The number of trials that have ended, however they ended.
    pub const fn ended(&self) -> i64 {
        let Self { succeeded, failed, cancelled, blocked: _, queued: _, running: _, paused: _ } = *self;
        succeeded + failed + cancelled
    }

    /// The status of a job with these trials. `cancelled`: a person cancelled the job. `useful`: the number of trials that
    /// succeeded and waited for no other trial; without any, the job has no result.
    pub fn status(&self, cancelled: bool, useful: i64) -> JobStatus {
        // Each field is named, so that the compiler leads whoever adds a state to this place.
        let Self { blocked, queued, running, paused, succeeded, failed, cancelled: stopped } = *self;
        if running > 0 {
            return JobStatus::Running;
        }
        if blocked + queued + paused > 0 {
            let begun = succeeded + failed + stopped > 0;
            return if begun { JobStatus::Running } else { JobStatus::Queued };
        }
        if cancelled && stopped > 0 {
            return JobStatus::Cancelled;
        }
        if useful == 0 {
            return JobStatus::Failed;
        }
        if failed + stopped > 0 { JobStatus::Partial } else { JobStatus::Succeeded }
    }
}

impl JobStatus {
    pub const fn is_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobSummary {
    pub id: JobId,
    pub name: String,
    pub status: JobStatus,
    pub created_at: DateTime<Utc>,
    /// The first placement of a trial.
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub arms: Vec<String>,
    pub baseline: String,
    pub trials: TrialCounts,
    /// Share of the planned FLOPs that is done, from 0 to 1.
    pub progress: f64,
    /// The end of the job at its mean speed since its first placement; absent before any progress.
    pub estimated_end: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    #[serde(flatten)]
    pub summary: JobSummary,
    /// Hex sha256 of `spec` without the job's name: what the job asks and how its answer is judged, as submitted.
    pub preregistration: String,
    /// The submission, with its defaults filled in.
    pub spec: JobSpec,
}

impl Job {
    /// The facts of the job's report, given all trials of the job.
    pub fn facts(&self, trials: Vec<TrialFacts>) -> Facts {
        let JobSummary { id, name, arms, baseline, .. } = self.summary.clone();
        let published = self.spec.arms.iter().filter(|arm| !arm.pretrains()).map(|arm| arm.name.clone()).collect();
        let (preregistration, rules) = (self.preregistration.clone(), self.spec.rules);
        Facts { job: id, name, arms, baseline, published, preregistration, rules, trials }
    }
}

/// Hex sha256 of a submission without its name: what the job asks and how its answer is judged. Nobody can change it
/// later, so a reader can see that the rules are older than the results.
pub(crate) fn preregistration(spec: &Value) -> String {
    let mut unnamed = spec.clone();
    if let Some(fields) = unnamed.as_object_mut() {
        fields.remove("name");
    }
    hex::encode(Sha256::digest(unnamed.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_from_the_counts() {
        let none = TrialCounts::default();
        let status = |counts: TrialCounts, cancelled, pretrained| counts.status(cancelled, pretrained);
        assert_eq!(status(TrialCounts { queued: 2, blocked: 3, ..none }, false, 0), JobStatus::Queued);
        assert_eq!(status(TrialCounts { running: 1, queued: 1, ..none }, false, 0), JobStatus::Running);
        assert_eq!(status(TrialCounts { succeeded: 1, queued: 1, ..none }, false, 0), JobStatus::Running);
        assert_eq!(status(TrialCounts { succeeded: 4, ..none }, false, 1), JobStatus::Succeeded);
        assert_eq!(status(TrialCounts { succeeded: 3, failed: 1, ..none }, false, 1), JobStatus::Partial);
        assert_eq!(status(TrialCounts { succeeded: 1, failed: 1, cancelled: 5, ..none }, false, 0), JobStatus::Failed);
        assert_eq!(status(TrialCounts { succeeded: 1, cancelled: 5, ..none }, true, 1), JobStatus::Cancelled);
        assert_eq!(
            status(TrialCounts { succeeded: 4, ..none }, true, 1),
            JobStatus::Succeeded,
            "cancelled after its end"
        );
        assert_eq!(
            status(TrialCounts { running: 1, cancelled: 5, ..none }, true, 1),
            JobStatus::Running,
            "not before the last trial has stopped"
        );
    }
}
