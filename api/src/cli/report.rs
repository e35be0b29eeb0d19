//! `lamina report`.

use anyhow::Result;
use clap::{Args, ValueEnum};
use protocol::id::JobId;
use report::Report;
use reqwest::Method;

use super::client::{Client, Connection};
use super::jobs::named_or_newest;
use super::markdown;
use super::named;
use crate::terminal::{say, say_json, width};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The job's id [default: the newest job]
    #[arg(value_name = "JOB", value_parser = named::job)]
    job: Option<JobId>,
    /// Print the report in another form: with all digits of every number (json), as tables for a paper (latex), as
    /// tables alone (csv), as one page with figures (html) [default: laid out for the terminal]
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
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Markdown,
    Latex,
    Csv,
    Html,
}

impl Format {
    /// Its name in the query of the request.
    const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Latex => "latex",
            Self::Csv => "csv",
            Self::Html => "html",
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    let job = named_or_newest(&client, arguments.job).await?;
    let format = match arguments.format {
        None if arguments.json => Some(Format::Json),
        None if arguments.markdown => Some(Format::Markdown),
        format => format,
    };
    match format {
        _ if arguments.sentence => {
            let report = client.get::<Report>(&format!("/jobs/{job}/report")).await?.body;
            say(report.sentence.as_deref().unwrap_or("The job compares nothing."))?;
        }
        None => show(&client, job).await?,
        Some(Format::Json) => {
            say_json(&client.get::<serde_json::Value>(&format!("/jobs/{job}/report")).await?.body)?;
        }
        Some(format) => say(fetch(&client, job, format).await?.trim_end())?,
    }
    Ok(())
}

/// Prints the report of a job, laid out for the terminal.
pub(super) async fn show(client: &Client, job: JobId) -> Result<()> {
    say(markdown::render(&fetch(client, job, Format::Markdown).await?, width()))
}

async fn fetch(client: &Client, job: JobId, format: Format) -> Result<String> {
    let path = format!("/jobs/{job}/report?format={}", format.name());
    Ok(client.text(client.request(Method::GET, &path)).await?)
}
