//! Sends checkpoints and predictions to the artifact store, and then the events that name them.

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
use protocol::{Digest, InvalidDigest, error_chain};

/// The number of newest checkpoints that are always sent, as many as a trainer keeps. Older ones are left out if
/// sending is slow.
const NEWEST: usize = 2;

/// Links the files of a checkpoint into the folder `staged`, where they stay until they are sent. The trainer wrote the
/// checkpoint to `folder`, relative to its `out`. After an error, `staged` does not exist.
pub(crate) fn stage(out: &Path, folder: &str, staged: &Path) -> io::Result<()> {
    let from = name::path_inside(out, folder).map_err(io::Error::other)?;
    let manifest = read_manifest(&from)?;
    fs::create_dir_all(staged)?;
    let names = manifest.files.iter().map(|file| file.name.as_str()).chain([MANIFEST]);
    let linked: io::Result<()> = names.into_iter().try_for_each(|file| {
        let file = name::plain_name(file).map_err(io::Error::other)?;
        fs::hard_link(from.join(file), staged.join(file))
    });
    linked.inspect_err(|_| drop(fs::remove_dir_all(staged)))
}

fn read_manifest(folder: &Path) -> io::Result<Manifest> {
    Ok(serde_json::from_slice(&fs::read(folder.join(MANIFEST))?)?)
}

#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error("cannot read it")]
    Io(#[from] io::Error),
    #[error("its manifest has sha256 {actual}, not {expected}")]
    Manifest { expected: Digest, actual: Digest },
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the server did not accept {file}")]
    Put { file: String, source: ClientError },
    #[error("newer checkpoints wait to be sent")]
    Superseded,
}

/// Forwards the attempt's events in order, and uploads the files of each event before it. Returns after the last event.
pub(crate) async fn forward(journal: &Journal, layout: &Layout, client: &Client) -> io::Result<()> {
    while let Some((number, mut event)) = journal.next().await? {
        if let Event::Finished { report: TrialReport::Finetune(report) } = &mut event {
            // A score is valid without its predictions, but a report must not name files that the server does not have.
            report.predictions =
                upload_predictions(std::mem::take(&mut report.predictions), journal, layout, client).await?;
        }
        let Event::Checkpointed { step, manifest, .. } = &event else {
            journal.forward(number, event)?;
            continue;
        };
        let staged = layout.staged(number);
        match upload(&staged, manifest, client, || journal.newer_checkpoints(number) >= NEWEST).await {
            Ok(()) => journal.forward(number, event)?,
            Err(error) => {
                let reason = error_chain(&error);
                tracing::warn!(step, reason, "a checkpoint is not sent");
                journal.log(&format!("agent: the checkpoint at step {step} is left out: {reason}"))?;
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

/// Uploads the files of predictions, and returns those that the server has accepted. The others are named in the log.
async fn upload_predictions(
    files: Vec<PredictionFile>,
    journal: &Journal,
    layout: &Layout,
    client: &Client,
) -> io::Result<Vec<PredictionFile>> {
    let folder = layout.out().join(PREDICTIONS);
    let mut accepted = Vec::with_capacity(files.len());
    for file in files {
        let sent = async {
            let digest = file.sha256.parse::<Digest>()?;
            put(&digest, &folder, name::plain_name(&file.name)?, client, || false).await
        };
        match sent.await {
            Ok(()) => accepted.push(file),
            Err(error) => {
                let (reason, name) = (error_chain(&error), &file.name);
                tracing::warn!(name, reason, "predictions are not sent");
                journal.log(&format!("agent: the predictions in {name} are left out: {reason}"))?;
            }
        }
    }
    Ok(accepted)
}

/// Uploads the files of a checkpoint. The manifest goes last, so that all files of a manifest in the store are there
/// too.
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
        put(&file.sha256.parse::<Digest>()?, staged, name::plain_name(&file.name)?, client, &superseded).await?;
    }
    put(&expected, staged, MANIFEST, client, &superseded).await
}

/// Uploads one file. Tries as long as the server cannot be reached, unless newer checkpoints replace this one.
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
                tracing::debug!(file, error = &error as &dyn Error, "trying again to send a file");
                backoff.wait().await;
            }
            Err(source) => return Err(UploadError::Put { file: file.to_owned(), source }),
        }
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
    fn a_staged_checkpoint_stays_when_the_trainer_deletes_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (out, staged) = (folder.path().join("out"), folder.path().join("staged"));
        checkpoint(&out, &["state.json"]);
        stage(&out, "checkpoints/step-5", &staged).unwrap();
        fs::remove_dir_all(&out).unwrap();
        assert_eq!(fs::read(staged.join("state.json")).unwrap(), b"x");
        assert_eq!(read_manifest(&staged).unwrap().step, 5);
    }

    #[test]
    fn a_checkpoint_with_a_missing_file_is_not_staged() {
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
        assert!(stage(&out, "checkpoints/step-5", &staged).unwrap_err().to_string().contains("not a plain file name"));
        assert!(
            stage(&out, "../out/checkpoints/step-5", &staged).unwrap_err().to_string().contains("not a path inside")
        );
        assert!(!staged.exists());
    }
}
