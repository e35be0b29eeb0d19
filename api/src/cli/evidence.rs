//! `lamina evidence`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use protocol::id::JobId;

use super::client::{Client, Connection};
use super::jobs::named_or_newest;
use super::submission::{taken, write};
use super::{named, text};
use crate::terminal::say;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The job's id [default: the newest job]
    #[arg(value_name = "JOB", value_parser = named::job)]
    job: Option<JobId>,
    /// The archive to write
    #[arg(long, value_name = "FILE", default_value = "evidence.zip")]
    out: PathBuf,
    /// Overwrite the archive if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { job, out, force, connection } = arguments;
    // This check spares a useless download; `write` checks again.
    if !force && out.exists() {
        bail!("{}", taken(&out));
    }
    let client = Client::new(&connection)?;
    let job = named_or_newest(&client, job).await?;
    let archive = client.bytes(&format!("/jobs/{job}/evidence.zip"), &[]).await?;
    write(&archive, &out, force)?;
    say(format_args!("{}  {}", out.display(), text::bytes(archive.len() as u64)))
}
