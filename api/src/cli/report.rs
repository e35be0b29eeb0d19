//! `lamina report`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use protocol::id::JobId;
use report::Report;
use reqwest::Method;

use super::client::{Client, Connection};
use super::jobs::named_or_newest;
use super::markdown;
use super::named;
use crate::evidence;
use crate::format::Format;
use crate::terminal::{say, say_json, width};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The job's id [default: the newest job]
    #[arg(value_name = "JOB", value_parser = named::job)]
    job: Option<JobId>,
    /// The form of the report [default: laid out for the terminal]
    #[arg(long, value_name = "FORMAT", value_enum, group = "form")]
    format: Option<Format>,
    /// The same as --format json
    #[arg(long, group = "form")]
    json: bool,
    /// The same as --format markdown
    #[arg(long, group = "form")]
    markdown: bool,
    /// Print only the answer of the job, in one sentence
    #[arg(long, group = "form")]
    sentence: bool,
    /// Compute the report again from the evidence in FILE (`lamina evidence`), without a server
    #[arg(long, value_name = "FILE", conflicts_with = "job")]
    from: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { job, format, json, markdown: is_markdown, sentence, from, connection } = arguments;
    let format = match format {
        None if json => Some(Format::Json),
        None if is_markdown => Some(Format::Markdown),
        format => format,
    };
    if let Some(from) = from {
        let archive = std::fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let report = evidence::recompute(&archive).with_context(|| format!("{} is no evidence", from.display()))?;
        return if sentence { say_sentence(&report) } else { print(&report, format) };
    }
    let client = Client::new(&connection)?;
    let job = named_or_newest(&client, job).await?;
    match format {
        _ if sentence => say_sentence(&client.get::<Report>(&format!("/jobs/{job}/report")).await?.body),
        None => show(&client, job).await,
        Some(Format::Json) => say_json(&client.get::<serde_json::Value>(&format!("/jobs/{job}/report")).await?.body),
        Some(format) => say(fetch(&client, job, format).await?.trim_end()),
    }
}

fn say_sentence(report: &Report) -> Result<()> {
    say(report.sentence.as_deref().unwrap_or("The job compares nothing."))
}

fn print(report: &Report, format: Option<Format>) -> Result<()> {
    match format {
        None => say(markdown::render(&report.to_markdown(), width())),
        Some(format) => match format.writer() {
            None => say_json(&serde_json::to_value(report)?),
            Some(write) => say(write(report).trim_end()),
        },
    }
}

/// Prints the report of a job, laid out for the terminal.
pub(super) async fn show(client: &Client, job: JobId) -> Result<()> {
    say(markdown::render(&fetch(client, job, Format::Markdown).await?, width()))
}

async fn fetch(client: &Client, job: JobId, format: Format) -> Result<String> {
    let path = format!("/jobs/{job}/report?format={}", format.name());
    Ok(client.text(client.request(Method::GET, &path)).await?)
}
