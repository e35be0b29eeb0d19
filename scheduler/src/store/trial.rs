//! Trials as clients and the report read them.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use recipe::{FailureKind, Recipe, Stage, TrialSpec};
use report::{TrialFacts, TrialStatus};

use super::{Store, StoreError, failure, read, signed, unsigned};
use crate::attempt::OutcomeName;
use crate::policy::Policy;
use crate::trial::{TrialFilter, TrialState, TrialView, WaitReason};
use protocol::id::{JobId, TrialId};
use sqlx::PgConnection;

/// One row of the query for [`TrialView`].
struct ViewRow {
    id: TrialId,
    job: JobId,
    stage: Stage,
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
    failure_kind: Option<FailureKind>,
    failure_message: Option<String>,
    report: Option<serde_json::Value>,
    attempts: i64,
    step: Option<i64>,
    trained_seconds: Option<f64>,
    node: Option<String>,
    slot: Option<i32>,
    estimated_end: Option<DateTime<Utc>>,
    awaited_stage: Option<Stage>,
    awaited_state: Option<TrialState>,
    retry_at: Option<DateTime<Utc>>,
    last_outcome: Option<OutcomeName>,
    last_failure: Option<FailureKind>,
    node_connected: bool,
}

impl Store {
    /// The job's trials in the order of its expansion, from the one that follows on `after`.
    pub async fn trials(
        &self,
        job: JobId,
        filter: &TrialFilter,
        policy: &Policy,
        limit: i64,
        after: Option<TrialId>,
    ) -> Result<Vec<TrialView>, StoreError> {
        self.view_rows(Some(job), None, filter, policy, limit, after).await?.into_iter().map(ViewRow::view).collect()
    }

    pub async fn trial(&self, id: TrialId, policy: &Policy) -> Result<TrialView, StoreError> {
        let row = self.view_rows(None, Some(id), &TrialFilter::default(), policy, 1, None).await?.pop();
        row.ok_or_else(|| StoreError::NotFound { what: "trial", id: id.to_string() })?.view()
    }

    async fn view_rows(
        &self,
        job: Option<JobId>,
        id: Option<TrialId>,
        filter: &TrialFilter,
        policy: &Policy,
        limit: i64,
        after: Option<TrialId>,
    ) -> Result<Vec<ViewRow>, StoreError> {
        // The page is cut first, so that only the attempts of its trials are read.
        let rows = sqlx::query_as!(
            ViewRow,
            r#"with page as (
                   select * from trial
                   where (job_id = $1 or id = $2)
                     and ($3::text is null or stage = $3::stage)
                     and ($4::text is null or arm = $4)
                     and ($5::trial_state is null or state = $5)
                     and ordinal > coalesce((select ordinal from trial where id = $6), -1)
                   order by ordinal limit $7
               )
               select t.id as "id: TrialId", t.job_id as "job: JobId", t.stage as "stage: Stage", t.arm, t.task,
                      t.learning_rate, t.spec, t.fingerprint, t.waits_for as "waits_for: TrialId",
                      t.state as "state: TrialState", t.total_steps, t.created_at, t.started_at, t.finished_at,
                      t.failure_kind as "failure_kind: FailureKind", t.failure_message, t.report,
                      coalesce(a.number, 0)::bigint as "attempts!", a.step as "step?",
                      a.trained_seconds as "trained_seconds?", d.name as "node?", a.slot as "slot?",
                      case when t.state = 'running' and a.step > coalesce(a.resumed_from, 0) and t.total_steps >= a.step
                           -- An end in more than a century is none, and might be more than an interval can hold.
                           then (
                               select now() + make_interval(secs => remaining) from (
                                   select extract(epoch from now() - a.started_at)::float8 * (t.total_steps - a.step)
                                          / (a.step - coalesce(a.resumed_from, 0)) as remaining
                               ) r where remaining < 3.2e9
                           )
                      end as estimated_end,
                      w.stage as "awaited_stage?: Stage", w.state as "awaited_state?: TrialState",
                      case when t.state = 'queued' and t.ready_at > now() then t.ready_at end as retry_at,
                      a.outcome as "last_outcome?: OutcomeName", a.failure_kind as "last_failure?: FailureKind",
                      exists (
                          select from node where last_seen_at > now() - make_interval(secs => $8) and not leaving
                      ) as "node_connected!"
               from page t
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
            limit,
            policy.lease.as_secs_f64()
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The facts of all trials of a job, from which its report is computed.
    pub async fn facts(&self, job: JobId) -> Result<Vec<TrialFacts>, StoreError> {
        // Both queries see the same trials: a budget that is settled between them changes recipes.
        let mut transaction = self.pool.begin().await?;
        sqlx::query!("set transaction isolation level repeatable read, read only").execute(&mut *transaction).await?;
        // Recipes are large, and all trials that differ in their seeds alone share one. A fingerprint does not cover
        // names.
        let rows = sqlx::query!(
            r#"select t.id as "id: TrialId", t.arm, t.fingerprint, t.spec -> 'recipe' as "recipe!"
               from trial t join (
                   select distinct on (arm, fingerprint) id from trial where job_id = $1
                   order by arm, fingerprint, ordinal
               ) first on first.id = t.id"#,
            job.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        let mut recipes: HashMap<(Option<String>, String), Arc<Recipe>> = HashMap::with_capacity(rows.len());
        for row in rows {
            recipes.insert((row.arm, row.fingerprint), Arc::new(read("trial", "spec", row.id, row.recipe)?));
        }
        let mut rows = sqlx::query!(
            r#"select t.id as "id: TrialId", t.waits_for as "waits_for: TrialId", t.arm, t.fingerprint,
                      t.spec -> 'seeds' as "seeds!",
                      t.state as "state: TrialState", t.failure_kind as "failure_kind: FailureKind", t.failure_message, t.report,
                      (select device from attempt where trial_id = t.id order by number desc limit 1) as device
               from trial t where t.job_id = $1 order by t.ordinal"#,
            job.0
        )
        .fetch(&mut *transaction);
        let mut facts = Vec::new();
        while let Some(row) = rows.try_next().await? {
            let status = match (row.state, row.report, failure(row.failure_kind, row.failure_message)) {
                (TrialState::Succeeded, Some(report), _) => {
                    TrialStatus::Succeeded(read("trial", "report", row.id, report)?)
                }
                (TrialState::Failed, _, Some(failure)) => TrialStatus::Failed(failure),
                (TrialState::Cancelled, ..) => TrialStatus::Cancelled,
                // The database ties a report to success and a failure to failing, so every other trial has not ended.
                _ => TrialStatus::Unfinished,
            };
            let key = (row.arm, row.fingerprint);
            let missing = || StoreError::Internal(format!("the recipe of trial {} was not read", row.id));
            let recipe = recipes.get(&key).ok_or_else(missing)?.clone();
            facts.push(TrialFacts {
                id: row.id,
                waits_for: row.waits_for,
                arm: key.0,
                recipe,
                seeds: read("trial", "spec", row.id, row.seeds)?,
                device: row.device.map(|device| read("attempt", "device", row.id, device)).transpose()?,
                status,
            });
        }
        Ok(facts)
    }

    /// The number of the job's newest event. Whatever a report is computed from changes with an event.
    pub async fn event_count(&self, job: JobId) -> Result<i64, StoreError> {
        let count =
            sqlx::query_scalar!("select events from job where id = $1", job.0).fetch_optional(&self.pool).await?;
        count.ok_or_else(|| StoreError::NotFound { what: "job", id: job.to_string() })
    }
}

impl ViewRow {
    fn view(self) -> Result<TrialView, StoreError> {
        let waiting = self.waiting();
        let spec: TrialSpec = read("trial", "spec", self.id, self.spec)?;
        Ok(TrialView {
            id: self.id,
            job: self.job,
            stage: self.stage,
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
            waiting,
            step: unsigned(self.step.unwrap_or(0)),
            total_steps: self.total_steps.map(unsigned),
            trained_seconds: self.trained_seconds.unwrap_or(0.0),
            estimated_end: self.estimated_end,
            fingerprint: self.fingerprint,
            attempt_count: self.attempts as u32,
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            failure: failure(self.failure_kind, self.failure_message),
            report: self.report.map(|report| read("trial", "report", self.id, report)).transpose()?,
            node: self.node,
            slot: self.slot.map(|slot| slot as u32),
        })
    }

    fn waiting(&self) -> Option<WaitReason> {
        let awaited = self.awaited_stage.zip(self.awaited_state);
        let awaited = awaited.map(|(stage, state)| WaitReason::Trial { stage, state });
        let never_tried = matches!(self.awaited_state, Some(TrialState::Failed | TrialState::Cancelled));
        match (self.state, self.retry_at, self.last_outcome) {
            (TrialState::Blocked, ..) => awaited,
            (TrialState::Cancelled, ..) if never_tried => awaited,
            (TrialState::Queued, Some(at), Some(outcome)) => {
                Some(WaitReason::Retry { attempt: self.attempts as u32, outcome, failure: self.last_failure, at })
            }
            (TrialState::Queued, ..) if !self.node_connected => Some(WaitReason::Node),
            (TrialState::Queued, ..) if self.stage == Stage::Timing => Some(WaitReason::IdleNode),
            (TrialState::Queued, ..) => Some(WaitReason::Slot),
            _ => None,
        }
    }
}

/// Notes the number of steps of a trial, which the trainer knows once it has read the data.
pub(super) async fn write_total_steps(
    connection: &mut PgConnection,
    trial: TrialId,
    total: u64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update trial set total_steps = $2 where id = $1 and total_steps is distinct from $2",
        trial.0,
        signed(total)
    )
    .execute(connection)
    .await?;
    Ok(())
}
