//! Metric points and log lines.

use chrono::{DateTime, Utc};
use recipe::Seeds;
use recipe::event::Point;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Store, StoreError, read, unsigned};
use protocol::id::{AttemptId, JobId, TrialId};

/// One metric of one trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Series {
    pub trial: TrialId,
    pub arm: Option<String>,
    pub seeds: Seeds,
    pub points: Vec<SeriesPoint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeriesPoint {
    pub step: u64,
    pub trained_seconds: f64,
    pub value: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Rises within a trial.
    pub id: i64,
    pub attempt: AttemptId,
    pub text: String,
    pub at: DateTime<Utc>,
}

impl Store {
    /// The points of a trial by name and step: of each name every k-th and the last, so that `most` are not passed by
    /// more than one.
    pub async fn points(&self, trial: TrialId, most: i64) -> Result<Vec<Point>, StoreError> {
        let rows = sqlx::query!(
            "select name, step, value, trained_seconds from (
                 select *, row_number() over (partition by name order by step) as place,
                        count(*) over (partition by name) as number
                 from metric_point where trial_id = $1
             ) p
             where place = number or (place - 1) % ((number + $2 - 1) / $2) = 0
             order by name, step",
            trial.0,
            most.max(1)
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Point {
                name: row.name,
                step: unsigned(row.step),
                value: row.value,
                trained_seconds: row.trained_seconds,
            })
            .collect())
    }

    /// One metric of the job's pre-train trials, in the order of the expansion; each cut down as `points` does. An arm's curve
    /// is its pre-training; a fine-tune trial shows its own.
    pub async fn curves(&self, job: JobId, name: &str, most: i64) -> Result<Vec<Series>, StoreError> {
        let rows = sqlx::query!(
            r#"select id as "id: TrialId", arm, spec -> 'seeds' as "seeds!", step, value, trained_seconds from (
                   select t.id, t.ordinal, t.arm, t.spec, m.step, m.value, m.trained_seconds,
                          row_number() over (partition by t.id order by m.step) as place,
                          count(*) over (partition by t.id) as number
                   from trial t join metric_point m on m.trial_id = t.id and m.name = $2
                   where t.job_id = $1 and t.stage = 'pretrain'
               ) p
               where place = number or (place - 1) % ((number + $3 - 1) / $3) = 0
               order by ordinal, step"#,
            job.0,
            name,
            most.max(1)
        )
        .fetch_all(&self.pool)
        .await?;
        let mut series: Vec<Series> = Vec::new();
        for row in rows {
            let point =
                SeriesPoint { step: unsigned(row.step), trained_seconds: row.trained_seconds, value: row.value };
            match series.last_mut() {
                Some(last) if last.trial == row.id => last.points.push(point),
                _ => series.push(Series {
                    trial: row.id,
                    arm: row.arm,
                    seeds: read("trial", "spec", row.id, row.seeds)?,
                    points: vec![point],
                }),
            }
        }
        Ok(series)
    }

    /// Log lines of all the trial's attempts after `after`.
    pub async fn logs(&self, trial: TrialId, after: i64, limit: i64) -> Result<Vec<LogLine>, StoreError> {
        let rows = sqlx::query_as!(
            LogLine,
            r#"select id, attempt_id as "attempt: AttemptId", text, at from log_line
               where trial_id = $1 and id > $2 order by id limit $3"#,
            trial.0,
            after,
            limit
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }
}
