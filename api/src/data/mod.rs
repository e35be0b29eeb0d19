//! Data: import what lies here, fetch GLUE, generate a stand-in.

mod fetch;
mod generate;
mod import;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Register a folder (corpus/, vocab/, glue/, checkpoints/, images/), or one file or folder, with a server
    Import(import::Arguments),
    /// Fetch the official GLUE archives and unpack them in the official layout
    Fetch(fetch::Arguments),
    /// Write a small generated corpus with GLUE-shaped tasks, and images of shapes, for machines with neither data nor network
    Generate(generate::Arguments),
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Import(arguments) => import::run(arguments).await,
        Command::Fetch(arguments) => fetch::run(arguments).await,
        Command::Generate(arguments) => generate::run(&arguments),
    }?;
    Ok(ExitCode::SUCCESS)
}
