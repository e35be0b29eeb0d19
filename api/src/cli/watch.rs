//! `lamina watch`: the progress of a job until it ends.
//!
//! It reads the whole state at intervals and not a stream of changes, so an interruption of the server makes no
//! difference.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use scheduler::job::{JobStatus, JobSummary};
use scheduler::trial::TrialView;
use tokio::time::{Instant, sleep};

use super::client::{Answer, CallError, Client, Connection};
use super::jobs::named_or_newest;
use super::progress::{Bars, Lines, View};
use super::{report, text};

/// Least time between two reads.
const PERIOD: Duration = Duration::from_secs(1);
/// The pause after a read is at least this many times as long as the read, so that a large job does not load the
/// server.
const PAUSE_FACTOR: u32 = 10;
/// Time for which the server may be unreachable.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The job's id [default: the newest job]
    #[arg(value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let client = Client::new(&arguments.connection)?;
    let job = named_or_newest(&client, arguments.job).await?;
    follow(&client, &job).await
}

/// Shows the progress of a job until it ends, then its report. The exit status is that of [`exit_status`].
pub(super) async fn follow(client: &Client, job: &str) -> Result<ExitCode> {
    let mut view: Box<dyn View> =
        if std::io::stderr().is_terminal() { Box::new(Bars::new()) } else { Box::new(Lines::default()) };
    let ended = tokio::select! {
        ended = until_end(client, job, view.as_mut()) => ended?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            drop(view);
            eprintln!("The job continues. Follow it again with: lamina watch {job}");
            return Ok(ExitCode::SUCCESS);
        }
    };
    drop(view);
    let took = ended.finished_at.and_then(|end| (end - ended.created_at).to_std().ok());
    let took = took.map(|took| format!(" after {}", text::duration(took))).unwrap_or_default();
    eprintln!(
        "{} {}{took}: {} of {} trials succeeded\n",
        ended.name,
        ended.status.name(),
        ended.trials.succeeded,
        ended.trials.total()
    );
    if ended.trials.succeeded > 0 {
        report::show(client, job).await?;
    }
    Ok(ExitCode::from(exit_status(ended.status)))
}

/// The exit status for a status of the job: 0 succeeded, 1 failed, 3 some trials failed, 4 cancelled. Clap uses 2 for a
/// wrong command line.
fn exit_status(status: JobStatus) -> u8 {
    match status {
        JobStatus::Succeeded => 0,
        JobStatus::Queued | JobStatus::Running | JobStatus::Failed => 1,
        JobStatus::Partial => 3,
        JobStatus::Cancelled => 4,
    }
}

async fn until_end(client: &Client, job: &str, view: &mut dyn View) -> Result<JobSummary> {
    let mut unreachable_since = None;
    loop {
        let started = Instant::now();
        match read(client, job).await {
            Ok((answer, trials)) => {
                unreachable_since = None;
                view.show(&answer.body, &trials, answer.at);
                if answer.body.status.is_ended() {
                    return Ok(answer.body);
                }
            }
            Err(error) if error.is_transient() && unreachable_since.get_or_insert(started).elapsed() < PATIENCE => {
                view.note("the server does not answer; waiting for it");
            }
            Err(error) => return Err(error.into()),
        }
        sleep(PERIOD.max(started.elapsed() * PAUSE_FACTOR)).await;
    }
}

/// The job and its trials. The job is read first: once it has ended, the trials that are read after it have ended too.
async fn read(client: &Client, job: &str) -> Result<(Answer<JobSummary>, Vec<TrialView>), CallError> {
    let summary = client.get(&format!("/jobs/{job}")).await?;
    Ok((summary, client.list(&format!("/jobs/{job}/trials")).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_of_an_ended_job_has_its_own_exit_status() {
        assert_eq!(
            [JobStatus::Succeeded, JobStatus::Failed, JobStatus::Partial, JobStatus::Cancelled].map(exit_status),
            [0, 1, 3, 4]
        );
    }
}
