//! `lamina submit`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use scheduler::expand::Plan;
use scheduler::job::JobSummary;
use tokio::time::sleep;
use uuid::Uuid;

use super::client::{Answer, Client, Connection};
use super::plan;
use super::watch;

/// How often a job is posted again when the server is away meanwhile. Its key makes sure that it counts once.
const POSTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The job as JSON; `-` reads standard input
    #[arg(value_name = "JOB.json")]
    file: PathBuf,
    /// Follow it to its end and print the report
    #[arg(long, short, conflicts_with = "dry_run")]
    watch: bool,
    /// Only say what it would do: trials, steps, FLOPs and the saving of each arm
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let body = read(&arguments.file)?;
    let client = Client::new(&arguments.connection)?;
    if arguments.dry_run {
        let request = client.request(Method::POST, "/jobs?dry_run=true").header(CONTENT_TYPE, "application/json");
        let plan = client.read::<Plan>(request.body(body)).await?.body;
        println!("{}", plan::show(&plan));
        return Ok(ExitCode::SUCCESS);
    }
    let job = post(&client, body).await?.body;
    if arguments.watch {
        return watch::follow(&client, &job.id.to_string()).await;
    }
    println!("{}", job.id);
    eprintln!("\n  lamina watch {0}     follow it\n  lamina report {0}    its report so far", job.id);
    Ok(ExitCode::SUCCESS)
}

async fn post(client: &Client, body: String) -> Result<Answer<JobSummary>> {
    let key = Uuid::now_v7().to_string();
    let mut left = POSTS;
    loop {
        left -= 1;
        let request = client.request(Method::POST, "/jobs").header(CONTENT_TYPE, "application/json");
        match client.read(request.header("Idempotency-Key", &key).body(body.clone())).await {
            Err(error) if error.is_passing() && left > 0 => sleep(PAUSE).await,
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
