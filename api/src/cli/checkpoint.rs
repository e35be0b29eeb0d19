//! `lamina checkpoint`.
//!
//! The files go to a hidden folder beside the wanted one, whose name holds the digest of the manifest: a second call
//! goes on where the first broke off, and the wanted folder appears complete or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use protocol::id::TrialId;
use recipe::event::{MANIFEST, ManifestFile};
use reqwest::header::RANGE;
use reqwest::{Method, StatusCode};
use sha2::{Digest, Sha256};

use super::client::{Client, Connection};
use super::{named, text};
use crate::routes::checkpoint::Checkpoint;
use crate::terminal::say;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The trial's id (see `lamina trials`)
    #[arg(value_name = "TRIAL", value_parser = named::trial)]
    trial: TrialId,
    /// The folder to make; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(Arguments { trial, out, connection }: Arguments) -> Result<()> {
    refuse_taken(&out)?;
    let client = Client::new(&connection)?;
    let Checkpoint { checkpoint, files, .. } = client.get(&format!("/trials/{trial}/checkpoint")).await?.body;
    let partial = partial_folder(&out, &checkpoint.manifest)?;
    fs::create_dir_all(&partial).with_context(|| cannot_write(&partial))?;
    let total = files.iter().map(|file| file.bytes).sum();
    let bar =
        ProgressBar::new(total).with_style(ProgressStyle::with_template("{bytes} of {total_bytes}, {eta}  {msg}")?);
    for file in &files {
        bar.set_message(file.name.clone());
        fetch(&client, &partial, file, &bar).await.with_context(|| resumable(&file.name))?;
    }
    let manifest = client.bytes(&format!("/artifacts/{}", checkpoint.manifest), &[]).await?;
    check(MANIFEST, &hex::encode(Sha256::digest(&manifest)), &checkpoint.manifest)?;
    write_synced(&partial.join(MANIFEST), &manifest)?;
    publish(&partial, &out)?;
    bar.finish_and_clear();
    say(format_args!("{}  step {}, {} files, {}", out.display(), checkpoint.step, files.len() + 1, text::bytes(total)))
}

/// Refuses a folder that has something in it, or that is not a folder.
fn refuse_taken(out: &Path) -> Result<()> {
    let entries = match fs::read_dir(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("{} cannot be the folder of a checkpoint", out.display()))?,
    };
    if entries.count() > 0 {
        bail!("{} is not empty and was not changed; name another folder with --out", out.display());
    }
    Ok(())
}

/// The folder beside `out` that holds the files until all are there.
fn partial_folder(out: &Path, manifest: &str) -> Result<PathBuf> {
    let Some(name) = out.file_name() else {
        bail!("{} has no name of its own; name a folder to make with --out", out.display());
    };
    let short = manifest.get(..16).unwrap_or(manifest);
    let partial = [".".as_ref(), name, format!(".{short}.partial").as_ref()].into_iter().collect::<OsString>();
    Ok(out.with_file_name(partial))
}

/// Brings one file into `folder`, from the byte on that an earlier call has reached.
async fn fetch(client: &Client, folder: &Path, file: &ManifestFile, bar: &ProgressBar) -> Result<()> {
    let ManifestFile { name, sha256, bytes } = file;
    let path = folder.join(plain(name)?);
    let mut target = File::options().create(true).append(true).open(&path).with_context(|| cannot_write(&path))?;
    let mut have = target.metadata()?.len();
    let mut request = client.request(Method::GET, &format!("/artifacts/{sha256}"));
    if (1..*bytes).contains(&have) {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    if have != *bytes {
        let response = client.send(request).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            target.set_len(0).with_context(|| cannot_write(&path))?;
            have = 0;
        }
        bar.inc(have);
        let mut parts = response.bytes_stream();
        while let Some(part) = parts.next().await {
            let part = part.context("the connection broke off")?;
            target.write_all(&part).with_context(|| cannot_write(&path))?;
            bar.inc(part.len() as u64);
        }
        target.sync_all().with_context(|| cannot_write(&path))?;
    } else {
        bar.inc(have);
    }
    let mut hash = Sha256::new();
    io::copy(&mut File::open(&path)?, &mut hash).with_context(|| format!("cannot read {}", path.display()))?;
    check(name, &hex::encode(hash.finalize()), sha256).inspect_err(|_| drop(fs::remove_file(&path)))
}

/// A manifest comes from elsewhere: its names must not lead out of the folder, nor replace the manifest.
fn plain(name: &str) -> Result<&str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.starts_with('.') || name == MANIFEST || !name.bytes().all(allowed) {
        bail!("{name:?} is not the name of a file of a checkpoint; nothing was written to it");
    }
    Ok(name)
}

fn check(name: &str, found: &str, expected: &str) -> Result<()> {
    if found != expected {
        bail!("{name} has the sha256 {found}, not {expected}, which its manifest names; what came was removed");
    }
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| cannot_write(path))
}

/// Gives the folder its name, in place of an empty one.
fn publish(partial: &Path, out: &Path) -> Result<()> {
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let sync = |folder: &Path| File::open(folder).and_then(|folder| folder.sync_all());
    sync(partial).and_then(|()| fs::rename(partial, out)).and_then(|()| sync(parent)).with_context(|| {
        format!("all files are in {}, but it cannot be renamed to {}", partial.display(), out.display())
    })
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

fn resumable(name: &str) -> String {
    format!("{name} did not arrive; the same command goes on from what is there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_or_a_new_folder_is_filled() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        refuse_taken(&out).unwrap();
        fs::create_dir(&out).unwrap();
        refuse_taken(&out).unwrap();
        let partial = partial_folder(&out, &"ab".repeat(32)).unwrap();
        assert_eq!(partial, folder.path().join(".out.abababababababab.partial"));
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join("x"), "x").unwrap();
        publish(&partial, &out).unwrap();
        assert_eq!(fs::read(out.join("x")).unwrap(), b"x");
        assert!(refuse_taken(&out).unwrap_err().to_string().contains("is not empty and was not changed"));
        assert!(refuse_taken(&out.join("x")).is_err());
        assert!(partial_folder(Path::new("."), "ab").unwrap_err().to_string().contains("--out"));
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_refused() {
        for name in ["model.safetensors", "modeling_lamina.py", "a-1"] {
            assert_eq!(plain(name).unwrap(), name);
        }
        for name in ["", ".", "..", "../x", "a/b", "/x", ".hidden", "a\\b", "a\0", MANIFEST] {
            assert!(plain(name).is_err(), "{name:?}");
        }
    }
}
