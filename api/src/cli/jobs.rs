//! `lamina jobs`, `trials`, `nodes`, `datasets` and `cancel`.

use anyhow::Result;
use chrono::{DateTime, Utc};
use clap::Args;
use recipe::TrialReport;
use reqwest::Method;
use scheduler::dataset::DatasetView;
use scheduler::job::{JobSummary, TrialCounts};
use scheduler::node::NodeView;
use scheduler::trial::TrialView;

use super::client::{Client, Connection};
use super::table::{lay_out, left, right, terminal_width, whole};
use super::text;
use super::waiting;
use crate::page::Page;

#[derive(Args)]
pub(crate) struct List {
    /// How many, newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args)]
pub(crate) struct OfJob {
    /// The job's id [default: the newest job]
    #[arg(value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args)]
pub(crate) struct Cancel {
    /// The job's id
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn jobs(arguments: List) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    let answer = client.get::<Page<JobSummary>>(&format!("/jobs?limit={}", arguments.limit)).await?;
    if answer.body.items.is_empty() {
        println!("No jobs yet. Post one with: lamina submit JOB.json");
        return Ok(());
    }
    let columns = [
        whole("job"),
        left("name"),
        left("status"),
        right("done"),
        right("trials"),
        right("left"),
        right("age"),
        left("arms"),
    ];
    let rows = answer.body.items.iter().map(|job| job_row(job, answer.at)).collect::<Vec<_>>();
    println!("{}", lay_out(&columns, &rows, terminal_width()));
    Ok(())
}

fn job_row(job: &JobSummary, now: Option<DateTime<Utc>>) -> Vec<String> {
    let left = if job.status.is_ended() { None } else { text::until(job.estimated_end, now) };
    vec![
        job.id.to_string(),
        job.name.clone(),
        job.status.name().into(),
        format!("{:.0} %", job.progress * 100.0),
        format!("{} of {}", ended(&job.trials), all(&job.trials)),
        left.map(text::duration).unwrap_or_default(),
        now.and_then(|now| (now - job.created_at).to_std().ok()).map(text::duration).unwrap_or_default(),
        job.arms.join(", "),
    ]
}

pub(crate) async fn trials(arguments: OfJob) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    let job = named_or_newest(&client, arguments.job).await?;
    let trials = client.list::<TrialView>(&format!("/jobs/{job}/trials")).await?;
    let columns = [
        whole("trial"),
        left("stage"),
        left("arm"),
        left("task"),
        right("seed"),
        left("state"),
        right("step"),
        right("score"),
        left(""),
    ];
    let rows = trials.iter().map(trial_row).collect::<Vec<_>>();
    println!("{}", lay_out(&columns, &rows, terminal_width()));
    Ok(())
}

fn ended(trials: &TrialCounts) -> i64 {
    trials.succeeded + trials.failed + trials.cancelled
}

/// How many trials a job has.
pub(super) fn all(trials: &TrialCounts) -> i64 {
    ended(trials) + trials.blocked + trials.queued + trials.running + trials.paused
}

/// Fine-tuning score, or validation loss.
fn score(trial: &TrialView) -> Option<f64> {
    match trial.report.as_ref()? {
        TrialReport::Finetune(report) => Some(report.score),
        TrialReport::Pretrain(report) => Some(report.validation_loss),
        TrialReport::Probe(report) => Some(report.validation_loss),
        TrialReport::Timing(_) => None,
    }
}

fn trial_row(trial: &TrialView) -> Vec<String> {
    let failure = trial.failure.as_ref().map(|failure| failure.message.clone());
    let reason = failure.or_else(|| trial.waiting.as_ref().map(waiting::words));
    vec![
        trial.id.to_string(),
        trial.stage.name().into(),
        trial.arm.clone().unwrap_or_default(),
        trial.task.clone().unwrap_or_default(),
        trial.seeds.data.to_string(),
        trial.state.name().into(),
        trial.total_steps.map(|total| format!("{}/{total}", trial.step)).unwrap_or_default(),
        score(trial).map(|score| format!("{score:.4}")).unwrap_or_default(),
        reason.unwrap_or_default(),
    ]
}

pub(crate) async fn nodes(connection: Connection) -> Result<()> {
    let client = Client::new(&connection)?;
    let nodes = client.list::<NodeView>("/nodes").await?;
    if nodes.is_empty() {
        println!("No node has reported yet. Start one with: lamina agent --server {}", client.server());
        return Ok(());
    }
    let columns =
        [left("node"), left("state"), right("slot"), left("device"), right("threads"), right("memory"), left("runs")];
    let mut rows = Vec::new();
    for node in &nodes {
        for slot in &node.slots {
            rows.push(vec![
                node.name.clone(),
                if node.live { "live" } else { "away" }.into(),
                slot.index.to_string(),
                format!("{} {}", slot.device, slot.model),
                slot.threads.to_string(),
                text::bytes(slot.memory_bytes),
                slot.attempt.as_ref().map_or("idle".into(), |attempt| format!("trial {}", attempt.trial)),
            ]);
        }
    }
    println!("{}", lay_out(&columns, &rows, terminal_width()));
    Ok(())
}

pub(crate) async fn datasets(connection: Connection) -> Result<()> {
    let client = Client::new(&connection)?;
    let datasets = client.get::<Page<DatasetView>>("/datasets").await?.body.items;
    if datasets.is_empty() {
        println!("No data yet. Register some with: lamina data import DIR");
        return Ok(());
    }
    let columns = [left("name"), left("kind"), right("size"), left("digest"), left("path")];
    let rows: Vec<_> = datasets
        .into_iter()
        .map(|dataset| {
            let digest = dataset.digest.chars().take(12).collect();
            vec![dataset.name, dataset.kind.name().into(), text::bytes(dataset.bytes), digest, dataset.path]
        })
        .collect();
    println!("{}", lay_out(&columns, &rows, terminal_width()));
    Ok(())
}

pub(crate) async fn cancel(arguments: Cancel) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    let request = client.request(Method::POST, &format!("/jobs/{}/cancel", arguments.job));
    let job = client.read::<JobSummary>(request).await?.body;
    println!(
        "{}: {}, {} of {} trials were cancelled",
        job.name,
        job.status.name(),
        job.trials.cancelled,
        all(&job.trials)
    );
    Ok(())
}

/// The id that was given or the newest job's.
pub(super) async fn named_or_newest(client: &Client, job: Option<String>) -> Result<String> {
    if let Some(job) = job {
        return Ok(job);
    }
    let newest = client.get::<Page<JobSummary>>("/jobs?limit=1").await?.body.items.into_iter().next();
    match newest {
        Some(job) => Ok(job.id.to_string()),
        None => anyhow::bail!("there is no job yet; post one with: lamina submit JOB.json"),
    }
}
