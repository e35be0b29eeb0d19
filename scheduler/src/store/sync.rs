//! The sync of an agent: the report of each attempt is stored in one short transaction, and the answer names what should run
//! on the node.

use std::collections::HashSet;

use protocol::id::{JobId, NodeId, TrialId};
use protocol::{Acknowledgement, AttemptReport, SyncRequest, SyncResponse};
use recipe::{Failure, FailureKind, Stage};
use uuid::Uuid;

use super::{Store, StoreError, attempt, checkpoint, event, measurement, read, trial, unsigned};
use crate::attempt::Outcome;
use crate::policy::Policy;
use crate::summary::{EventSummary, following, outcome_of};

impl Store {
    /// One round of the protocol. Repeating a request changes nothing.
    pub async fn sync(&self, request: SyncRequest, policy: &Policy) -> Result<SyncResponse, StoreError> {
        let node = self.register_node(&request.node, request.instance, request.leaving).await?;
        let mut acknowledged = Vec::with_capacity(request.attempts.len());
        for report in &request.attempts {
            let answer = match self.apply_report(node, request.instance, report, policy).await {
                Err(error) if is_refusal(&error) => self.refuse_report(report, &error, policy).await?,
                Err(error @ StoreError::Row { .. }) => unread(report, &error),
                answer => answer?,
            };
            acknowledged.push(answer);
        }
        let reported: Vec<Uuid> = request.attempts.iter().map(|report| report.attempt.0).collect();
        self.mark_unreported_lost(node, request.instance, &reported, policy).await?;
        let known: HashSet<Uuid> = reported.into_iter().collect();
        let (keep, run) = self.assignments(node, &known).await?;
        Ok(SyncResponse {
            lease_seconds: policy.lease.as_secs_f64(),
            sync_seconds: policy.sync_every.as_secs_f64(),
            run,
            keep,
            acknowledged,
        })
    }

    async fn apply_report(
        &self,
        node: NodeId,
        instance: Uuid,
        report: &AttemptReport,
        policy: &Policy,
    ) -> Result<Acknowledgement, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query!(
            r#"select a.trial_id as "trial: TrialId", t.job_id as "job: JobId", t.stage as "stage: Stage", a.events_seen,
                      a.log_seen, a.step, case when t.stage = 'timing' then t.spec end as timing
               from attempt a join trial t on t.id = a.trial_id
               where a.id = $1 and a.node_id = $2 and a.ended_at is null for update of a"#,
            report.attempt.0,
            node.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        // This is the fence: a report of an attempt that has ended is ignored.
        let Some(row) = row else { return Ok(refusal(report)) };
        let events = following(&report.events, unsigned(row.events_seen), |event| event.sequence);
        let lines = following(&report.log, unsigned(row.log_seen), |line| line.sequence);
        let mut summary = EventSummary::read(events, unsigned(row.step), row.stage);
        if let Some(spec) = row.timing.filter(|_| summary.finished.is_some()) {
            summary.check_timing(&read("trial", "spec", row.trial, spec)?);
        }
        measurement::write_points(&mut transaction, row.trial, &summary).await?;
        checkpoint::write_checkpoints(&mut transaction, row.trial, report.attempt, events).await?;
        measurement::write_lines(&mut transaction, row.trial, report.attempt, lines).await?;
        let seen = Acknowledgement {
            attempt: report.attempt,
            events: events.last().map_or(unsigned(row.events_seen), |event| event.sequence),
            log: lines.last().map_or(unsigned(row.log_seen), |line| line.sequence),
            closed: false,
        };
        attempt::write_progress(&mut transaction, instance, &summary, &seen, policy).await?;
        if let Some(total) = summary.total_steps {
            trial::write_total_steps(&mut transaction, row.trial, total).await?;
        }
        // Events come last, because their numbers lock the job's row.
        event::write_events(&mut transaction, row.job, row.trial, report.attempt, events).await?;
        let outcome = summary.finished.or_else(|| outcome_of(&report.state));
        let closed = outcome.is_some();
        if let Some(outcome) = outcome {
            attempt::end(&mut transaction, report.attempt, row.trial, outcome, policy).await?;
        }
        transaction.commit().await?;
        Ok(Acknowledgement { closed, ..seen })
    }

    /// Ends an attempt whose report the database refuses. The agent would repeat the report until it is acknowledged, and
    /// each repetition would be refused as well, so that no later report of this attempt or of its node would be stored. A
    /// retry of the trial would report the same.
    async fn refuse_report(
        &self,
        report: &AttemptReport,
        error: &StoreError,
        policy: &Policy,
    ) -> Result<Acknowledgement, StoreError> {
        tracing::error!(attempt = %report.attempt, %error, "a report that cannot be stored ends its attempt");
        let message = format!("the trainer's report cannot be stored: {error}");
        let outcome = Outcome::Failed { failure: Failure { kind: FailureKind::Internal, message } };
        self.end_if_open(report.attempt, outcome, policy).await?;
        Ok(refusal(report))
    }
}

/// True if the database refused the data themselves, so that sending them again would not help. Any other error passes.
fn is_refusal(error: &StoreError) -> bool {
    let error = match error {
        StoreError::Nul => return true,
        StoreError::Database(sqlx::Error::Database(error)) => error,
        _ => return false,
    };
    // Data exception, integrity constraint violation, program limit exceeded (a text too long for an index).
    let code = error.code().unwrap_or_default();
    ["22", "23", "54"].iter().any(|class| code.starts_with(class))
}

/// The answer to a report of an attempt that is not open: everything is acknowledged so that the agent forgets it, and nothing
/// is stored.
fn refusal(report: &AttemptReport) -> Acknowledgement {
    Acknowledgement {
        attempt: report.attempt,
        events: report.events.last().map_or(0, |event| event.sequence),
        log: report.log.last().map_or(0, |line| line.sequence),
        closed: true,
    }
}

/// The answer to a report whose attempt this server cannot read: nothing is acknowledged, so that the agent repeats the report,
/// and the other reports of its node are stored.
fn unread(report: &AttemptReport, error: &StoreError) -> Acknowledgement {
    tracing::error!(attempt = %report.attempt, %error, "a report is not stored because its attempt cannot be read");
    Acknowledgement { attempt: report.attempt, events: 0, log: 0, closed: false }
}
