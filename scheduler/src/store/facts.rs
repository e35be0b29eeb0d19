//! The numbers that `/metrics` shows: totals over the whole database, and the newest points of recent jobs.

use std::time::Duration;

use recipe::TrialReport;
use recipe::report::TimingReport;
use sqlx::types::Json;

use super::{Store, StoreError};

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
    pub scores: Vec<ScoreSpread>,
    /// The newest timing report, and its job's baseline.
    pub timing: Option<(TimingReport, String)>,
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

/// The newest value of a metric, averaged over the trials of an arm and stage.
#[derive(Debug, Clone, PartialEq)]
pub struct NewestPoint {
    pub stage: String,
    pub arm: String,
    pub name: String,
    pub value: f64,
}

/// Fine-tune scores of the newest job that has any, as fractions.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreSpread {
    pub task: String,
    pub arm: String,
    /// The blocks of the checkpoint that were kept: `all`, `every_other`, `first 6`.
    pub keep: String,
    pub learning_rate: f64,
    pub trials: i64,
    pub mean: f64,
    /// Sample standard deviation; absent for a single trial.
    pub sd: Option<f64>,
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
            scores: self.newest_scores().await?,
            timing: self.newest_timing().await?,
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
            r#"with live as (select id from node where last_seen_at > now() - make_interval(secs => $1))
               select (select count(*) from live) as "nodes_live!",
                      (select count(*) from node) as "nodes!",
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

    /// The newest points of the trials that run and of every pre-train trial, in jobs that have not ended and in the newest job.
    async fn newest_points(&self, names: &[String]) -> Result<Vec<NewestPoint>, StoreError> {
        let rows = sqlx::query_as!(
            NewestPoint,
            r#"with watched as (
                   select id from job where ended_at is null
                   union
                   (select id from job order by id desc limit 1)
               )
               select t.stage::text as "stage!", t.arm as "arm!", newest.name as "name!", avg(newest.value) as "value!"
               from watched
               join trial t on t.job_id = watched.id
               cross join unnest($1::text[]) as wanted (name)
               cross join lateral (
                   select p.name, p.value from metric_point p
                   where p.trial_id = t.id and p.name = wanted.name
                   order by p.step desc limit 1
               ) newest
               where t.arm is not null and t.started_at is not null
                 and (t.stage = 'pretrain' or t.state = 'running')
               group by t.stage, t.arm, newest.name"#,
            names
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    async fn newest_scores(&self) -> Result<Vec<ScoreSpread>, StoreError> {
        let rows = sqlx::query_as!(
            ScoreSpread,
            r#"select task as "task!", arm as "arm!", kept as "keep!", learning_rate as "learning_rate!", count(*) as "trials!",
                      avg((report ->> 'score')::float8) as "mean!", stddev_samp((report ->> 'score')::float8) as sd
               from trial cross join lateral (
                   select coalesce('first ' || (spec #>> '{recipe,keep,first}'), spec #>> '{recipe,keep}', 'all') as kept
               ) k
               where stage = 'finetune' and state = 'succeeded' and job_id = (
                   select job_id from trial where stage = 'finetune' and state = 'succeeded' order by job_id desc limit 1
               )
               group by task, arm, kept, learning_rate"#
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    async fn newest_timing(&self) -> Result<Option<(TimingReport, String)>, StoreError> {
        let row = sqlx::query!(
            r#"select t.report as "report!: Json<TrialReport>",
                      coalesce(j.spec ->> 'baseline', j.spec #>> '{arms,0,name}') as "baseline!"
               from trial t join job j on j.id = t.job_id
               where t.stage = 'timing' and t.state = 'succeeded'
               order by t.finished_at desc limit 1"#
        );
        Ok(row.fetch_optional(&self.pool).await?.and_then(|row| match row.report.0 {
            TrialReport::Timing(timing) => Some((timing, row.baseline)),
            TrialReport::Pretrain(_) | TrialReport::Finetune(_) | TrialReport::Probe(_) => None,
        }))
    }
}
