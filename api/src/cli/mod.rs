//! The commands that talk to a running server.
//!
//! | module | content |
//! |---|---|
//! | [`client`] | HTTP, with refusals as sentences |
//! | [`submit`], [`watch`], [`report`], [`evidence`], [`submission`], [`jobs`], [`trials`], [`logs`], [`checkpoint`], [`nodes`], [`datasets`], [`token`] | the commands |
//! | [`named`] | arguments that name a job, a trial or a token |
//! | [`progress`], [`waiting`], [`plan`], [`markdown`], [`table`], [`text`] | the form in which answers are shown |

mod checkpoint;
pub(crate) mod client;
mod datasets;
mod evidence;
mod jobs;
mod logs;
mod markdown;
mod named;
mod nodes;
mod plan;
mod progress;
mod report;
mod submission;
mod submit;
mod table;
pub(crate) mod text;
mod token;
mod trials;
mod waiting;
mod watch;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use client::Connection;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Submit a job
    Submit(submit::Arguments),
    /// Follow a job to its end; exit status: 0 succeeded, 1 failed, 3 some trials failed, 4 cancelled
    Watch(watch::Arguments),
    /// Show a job's report
    Report(report::Arguments),
    /// Download what a job's report is computed from, as a zip archive
    Evidence(evidence::Arguments),
    /// Download an arm's predictions for the GLUE server, as a zip archive
    Submission(submission::Arguments),
    /// List jobs
    Jobs(jobs::ListArguments),
    /// List the trials of a job
    Trials(trials::Arguments),
    /// Show the log of a trial
    Logs(logs::Arguments),
    /// Download a trial's newest checkpoint, as a folder that transformers loads
    Checkpoint(checkpoint::Arguments),
    /// Cancel a job
    Cancel(jobs::CancelArguments),
    /// List nodes with the trials on their slots
    Nodes(Connection),
    /// Drain, resume and delete a node
    Node(nodes::Arguments),
    /// List registered data sets
    Datasets(Connection),
    /// Create, list and revoke access tokens
    Token(token::Arguments),
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Submit(arguments) => return submit::run(arguments).await,
        Command::Watch(arguments) => return watch::run(arguments).await,
        Command::Report(arguments) => report::run(arguments).await,
        Command::Evidence(arguments) => evidence::run(arguments).await,
        Command::Submission(arguments) => submission::run(arguments).await,
        Command::Jobs(arguments) => jobs::list(arguments).await,
        Command::Trials(arguments) => trials::run(arguments).await,
        Command::Logs(arguments) => logs::run(arguments).await,
        Command::Checkpoint(arguments) => checkpoint::run(arguments).await,
        Command::Cancel(arguments) => jobs::cancel(arguments).await,
        Command::Nodes(connection) => nodes::list(&connection).await,
        Command::Node(arguments) => nodes::run(arguments).await,
        Command::Datasets(connection) => datasets::run(&connection).await,
        Command::Token(arguments) => token::run(arguments).await,
    }?;
    Ok(ExitCode::SUCCESS)
}
