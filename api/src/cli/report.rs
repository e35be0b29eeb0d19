//! `lamina report`.

use anyhow::Result;
use clap::Args;
use reqwest::Method;
use reqwest::header::ACCEPT;

use super::client::{Client, Connection};
use super::jobs::named_or_newest;
use super::markdown;
use super::table::terminal_width;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The job's id [default: the newest job]
    #[arg(value_name = "JOB")]
    job: Option<String>,
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
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else if arguments.markdown {
        print!("{}", fetch(&client, &job).await?);
    } else {
        show(&client, &job).await?;
    }
    Ok(())
}

/// Prints the report of a job, laid out for the terminal.
pub(super) async fn show(client: &Client, job: &str) -> Result<()> {
    println!("{}", markdown::render(&fetch(client, job).await?, terminal_width()));
    Ok(())
}

async fn fetch(client: &Client, job: &str) -> Result<String> {
    let request = client.request(Method::GET, &format!("/jobs/{job}/report?format=markdown"));
    Ok(client.text(request.header(ACCEPT, "text/markdown")).await?)
}
