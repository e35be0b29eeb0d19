//! Trials: listed, read with their state, and moved from one state to the next.

use chrono::{DateTime, Utc};
use recipe::{Recipe, Stage, TrialSpec};
use report::{TrialEnd, TrialFacts, TrialStatus};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Store, StoreError, read, read_failure, unsigned};
use protocol::id::{AttemptId, JobId, TrialId};
use crate::trial::{State, TrialFilter, TrialState, TrialView};

struct TrialRow {
    id: TrialId,
    job: JobId,
    ordinal: i32,
    stage: String,
    arm: Option<String>,
    task: Option<String>,
    learning_rate: Option<f64>,
    spec: serde_json::Value,
    fingerprint: String,
    waits_for: Option<TrialId>,
    state: TrialState,
    total_steps: Option<i64>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    failure_kind: Option<String>,
    failure_message: Option<String>,
    report: Option<serde_json::Value>,
    attempts: i64,
    step: Option<i64>,
    trained_seconds: Option<f64>,
    attempt_seconds: Option<f64>,
    node: Option<String>,
    slot: Option<i32>,
    device: Option<serde_json::Value>,
    estimated_end: Option<DateTime<Utc>>,
    pending_reason: Option<String>,
}

impl Store {
    /// The job's trials in the order of its expansion, those after `after`.
    pub async fn trials(
        &self,
        job: JobId,
        filter: &TrialFilter,
        limit: i64,
        after: Option<TrialId>,
    ) -> Result<Vec<TrialView>, StoreError> {
        self.trial_rows(Some(job), None, filter, limit, after).await?.into_iter().map(TrialRow::view).collect()
    }

    pub async fn trial(&self, id: TrialId) -> Result<TrialView, StoreError> {
        let row = self.trial_rows(None, Some(id), &TrialFilter::default(), 1, None).await?.pop();
        row.ok_or_else(|| StoreError::NotFound { what: "trial", id: id.to_string() })?.view()
    }

    /// What the report of a job is computed from: all its trials.
    pub async fn facts(&self, job: JobId) -> Result<Vec<TrialFacts>, StoreError> {
        let rows = self.trial_rows(Some(job), None, &TrialFilter::default(), i64::MAX, None).await?;
        rows.into_iter().map(TrialRow::facts).collect()
    }

    async fn trial_rows(
        &self,
        job: Option<JobId>,
        id: Option<TrialId>,
        filter: &TrialFilter,
        limit: i64,
        after: Option<TrialId>,
    ) -> Result<Vec<TrialRow>, StoreError> {
        // The page is cut first, so that only its trials' attempts are looked at.
        let rows = sqlx::query_as!(
            TrialRow,
            r#"with page as (
                   select * from trial
                   where (job_id = $1 or id = $2)
                     and ($3::text is null or stage = $3::stage)
                     and ($4::text is null or arm = $4)
                     and ($5::trial_state is null or state = $5)
                     and ordinal > coalesce((select ordinal from trial where id = $6), -1)
                   order by ordinal limit $7
               ), room as (
                   select count(*) as nodes from node where last_seen_at > now() - interval '1 minute' and not leaving
               )
               select t.id as "id: TrialId", t.job_id as "job: JobId", t.ordinal, t.stage::text as "stage!", t.arm, t.task,
                      t.learning_rate, t.spec, t.fingerprint, t.waits_for as "waits_for: TrialId",
                      t.state as "state: TrialState", t.total_steps, t.created_at, t.started_at, t.finished_at,
                      t.failure_kind::text as failure_kind, t.failure_message, t.report,
                      coalesce(n.attempts, 0) as "attempts!", a.step as "step?", a.trained_seconds as "trained_seconds?",
                      n.seconds as attempt_seconds, d.name as "node?", a.slot as "slot?", a.device,
                      case when t.state = 'running' and a.step > coalesce(a.resumed_from, 0) and t.total_steps >= a.step
                           then now() + (now() - a.started_at) * (t.total_steps - a.step)
                                        / (a.step - coalesce(a.resumed_from, 0))
                      end as estimated_end,
                      case when t.state = 'blocked' then
                               'waits for ' || case w.stage when 'timing' then 'the timing' else 'its pre-train' end || ' trial, which is ' || w.state
                           when t.state = 'queued' and t.ready_at > now() then
                               'attempt ' || n.attempts || ' ended as ' || a.outcome || coalesce(' (' || a.failure_kind || ')', '')
                               || '; the next one starts at ' || to_char(t.ready_at at time zone 'utc', 'HH24:MI:SS') || ' UTC'
                           when t.state = 'queued' and room.nodes = 0 then 'no node is connected'
                           when t.state = 'queued' and t.stage = 'timing' then 'waits for a node on which nothing else runs'
                           when t.state = 'queued' then 'waits for a free slot'
                           when t.state = 'paused' then 'paused'
                           when t.state = 'cancelled' and w.state in ('failed', 'cancelled') then
                               case w.stage when 'timing' then 'the timing' else 'its pre-train' end || ' trial is ' || w.state
                      end as pending_reason
               from page t
               cross join room
               left join lateral (
                   select count(*) as attempts,
                          extract(epoch from sum(coalesce(ended_at, now()) - placed_at))::float8 as seconds
                   from attempt where trial_id = t.id
               ) n on true
               left join lateral (select * from attempt where trial_id = t.id order by number desc limit 1) a on true
               left join node d on d.id = a.node_id
               left join trial w on w.id = t.waits_for
               order by t.ordinal"#,
            job.map(|id| id.0),
            id.map(|id| id.0),
            filter.stage.map(Stage::name),
            filter.arm,
            filter.state as _,
            after.map(|id| id.0),
            limit
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}

impl TrialRow {
    fn view(self) -> Result<TrialView, StoreError> {
        let spec: TrialSpec = read("trial", "spec", self.id, self.spec)?;
        Ok(TrialView {
            id: self.id,
            job: self.job,
            stage: read("trial", "stage", self.id, self.stage.into())?,
            arm: self.arm,
            task: self.task,
            learning_rate: self.learning_rate,
            keep: match &spec.recipe {
                Recipe::Finetune(recipe) => Some(recipe.keep),
                Recipe::Timing(_) | Recipe::Pretrain(_) | Recipe::Probe(_) => None,
            },
            seeds: spec.seeds,
            state: self.state,
            waits_for: self.waits_for,
            pending_reason: self.pending_reason,
            step: unsigned(self.step.unwrap_or(0)),
            total_steps: self.total_steps.map(unsigned),
            trained_seconds: self.trained_seconds.unwrap_or(0.0),
            estimated_end: self.estimated_end,
            fingerprint: self.fingerprint,
            attempts: self.attempts as u32,
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            failure: read_failure("trial", self.id, self.failure_kind, self.failure_message)?,
            report: self.report.map(|report| read("trial", "report", self.id, report)).transpose()?,
            node: self.node,
            slot: self.slot.map(|slot| slot as u32),
        })
    }

    fn facts(self) -> Result<TrialFacts, StoreError> {
        let failure = read_failure("trial", self.id, self.failure_kind, self.failure_message)?;
        let status = match (self.state, self.report, failure) {
            (TrialState::Succeeded, Some(report), _) => {
                TrialStatus::Ended(TrialEnd::Succeeded(read("trial", "report", self.id, report)?))
            }
            (TrialState::Failed, _, Some(failure)) => TrialStatus::Ended(TrialEnd::Failed(failure)),
            (TrialState::Cancelled, ..) => TrialStatus::Cancelled,
            // The database ties a report to success and a failure to failing, so every other trial has not ended.
            _ => TrialStatus::Unfinished,
        };
        Ok(TrialFacts {
            id: self.id,
            waits_for: self.waits_for,
            arm: self.arm,
            spec: read("trial", "spec", self.id, self.spec)?,
            device: self.device.map(|device| read("attempt", "device", self.id, device)).transpose()?,
            status,
        })
    }
}

/// A trial's state, locked until the transaction ends.
pub(super) struct Locked {
    pub(super) id: TrialId,
    pub(super) job: JobId,
    pub(super) state: State,
}

/// Reads and locks a trial's state. Its attempt is locked before it, where there is one.
pub(super) async fn lock(connection: &mut PgConnection, id: TrialId) -> Result<Locked, StoreError> {
    let row = sqlx::query!(
        r#"select t.job_id as "job: JobId", t.state as "state: TrialState", t.waits_for as "waits_for: TrialId",
                  coalesce(extract(epoch from t.ready_at - now()), 0)::float8 as "after_seconds!",
                  t.failure_kind::text as failure_kind, t.failure_message, t.report
           from trial t where t.id = $1 for update"#,
        id.0
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| StoreError::NotFound { what: "trial", id: id.to_string() })?;
    let missing = |column| StoreError::Row { table: "trial", column, id: id.to_string(), why: "it is null".into() };
    let state = match row.state {
        TrialState::Blocked => State::Blocked { waits_for: row.waits_for.ok_or_else(|| missing("waits_for"))? },
        TrialState::Queued => State::Queued { after_seconds: row.after_seconds.max(0.0) },
        TrialState::Running => {
            let attempt = open_attempt(connection, id).await?;
            State::Running { attempt: attempt.ok_or_else(|| missing("attempt"))? }
        }
        TrialState::Succeeded => {
            let report = row.report.ok_or_else(|| missing("report"))?;
            State::Succeeded { report: Box::new(read("trial", "report", id, report)?) }
        }
        TrialState::Failed => {
            let failure = read_failure("trial", id, row.failure_kind, row.failure_message)?;
            State::Failed { failure: failure.ok_or_else(|| missing("failure_kind"))? }
        }
        TrialState::Cancelled => State::Cancelled,
        TrialState::Paused => State::Paused,
    };
    Ok(Locked { id, job: row.job, state })
}

/// Asked only once the trial is locked: a statement that had to wait for the lock still sees the attempts as they were.
async fn open_attempt(connection: &mut PgConnection, trial: TrialId) -> Result<Option<AttemptId>, StoreError> {
    let attempt = sqlx::query_scalar!(
        r#"select id as "id: AttemptId" from attempt where trial_id = $1 and ended_at is null"#,
        trial.0
    );
    Ok(attempt.fetch_optional(connection).await?)
}

/// Writes the state that follows from a locked one.
pub(super) async fn save(connection: &mut PgConnection, id: TrialId, state: &State) -> Result<(), StoreError> {
    let (after, report, failure) = match state {
        State::Queued { after_seconds } => (Some(*after_seconds), None, None),
        State::Succeeded { report } => (None, Some(Json(report.as_ref())), None),
        State::Failed { failure } => (None, None, Some(failure)),
        State::Blocked { .. } | State::Running { .. } | State::Cancelled | State::Paused => (None, None, None),
    };
    let name = state.name();
    sqlx::query!(
        "update trial
         set state = $2, ready_at = now() + make_interval(secs => $3), report = $4, failure_kind = $5::text::failure_kind,
             failure_message = $6, finished_at = case when $7 then now() end,
             started_at = case when $8 then coalesce(started_at, now()) else started_at end
         where id = $1",
        id.0,
        name as TrialState,
        after,
        report as _,
        failure.map(|failure| failure.kind.name()),
        failure.map(|failure| failure.message.as_str()),
        name.is_ended(),
        name == TrialState::Running
    )
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// Queues what waited for a trial that succeeded, and cancels what waited for one that never will. A pre-train trial
    /// whose budget is not settled stays where it is.
    pub(crate) async fn release_waiting(&self) -> Result<u64, StoreError> {
        let moved = sqlx::query!(
            "with waiting as (
                 select t.id, p.state as source from trial t join trial p on p.id = t.waits_for
                 where t.state = 'blocked' and p.state in ('succeeded', 'failed', 'cancelled')
                   and not (p.state = 'succeeded' and p.stage = 'timing' and t.total_steps is null)
                 order by t.id for update of t
             )
             update trial t
             set state = (case source when 'succeeded' then 'queued' else 'cancelled' end)::trial_state,
                 ready_at = case source when 'succeeded' then now() end,
                 finished_at = case source when 'succeeded' then null else now() end
             from waiting where t.id = waiting.id"
        );
        Ok(moved.execute(&self.pool).await?.rows_affected())
    }

    /// Takes the trial out of the queue until it is resumed. One that runs is asked to write a checkpoint and leave.
    pub async fn pause(&self, id: TrialId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let asked = sqlx::query!(
            "update attempt set interrupt = true where trial_id = $1 and ended_at is null returning id",
            id.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if asked.is_none() {
            let trial = lock(&mut transaction, id).await?;
            let state = trial.state.pause().map_err(|refused| StoreError::Conflict(refused.to_string()))?;
            save(&mut transaction, id, &state).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Queues a paused trial again.
    pub async fn resume(&self, id: TrialId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let trial = lock(&mut transaction, id).await?;
        let state = trial.state.resume().map_err(|refused| StoreError::Conflict(refused.to_string()))?;
        save(&mut transaction, id, &state).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Ids of all trials of a job by place in its expansion.
    pub async fn trial_ids(&self, job: JobId) -> Result<Vec<TrialId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar!("select id from trial where job_id = $1 order by ordinal", job.0)
            .fetch_all(&self.pool)
            .await?;
        Ok(ids.into_iter().map(TrialId).collect())
    }
}
