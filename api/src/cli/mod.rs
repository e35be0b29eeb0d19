//! The commands that talk to a running server.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Command {
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {}
}
