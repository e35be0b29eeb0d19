//! `lamina report`.

use anyhow::Result;
use clap::Args;
use protocol::id::JobId;
use reqwest::Method;
use reqwest::header::ACCEPT;

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
    /// Print JSON, with all digits of every number
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    let job = named_or_newest(&client, arguments.job).await?;
    if arguments.json {
        let report = client.get::<serde_json::Value>(&format!("/jobs/{job}/report")).await?.body;
        say_json(&report)?;
    } else if arguments.markdown {
        say(fetch(&client, job).await?.trim_end())?;
    } else {
        show(&client, job).await?;
    }
    Ok(())
}

/// Prints the report of a job, laid out for the terminal.
pub(super) async fn show(client: &Client, job: JobId) -> Result<()> {
    say(markdown::render(&fetch(client, job).await?, width()))
}

async fn fetch(client: &Client, job: JobId) -> Result<String> {
    let request = client.request(Method::GET, &format!("/jobs/{job}/report?format=markdown"));
    Ok(client.text(request.header(ACCEPT, "text/markdown")).await?)
}
