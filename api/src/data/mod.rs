//! `lamina data`: import files of this machine, fetch open data, generate a small substitute.

mod fetch;
mod generate;
mod import;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Register a data folder (corpus/, vocab/, glue/, checkpoints/, images/) or a single file or folder with a server
    Import(import::Arguments),
    /// Fetch a vocabulary, an open corpus and GLUE, and unpack them so that `lamina data import` takes them
    Fetch(fetch::Arguments),
    /// Generate a small corpus, GLUE-shaped tasks and images of shapes, for machines without data and network
    Generate(generate::Arguments),
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Import(arguments) => import::run(arguments).await,
        Command::Fetch(arguments) => fetch::run(arguments).await,
        Command::Generate(arguments) => generate::run(arguments),
    }?;
    Ok(ExitCode::SUCCESS)
}
