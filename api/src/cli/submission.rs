//! `lamina submission`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use protocol::id::JobId;
use tempfile::NamedTempFile;

use super::client::{Client, Connection};
use super::{named, text};
use crate::terminal::say;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The job's id
    #[arg(value_name = "JOB", value_parser = named::job)]
    job: JobId,
    /// The arm whose predictions are submitted
    #[arg(long, value_name = "NAME")]
    arm: String,
    /// Constant answers for tasks that no trial of the arm will answer; without it, such a task is an error
    #[arg(long, value_name = "WITH")]
    fill: Option<Fill>,
    /// The archive to write
    #[arg(long, value_name = "FILE", default_value = "submission.zip")]
    out: PathBuf,
    /// Overwrite the archive if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fill {
    /// The most frequent answer in the training data, on every line
    Majority,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { job, arm, fill, out, force, connection } = arguments;
    // This check spares a useless download; `write` checks again.
    if !force && out.exists() {
        bail!("{}", taken(&out));
    }
    let client = Client::new(&connection)?;
    let mut query = vec![("arm", arm.as_str())];
    query.extend(fill.map(|Fill::Majority| ("fill", "majority")));
    let archive = client.bytes(&format!("/jobs/{job}/submission.zip"), &query).await?;
    write(&archive, &out, force)?;
    say(format_args!("{}  {}", out.display(), text::bytes(archive.len() as u64)))
}

/// Writes the file. It appears complete or not at all.
pub(super) fn write(bytes: &[u8], out: &Path, force: bool) -> Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = || format!("cannot write {}", out.display());
    let mut file = NamedTempFile::new_in(folder).with_context(cannot)?;
    file.write_all(bytes).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    if force {
        file.persist(out).map_err(|error| error.error).with_context(cannot)?;
        return Ok(());
    }
    match file.persist_noclobber(out) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => bail!("{}", taken(out)),
        Err(error) => Err(error.error).with_context(cannot),
    }
}

pub(super) fn taken(out: &Path) -> String {
    format!("{} exists and was not changed; name another file with --out, or overwrite it with --force", out.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_overwritten_only_with_force() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("submission.zip");
        write(b"one", &out, false).unwrap();
        assert!(write(b"two", &out, false).unwrap_err().to_string().contains("--force"));
        assert_eq!(std::fs::read(&out).unwrap(), b"one");
        write(b"two", &out, true).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
