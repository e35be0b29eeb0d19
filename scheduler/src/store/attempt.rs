//! Attempts: listed, opened on a slot, and ended once.

use recipe::{Failure, FailureKind};
use sqlx::PgConnection;

use super::text::{storable, storable_json};
use super::transition::Change;
use super::{Store, StoreError, failure, read, signed, transition, unsigned};
use crate::attempt::{AttemptView, Outcome, OutcomeName};
use crate::place::Placement;
use crate::policy::{History, Next, Policy};
use crate::summary::EventSummary;
use protocol::Acknowledgement;
use protocol::id::{AttemptId, NodeId, TrialId};
use uuid::Uuid;

impl Store {
    /// The attempts of a trial in their order.
    pub async fn attempts(&self, trial: TrialId) -> Result<Vec<AttemptView>, StoreError> {
        let rows = sqlx::query!(
            r#"select a.id as "id: AttemptId", a.number, n.name as node, a.slot, a.placed_at, a.started_at, a.ended_at,
                      a.outcome as "outcome: OutcomeName", a.failure_kind as "failure_kind: FailureKind",
                      a.failure_message, a.device, a.resumed_from, a.phase, a.step, a.trained_seconds
               from attempt a join node n on n.id = a.node_id where a.trial_id = $1 order by a.number"#,
            trial.0
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(AttemptView {
                    id: row.id,
                    number: row.number as u32,
                    node: row.node,
                    slot: row.slot as u32,
                    placed_at: row.placed_at,
                    started_at: row.started_at,
                    ended_at: row.ended_at,
                    outcome: row.outcome,
                    failure: failure(row.failure_kind, row.failure_message),
                    device: row.device.map(|device| read("attempt", "device", row.id, device)).transpose()?,
                    resumed_from: row.resumed_from.map(unsigned),
                    phase: row.phase,
                    step: unsigned(row.step),
                    trained_seconds: row.trained_seconds,
                })
            })
            .collect()
    }

    /// Opens an attempt. Returns false if the snapshot on which the placement is based is out of date.
    ///
    /// The node's row is locked, so that two servers that place at the same time see each other's attempts. Without this lock,
    /// the two partial unique indexes would still admit only one of them.
    pub(crate) async fn open_attempt(&self, placement: Placement, policy: &Policy) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let instance = sqlx::query_scalar!(
            "select n.instance from node n join slot s on s.node_id = n.id and s.index = $2
             where n.id = $1 and not n.leaving and not n.draining and n.deleted_at is null for no key update of n",
            placement.node.0,
            placement.slot
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(instance) = instance else { return Ok(false) };
        let Some(trial) = transition::lock(&mut transaction, placement.trial).await? else { return Ok(false) };
        let attempt = AttemptId::new();
        let Ok(change) = Change::new(trial.id, trial.state, |state| state.place(attempt)) else { return Ok(false) };
        let opened = sqlx::query!(
            "insert into attempt (id, trial_id, number, node_id, slot, instance, ready_at, leased_until,
                                  step, trained_seconds, resumed_from)
             select $1, t.id, 1 + (select count(*) from attempt where trial_id = t.id), $3, $4, $5, t.ready_at,
                    now() + make_interval(secs => $6), coalesce(c.step, 0), coalesce(c.trained_seconds, 0), c.step
             from trial t join job j on j.id = t.job_id
             -- The work up to the newest checkpoint is done. The trainer says later whether it could read the checkpoint.
             left join lateral (
                 select step, trained_seconds from checkpoint where trial_id = t.id and forgotten_at is null
                 order by step desc, id desc limit 1
             ) c on true
             where t.id = $2 and t.ready_at <= now() and j.cancelled_at is null
               -- On a node whose slots share cores, a timing trial runs alone.
               and not exists (
                   select from attempt a join trial other on other.id = a.trial_id
                   where a.node_id = $3 and a.ended_at is null and 'timing' in (t.stage, other.stage)
                     and exists (select from slot s where s.node_id = $3 and s.device = 'cpu')
               )
             on conflict do nothing",
            attempt.0,
            placement.trial.0,
            placement.node.0,
            placement.slot,
            instance,
            policy.lease.as_secs_f64()
        )
        .execute(&mut *transaction)
        .await?;
        if opened.rows_affected() == 0 {
            return Ok(false);
        }
        transition::save(&mut transaction, &[change]).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Ends attempts whose lease has run out or that are stalled. Returns their number.
    pub(crate) async fn reap(&self, policy: &Policy) -> Result<usize, StoreError> {
        let due = sqlx::query_scalar!(
            r#"select id as "id: AttemptId" from attempt
               where ended_at is null
                 and (leased_until < now()
                      or moved_at < now() - make_interval(secs => case when started_at is null then $2::float8 else $1::float8 end))
               order by id"#,
            policy.stall.as_secs_f64(),
            policy.stall_before_start().as_secs_f64()
        )
        .fetch_all(&self.pool)
        .await?;
        let mut reaped = 0;
        for id in due {
            reaped += usize::from(self.reap_attempt(id, policy).await?);
        }
        Ok(reaped)
    }

    async fn reap_attempt(&self, id: AttemptId, policy: &Policy) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // The attempt may have been extended or ended since it was found.
        let row = sqlx::query!(
            r#"select trial_id as "trial: TrialId", step, leased_until < now() as "expired!",
                      extract(epoch from now() - moved_at)::float8 as "still_seconds!"
               from attempt
               where id = $1 and ended_at is null
                 and (leased_until < now()
                      or moved_at < now() - make_interval(secs => case when started_at is null then $3::float8 else $2::float8 end))
               for update skip locked"#,
            id.0,
            policy.stall.as_secs_f64(),
            policy.stall_before_start().as_secs_f64()
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(false) };
        let outcome = if row.expired {
            Outcome::Lost
        } else {
            let message = format!("nothing moved for {:.0} seconds after step {}", row.still_seconds, row.step);
            Outcome::Failed { failure: Failure { kind: FailureKind::Stalled, message } }
        };
        end(&mut transaction, id, row.trial, outcome, policy).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Ends the node's open attempts that an earlier instance of its agent ran and that `reported` does not name: their
    /// processes are gone.
    pub(super) async fn mark_unreported_lost(
        &self,
        node: NodeId,
        instance: uuid::Uuid,
        reported: &[uuid::Uuid],
        policy: &Policy,
    ) -> Result<(), StoreError> {
        let gone = sqlx::query_scalar!(
            r#"select id as "id: AttemptId" from attempt
               where node_id = $1 and ended_at is null and instance <> $2 and id <> all($3) order by id"#,
            node.0,
            instance,
            reported
        )
        .fetch_all(&self.pool)
        .await?;
        for id in gone {
            self.end_if_open(id, Outcome::Lost, policy).await?;
        }
        Ok(())
    }

    pub(super) async fn end_if_open(&self, id: AttemptId, outcome: Outcome, policy: &Policy) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let trial = sqlx::query_scalar!(
            r#"select trial_id as "trial: TrialId" from attempt where id = $1 and ended_at is null for update"#,
            id.0
        );
        if let Some(trial) = trial.fetch_optional(&mut *transaction).await? {
            end(&mut transaction, id, trial, outcome, policy).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

/// Ends an open attempt, whose row the caller has locked, and moves its trial to the next state.
pub(super) async fn end(
    connection: &mut PgConnection,
    id: AttemptId,
    trial: TrialId,
    outcome: Outcome,
    policy: &Policy,
) -> Result<(), StoreError> {
    let locked = transition::lock(connection, trial).await?.ok_or_else(|| StoreError::Row {
        table: "attempt",
        column: "ended_at",
        id: id.to_string(),
        why: "it is null although the attempt's trial has ended".into(),
    })?;
    let (earlier, pausing) = history(connection, id, trial).await?;
    sqlx::query!(
        "update attempt
         set ended_at = now(), outcome = $2, failure_kind = $3::text::failure_kind, failure_message = $4
         where id = $1",
        id.0,
        outcome.name() as OutcomeName,
        outcome.failure().map(|failure| failure.kind.name()),
        outcome.failure().map(|failure| storable(&failure.message))
    )
    .execute(&mut *connection)
    .await?;
    let next = policy.next(outcome, earlier, pausing);
    if let Next::Requeue { forget_checkpoint: true, .. } = next {
        super::checkpoint::forget_newest(connection, &locked, id).await?;
    }
    let change = Change::new(trial, locked.state, |state| state.end(id, next))?;
    transition::save(connection, &[change]).await
}

async fn history(connection: &mut PgConnection, id: AttemptId, trial: TrialId) -> Result<(History, bool), StoreError> {
    let row = sqlx::query!(
        r#"select count(*) filter (where outcome = 'failed') as "failed!",
                  count(*) filter (where outcome in ('lost', 'preempted')) as "lost!",
                  bool_or(interrupt) filter (where id = $2) as "pausing!"
           from attempt where trial_id = $1"#,
        trial.0,
        id.0
    )
    .fetch_one(connection)
    .await?;
    Ok((History { failed: row.failed as u32, lost: row.lost as u32 }, row.pausing))
}

/// Extends the lease of an open attempt, and notes its progress and what is stored of its reports.
pub(super) async fn write_progress(
    connection: &mut PgConnection,
    instance: Uuid,
    summary: &EventSummary,
    seen: &Acknowledgement,
    policy: &Policy,
) -> Result<(), StoreError> {
    let mut device = summary.device.as_ref().map(serde_json::to_value).transpose().map_err(|error| {
        StoreError::Internal(format!("the device of attempt {} cannot be stored: {error}", seen.attempt))
    })?;
    device.iter_mut().for_each(storable_json);
    sqlx::query!(
        "update attempt
         set leased_until = now() + make_interval(secs => $2), instance = $3, events_seen = $4, log_seen = $5,
             step = coalesce($6, step), trained_seconds = coalesce($7, trained_seconds),
             phase = case when $8 then $9 else phase end,
             moved_at = case when $10 then now() else moved_at end,
             started_at = case when $11::jsonb is null then started_at else coalesce(started_at, now()) end,
             device = coalesce($11, device),
             resumed_from = case when $11::jsonb is null then resumed_from else $12 end
         where id = $1",
        seen.attempt.0,
        policy.lease.as_secs_f64(),
        instance,
        signed(seen.events),
        signed(seen.log),
        summary.step.map(signed),
        summary.trained_seconds,
        summary.phase.is_some(),
        summary.phase.iter().flatten().map(|phase| storable(phase)).next(),
        summary.moved,
        device,
        summary.resumed_from.map(signed)
    )
    .execute(connection)
    .await?;
    Ok(())
}
