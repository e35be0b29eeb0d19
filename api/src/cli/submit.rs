//! `lamina submit`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use scheduler::expand::PlannedJob;
use scheduler::job::JobSummary;
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use uuid::Uuid;

use super::client::{Answer, Client, Connection};
use super::plan;
use super::watch;
use crate::terminal::{mention, say};

/// Number of times that a job is posted if the server does not answer. The idempotency key makes it one job.
const POSTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct Arguments {
    /// File with the job as JSON; `-` reads standard input
    #[arg(value_name = "JOB.json")]
    file: PathBuf,
    /// Follow the job to its end, then print its report
    #[arg(long, short, conflicts_with = "dry_run")]
    watch: bool,
    /// Print the plan of the job (trials, hours, memory, saving of each arm) and do not submit it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let body = read(&arguments.file)?;
    let client = Client::new(&arguments.connection)?;
    let plan: PlannedJob = post(&client, "/jobs?dry_run=true", &body).await?.body;
    if arguments.dry_run {
        say(plan::show(&plan))?;
        return Ok(ExitCode::SUCCESS);
    }
    for warning in plan::warnings(&plan) {
        mention(warning);
    }
    let job: JobSummary = post(&client, "/jobs", &body).await?.body;
    if arguments.watch {
        return watch::follow(&client, job.id).await;
    }
    say(job.id)?;
    mention(format_args!(
        "\n  lamina watch {0}     follow the job\n  lamina report {0}    show its report so far",
        job.id
    ));
    Ok(ExitCode::SUCCESS)
}

async fn post<T: DeserializeOwned>(client: &Client, path: &str, body: &str) -> Result<Answer<T>> {
    let key = Uuid::now_v7().to_string();
    let mut left = POSTS;
    loop {
        left -= 1;
        let request = client.request(Method::POST, path).header(CONTENT_TYPE, "application/json");
        match client.read(request.header("Idempotency-Key", &key).body(body.to_owned())).await {
            Err(error) if error.is_transient() && left > 0 => sleep(PAUSE).await,
            answer => return Ok(answer?),
        }
    }
}

fn read(file: &Path) -> Result<String> {
    if file == Path::new("-") {
        let mut body = String::new();
        io::stdin().read_to_string(&mut body).context("cannot read standard input as UTF-8 text")?;
        return Ok(body);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
