//! What agents say becomes facts, each attempt's in one short transaction; what should run on their node is the answer.

use std::collections::{BTreeMap, HashSet};

use recipe::{Event, Failure, FailureKind, Recipe, Report, Stage, TrialSpec};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Store, StoreError, attempt, read, signed, unsigned};
use crate::attempt::Outcome;
use crate::policy::Policy;
use protocol::Digest;
use protocol::id::{AttemptId, JobId, NodeId, TrialId};
use protocol::{
    Acknowledgement, AttemptEnd, AttemptReport, AttemptState, SequencedEvent, SequencedLine, SyncRequest, SyncResponse,
};

impl Store {
    /// One round of the protocol. Repeating a request changes nothing.
    pub async fn sync(&self, request: SyncRequest, policy: &Policy) -> Result<SyncResponse, StoreError> {
        let node = self.register_node(&request.node, request.instance, request.leaving).await?;
        let mut acknowledged = Vec::with_capacity(request.attempts.len());
        for report in &request.attempts {
            let answer = match self.apply_report(node, request.instance, report, policy).await {
                Err(error) if is_refusal(&error) => self.refuse_report(report, &error, policy).await?,
                Err(error @ StoreError::Row { .. }) => unheard(report, &error),
                answer => answer?,
            };
            acknowledged.push(answer);
        }
        let spoken_for: Vec<Uuid> = request.attempts.iter().map(|report| report.attempt.0).collect();
        self.lose_unspoken(node, request.instance, &spoken_for, policy).await?;
        let known: HashSet<Uuid> = spoken_for.into_iter().collect();
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
            r#"select a.trial_id as "trial: TrialId", t.job_id as "job: JobId", t.stage::text as "stage!", a.events_seen,
                      a.log_seen, a.step, case when t.stage = 'timing' then t.spec end as timing
               from attempt a join trial t on t.id = a.trial_id
               where a.id = $1 and a.node_id = $2 and a.ended_at is null for update of a"#,
            report.attempt.0,
            node.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        // The fence: whatever an attempt says after its end is not heard.
        let Some(row) = row else { return Ok(refusal(report)) };
        let stage = read("trial", "stage", row.trial, row.stage.into())?;
        let events = following(&report.events, unsigned(row.events_seen), |event| event.sequence);
        let lines = following(&report.log, unsigned(row.log_seen), |line| line.sequence);
        let mut said = Said::read(events, unsigned(row.step), stage);
        if let Some(spec) = row.timing.filter(|_| said.finished.is_some()) {
            said.check_timing(&read("trial", "spec", row.trial, spec)?);
        }
        let writer = Writer { attempt: report.attempt, trial: row.trial, job: row.job };
        writer.points(&mut transaction, &said).await?;
        writer.checkpoints(&mut transaction, events).await?;
        writer.lines(&mut transaction, lines).await?;
        let seen = Acknowledgement {
            attempt: report.attempt,
            events: events.last().map_or(unsigned(row.events_seen), |event| event.sequence),
            log: lines.last().map_or(unsigned(row.log_seen), |line| line.sequence),
            closed: false,
        };
        writer.attempt(&mut transaction, instance, &said, &seen, policy).await?;
        if let Some(total) = said.total_steps {
            writer.total_steps(&mut transaction, total).await?;
        }
        // Last, because their numbers are taken from the job's row.
        writer.events(&mut transaction, events).await?;
        let outcome = said.finished.or_else(|| ended(&report.state));
        let closed = outcome.is_some();
        if let Some(outcome) = outcome {
            attempt::end(&mut transaction, report.attempt, row.trial, outcome, policy).await?;
        }
        transaction.commit().await?;
        Ok(Acknowledgement { closed, ..seen })
    }

    /// Ends an attempt that says what cannot be stored. A report that is refused once is refused each time it is repeated,
    /// as it is until it is acknowledged: nothing that the attempt says would be heard again, and neither would the other
    /// attempts of its node. Nor would a retry, which says the same, end otherwise.
    async fn refuse_report(
        &self,
        report: &AttemptReport,
        error: &StoreError,
        policy: &Policy,
    ) -> Result<Acknowledgement, StoreError> {
        tracing::error!(attempt = %report.attempt, %error, "a report that cannot be stored ends its attempt");
        let message = format!("what the trainer said cannot be stored: {error}");
        let outcome = Outcome::Failed { failure: Failure { kind: FailureKind::Internal, message: storable(&message) } };
        self.end_if_open(report.attempt, outcome, policy).await?;
        Ok(refusal(report))
    }
}

/// Whether it is the data that the database does not take, so that sending it again would not help; any other error passes.
fn is_refusal(error: &StoreError) -> bool {
    let StoreError::Database(sqlx::Error::Database(error)) = error else { return false };
    // Data exception, integrity constraint violation, program limit exceeded (a text too long for an index).
    let code = error.code().unwrap_or_default();
    ["22", "23", "54"].iter().any(|class| code.starts_with(class))
}

/// The answer about an attempt that is not open: all of it is taken note of, none of it counts.
fn refusal(report: &AttemptReport) -> Acknowledgement {
    Acknowledgement {
        attempt: report.attempt,
        events: report.events.last().map_or(0, |event| event.sequence),
        log: report.log.last().map_or(0, |line| line.sequence),
        closed: true,
    }
}

/// The answer to a report whose attempt cannot be read here: nothing of it is taken note of, so that it is repeated, and
/// what else its node says is heard.
fn unheard(report: &AttemptReport, error: &StoreError) -> Acknowledgement {
    tracing::error!(attempt = %report.attempt, %error, "a report whose attempt cannot be read is not heard");
    Acknowledgement { attempt: report.attempt, events: 0, log: 0, closed: false }
}

/// The items whose numbers follow on `seen` without a gap.
fn following<T>(items: &[T], seen: u64, sequence: fn(&T) -> u64) -> &[T] {
    let start = items.iter().position(|item| sequence(item) > seen).unwrap_or(items.len());
    let fresh = &items[start..];
    let run = fresh.iter().zip(seen + 1..).take_while(|(item, expected)| sequence(item) == *expected).count();
    &fresh[..run]
}

fn ended(state: &AttemptState) -> Option<Outcome> {
    let AttemptState::Ended { outcome } = state else { return None };
    Some(match outcome {
        AttemptEnd::Succeeded => Outcome::Failed {
            failure: Failure { kind: FailureKind::Internal, message: "the trainer ended without a report".into() },
        },
        AttemptEnd::Failed { failure } => {
            Outcome::Failed { failure: Failure { kind: failure.kind, message: storable(&failure.message) } }
        }
        AttemptEnd::Interrupted => Outcome::Preempted,
        AttemptEnd::Lost => Outcome::Lost,
    })
}

/// Postgres has no text with a NUL in it.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn storable_json(value: &mut Value) {
    match value {
        Value::String(text) => *text = storable(text),
        Value::Array(items) => items.iter_mut().for_each(storable_json),
        Value::Object(fields) => fields.values_mut().for_each(storable_json),
        Value::Null | Value::Bool(_) | Value::Number(_) => (),
    }
}

/// What a run of events comes to.
#[derive(Debug, Default, PartialEq)]
struct Said {
    /// By (name, step): value and trained seconds. The last word on a point counts.
    points: BTreeMap<(String, i64), (f64, f64)>,
    step: Option<u64>,
    trained_seconds: Option<f64>,
    total_steps: Option<u64>,
    /// `Some(None)`: it trains now.
    phase: Option<Option<String>>,
    device: Option<recipe::event::Device>,
    resumed_from: Option<u64>,
    /// Whether step or phase moved.
    moved: bool,
    finished: Option<Outcome>,
}

impl Said {
    fn read(events: &[SequencedEvent], before: u64, stage: Stage) -> Self {
        let mut said = Self::default();
        let mut at = before;
        for SequencedEvent { event, .. } in events {
            match event {
                Event::Started { device, total_steps, resumed_from, .. } => {
                    said.device = Some(device.clone());
                    said.total_steps = Some(*total_steps);
                    said.resumed_from = *resumed_from;
                    said.moved = true;
                    at = resumed_from.unwrap_or(0);
                    said.step = Some(at);
                }
                Event::Preparing { what, .. } => {
                    said.phase = Some(Some(storable(what)));
                    said.moved = true;
                }
                Event::Progress { step, total_steps, trained_seconds, points } => {
                    said.total_steps = Some(*total_steps);
                    said.reached(*step, *trained_seconds, &mut at);
                    said.take(points);
                }
                Event::Evaluated { step, trained_seconds, points } => {
                    said.reached(*step, *trained_seconds, &mut at);
                    said.moved = true;
                    said.take(points);
                }
                Event::Checkpointed { step, trained_seconds, .. } => {
                    said.reached(*step, *trained_seconds, &mut at);
                    said.moved = true;
                }
                Event::Finished { report } if report.stage() == stage => {
                    said.finished = Some(Outcome::Succeeded { report: Box::new(report.clone()) });
                }
                Event::Finished { report } => {
                    let message = format!("a {} trial reported as {}", stage.name(), report.stage().name());
                    let failure = Failure { kind: FailureKind::Internal, message };
                    said.finished = Some(Outcome::Failed { failure });
                }
                // What follows from these comes with the end of the process.
                Event::Failed { .. } | Event::Interrupted { .. } => (),
            }
        }
        said
    }

    /// Other trials are given their budgets by a timing report, so it has to hold what they are reckoned from.
    fn check_timing(&mut self, spec: &TrialSpec) {
        let (Some(Outcome::Succeeded { report }), Recipe::Timing(timing)) = (&self.finished, &spec.recipe) else {
            return;
        };
        if let Report::Timing(report) = &**report
            && let Some(arm) = report.lacks(timing)
        {
            let message = format!("the timing report has no steps of the arm {arm:?}");
            self.finished = Some(Outcome::Failed { failure: Failure { kind: FailureKind::Internal, message } });
        }
    }

    fn reached(&mut self, step: u64, trained_seconds: f64, at: &mut u64) {
        self.phase = Some(None);
        self.moved |= step > *at;
        *at = step;
        self.step = Some(step);
        self.trained_seconds = Some(trained_seconds);
    }

    fn take(&mut self, points: &[recipe::event::Point]) {
        for point in points {
            self.points.insert((storable(&point.name), signed(point.step)), (point.value, point.trained_seconds));
        }
    }
}

/// Writes what an open attempt says. The caller holds the lock on the attempt's row.
struct Writer {
    attempt: AttemptId,
    trial: TrialId,
    job: JobId,
}

impl Writer {
    async fn points(&self, connection: &mut PgConnection, said: &Said) -> Result<(), StoreError> {
        if said.points.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "insert into metric_point (trial_id, name, step, value, trained_seconds)
             select $1, * from unnest($2::text[], $3::bigint[], $4::float8[], $5::float8[])
             on conflict (trial_id, name, step)
             do update set value = excluded.value, trained_seconds = excluded.trained_seconds",
            self.trial.0,
            &said.points.keys().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
            &said.points.keys().map(|(_, step)| *step).collect::<Vec<_>>(),
            &said.points.values().map(|(value, _)| *value).collect::<Vec<_>>(),
            &said.points.values().map(|(_, seconds)| *seconds).collect::<Vec<_>>()
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn checkpoints(&self, connection: &mut PgConnection, events: &[SequencedEvent]) -> Result<(), StoreError> {
        for SequencedEvent { event, .. } in events {
            let Event::Checkpointed { step, trained_seconds, manifest, .. } = event else { continue };
            if let Err(error) = manifest.parse::<Digest>() {
                tracing::warn!(attempt = %self.attempt, %error, "a checkpoint that cannot be found again is not noted");
                continue;
            }
            sqlx::query!(
                "insert into checkpoint (trial_id, attempt_id, step, trained_seconds, manifest)
                 values ($1, $2, $3, $4, $5)",
                self.trial.0,
                self.attempt.0,
                signed(*step),
                trained_seconds,
                manifest
            )
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    async fn lines(&self, connection: &mut PgConnection, lines: &[SequencedLine]) -> Result<(), StoreError> {
        if lines.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "insert into log_line (trial_id, attempt_id, sequence, text)
             select $1, $2, l.sequence, l.text from unnest($3::bigint[], $4::text[]) as l (sequence, text)
             order by l.sequence",
            self.trial.0,
            self.attempt.0,
            &lines.iter().map(|line| signed(line.sequence)).collect::<Vec<_>>(),
            &lines.iter().map(|line| storable(&line.text)).collect::<Vec<_>>()
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn attempt(
        &self,
        connection: &mut PgConnection,
        instance: Uuid,
        said: &Said,
        seen: &Acknowledgement,
        policy: &Policy,
    ) -> Result<(), StoreError> {
        let mut device = said.device.as_ref().map(serde_json::to_value).transpose().map_err(|error| {
            StoreError::Internal(format!("the device of attempt {} cannot be stored: {error}", self.attempt))
        })?;
        device.iter_mut().for_each(storable_json);
        sqlx::query!(
            "update attempt
             set leased_until = now() + make_interval(secs => $2), instance = $3, events_seen = $4, log_seen = $5,
                 step = coalesce($6, step), trained_seconds = coalesce($7, trained_seconds),
                 phase = case when $8 then $9 else phase end,
                 moved_at = case when $10 then now() else moved_at end,
                 started_at = case when $11::jsonb is null then started_at else coalesce(started_at, now()) end,
                 device = coalesce($11, device), resumed_from = coalesce($12, resumed_from)
             where id = $1",
            self.attempt.0,
            policy.lease.as_secs_f64(),
            instance,
            signed(seen.events),
            signed(seen.log),
            said.step.map(signed),
            said.trained_seconds,
            said.phase.is_some(),
            said.phase.as_ref().and_then(|phase| phase.as_deref()),
            said.moved,
            device,
            said.resumed_from.map(signed)
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// The trainer knows the number of steps once it has read the data.
    async fn total_steps(&self, connection: &mut PgConnection, total: u64) -> Result<(), StoreError> {
        sqlx::query!(
            "update trial set total_steps = $2 where id = $1 and total_steps is distinct from $2",
            self.trial.0,
            signed(total)
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    async fn events(&self, connection: &mut PgConnection, events: &[SequencedEvent]) -> Result<(), StoreError> {
        for SequencedEvent { sequence, event } in events {
            let kind = match event {
                Event::Started { .. } => "started",
                Event::Evaluated { .. } => "evaluated",
                Event::Checkpointed { .. } => "checkpointed",
                Event::Finished { .. } => "finished",
                Event::Failed { .. } => "failed",
                Event::Interrupted { .. } => "interrupted",
                // Its points are metric points, its step is the attempt's.
                Event::Preparing { .. } | Event::Progress { .. } => continue,
            };
            let mut data = serde_json::to_value(event).map_err(|error| {
                StoreError::Internal(format!("event {sequence} of attempt {} cannot be stored: {error}", self.attempt))
            })?;
            storable_json(&mut data);
            sqlx::query!(
                "select append_event($1, $2, $3, $4, $5::text::event_kind, $6)",
                self.job.0,
                self.trial.0,
                self.attempt.0,
                signed(*sequence),
                kind,
                data
            )
            .fetch_one(&mut *connection)
            .await?;
        }
        Ok(())
    }
}
