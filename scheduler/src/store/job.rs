//! Jobs: submitted, listed, cancelled, and announced when their derived status changes.

use chrono::{DateTime, Utc};
use recipe::Stage;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Store, StoreError, read};
use crate::expand::{Expansion, NewTrial};
use protocol::id::{JobId, TokenId, TrialId};
use crate::job::{Job, JobSpec, JobStatus, JobSummary, TrialCounts};

/// A client's promise that equal keys mean the same submission.
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
        expansion: &Expansion,
        key: Option<&IdempotencyKey>,
    ) -> Result<Submitted, StoreError> {
        let id = JobId::new();
        let mut transaction = self.pool.begin().await?;
        sqlx::query!("insert into job (id, name, spec) values ($1, $2, $3)", id.0, spec.name, Json(spec) as _)
            .execute(&mut *transaction)
            .await?;
        if let Some(key) = key
            && !claim_key(&mut transaction, key, id).await?
        {
            transaction.rollback().await?;
            let earlier = self.replay(key).await?;
            return earlier.ok_or_else(|| StoreError::Conflict("the job under this key has just been removed".into()));
        }
        insert_trials(&mut transaction, id, &expansion.trials).await?;
        let announced = serde_json::json!({ "status": JobStatus::Queued });
        sqlx::query!("select append_event($1, null, null, null, 'job', $2)", id.0, announced)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Submitted::Created(id))
    }

    /// What was submitted under the key before, if anything was.
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

    /// Jobs made before `before`, the newest first.
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
        Ok(Job { summary, spec: read("job", "spec", id, spec)? })
    }

    /// With the specs, of which none is read: one that a later version wrote is to hold no list up.
    async fn summaries(&self, ids: &[Uuid]) -> Result<Vec<(JobSummary, Value)>, StoreError> {
        let rows = sqlx::query!(
            r#"select j.id as "id: JobId", j.name, j.spec, j.created_at, j.cancelled_at, now() as "now!",
                      array(select arm ->> 'name' from jsonb_array_elements(j.spec -> 'arms') arm) as "arms!: Vec<String>",
                      coalesce(j.spec ->> 'baseline', j.spec #>> '{arms,0,name}', '') as "baseline!",
                      t.blocked as "blocked!", t.queued as "queued!", t.running as "running!",
                      t.succeeded as "succeeded!", t.failed as "failed!", t.cancelled as "cancelled!",
                      t.paused as "paused!", t.useful as "useful!", t.work as "work!", t.ended_work as "ended_work!",
                      t.started_at, t.finished_at, coalesce(o.work, 0) as "open_work!"
               from job j
               cross join lateral (
                   select count(*) filter (where state = 'blocked') as blocked,
                          count(*) filter (where state = 'queued') as queued,
                          count(*) filter (where state = 'running') as running,
                          count(*) filter (where state = 'succeeded') as succeeded,
                          count(*) filter (where state = 'failed') as failed,
                          count(*) filter (where state = 'cancelled') as cancelled,
                          count(*) filter (where state = 'paused') as paused,
                          count(*) filter (where state = 'succeeded' and waits_for is null) as useful,
                          coalesce(sum(work), 0) as work,
                          coalesce(sum(work) filter (where finished_at is not null), 0) as ended_work,
                          min(started_at) as started_at, max(finished_at) as finished_at
                   from trial where job_id = j.id
               ) t
               -- What the open attempts have done of their trials.
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
            let counts = TrialCounts {
                blocked: row.blocked,
                queued: row.queued,
                running: row.running,
                succeeded: row.succeeded,
                failed: row.failed,
                cancelled: row.cancelled,
                paused: row.paused,
            };
            let status = counts.status(row.cancelled_at.is_some(), row.useful);
            let done = row.ended_work + row.open_work;
            let progress = if row.work > 0.0 { (done / row.work).clamp(0.0, 1.0) } else { 1.0 };
            let summary = JobSummary {
                id: row.id,
                name: row.name,
                status,
                created_at: row.created_at,
                finished_at: row.finished_at.filter(|_| status.is_ended()),
                arms: row.arms,
                baseline: row.baseline,
                trials: counts,
                progress,
                estimated_end: (status == JobStatus::Running)
                    .then(|| estimate(row.started_at, row.now, progress))
                    .flatten(),
            };
            (summary, row.spec)
        });
        Ok(summaries.collect())
    }

    /// Cancels what of the job has not ended. Cancelling it again changes nothing.
    ///
    /// Its attempts are closed: their agents stop them at the next sync, and nothing more of them is accepted.
    pub async fn cancel(&self, id: JobId) -> Result<Job, StoreError> {
        sqlx::query!(
            "update job set cancelled_at = coalesce(cancelled_at, now()) where id = $1 and ended_at is null",
            id.0
        )
        .execute(&self.pool)
        .await?;
        self.cancel_trials(Some(id)).await?;
        self.job(id).await
    }

    /// Ends what is left of cancelled jobs (or of one). Nothing of theirs is placed any more; what was being placed when
    /// the job was cancelled, or is queued again because its node was lost, is met by the next round. Returns how many
    /// trials ended.
    pub(crate) async fn cancel_trials(&self, job: Option<JobId>) -> Result<u64, StoreError> {
        let job = job.map(|id| id.0);
        let idle = sqlx::query!(
            "with open as (
                 select t.id from trial t join job j on j.id = t.job_id
                 where j.cancelled_at is not null and j.ended_at is null and ($1::uuid is null or j.id = $1)
                   and t.state in ('blocked', 'queued', 'paused')
                 order by t.id for update of t
             )
             update trial t set state = 'cancelled', finished_at = now(), ready_at = null from open where t.id = open.id",
            job
        )
        .execute(&self.pool)
        .await?;
        let running = sqlx::query!(
            "with open as (
                 select a.id from attempt a join trial t on t.id = a.trial_id join job j on j.id = t.job_id
                 where j.cancelled_at is not null and j.ended_at is null and ($1::uuid is null or j.id = $1)
                   and a.ended_at is null
                 order by a.id for update of a
             ), closed as (
                 update attempt a set ended_at = now(), outcome = 'cancelled' from open where a.id = open.id
                 returning a.trial_id
             )
             update trial t set state = 'cancelled', finished_at = now() from closed
             where t.id = closed.trial_id and t.state = 'running'",
            job
        )
        .execute(&self.pool)
        .await?;
        Ok(idle.rows_affected() + running.rows_affected())
    }

    /// Says each change of a derived status as an event, and notes the end of jobs. Returns how many had changed.
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

    /// Another server may be announcing the same change: the job's row is locked, and then it must still be news.
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

/// When the rest is done if it goes as fast as what was done since the first placement.
fn estimate(started: Option<DateTime<Utc>>, now: DateTime<Utc>, progress: f64) -> Option<DateTime<Utc>> {
    let elapsed = (now - started?).as_seconds_f64();
    let left = elapsed * (1.0 - progress) / progress;
    // A century is as good as never.
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

/// Rows in one statement.
const CHUNK: usize = 1000;

/// Those of a pre-train trial that waits for a timing trial are not known yet.
fn total_steps(trial: &NewTrial) -> Option<i64> {
    let known = trial.stage() != Stage::Pretrain || trial.waits_for.is_none();
    known.then(|| super::signed(trial.total_steps))
}

async fn insert_trials(connection: &mut PgConnection, job: JobId, trials: &[NewTrial]) -> Result<(), StoreError> {
    let ids: Vec<TrialId> = trials.iter().map(|_| TrialId::new()).collect();
    let ordinals: Vec<i32> = (0i32..).take(trials.len()).collect();
    for start in (0..trials.len()).step_by(CHUNK) {
        let chunk = start..trials.len().min(start + CHUNK);
        let column = |value: &dyn Fn(&NewTrial) -> Option<String>| -> Vec<Option<String>> {
            trials[chunk.clone()].iter().map(value).collect()
        };
        let waits: Vec<Option<Uuid>> =
            trials[chunk.clone()].iter().map(|trial| trial.waits_for.map(|source| ids[source].0)).collect();
        sqlx::query!(
            r#"insert into trial (id, job_id, ordinal, stage, arm, task, learning_rate, spec, fingerprint, waits_for, work,
                                  total_steps, state, ready_at)
               select id, $1, ordinal, stage::stage, arm, task, learning_rate, spec, fingerprint, waits_for, work,
                      total_steps,
                      (case when waits_for is null then 'queued' else 'blocked' end)::trial_state,
                      case when waits_for is null then now() end
               from unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::jsonb[],
                           $9::text[], $10::uuid[], $11::float8[], $12::bigint[])
                    as new (id, ordinal, stage, arm, task, learning_rate, spec, fingerprint, waits_for, work, total_steps)"#,
            job.0,
            &ids[chunk.clone()].iter().map(|id| id.0).collect::<Vec<_>>(),
            &ordinals[chunk.clone()],
            &trials[chunk.clone()].iter().map(|trial| trial.stage().name().to_owned()).collect::<Vec<_>>(),
            &column(&|trial| trial.arm.clone()) as _,
            &column(&|trial| trial.task.map(|task| task.name().to_owned())) as _,
            &trials[chunk.clone()].iter().map(|trial| trial.learning_rate).collect::<Vec<_>>() as _,
            &trials[chunk.clone()].iter().map(|trial| Json(&trial.spec)).collect::<Vec<_>>() as _,
            &trials[chunk.clone()].iter().map(|trial| trial.spec.recipe.fingerprint().to_string()).collect::<Vec<_>>(),
            &waits as _,
            &trials[chunk.clone()].iter().map(|trial| trial.work).collect::<Vec<_>>(),
            &trials[chunk.clone()].iter().map(total_steps).collect::<Vec<_>>() as _
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
