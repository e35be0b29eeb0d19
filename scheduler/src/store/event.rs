//! Events, for whoever watches a job.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Store, StoreError, unsigned};
use protocol::id::{AttemptId, JobId, TrialId};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventRow {
    /// 1, 2, 3 ... within the job.
    pub id: i64,
    pub trial: Option<TrialId>,
    pub attempt: Option<AttemptId>,
    /// `trial`, `job`, `started`, `evaluated`, `checkpointed`, `finished`, `failed`, `interrupted` or
    /// `checkpoint_forgotten`.
    pub kind: String,
    pub data: serde_json::Value,
    pub at: DateTime<Utc>,
}

/// Where a running trial stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    pub trial: TrialId,
    pub attempt: AttemptId,
    pub step: u64,
    pub total_steps: Option<u64>,
    pub trained_seconds: f64,
    /// What it does before its first step.
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

    /// Where the job's running trials stand.
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
