//! Checkpoints and answers to test files on their way to the artifact store, and the events that wait behind them.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;

use recipe::event::{MANIFEST, Manifest};
use recipe::report::{PREDICTIONS, PredictionFile};
use recipe::{Event, TrialReport};
use sha2::{Digest as _, Sha256};

use crate::client::{Backoff, Client, ClientError};
use crate::inputs::Layout;
use crate::journal::Journal;
use crate::name::{self, NameError};
use protocol::{Digest, InvalidDigest};

/// As on the trainer's own disk, the last two checkpoints are worth keeping: older ones are not sent when sending is slow.
const KEPT: usize = 2;

/// Links the files of a checkpoint from where the trainer wrote it (`folder`, relative to its `out`) to a folder where it
/// stays until it was sent. An error leaves nothing there.
pub(crate) fn stage(out: &Path, folder: &str, staged: &Path) -> io::Result<()> {
    let from = name::inside(out, folder).map_err(io::Error::other)?;
    let manifest = read_manifest(&from)?;
    fs::create_dir_all(staged)?;
    let names = manifest.files.iter().map(|file| file.name.as_str()).chain([MANIFEST]);
    let linked: io::Result<()> = names.into_iter().try_for_each(|file| {
        let file = name::plain(file).map_err(io::Error::other)?;
        fs::hard_link(from.join(file), staged.join(file))
    });
    linked.inspect_err(|_| drop(fs::remove_dir_all(staged)))
}

fn read_manifest(folder: &Path) -> io::Result<Manifest> {
    Ok(serde_json::from_slice(&fs::read(folder.join(MANIFEST))?)?)
}

#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error("it is not on this disk")]
    Io(#[from] io::Error),
    #[error("its manifest has sha256 {actual}, not {expected}")]
    Manifest { expected: Digest, actual: Digest },
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{file} was not taken")]
    Put { file: String, source: ClientError },
    #[error("newer ones are waiting")]
    Superseded,
}

/// Sends the attempt's events on, in order, each one's files before it, until the last one is forwarded.
pub(crate) async fn forward(journal: &Journal, layout: &Layout, client: &Client) -> io::Result<()> {
    while let Some((number, mut event)) = journal.next().await? {
        if let Event::Finished { report: TrialReport::Finetune(report) } = &mut event {
            // A score counts without its answers; a report that names what nobody has would promise them.
            report.predictions = answers(std::mem::take(&mut report.predictions), journal, layout, client).await?;
        }
        let Event::Checkpointed { step, manifest, .. } = &event else {
            journal.forward(number, event)?;
            continue;
        };
        let staged = layout.staged(number);
        match upload(&staged, manifest, client, || journal.newer_checkpoints(number) >= KEPT).await {
            Ok(()) => journal.forward(number, event)?,
            Err(error) => {
                let why = chain(&error);
                tracing::warn!(step, why, "a checkpoint is left out");
                journal.log(&format!("agent: the checkpoint at step {step} is left out: {why}"))?;
                journal.skip(number)?;
            }
        }
        match fs::remove_dir_all(&staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Sends the answers to test files, and returns those that the store has taken. The others are named in the log.
async fn answers(
    files: Vec<PredictionFile>,
    journal: &Journal,
    layout: &Layout,
    client: &Client,
) -> io::Result<Vec<PredictionFile>> {
    let folder = layout.out().join(PREDICTIONS);
    let mut taken = Vec::with_capacity(files.len());
    for file in files {
        let sent = async {
            let digest = file.sha256.parse::<Digest>()?;
            put(&digest, &folder, name::plain(&file.name)?, client, || false).await
        };
        match sent.await {
            Ok(()) => taken.push(file),
            Err(error) => {
                let (why, name) = (chain(&error), &file.name);
                tracing::warn!(name, why, "answers are left out");
                journal.log(&format!("agent: the answers in {name} are left out: {why}"))?;
            }
        }
    }
    Ok(taken)
}

/// The manifest goes last, so that whoever finds it in the store finds all of its files.
async fn upload(
    staged: &Path,
    manifest: &str,
    client: &Client,
    superseded: impl Fn() -> bool,
) -> Result<(), UploadError> {
    let expected = manifest.parse::<Digest>()?;
    let actual = Digest::of(Sha256::new_with_prefix(fs::read(staged.join(MANIFEST))?));
    if actual != expected {
        return Err(UploadError::Manifest { expected, actual });
    }
    for file in read_manifest(staged)?.files {
        put(&file.sha256.parse::<Digest>()?, staged, name::plain(&file.name)?, client, &superseded).await?;
    }
    put(&expected, staged, MANIFEST, client, &superseded).await
}

/// Tries for as long as the server is away, unless newer checkpoints make this one needless.
async fn put(
    digest: &Digest,
    staged: &Path,
    file: &str,
    client: &Client,
    superseded: impl Fn() -> bool,
) -> Result<(), UploadError> {
    let mut backoff = Backoff::new();
    loop {
        if superseded() {
            return Err(UploadError::Superseded);
        }
        match client.put(digest, &staged.join(file)).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() => {
                tracing::debug!(file, error = &error as &dyn Error, "sending again");
                backoff.wait().await;
            }
            Err(source) => return Err(UploadError::Put { file: file.to_owned(), source }),
        }
    }
}

fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(out: &Path, files: &[&str]) {
        let folder = out.join("checkpoints/step-5");
        fs::create_dir_all(&folder).unwrap();
        let entries: Vec<_> =
            files.iter().map(|name| serde_json::json!({"name": name, "sha256": "00", "bytes": 1})).collect();
        let manifest = serde_json::json!({"fingerprint": "f", "step": 5, "files": entries});
        fs::write(folder.join(MANIFEST), manifest.to_string()).unwrap();
        fs::write(folder.join("state.json"), "x").unwrap();
    }

    #[test]
    fn a_staged_checkpoint_outlives_the_trainers_own() {
        let folder = tempfile::tempdir().unwrap();
        let (out, staged) = (folder.path().join("out"), folder.path().join("staged"));
        checkpoint(&out, &["state.json"]);
        stage(&out, "checkpoints/step-5", &staged).unwrap();
        fs::remove_dir_all(&out).unwrap();
        assert_eq!(fs::read(staged.join("state.json")).unwrap(), b"x");
        assert_eq!(read_manifest(&staged).unwrap().step, 5);
    }

    #[test]
    fn a_checkpoint_with_a_file_missing_is_not_staged_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (out, staged) = (folder.path().join("out"), folder.path().join("staged"));
        checkpoint(&out, &["state.json", "gone.safetensors"]);
        assert_eq!(stage(&out, "checkpoints/step-5", &staged).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!staged.exists());
    }

    #[test]
    fn a_checkpoint_cannot_name_files_outside_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (out, staged) = (folder.path().join("out"), folder.path().join("staged"));
        checkpoint(&out, &["../../secret"]);
        fs::write(out.join("secret"), "x").unwrap();
        assert!(stage(&out, "checkpoints/step-5", &staged).unwrap_err().to_string().contains("no plain file name"));
        assert!(stage(&out, "../out/checkpoints/step-5", &staged).unwrap_err().to_string().contains("no path inside"));
        assert!(!staged.exists());
    }
}
