//! `lamina watch`: the progress of a job until it ends.
//!
//! It reads the whole state at intervals and not a stream of changes, so an interruption of the server makes no
//! difference.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use indicatif::ProgressDrawTarget;
use protocol::id::JobId;
use scheduler::job::{JobStatus, JobSummary};
use scheduler::trial::TrialView;
use tokio::time::{Instant, sleep};

use super::client::{Answer, CallError, Client, Connection};
use super::jobs::named_or_newest;
use super::progress::{Bars, Lines, View};
use super::{named, report, text};
use crate::terminal::{Closed, mention};

/// Least time between two reads.
const PERIOD: Duration = Duration::from_secs(1);
/// The pause after a read is at least this many times as long as the read, so that a large job does not load the
/// server.
const PAUSE_FACTOR: u32 = 10;
/// Time for which the server may be unreachable.
const PATIENCE: Duration = Duration::from_secs(600);
/// The exit statuses of a program that SIGINT ended (Ctrl-C) and of one that SIGPIPE ended (nobody reads the progress any
/// more). Status 0 would say that the job has succeeded.
const INTERRUPTED: u8 = 130;
const UNREAD: u8 = 141;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The job's id [default: the newest job]
    #[arg(value_name = "JOB", value_parser = named::job)]
    job: Option<JobId>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let client = Client::new(&arguments.connection)?;
    let job = named_or_newest(&client, arguments.job).await?;
    follow(&client, job).await
}

/// Shows the progress of a job until it ends, then its report. The exit status is that of [`exit_status`].
pub(super) async fn follow(client: &Client, job: JobId) -> Result<ExitCode> {
    // Bars are hidden where standard error is no terminal, or one that cannot move its cursor.
    let mut view: Box<dyn View> =
        if ProgressDrawTarget::stderr().is_hidden() { Box::new(Lines::default()) } else { Box::new(Bars::new()) };
    let ended = tokio::select! {
        ended = until_end(client, job, view.as_mut()) => match ended {
            Err(error) if error.is::<Closed>() => return Ok(ExitCode::from(UNREAD)),
            ended => ended?,
        },
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            drop(view);
            mention(format_args!("The job continues. Follow it again with: lamina watch {job}"));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    drop(view);
    mention(format_args!("{}\n", ending(&ended)));
    if ended.trials.succeeded > 0 {
        match report::show(client, job).await {
            // The exit status still says how the job ended.
            Err(error) if error.is::<Closed>() => {}
            shown => shown?,
        }
    }
    Ok(ExitCode::from(exit_status(ended.status)))
}

/// How a job ended. Its time counts from the first placement of a trial, because the time before it is that of the queue.
fn ending(job: &JobSummary) -> String {
    let took = job.finished_at.zip(job.started_at).and_then(|(end, start)| (end - start).to_std().ok());
    let took = took.map(|took| format!(" after {}", text::duration(took))).unwrap_or_default();
    let (status, trials) = (job.status.name(), &job.trials);
    let others = [(trials.failed, "failed"), (trials.cancelled, "cancelled")];
    let others = others.iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!(", {count} {how}"));
    let others: String = others.collect();
    format!("{} {status}{took}: {} of {} trials succeeded{others}", job.name, trials.succeeded, trials.total())
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

async fn until_end(client: &Client, job: JobId, view: &mut dyn View) -> Result<JobSummary> {
    let mut unreachable_since = None;
    loop {
        let started = Instant::now();
        match read(client, job).await {
            Ok((answer, trials)) => {
                unreachable_since = None;
                view.show(&answer.body, &trials, answer.at)?;
                if answer.body.status.is_ended() {
                    return Ok(answer.body);
                }
            }
            Err(error) if error.is_transient() && unreachable_since.get_or_insert(started).elapsed() < PATIENCE => {
                view.note("the server does not answer; waiting for it")?;
            }
            Err(error) => return Err(error.into()),
        }
        sleep(PERIOD.max(started.elapsed() * PAUSE_FACTOR)).await;
    }
}

/// The job and its trials. The job is read first: once it has ended, the trials that are read after it have ended too.
async fn read(client: &Client, job: JobId) -> Result<(Answer<JobSummary>, Vec<TrialView>), CallError> {
    let summary = client.get(&format!("/jobs/{job}")).await?;
    Ok((summary, client.list(&format!("/jobs/{job}/trials")).await?))
}

#[cfg(test)]
mod tests {
    use scheduler::job::TrialCounts;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_time_of_a_job_does_not_include_that_in_the_queue() {
        let job: JobSummary = serde_json::from_value(json!({
            "id": Uuid::nil(), "name": "compare", "status": "cancelled", "created_at": "2026-11-23T19:00:00Z",
            "started_at": "2026-11-23T21:00:00Z", "finished_at": "2026-11-23T21:05:00Z", "arms": ["pld"], "baseline": "pld", "progress": 1.0,
            "estimated_end": null, "trials": TrialCounts { succeeded: 3, cancelled: 9, ..TrialCounts::default() },
        }))
        .unwrap();
        let expected = "compare cancelled after 5 min 00 s: 3 of 12 trials succeeded, 9 cancelled";
        assert_eq!(ending(&job), expected);
        let never_started = JobSummary { started_at: None, ..job };
        assert_eq!(ending(&never_started), "compare cancelled: 3 of 12 trials succeeded, 9 cancelled");
    }

    #[test]
    fn each_status_of_an_ended_job_has_its_own_exit_status() {
        assert_eq!(
            [JobStatus::Succeeded, JobStatus::Failed, JobStatus::Partial, JobStatus::Cancelled].map(exit_status),
            [0, 1, 3, 4]
        );
    }
}
