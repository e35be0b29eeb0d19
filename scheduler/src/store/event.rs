//! Events of a job, for clients that follow it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text::storable_json;
use super::{Store, StoreError, signed, unsigned};
use protocol::SequencedEvent;
use protocol::id::{AttemptId, JobId, TrialId};
use recipe::Event;
use sqlx::PgConnection;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventRow {
    /// Counts 1, 2, 3 ... within the job.
    pub id: i64,
    pub trial: Option<TrialId>,
    pub attempt: Option<AttemptId>,
    /// `trial`, `job`, `started`, `evaluated`, `checkpointed`, `finished`, `failed`, `interrupted` or
    /// `checkpoint_forgotten`.
    pub kind: String,
    pub data: serde_json::Value,
    pub at: DateTime<Utc>,
}

/// The progress of a running trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    pub trial: TrialId,
    pub attempt: AttemptId,
    pub step: u64,
    pub total_steps: Option<u64>,
    pub trained_seconds: f64,
    /// The work before the first step, such as `tokenizing`; absent while the trial trains.
    pub phase: Option<String>,
}

impl Store {
    /// The job's events after number `after`, in order. An event that becomes visible later has a larger number.
    pub async fn events(&self, job: JobId, after: i64, limit: i64) -> Result<Vec<EventRow>, StoreError> {
        let rows = sqlx::query_as!(
            EventRow,
            r#"select number as id, trial_id as "trial: TrialId", attempt_id as "attempt: AttemptId",
                      kind::text as "kind!", data, at
               from event where job_id = $1 and number > $2 order by number limit $3"#,
            job.0,
            after,
            limit
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The progress of the job's running trials.
    pub async fn progress(&self, job: JobId) -> Result<Vec<Progress>, StoreError> {
        let rows = sqlx::query!(
            r#"select t.id as "trial: TrialId", a.id as "attempt: AttemptId", a.step, t.total_steps, a.trained_seconds,
                      a.phase
               from trial t join attempt a on a.trial_id = t.id and a.ended_at is null
               where t.job_id = $1 and t.state = 'running' order by t.ordinal"#,
            job.0
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Progress {
                trial: row.trial,
                attempt: row.attempt,
                step: unsigned(row.step),
                total_steps: row.total_steps.map(unsigned),
                trained_seconds: row.trained_seconds,
                phase: row.phase,
            })
            .collect())
    }
}

/// Appends a trainer's events to those of the job.
pub(super) async fn write_events(
    connection: &mut PgConnection,
    job: JobId,
    trial: TrialId,
    attempt: AttemptId,
    events: &[SequencedEvent],
) -> Result<(), StoreError> {
    for SequencedEvent { sequence, event } in events {
        let kind = match event {
            Event::Started { .. } => "started",
            Event::Evaluated { .. } => "evaluated",
            Event::Checkpointed { .. } => "checkpointed",
            Event::Finished { .. } => "finished",
            Event::Failed { .. } => "failed",
            Event::Interrupted { .. } => "interrupted",
            // Their numbers are metric points, and their step is a column of the attempt.
            Event::Preparing { .. } | Event::Progress { .. } => continue,
        };
        let mut data = serde_json::to_value(event).map_err(|error| {
            StoreError::Internal(format!("event {sequence} of attempt {attempt} cannot be stored: {error}"))
        })?;
        storable_json(&mut data);
        sqlx::query!(
            "select append_event($1, $2, $3, $4, $5::text::event_kind, $6)",
            job.0,
            trial.0,
            attempt.0,
            signed(*sequence),
            kind,
            data
        )
        .fetch_one(&mut *connection)
        .await?;
    }
    Ok(())
}
