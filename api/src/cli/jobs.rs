//! `lamina jobs` and `lamina cancel`.

use anyhow::Result;
use chrono::{DateTime, Utc};
use clap::Args;
use protocol::id::JobId;
use reqwest::Method;
use scheduler::job::JobSummary;

use super::client::{Client, Connection};
use super::named;
use super::table::{lay_out, left, right, whole};
use super::text;
use crate::page::Page;
use crate::terminal::{say, width};

#[derive(Args)]
pub(crate) struct ListArguments {
    /// Number of jobs to list, newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args)]
pub(crate) struct CancelArguments {
    /// The job's id
    #[arg(value_name = "JOB", value_parser = named::job)]
    job: JobId,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn list(arguments: ListArguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    let answer = client.get::<Page<JobSummary>>(&format!("/jobs?limit={}", arguments.limit)).await?;
    if answer.body.items.is_empty() {
        return say("No jobs yet. Submit one with: lamina submit JOB.json");
    }
    let columns = [
        whole("job"),
        left("name").at_least(22),
        left("status"),
        right("done"),
        right("succeeded").leaves(4),
        right("left").leaves(3),
        right("age").leaves(2),
        left("arms").leaves(1),
    ];
    let rows = answer.body.items.iter().map(|job| job_row(job, answer.at)).collect::<Vec<_>>();
    say(lay_out(&columns, &rows, width()))
}

fn job_row(job: &JobSummary, now: Option<DateTime<Utc>>) -> Vec<String> {
    let left = if job.status.is_ended() { None } else { text::until(job.estimated_end, now) };
    vec![
        job.id.to_string(),
        job.name.clone(),
        job.status.name().into(),
        format!("{:.0} %", job.progress * 100.0),
        format!("{} of {}", job.trials.succeeded, job.trials.total()),
        left.map(text::duration).unwrap_or_default(),
        now.and_then(|now| (now - job.created_at).to_std().ok()).map(text::duration).unwrap_or_default(),
        job.arms.join(", "),
    ]
}

pub(crate) async fn cancel(arguments: CancelArguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    let request = client.request(Method::POST, &format!("/jobs/{}/cancel", arguments.job));
    let job = client.read::<JobSummary>(request).await?.body;
    say(format_args!(
        "{}: {}, {} of {} trials were cancelled",
        job.name,
        job.status.name(),
        job.trials.cancelled,
        job.trials.total()
    ))
}

/// The given id; without one, the id of the newest job.
pub(super) async fn named_or_newest(client: &Client, job: Option<JobId>) -> Result<JobId> {
    if let Some(job) = job {
        return Ok(job);
    }
    let newest = client.get::<Page<JobSummary>>("/jobs?limit=1").await?.body.items.into_iter().next();
    match newest {
        Some(job) => Ok(job.id),
        None => anyhow::bail!("there is no job yet; submit one with: lamina submit JOB.json"),
    }
}
