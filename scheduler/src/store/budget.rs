//! Budgets in reference seconds: the timing trial's time per step decides how many steps a pre-train trial makes.

use std::collections::BTreeMap;

use recipe::report::TimingReport;
use recipe::{Recipe, Stage, Timing, TrialReport, TrialSpec};
use report::timed_speeds;
use serde_json::Value;
use sqlx::types::Json;

use super::{BATCH, Store, StoreError, read};
use crate::expand;
use crate::job::{ArmSpec, JobSpec};
use protocol::id::{JobId, TrialId};

/// A trial whose steps, or whose schedule, the timing trial decides.
struct Unsettled {
    id: TrialId,
    ordinal: i32,
    arm: String,
    spec: Value,
    stage: Stage,
}

impl Store {
    /// Sets the steps of the trials whose budget is in reference seconds and whose timing trial has succeeded. Repeating it
    /// writes the same.
    pub(crate) async fn settle_budgets(&self) -> Result<usize, StoreError> {
        let ready = sqlx::query!(
            r#"select distinct on (j.id) j.id as "job: JobId", j.spec, w.id as "timing: TrialId",
                      w.spec as timing_spec, w.report as "report!"
               from trial w join job j on j.id = w.job_id
               where w.awaited and w.state = 'succeeded' and w.stage = 'timing'
                 and exists (select from trial where waits_for = w.id and state = 'blocked' and total_steps is null)
               order by j.id"#
        )
        .fetch_all(&self.pool)
        .await?;
        let mut settled = 0;
        for row in ready {
            let job = async {
                let spec: JobSpec = read("job", "spec", row.job, row.spec)?;
                let timing: TrialSpec = read("trial", "spec", row.timing, row.timing_spec)?;
                let report: TrialReport = read("trial", "report", row.timing, row.report)?;
                let (Recipe::Timing(timing), TrialReport::Timing(report)) = (timing.recipe, report) else {
                    return Ok(0);
                };
                self.settle_job(row.job, &spec, &timing, &report).await
            };
            match job.await {
                Ok(count) => settled += count,
                // The job waits for a server of a version that can read it; the other jobs go on.
                Err(error @ StoreError::Row { .. }) => {
                    tracing::error!(job = %row.job, %error, "a job whose budgets cannot be settled waits");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(settled)
    }

    async fn settle_job(
        &self,
        job: JobId,
        spec: &JobSpec,
        timing: &Timing,
        report: &TimingReport,
    ) -> Result<usize, StoreError> {
        let Some(seconds) = spec.pretrain.reference_seconds else { return Ok(0) };
        let speeds = timed_speeds(timing, report, spec.baseline());
        let steps = |arm: &ArmSpec| {
            let speed = speeds.iter().find(|speed| speed.arm == arm.name)?;
            Some((arm.name.clone(), expand::reference_steps(seconds, speed.step_seconds)))
        };
        let budgets: BTreeMap<String, u64> = spec.pretraining_arms().filter_map(steps).collect();
        // Pre-train trials come first in a job, and a job whose pre-train trials have their steps is settled. So they are
        // settled last, and a settlement that was broken off is repeated.
        let (mut settled, mut before) = (0, i32::MAX);
        loop {
            let rows = sqlx::query_as!(
                Unsettled,
                r#"select id as "id: TrialId", ordinal, arm as "arm!", spec, stage as "stage: Stage" from trial
                   where job_id = $1 and arm is not null and state = 'blocked' and ordinal < $2
                   order by ordinal desc limit $3"#,
                job.0,
                before,
                BATCH as i64
            )
            .fetch_all(&self.pool)
            .await?;
            let Some(last) = rows.last() else { return Ok(settled) };
            before = last.ordinal;
            settled += rows.len();
            self.settle_batch(job, spec, &budgets, rows).await?;
        }
    }

    async fn settle_batch(
        &self,
        job: JobId,
        spec: &JobSpec,
        budgets: &BTreeMap<String, u64>,
        rows: Vec<Unsettled>,
    ) -> Result<(), StoreError> {
        let (mut ids, mut specs, mut fingerprints, mut steps) = (vec![], vec![], vec![], vec![]);
        for row in rows {
            let mut trial: TrialSpec = read("trial", "spec", row.id, row.spec)?;
            let budget = *budgets.get(&row.arm).ok_or_else(|| StoreError::Row {
                table: "trial",
                column: "report",
                id: job.to_string(),
                why: format!("the timing trial has no steps of the arm {:?}", row.arm),
            })?;
            expand::settle(spec, &mut trial, budget);
            ids.push(row.id.0);
            fingerprints.push(trial.recipe.fingerprint().to_string());
            steps.push((row.stage == Stage::Pretrain).then(|| super::signed(budget)));
            specs.push(Json(trial));
        }
        sqlx::query!(
            "update trial t set spec = new.spec, fingerprint = new.fingerprint,
                    total_steps = coalesce(new.steps, t.total_steps)
             from unnest($1::uuid[], $2::jsonb[], $3::text[], $4::bigint[]) as new (id, spec, fingerprint, steps)
             where t.id = new.id and t.state = 'blocked'",
            &ids,
            &specs as _,
            &fingerprints,
            &steps as _
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
