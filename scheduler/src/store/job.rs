//! Jobs: submitted, listed, cancelled, and announced when their derived status changes.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use recipe::{Stage, Task, TrialSpec};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{BATCH, Store, StoreError, read};
use crate::expand::{Expansion, NewTrial};
use crate::job::{Job, JobSpec, JobStatus, JobSummary, TrialCounts, preregistration};
use crate::trial::{State, TrialState};
use protocol::id::{JobId, TokenId, TrialId};

/// An idempotency key: the client's promise that equal keys mean the same submission.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    pub token: TokenId,
    pub key: String,
    pub body_sha256: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    Created(JobId),
    /// The key was used before with the same body.
    Replayed(JobId),
    /// The key was used before with another body.
    KeyReused,
}

impl Store {
    /// Stores a job with all its trials, or nothing.
    pub async fn submit(
        &self,
        spec: &JobSpec,
        expansion: &Arc<Expansion>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Submitted, StoreError> {
        let id = JobId::new();
        let mut transaction = self.pool.begin().await?;
        let trials = Arc::new(NewTrials::new(expansion.clone()));
        let first = trials.counts();
        sqlx::query!(
            "insert into job (id, name, spec, trials, blocked, queued, work) values ($1, $2, $3, $4, $5, $6, $7)",
            id.0,
            spec.name,
            Json(spec) as _,
            first.total(),
            first.blocked,
            first.queued,
            trials.work()
        )
        .execute(&mut *transaction)
        .await?;
        if let Some(key) = key
            && !claim_key(&mut transaction, key, id).await?
        {
            transaction.rollback().await?;
            let earlier = self.replay(key).await?;
            return earlier.ok_or_else(|| StoreError::Conflict("the job under this key has just been removed".into()));
        }
        trials.insert(&mut transaction, id).await?;
        let announced = serde_json::json!({ "status": JobStatus::Queued });
        sqlx::query!("select append_event($1, null, null, null, 'job', $2)", id.0, announced)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Submitted::Created(id))
    }

    /// The earlier submission under this key, if there was one.
    pub async fn replay(&self, key: &IdempotencyKey) -> Result<Option<Submitted>, StoreError> {
        let row = sqlx::query!(
            r#"select body_sha256, job_id as "job: JobId" from idempotency_key where token_id = $1 and key = $2"#,
            key.token.0,
            key.key
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| {
            if row.body_sha256 == key.body_sha256 { Submitted::Replayed(row.job) } else { Submitted::KeyReused }
        }))
    }

    /// Jobs that were created before `before`, the newest first.
    pub async fn jobs(&self, limit: i64, before: Option<JobId>) -> Result<Vec<JobSummary>, StoreError> {
        let ids = sqlx::query_scalar!(
            "select id from job where $1::uuid is null or id < $1 order by id desc limit $2",
            before.map(|id| id.0),
            limit
        );
        let jobs = self.summaries(&ids.fetch_all(&self.pool).await?).await?;
        Ok(jobs.into_iter().map(|(summary, _)| summary).collect())
    }

    pub async fn job(&self, id: JobId) -> Result<Job, StoreError> {
        let job = self.summaries(&[id.0]).await?.pop();
        let (summary, spec) = job.ok_or_else(|| StoreError::NotFound { what: "job", id: id.to_string() })?;
        Ok(Job { summary, preregistration: preregistration(&spec), spec: read("job", "spec", id, spec)? })
    }

    /// The summaries of jobs with their specs. The specs are not deserialised, so that a spec of a later version breaks no list.
    async fn summaries(&self, ids: &[Uuid]) -> Result<Vec<(JobSummary, Value)>, StoreError> {
        let rows = sqlx::query!(
            r#"select j.id as "id: JobId", j.name, j.spec, j.created_at, j.cancelled_at, now() as "now!",
                      array(select arm ->> 'name' from jsonb_array_elements(j.spec -> 'arms') arm) as "arms!: Vec<String>",
                      coalesce(j.spec ->> 'baseline', j.spec #>> '{arms,0,name}', '') as "baseline!",
                      j.blocked, j.queued, j.running, j.succeeded, j.failed, j.cancelled, j.paused, j.useful,
                      j.work, j.ended_work, j.cancelled_work, j.started_at, j.finished_at,
                      coalesce(o.work, 0) as "open_work!"
               from job j
               -- The work that open attempts have done so far.
               cross join lateral (
                   select sum(r.work * least(1, a.step::float8 / nullif(r.total_steps, 0))) as work
                   from trial r join attempt a on a.trial_id = r.id and a.ended_at is null
                   where r.job_id = j.id and r.state = 'running'
               ) o
               where j.id = any($1)
               order by j.id desc"#,
            ids
        )
        .fetch_all(&self.pool)
        .await?;
        let summaries = rows.into_iter().map(|row| {
            let trials = TrialCounts {
                blocked: row.blocked,
                queued: row.queued,
                running: row.running,
                succeeded: row.succeeded,
                failed: row.failed,
                cancelled: row.cancelled,
                paused: row.paused,
            };
            let status = trials.status(row.cancelled_at.is_some(), row.useful);
            // A trial that waited for a failed one leaves nothing to do; one that a person cancelled leaves its work undone.
            let undone = if row.cancelled_at.is_some() { row.cancelled_work } else { 0.0 };
            let done = row.ended_work - undone + row.open_work;
            let progress = if row.work > 0.0 { (done / row.work).clamp(0.0, 1.0) } else { 1.0 };
            let summary = JobSummary {
                id: row.id,
                name: row.name,
                status,
                created_at: row.created_at,
                started_at: row.started_at,
                finished_at: row.finished_at.filter(|_| status.is_ended()),
                arms: row.arms,
                baseline: row.baseline,
                trials,
                progress,
                estimated_end: (status == JobStatus::Running)
                    .then(|| estimate(row.started_at, row.now, progress))
                    .flatten(),
            };
            (summary, row.spec)
        });
        Ok(summaries.collect())
    }

    /// Cancels the trials of a job that have not ended. Cancelling a job again changes nothing.
    ///
    /// Its open attempts are closed: their agents stop them at the next sync, and no later report of them is accepted.
    pub async fn cancel(&self, id: JobId) -> Result<Job, StoreError> {
        sqlx::query!(
            "update job set cancelled_at = coalesce(cancelled_at, now()) where id = $1 and ended_at is null",
            id.0
        )
        .execute(&self.pool)
        .await?;
        self.cancel_trials(id).await?;
        self.job(id).await
    }

    /// Writes an event for each change of a derived status, and notes the end of jobs. Returns the number of changed jobs.
    pub(crate) async fn announce_jobs(&self) -> Result<usize, StoreError> {
        let rows = sqlx::query!(
            r#"select j.id as "id: JobId", e.data ->> 'status' as status
               from job j left join lateral (
                   select data from event where job_id = j.id and kind = 'job' order by number desc limit 1
               ) e on true
               where j.ended_at is null"#
        )
        .fetch_all(&self.pool)
        .await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id.0).collect();
        let mut changed = 0;
        for (summary, _) in self.summaries(&ids).await? {
            let before = rows.iter().find(|row| row.id == summary.id).and_then(|row| row.status.as_deref());
            if before != Some(summary.status.name()) {
                changed += usize::from(self.announce_job(&summary, before).await?);
            }
        }
        Ok(changed)
    }

    /// Another server may announce the same change, so the job's row is locked and the last announced status compared again.
    async fn announce_job(&self, job: &JobSummary, before: Option<&str>) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query!("select id from job where id = $1 for update", job.id.0).fetch_one(&mut *transaction).await?;
        let now = sqlx::query_scalar!(
            "select data ->> 'status' from event where job_id = $1 and kind = 'job' order by number desc limit 1",
            job.id.0
        )
        .fetch_optional(&mut *transaction)
        .await?
        .flatten();
        if now.as_deref() != before {
            return Ok(false);
        }
        sqlx::query!(
            "select append_event($1, null, null, null, 'job', $2)",
            job.id.0,
            serde_json::json!({ "status": job.status, "trials": job.trials, "progress": job.progress })
        )
        .fetch_one(&mut *transaction)
        .await?;
        sqlx::query!("update job set ended_at = now() where id = $1 and $2", job.id.0, job.status.is_ended())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// The end of the remaining work at the mean speed since the first placement.
fn estimate(started: Option<DateTime<Utc>>, now: DateTime<Utc>, progress: f64) -> Option<DateTime<Utc>> {
    let elapsed = (now - started?).as_seconds_f64();
    let left = elapsed * (1.0 - progress) / progress;
    // A job that would take a century gets no estimate.
    let known = progress > 0.0 && (0.0..=3.2e9).contains(&left);
    known.then(|| now + chrono::TimeDelta::milliseconds((left * 1000.0) as i64))
}

async fn claim_key(connection: &mut PgConnection, key: &IdempotencyKey, job: JobId) -> Result<bool, StoreError> {
    let claimed = sqlx::query!(
        "insert into idempotency_key (token_id, key, body_sha256, job_id) values ($1, $2, $3, $4) on conflict do nothing",
        key.token.0,
        key.key,
        &key.body_sha256[..],
        job.0
    );
    Ok(claimed.execute(connection).await?.rows_affected() == 1)
}

/// A row of `trial`, as the statement below reads it from JSON.
#[derive(Serialize)]
struct TrialRow<'a> {
    id: TrialId,
    ordinal: usize,
    stage: Stage,
    arm: Option<&'a str>,
    task: Option<Task>,
    learning_rate: Option<f64>,
    spec: &'a TrialSpec,
    fingerprint: String,
    waits_for: Option<TrialId>,
    awaited: bool,
    work: f64,
    /// Absent for a pre-train trial whose steps the timing trial decides.
    total_steps: Option<u64>,
    state: TrialState,
}

/// The trials of a job that is submitted, with their ids.
struct NewTrials {
    expansion: Arc<Expansion>,
    /// By their place in the expansion.
    ids: Vec<TrialId>,
    /// Whether others wait for the trial, by its place in the expansion.
    awaited: Vec<bool>,
}

impl NewTrials {
    fn new(expansion: Arc<Expansion>) -> Self {
        let ids = expansion.trials.iter().map(|_| TrialId::new()).collect();
        let mut awaited = vec![false; expansion.trials.len()];
        for place in expansion.trials.iter().filter_map(|trial| trial.waits_for) {
            awaited[place] = true;
        }
        Self { expansion, ids, awaited }
    }

    fn waits_for(&self, trial: &NewTrial) -> Option<TrialId> {
        trial.waits_for.map(|place| self.ids[place])
    }

    fn counts(&self) -> TrialCounts {
        let mut counts = TrialCounts::default();
        for trial in &self.expansion.trials {
            *counts.of(State::first(self.waits_for(trial)).name()) += 1;
        }
        counts
    }

    /// Planned training FLOPs.
    fn work(&self) -> f64 {
        self.expansion.trials.iter().map(|trial| trial.work).sum()
    }

    fn row(&self, ordinal: usize) -> TrialRow<'_> {
        let trial = &self.expansion.trials[ordinal];
        let waits_for = self.waits_for(trial);
        TrialRow {
            id: self.ids[ordinal],
            ordinal,
            stage: trial.stage(),
            arm: trial.arm.as_deref(),
            task: trial.task,
            learning_rate: trial.learning_rate,
            spec: &trial.spec,
            fingerprint: trial.spec.recipe.fingerprint().to_string(),
            waits_for,
            awaited: self.awaited[ordinal],
            work: trial.work,
            total_steps: (trial.stage() != Stage::Pretrain || waits_for.is_none()).then_some(trial.total_steps),
            state: State::first(waits_for).name(),
        }
    }

    async fn insert(self: &Arc<Self>, connection: &mut PgConnection, job: JobId) -> Result<(), StoreError> {
        let count = self.ids.len();
        for start in (0..count).step_by(BATCH) {
            let trials = self.clone();
            // Fingerprints and JSON of many recipes take long, and this thread has other requests to serve.
            let chunk = spawn_blocking(move || {
                let rows: Vec<TrialRow<'_>> =
                    (start..count.min(start + BATCH)).map(|place| trials.row(place)).collect();
                serde_json::value::to_raw_value(&rows)
            });
            let failed =
                |why: String| StoreError::Internal(format!("the trials of job {job} cannot be written: {why}"));
            let chunk =
                chunk.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
            sqlx::query!(
                "insert into trial (id, job_id, ordinal, stage, arm, task, learning_rate, spec, fingerprint, waits_for,
                                    awaited, work, total_steps, state, ready_at)
                 select id, $1, ordinal, stage, arm, task, learning_rate, spec, fingerprint, waits_for, awaited, work,
                        total_steps, state, case when state = 'queued' then now() end
                 from jsonb_to_recordset($2) as new (
                     id uuid, ordinal integer, stage stage, arm text, task text, learning_rate float8, spec jsonb,
                     fingerprint text, waits_for uuid, awaited boolean, work float8, total_steps bigint, state trial_state
                 )",
                job.0,
                Json(chunk) as _
            )
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }
}
