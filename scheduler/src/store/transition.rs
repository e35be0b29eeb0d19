//! Trials move from one state to the next: locked, moved by [`State`], saved. No other statement writes a state.

use sqlx::PgConnection;

use super::text::storable;
use super::{BATCH, Store, StoreError};
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

/// The change of a trial's state.
pub(super) struct Change {
    id: TrialId,
    from: TrialState,
    to: State,
}

impl Change {
    /// The change that `next` makes of `from`.
    pub(super) fn new(
        id: TrialId,
        from: State,
        next: impl FnOnce(State) -> Result<State, Refused>,
    ) -> Result<Self, Refused> {
        Ok(Self { id, from: from.name(), to: next(from)? })
    }
}

/// Writes the new states of trials that this transaction has locked, an event for each, and the sums over the trials of a
/// job. This locks the job's row, so nothing but the commit should follow.
pub(super) async fn save(connection: &mut PgConnection, changes: &[Change]) -> Result<(), StoreError> {
    for chunk in changes.chunks(BATCH) {
        let (mut after, mut reports, mut kinds, mut messages) = (vec![], vec![], vec![], vec![]);
        for Change { id, to, .. } in chunk {
            let (seconds, report, failure) = match to {
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
        let from: Vec<TrialState> = chunk.iter().map(|change| change.from).collect();
        let names: Vec<TrialState> = chunk.iter().map(|change| change.to.name()).collect();
        sqlx::query!(
            "with changed as (
                 update trial t
                 set state = new.state, ready_at = now() + make_interval(secs => new.after), report = new.report,
                     failure_kind = new.failure_kind::failure_kind, failure_message = new.failure_message,
                     finished_at = case when new.ended then now() end,
                     started_at = case when new.state = 'running' then coalesce(t.started_at, now()) else t.started_at end
                 from unnest($1::uuid[], $2::trial_state[], $3::trial_state[], $4::float8[], $5::jsonb[], $6::text[],
                             $7::text[], $8::bool[])
                      as new (id, before, state, after, report, failure_kind, failure_message, ended)
                 where t.id = new.id
                 returning t.job_id, t.ordinal, t.id, new.before, t.state, t.waits_for, t.work, t.started_at, t.finished_at
             ), sums as (
                 select job_id, count(*) as changes,
                        sum((state = 'blocked')::int - (before = 'blocked')::int) as blocked,
                        sum((state = 'queued')::int - (before = 'queued')::int) as queued,
                        sum((state = 'running')::int - (before = 'running')::int) as running,
                        sum((state = 'succeeded')::int - (before = 'succeeded')::int) as succeeded,
                        sum((state = 'failed')::int - (before = 'failed')::int) as failed,
                        sum((state = 'cancelled')::int - (before = 'cancelled')::int) as cancelled,
                        sum((state = 'paused')::int - (before = 'paused')::int) as paused,
                        count(*) filter (where state = 'succeeded' and waits_for is null) as useful,
                        coalesce(sum(work) filter (where finished_at is not null), 0) as ended_work,
                        coalesce(sum(work) filter (where state = 'cancelled'), 0) as cancelled_work,
                        min(started_at) as started_at, max(finished_at) as finished_at
                 from changed group by job_id
             ), numbered as (
                 update job j
                 set events = j.events + s.changes, blocked = j.blocked + s.blocked, queued = j.queued + s.queued,
                     running = j.running + s.running, succeeded = j.succeeded + s.succeeded, failed = j.failed + s.failed,
                     cancelled = j.cancelled + s.cancelled, paused = j.paused + s.paused, useful = j.useful + s.useful,
                     ended_work = j.ended_work + s.ended_work, cancelled_work = j.cancelled_work + s.cancelled_work,
                     started_at = coalesce(j.started_at, s.started_at),
                     finished_at = greatest(j.finished_at, s.finished_at)
                 from sums s
                 where j.id = s.job_id
                 returning j.id, j.events - s.changes as earlier
             )
             insert into event (job_id, number, trial_id, kind, data)
             select c.job_id, n.earlier + row_number() over (partition by c.job_id order by c.ordinal), c.id, 'trial',
                    jsonb_build_object('from', c.before, 'state', c.state)
             from changed c join numbered n on n.id = c.job_id",
            &chunk.iter().map(|change| change.id.0).collect::<Vec<_>>(),
            &from as _,
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
    save(connection, &[Change::new(id, trial.state, next)?]).await
}

/// A batch of trials that were cancelled.
struct Batch {
    ended: usize,
    /// The ordinal of the last one; `None` if there was no trial left.
    last: Option<i32>,
}

impl Store {
    /// Queues the trials that waited for a trial that succeeded, and cancels those that waited for one that never will. A
    /// pre-train trial whose budget is not settled stays blocked. A call moves the first [`BATCH`] trials that wait for each
    /// trial, so that placements are not held up; the events of their moves bring on the next round. Returns the number of
    /// trials that moved.
    pub(crate) async fn unblock_trials(&self) -> Result<usize, StoreError> {
        // No trial begins to wait after the submission, so this is final.
        sqlx::query!(
            "update trial set awaited = false where id in (
                 select p.id from trial p
                 where p.awaited and p.state in ('succeeded', 'failed', 'cancelled')
                   and not exists (select from trial where waits_for = p.id and state = 'blocked')
                 order by p.id for update skip locked
             )"
        )
        .execute(&self.pool)
        .await?;
        let awaited = sqlx::query!(
            r#"select id as "id: TrialId", state as "state: TrialState", stage = 'timing' as "is_timing!" from trial
               where awaited and state in ('succeeded', 'failed', 'cancelled') order by id limit $1"#,
            BATCH as i64
        )
        .fetch_all(&self.pool)
        .await?;
        let mut moved = 0;
        for trial in awaited {
            moved += self.unblock_batch(trial.id, trial.state, trial.is_timing).await?;
        }
        Ok(moved)
    }

    async fn unblock_batch(
        &self,
        waits_for: TrialId,
        awaited: TrialState,
        is_timing: bool,
    ) -> Result<usize, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let ids = sqlx::query_scalar!(
            r#"select id as "id: TrialId" from trial
               where waits_for = $1 and state = 'blocked' and (not $2 or total_steps is not null)
               order by id limit $3 for update"#,
            waits_for.0,
            is_timing && awaited == TrialState::Succeeded,
            BATCH as i64
        )
        .fetch_all(&mut *transaction)
        .await?;
        let changes =
            ids.into_iter().map(|id| Change::new(id, State::Blocked { waits_for }, |state| state.unblock(awaited)));
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        save(&mut transaction, &changes).await?;
        transaction.commit().await?;
        Ok(changes.len())
    }

    /// Cancels all open trials of a cancelled job: first those that run, whose agents are told at once, then the others, a
    /// batch in each transaction.
    pub(super) async fn cancel_trials(&self, job: JobId) -> Result<(), StoreError> {
        self.cancel_running(job).await?;
        let mut batch = self.cancel_idle(job, -1).await?;
        while let Some(last) = batch.last {
            batch = self.cancel_idle(job, last).await?;
        }
        Ok(())
    }

    /// Cancels open trials of cancelled jobs: all that run, and a batch of the others. It finds those whose cancel was broken
    /// off, those that were being placed when their job was cancelled, and those that are queued again because their node
    /// was lost. Returns the number of trials that ended; while there is one, the next round finds the next batch.
    pub(crate) async fn cancel_leftovers(&self) -> Result<usize, StoreError> {
        let jobs = sqlx::query_scalar!(
            r#"select id as "id: JobId" from job where cancelled_at is not null and ended_at is null order by id"#
        );
        let mut ended = 0;
        for job in jobs.fetch_all(&self.pool).await? {
            ended += self.cancel_running(job).await? + self.cancel_idle(job, -1).await?.ended;
        }
        Ok(ended)
    }

    /// Closes the attempts first: their agents stop them at the next sync, and nothing more of them is accepted.
    async fn cancel_running(&self, job: JobId) -> Result<usize, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let rows = sqlx::query!(
            r#"with open as (
                   select a.id from attempt a join trial t on t.id = a.trial_id join job j on j.id = t.job_id
                   where j.cancelled_at is not null and j.ended_at is null and j.id = $1 and t.state = 'running'
                     and a.ended_at is null
                   order by a.id for update of a
               )
               update attempt a set ended_at = now(), outcome = 'cancelled' from open where a.id = open.id
               returning a.id as "attempt: AttemptId", a.trial_id as "trial: TrialId""#,
            job.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        let changes = rows
            .into_iter()
            .map(|row| Change::new(row.trial, State::Running { attempt: row.attempt }, State::cancel))
            .collect::<Result<Vec<_>, _>>()?;
        save(&mut transaction, &changes).await?;
        transaction.commit().await?;
        Ok(changes.len())
    }

    /// Cancels a batch of the trials that do not run, of those whose ordinal is greater than `after`.
    async fn cancel_idle(&self, job: JobId, after: i32) -> Result<Batch, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let rows = sqlx::query!(
            r#"select t.id as "id: TrialId", t.ordinal, t.state as "state: TrialState", t.waits_for as "waits_for: TrialId"
               from trial t join job j on j.id = t.job_id
               where j.cancelled_at is not null and j.ended_at is null and j.id = $1 and t.ordinal > $2
                 and t.state in ('blocked', 'queued', 'paused')
               order by t.ordinal limit $3 for update of t"#,
            job.0,
            after,
            BATCH as i64
        )
        .fetch_all(&mut *transaction)
        .await?;
        let last = rows.last().map(|row| row.ordinal);
        let changes = rows.into_iter().map(|row| {
            let state = match row.state {
                TrialState::Paused => State::Paused,
                TrialState::Queued => State::Queued { after_seconds: 0.0 },
                _ => State::first(row.waits_for),
            };
            Change::new(row.id, state, State::cancel)
        });
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        save(&mut transaction, &changes).await?;
        transaction.commit().await?;
        Ok(Batch { ended: changes.len(), last })
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
