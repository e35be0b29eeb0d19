//! The commands that talk to a running server.
//!
//! | module | what it is |
//! |---|---|
//! | [`client`] | HTTP, and problems as sentences |
//! | [`submit`], [`watch`], [`report`], [`submission`], [`jobs`], [`logs`], [`token`] | the commands |
//! | [`progress`], [`plan`], [`markdown`], [`table`], [`text`] | how they show what they have read |

pub(crate) mod client;
mod jobs;
mod logs;
mod markdown;
mod plan;
mod progress;
mod report;
mod submission;
mod submit;
mod table;
pub(crate) mod text;
mod token;
mod waiting;
mod watch;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use client::Connection;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Post a job
    Submit(submit::Arguments),
    /// Follow a job to its end; the exit status tells how it ended (0 succeeded, 1 failed, 3 partly, 4 cancelled)
    Watch(watch::Arguments),
    /// Show a job's report
    Report(report::Arguments),
    /// Fetch what an arm hands in to the GLUE server, as a zip archive
    Submission(submission::Arguments),
    /// List jobs
    Jobs(jobs::List),
    /// List the trials of a job
    Trials(jobs::OfJob),
    /// Show what a trial's trainer wrote to its log
    Logs(logs::Arguments),
    /// Cancel a job
    Cancel(jobs::Cancel),
    /// List nodes and what runs on their slots
    Nodes(Only),
    /// List registered data
    Datasets(Only),
    /// Make, list and revoke access tokens
    Token(token::Arguments),
}

/// A command that needs a server and nothing else.
#[derive(Args)]
pub(crate) struct Only {
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Submit(arguments) => return submit::run(arguments).await,
        Command::Watch(arguments) => return watch::run(arguments).await,
        Command::Report(arguments) => report::run(arguments).await,
        Command::Submission(arguments) => submission::run(arguments).await,
        Command::Jobs(arguments) => jobs::jobs(arguments).await,
        Command::Trials(arguments) => jobs::trials(arguments).await,
        Command::Logs(arguments) => logs::run(arguments).await,
        Command::Cancel(arguments) => jobs::cancel(arguments).await,
        Command::Nodes(only) => jobs::nodes(only.connection).await,
        Command::Datasets(only) => jobs::datasets(only.connection).await,
        Command::Token(arguments) => token::run(arguments).await,
    }?;
    Ok(ExitCode::SUCCESS)
}
