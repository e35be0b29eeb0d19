//! What earlier jobs and the slots say about the cost of the next job.

use std::time::Duration;

use protocol::id::JobId;
use recipe::report::{ArmTiming, Turn};
use recipe::{Recipe, TrialReport, TrialSpec};

use super::{Store, StoreError, read, unsigned};
use crate::expand::{FreeSlots, TimedArm, TimedJob};

impl Store {
    /// Up to `most` timing trials that succeeded, the newest first.
    pub async fn timed_jobs(&self, most: i64) -> Result<Vec<TimedJob>, StoreError> {
        let rows = sqlx::query!(
            r#"select t.job_id as "job: JobId", t.spec, t.report as "report!", t.work,
                      (select a.device ->> 'model' from attempt a
                       where a.trial_id = t.id and a.outcome = 'succeeded') as device
               from trial t where t.stage = 'timing' and t.state = 'succeeded'
               order by t.finished_at desc limit $1"#,
            most
        )
        .fetch_all(&self.pool)
        .await?;
        let mut timed = Vec::with_capacity(rows.len());
        for row in rows {
            let found = read("trial", "spec", row.job, row.spec)
                .and_then(|spec| Ok((spec, read("trial", "report", row.job, row.report)?)));
            match (found, row.device) {
                (Ok((spec, report)), Some(device)) => timed.extend(timed_job(row.job, device, row.work, spec, report)),
                // Another version of the server wrote it. The estimate follows from the other jobs.
                (Err(error), _) => tracing::warn!(job = %row.job, %error, "a timed job cannot be read"),
                (Ok(_), None) => {}
            }
        }
        Ok(timed)
    }

    /// The slots on which new trials may be placed.
    pub async fn free_slots(&self, lease: Duration) -> Result<FreeSlots, StoreError> {
        let row = sqlx::query!(
            r#"select count(*) as "number!", coalesce(max(s.memory_bytes), 0) as "largest!"
               from slot s join node n on n.id = s.node_id
               where n.deleted_at is null and not n.draining and not n.leaving
                 and n.last_seen_at > now() - make_interval(secs => $1)"#,
            lease.as_secs_f64()
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(FreeSlots { number: unsigned(row.number), largest_bytes: unsigned(row.largest) })
    }
}

/// `work` is the planned FLOPs of the trial.
fn timed_job(job: JobId, device: String, work: f64, spec: TrialSpec, report: TrialReport) -> Option<TimedJob> {
    let (Recipe::Timing(recipe), TrialReport::Timing(report)) = (spec.recipe, report) else { return None };
    let steps_per_arm = recipe.total_steps() as f64 / recipe.arms.len() as f64;
    let seconds_per_step =
        |arm: &ArmTiming| arm.turns.iter().map(Turn::mean_seconds).sum::<f64>() / arm.turns.len() as f64;
    // A step of every arm, one after the other.
    let seconds: f64 = report.arms.iter().map(seconds_per_step).sum();
    let flops_per_second = work / steps_per_arm / seconds;
    if !flops_per_second.is_finite() || flops_per_second <= 0.0 {
        return None;
    }
    let arms = recipe.arms.into_iter().map(|arm| {
        let memory = report.arms.iter().find(|timed| timed.name == arm.name).and_then(|timed| timed.memory.clone());
        TimedArm { recipe: arm.recipe, memory }
    });
    Some(TimedJob { job, device, flops_per_second, arms: arms.collect() })
}
