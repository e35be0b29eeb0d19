//! Data sets: import, fetch, generate.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Command {
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {}
}
