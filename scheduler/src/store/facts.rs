//! The numbers that `/metrics` shows: totals over the whole database, and the newest points of recent jobs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::id::{JobId, TrialId};
use recipe::{Recipe, TrialReport, TrialSpec};
use report::timed_speeds;
use tokio::task::spawn_blocking;

use super::{Store, StoreError, read};

/// All numbers of one scrape.
#[derive(Debug, Clone)]
pub struct MetricFacts {
    pub trials: Vec<TrialCount>,
    pub attempts: Vec<EndedCount>,
    pub capacity: Capacity,
    /// Time from ready to placed.
    pub placement: Latency,
    /// Time from placed to the trainer's first event.
    pub start: Latency,
    pub work: Vec<Work>,
    pub points: Vec<NewestPoint>,
    pub scores: Vec<Scores>,
    pub timings: Vec<Timing>,
    pub slots: Vec<SlotUse>,
    /// Time in seconds for which the oldest queued trial has been ready; 0 if none is queued.
    pub oldest_queued: f64,
}

/// A job whose numbers are shown for themselves (the view `watched_job`). Names of jobs repeat, so the id comes with them.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchedJob {
    pub id: JobId,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TrialCount {
    pub stage: String,
    pub state: String,
    pub trials: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EndedCount {
    pub outcome: String,
    /// The kind of failure, if the outcome is a failure.
    pub failure: Option<String>,
    pub attempts: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Capacity {
    pub nodes_live: i64,
    pub nodes: i64,
    /// Slots of live nodes.
    pub slots: i64,
    /// Slots with an open attempt, on any node.
    pub slots_busy: i64,
}

/// Observations in buckets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Latency {
    /// Observations up to each of the requested bounds and above the bound before it.
    pub counts: Vec<u64>,
    /// Number of all observations.
    pub count: u64,
    /// Sum of all observations in seconds.
    pub sum: f64,
}

/// Training steps and tokens over all attempts. Steps that had to be repeated count twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    pub stage: String,
    pub steps: i64,
    /// Tokens of pre-training; other stages have no fixed number of tokens per step.
    pub tokens: Option<i64>,
}

/// The newest value of a metric, averaged over the trials of an arm and stage of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct NewestPoint {
    pub job: WatchedJob,
    pub stage: String,
    pub arm: String,
    pub name: String,
    pub value: f64,
}

/// Fine-tune scores of a job as fractions, over the seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    pub job: WatchedJob,
    pub task: String,
    pub arm: String,
    /// The blocks of the checkpoint that were kept: `all`, `every_other`, `first 6`.
    pub keep: String,
    pub learning_rate: f64,
    /// The scores of the trials that succeeded.
    pub scores: Vec<f64>,
    /// Number of runs that failed: they diverged, or their score is not above that of the majority guess.
    pub failed: i64,
    /// Number of runs that ended, failed ones included.
    pub runs: i64,
}

/// The newest timing trial of a job that succeeded.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    pub job: WatchedJob,
    pub arms: Arc<Vec<TimedArm>>,
}

/// The speed of an arm in a timing trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedArm {
    pub arm: String,
    /// Seconds of a mean step of the arm's whole run.
    pub step_seconds: f64,
    /// Step time of the baseline divided by that of the arm. Absent if the baseline was not timed.
    pub ratio: Option<f64>,
}

/// The speeds of timing trials that have been read. A trial that has succeeded does not change, and its report may
/// have megabytes.
pub(super) type ReadTimings = Arc<Mutex<HashMap<TrialId, Arc<Vec<TimedArm>>>>>;

/// A slot of a live node.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotUse {
    pub node: String,
    pub index: i32,
    pub device: String,
    pub model: String,
    /// True if an attempt is open there.
    pub busy: bool,
}

impl Store {
    /// Reads the numbers of one scrape. `bounds`: rising upper bounds of the latencies' buckets in seconds. `lease`: a node is
    /// live if it has synced within this time. `names`: the metrics whose newest points are read.
    pub async fn metric_facts(
        &self,
        bounds: &[f64],
        lease: Duration,
        names: &[String],
    ) -> Result<MetricFacts, StoreError> {
        let (placement, start) = self.latencies(bounds).await?;
        Ok(MetricFacts {
            trials: self.trials_by_stage_and_state().await?,
            attempts: self.attempts_by_outcome().await?,
            capacity: self.capacity(lease).await?,
            placement,
            start,
            work: self.work_done().await?,
            points: self.newest_points(names).await?,
            scores: self.scores().await?,
            timings: self.timings().await?,
            slots: self.slot_use(lease).await?,
            oldest_queued: self.oldest_queued().await?,
        })
    }

    async fn trials_by_stage_and_state(&self) -> Result<Vec<TrialCount>, StoreError> {
        let rows = sqlx::query_as!(
            TrialCount,
            r#"select stage::text as "stage!", state::text as "state!", count(*) as "trials!"
               from trial group by stage, state"#
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    async fn attempts_by_outcome(&self) -> Result<Vec<EndedCount>, StoreError> {
        let rows = sqlx::query_as!(
            EndedCount,
            r#"select outcome::text as "outcome!", failure_kind::text as failure, count(*) as "attempts!"
               from attempt where ended_at is not null group by outcome, failure_kind"#
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    async fn capacity(&self, lease: Duration) -> Result<Capacity, StoreError> {
        let row = sqlx::query_as!(
            Capacity,
            r#"with live as (select id from node where deleted_at is null and last_seen_at > now() - make_interval(secs => $1))
               select (select count(*) from live) as "nodes_live!",
                      (select count(*) from node where deleted_at is null) as "nodes!",
                      (select count(*) from slot where node_id in (select id from live)) as "slots!",
                      (select count(*) from attempt where ended_at is null) as "slots_busy!""#,
            lease.as_secs_f64()
        );
        Ok(row.fetch_one(&self.pool).await?)
    }

    async fn latencies(&self, bounds: &[f64]) -> Result<(Latency, Latency), StoreError> {
        let rows = sqlx::query!(
            r#"select is_start as "is_start!", width_bucket(seconds, $1) as "bucket!", count(*) as "count!",
                      sum(seconds) as "sum!"
               from (
                   select false as is_start, extract(epoch from placed_at - ready_at)::float8 as seconds from attempt
                   union all
                   select true, extract(epoch from started_at - placed_at)::float8 from attempt
                   where started_at is not null
               ) latency
               group by 1, 2"#,
            bounds
        );
        let empty = Latency { counts: vec![0; bounds.len()], count: 0, sum: 0.0 };
        let (mut placement, mut start) = (empty.clone(), empty);
        for row in rows.fetch_all(&self.pool).await? {
            let latency = if row.is_start { &mut start } else { &mut placement };
            let count = row.count.unsigned_abs();
            latency.count += count;
            latency.sum += row.sum;
            // An observation above the last bound is in no bucket and counts only in the total.
            if let Some(bucket) = usize::try_from(row.bucket).ok().and_then(|bucket| latency.counts.get_mut(bucket)) {
                *bucket += count;
            }
        }
        Ok((placement, start))
    }

    async fn work_done(&self) -> Result<Vec<Work>, StoreError> {
        let rows = sqlx::query_as!(
            Work,
            r#"select t.stage::text as "stage!", sum(a.steps)::bigint as "steps!",
                      sum(a.steps * (t.spec #>> '{recipe,batch}')::bigint * (t.spec #>> '{recipe,length}')::bigint)
                          filter (where t.stage = 'pretrain')::bigint as tokens
               from trial t
               join (
                   select trial_id, sum(greatest(step - coalesce(resumed_from, 0), 0)) as steps
                   from attempt group by trial_id
               ) a on a.trial_id = t.id
               group by t.stage"#
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// The newest points of the trials that run and of every pre-train trial, in the watched jobs.
    async fn newest_points(&self, names: &[String]) -> Result<Vec<NewestPoint>, StoreError> {
        let rows = sqlx::query!(
            r#"select j.id as "id!: JobId", j.name as "job!", t.stage::text as "stage!", t.arm as "arm!",
                      newest.name as "name!", avg(newest.value) as "value!"
               from watched_job j
               join trial t on t.job_id = j.id
               cross join unnest($1::text[]) as wanted (name)
               cross join lateral (
                   select p.name, p.value from metric_point p
                   where p.trial_id = t.id and p.name = wanted.name
                   order by p.step desc limit 1
               ) newest
               where t.arm is not null and t.started_at is not null
                 and (t.stage = 'pretrain' or t.state = 'running')
               group by j.id, j.name, t.stage, t.arm, newest.name"#,
            names
        );
        let points = rows.fetch_all(&self.pool).await?.into_iter().map(|row| NewestPoint {
            job: WatchedJob { id: row.id, name: row.job },
            stage: row.stage,
            arm: row.arm,
            name: row.name,
            value: row.value,
        });
        Ok(points.collect())
    }

    async fn scores(&self) -> Result<Vec<Scores>, StoreError> {
        let rows = sqlx::query!(
            r#"select j.id as "id!: JobId", j.name as "job!", t.task as "task!", t.arm as "arm!", k.kept as "keep!",
                      t.learning_rate as "learning_rate!", count(*) as "runs!",
                      coalesce(array_agg(r.score) filter (where r.score is not null), '{}') as "scores!",
                      count(*) filter (where coalesce(r.score <= r.majority, true)) as "failed!"
               from watched_job j
               join trial t on t.job_id = j.id
               cross join lateral (
                   select coalesce('first ' || (t.spec #>> '{recipe,keep,first}'), t.spec #>> '{recipe,keep}', 'all') as kept
               ) k
               cross join lateral (
                   select (t.report ->> 'score')::float8 as score, (t.report ->> 'majority_score')::float8 as majority
               ) r
               where t.stage = 'finetune' and (t.state = 'succeeded' or t.failure_kind in ('diverged', 'non_finite_loss'))
               group by j.id, j.name, t.task, t.arm, k.kept, t.learning_rate"#
        );
        let scores = rows.fetch_all(&self.pool).await?.into_iter().map(|row| Scores {
            job: WatchedJob { id: row.id, name: row.job },
            task: row.task,
            arm: row.arm,
            keep: row.keep,
            learning_rate: row.learning_rate,
            scores: row.scores,
            failed: row.failed,
            runs: row.runs,
        });
        Ok(scores.collect())
    }

    async fn timings(&self) -> Result<Vec<Timing>, StoreError> {
        let watched = sqlx::query!(
            r#"select distinct on (j.id) j.id as "id!: JobId", j.name as "job!", t.id as "trial!: TrialId",
                      coalesce(j.spec ->> 'baseline', j.spec #>> '{arms,0,name}') as "baseline!"
               from watched_job j join trial t on t.job_id = j.id
               where t.stage = 'timing' and t.state = 'succeeded'
               order by j.id, t.finished_at desc"#
        );
        let watched = watched.fetch_all(&self.pool).await?;
        // A panic while the lock is held leaves the map in order.
        let mut known = self.timings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.retain(|trial, _| watched.iter().any(|row| row.trial == *trial));
        let mut timings = Vec::with_capacity(watched.len());
        for row in watched {
            let arms = match known.get(&row.trial) {
                Some(arms) => arms.clone(),
                None => Arc::new(self.timed_arms(row.trial, row.baseline).await?),
            };
            known.insert(row.trial, arms.clone());
            timings.push(Timing { job: WatchedJob { id: row.id, name: row.job }, arms });
        }
        *self.timings.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(timings)
    }

    /// The speeds of the arms of a timing trial that has succeeded. Empty if another version of the server wrote it.
    async fn timed_arms(&self, trial: TrialId, baseline: String) -> Result<Vec<TimedArm>, StoreError> {
        let row = sqlx::query!(r#"select spec, report as "report!" from trial where id = $1"#, trial.0);
        let row = row.fetch_one(&self.pool).await?;
        let measured = spawn_blocking(move || {
            let spec = read::<TrialSpec>("trial", "spec", trial, row.spec)?;
            let report = read::<TrialReport>("trial", "report", trial, row.report)?;
            let (Recipe::Timing(recipe), TrialReport::Timing(report)) = (spec.recipe, report) else {
                return Ok(Vec::new());
            };
            let is_repetition = |arm: &str| recipe.arms.iter().any(|own| own.name == arm && own.repeats.is_some());
            let speeds = timed_speeds(&recipe, &report, &baseline).into_iter();
            let arms = speeds.filter(|speed| !is_repetition(speed.arm)).map(|speed| TimedArm {
                arm: speed.arm.to_owned(),
                step_seconds: speed.step_seconds,
                ratio: speed.ratio,
            });
            Ok::<_, StoreError>(arms.collect())
        });
        let failed = |why| StoreError::Internal(format!("the timing trial {trial} cannot be measured: {why}"));
        // The numbers of the other jobs are shown all the same.
        Ok(measured.await.map_err(failed)?.unwrap_or_else(|error| {
            tracing::warn!(%trial, %error, "a timed job cannot be read");
            Vec::new()
        }))
    }

    async fn slot_use(&self, lease: Duration) -> Result<Vec<SlotUse>, StoreError> {
        let rows = sqlx::query_as!(
            SlotUse,
            r#"select n.name as node, s.index, s.device, s.model, a.id is not null as "busy!"
               from slot s join node n on n.id = s.node_id
               left join attempt a on a.node_id = s.node_id and a.slot = s.index and a.ended_at is null
               where n.last_seen_at > now() - make_interval(secs => $1) and n.deleted_at is null"#,
            lease.as_secs_f64()
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    async fn oldest_queued(&self) -> Result<f64, StoreError> {
        let seconds = sqlx::query_scalar!(
            r#"select greatest(extract(epoch from now() - min(ready_at)), 0)::float8 from trial where state = 'queued'"#
        );
        Ok(seconds.fetch_one(&self.pool).await?.unwrap_or(0.0))
    }
}
