//! Metric points and log lines.

use chrono::{DateTime, Utc};
use recipe::Seeds;
use recipe::event::Point;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text::storable;
use super::{Store, StoreError, read, signed, unsigned};
use crate::summary::EventSummary;
use protocol::SequencedLine;
use protocol::id::{AttemptId, JobId, TrialId};
use sqlx::PgConnection;

/// The points of one metric of one trial.
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
    /// The points of a trial by name and step, reduced to at most `most` + 1 points a name: every k-th one and the last.
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

    /// One metric of each of the job's pre-train trials, in the order of the expansion and reduced as by `points`.
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

    /// Log lines of all attempts of the trial, from the one that follows on `after`.
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

/// Writes metric points of a trial; a point replaces an earlier one of its name and step.
pub(super) async fn write_points(
    connection: &mut PgConnection,
    trial: TrialId,
    summary: &EventSummary,
) -> Result<(), StoreError> {
    if summary.points.is_empty() {
        return Ok(());
    }
    let points = || summary.points.values();
    sqlx::query!(
        "insert into metric_point (trial_id, name, step, value, trained_seconds)
         select $1, * from unnest($2::text[], $3::bigint[], $4::float8[], $5::float8[])
         on conflict (trial_id, name, step)
         do update set value = excluded.value, trained_seconds = excluded.trained_seconds",
        trial.0,
        &points().map(|point| storable(&point.name)).collect::<Vec<_>>(),
        &points().map(|point| signed(point.step)).collect::<Vec<_>>(),
        &points().map(|point| point.value).collect::<Vec<_>>(),
        &points().map(|point| point.trained_seconds).collect::<Vec<_>>()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Appends lines to the log of a trial.
pub(super) async fn write_lines(
    connection: &mut PgConnection,
    trial: TrialId,
    attempt: AttemptId,
    lines: &[SequencedLine],
) -> Result<(), StoreError> {
    if lines.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into log_line (trial_id, attempt_id, sequence, text)
         select $1, $2, l.sequence, l.text from unnest($3::bigint[], $4::text[]) as l (sequence, text)
         order by l.sequence",
        trial.0,
        attempt.0,
        &lines.iter().map(|line| signed(line.sequence)).collect::<Vec<_>>(),
        &lines.iter().map(|line| storable(&line.text)).collect::<Vec<_>>()
    )
    .execute(connection)
    .await?;
    Ok(())
}
