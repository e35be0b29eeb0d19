//! Trials move from one state to the next: locked, moved by [`State`], saved. No other statement writes a state.

use sqlx::PgConnection;

use super::text::storable;
use super::{Store, StoreError};
use crate::trial::{Refused, State, TrialState};
use protocol::id::{AttemptId, JobId, TrialId};

/// An open trial's state, locked until the transaction ends.
pub(super) struct Locked {
    pub(super) id: TrialId,
    pub(super) job: JobId,
    pub(super) state: State,
}

/// Reads and locks a trial's state; `None` if the trial has ended. Lock the trial's open attempt first, if it has one.
pub(super) async fn lock(connection: &mut PgConnection, id: TrialId) -> Result<Option<Locked>, StoreError> {
    let row = sqlx::query!(
        r#"select t.job_id as "job: JobId", t.state as "state: TrialState", t.waits_for as "waits_for: TrialId",
                  greatest(extract(epoch from t.ready_at - now()), 0)::float8 as after_seconds
           from trial t where t.id = $1 for update"#,
        id.0
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| StoreError::NotFound { what: "trial", id: id.to_string() })?;
    let missing = |column| StoreError::Row { table: "trial", column, id: id.to_string(), why: "it is null".into() };
    let state = match row.state {
        TrialState::Blocked => State::Blocked { waits_for: row.waits_for.ok_or_else(|| missing("waits_for"))? },
        TrialState::Queued => State::Queued { after_seconds: row.after_seconds.ok_or_else(|| missing("ready_at"))? },
        TrialState::Running => {
            let attempt = open_attempt(connection, id).await?;
            State::Running { attempt: attempt.ok_or_else(|| missing("attempt"))? }
        }
        TrialState::Paused => State::Paused,
        TrialState::Succeeded | TrialState::Failed | TrialState::Cancelled => return Ok(None),
    };
    Ok(Some(Locked { id, job: row.job, state }))
}

/// Must be called once the trial is locked: a statement that had to wait for the lock still sees the attempts as they were
/// before.
async fn open_attempt(connection: &mut PgConnection, trial: TrialId) -> Result<Option<AttemptId>, StoreError> {
    let attempt = sqlx::query_scalar!(
        r#"select id as "id: AttemptId" from attempt where trial_id = $1 and ended_at is null"#,
        trial.0
    );
    Ok(attempt.fetch_optional(connection).await?)
}

/// Trials in one statement.
const CHUNK: usize = 1000;

/// Writes the new states of trials that this transaction has locked.
pub(super) async fn save(connection: &mut PgConnection, states: &[(TrialId, State)]) -> Result<(), StoreError> {
    for chunk in states.chunks(CHUNK) {
        let (mut after, mut reports, mut kinds, mut messages) = (vec![], vec![], vec![], vec![]);
        for (id, state) in chunk {
            let (seconds, report, failure) = match state {
                State::Queued { after_seconds } => (Some(*after_seconds), None, None),
                State::Succeeded { report } => {
                    let report = serde_json::to_value(report).map_err(|error| {
                        StoreError::Internal(format!("the report of trial {id} cannot be stored: {error}"))
                    })?;
                    (None, Some(report), None)
                }
                State::Failed { failure } => (None, None, Some(failure)),
                State::Blocked { .. } | State::Running { .. } | State::Cancelled | State::Paused => (None, None, None),
            };
            after.push(seconds);
            reports.push(report);
            kinds.push(failure.map(|failure| failure.kind.name()));
            messages.push(failure.map(|failure| storable(&failure.message)));
        }
        let names: Vec<TrialState> = chunk.iter().map(|(_, state)| state.name()).collect();
        sqlx::query!(
            "update trial t
             set state = new.state, ready_at = now() + make_interval(secs => new.after), report = new.report,
                 failure_kind = new.failure_kind::failure_kind, failure_message = new.failure_message,
                 finished_at = case when new.ended then now() end,
                 started_at = case when new.state = 'running' then coalesce(t.started_at, now()) else t.started_at end
             from unnest($1::uuid[], $2::trial_state[], $3::float8[], $4::jsonb[], $5::text[], $6::text[], $7::bool[])
                  as new (id, state, after, report, failure_kind, failure_message, ended)
             where t.id = new.id",
            &chunk.iter().map(|(id, _)| id.0).collect::<Vec<_>>(),
            &names as _,
            &after as _,
            &reports as _,
            &kinds as _,
            &messages as _,
            &names.iter().map(|name| name.is_ended()).collect::<Vec<_>>()
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn transition(
    connection: &mut PgConnection,
    id: TrialId,
    next: fn(State) -> Result<State, Refused>,
) -> Result<(), StoreError> {
    let trial = lock(connection, id).await?;
    let trial = trial.ok_or_else(|| StoreError::Conflict(format!("trial {id} has ended and stays as it is")))?;
    save(connection, &[(id, next(trial.state)?)]).await
}

impl Store {
    /// Queues the trials that waited for a trial that succeeded, and cancels those that waited for one that never will. A
    /// pre-train trial whose budget is not settled stays blocked. Returns the number of trials that moved.
    pub(crate) async fn unblock_trials(&self) -> Result<usize, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let rows = sqlx::query!(
            r#"select t.id as "id: TrialId", p.id as "waits_for: TrialId", p.state as "awaited: TrialState"
               from trial t join trial p on p.id = t.waits_for
               where t.state = 'blocked' and p.state in ('succeeded', 'failed', 'cancelled')
                 and not (p.state = 'succeeded' and p.stage = 'timing' and t.total_steps is null)
               order by t.id for update of t"#
        )
        .fetch_all(&mut *transaction)
        .await?;
        let states =
            rows.into_iter().map(|row| Ok((row.id, State::Blocked { waits_for: row.waits_for }.unblock(row.awaited)?)));
        let states = states.collect::<Result<Vec<_>, StoreError>>()?;
        save(&mut transaction, &states).await?;
        transaction.commit().await?;
        Ok(states.len())
    }

    /// Cancels the open trials of cancelled jobs, or of one of them. A trial that was being placed when its job was
    /// cancelled, or that is queued again because its node was lost, is met by the next round. Returns the number of
    /// trials that ended.
    pub(crate) async fn cancel_trials(&self, job: Option<JobId>) -> Result<usize, StoreError> {
        let running = self.cancel_running(job).await?;
        Ok(running + self.cancel_idle(job).await?)
    }

    /// Closes the attempts first: their agents stop them at the next sync, and nothing more of them is accepted.
    async fn cancel_running(&self, job: Option<JobId>) -> Result<usize, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let rows = sqlx::query!(
            r#"with open as (
                   select a.id from attempt a join trial t on t.id = a.trial_id join job j on j.id = t.job_id
                   where j.cancelled_at is not null and j.ended_at is null and ($1::uuid is null or j.id = $1)
                     and a.ended_at is null
                   order by a.id for update of a
               )
               update attempt a set ended_at = now(), outcome = 'cancelled' from open where a.id = open.id
               returning a.id as "attempt: AttemptId", a.trial_id as "trial: TrialId""#,
            job.map(|id| id.0)
        )
        .fetch_all(&mut *transaction)
        .await?;
        let states = rows.into_iter().map(|row| Ok((row.trial, State::Running { attempt: row.attempt }.cancel()?)));
        let states = states.collect::<Result<Vec<_>, StoreError>>()?;
        save(&mut transaction, &states).await?;
        transaction.commit().await?;
        Ok(states.len())
    }

    async fn cancel_idle(&self, job: Option<JobId>) -> Result<usize, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let rows = sqlx::query!(
            r#"select t.id as "id: TrialId", t.state as "state: TrialState", t.waits_for as "waits_for: TrialId"
               from trial t join job j on j.id = t.job_id
               where j.cancelled_at is not null and j.ended_at is null and ($1::uuid is null or j.id = $1)
                 and t.state in ('blocked', 'queued', 'paused')
               order by t.id for update of t"#,
            job.map(|id| id.0)
        )
        .fetch_all(&mut *transaction)
        .await?;
        let states = rows.into_iter().map(|row| {
            let state = match row.state {
                TrialState::Paused => State::Paused,
                TrialState::Queued => State::Queued { after_seconds: 0.0 },
                _ => State::first(row.waits_for),
            };
            Ok((row.id, state.cancel()?))
        });
        let states = states.collect::<Result<Vec<_>, StoreError>>()?;
        save(&mut transaction, &states).await?;
        transaction.commit().await?;
        Ok(states.len())
    }

    /// Takes the trial out of the queue until it is resumed. A running trial is told to write a checkpoint and leave its
    /// slot.
    pub async fn pause(&self, id: TrialId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let interrupted = sqlx::query!(
            "update attempt set interrupt = true where trial_id = $1 and ended_at is null returning id",
            id.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if interrupted.is_none() {
            transition(&mut transaction, id, State::pause).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Queues a paused trial again.
    pub async fn resume(&self, id: TrialId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        transition(&mut transaction, id, State::resume).await?;
        transaction.commit().await?;
        Ok(())
    }
}
