//! What a trainer needs on disk before it starts, and the command line that names it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use recipe::event::{MANIFEST, Manifest};
use recipe::published::{CONFIG, MODEL, VOCABULARY};
use recipe::{Failure, FailureKind};

use crate::cache::{Cache, FetchError};
use crate::client::ClientError;
use crate::name;
use protocol::Digest;
use protocol::{Assignment, DatasetFiles, SlotFacts};

/// The files of a checkpoint that a fine-tune starts from.
const WEIGHTS: [&str; 3] = [MODEL, CONFIG, VOCABULARY];

/// Where things lie in an attempt's folder.
pub(crate) struct Layout {
    folder: PathBuf,
}

impl Layout {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
    /// The trainer's `--out`.
    pub(crate) fn out(&self) -> PathBuf {
        self.folder.join("out")
    }
    /// Links to the files of checkpoints on their way to the artifact store, by the number of their event.
    pub(crate) fn staged(&self, number: u64) -> PathBuf {
        self.folder.join("staged").join(number.to_string())
    }
}

/// Brings every file of the assignment into the attempt's folder, and returns the trainer's arguments. Waits for as long as
/// the server is away.
pub(crate) async fn prepare(
    assignment: &Assignment,
    slot: &SlotFacts,
    layout: &Layout,
    cache: &Cache,
    tokens: &Path,
) -> Result<Vec<OsString>, Failure> {
    let recipe = layout.folder().join("recipe.json");
    let text = serde_json::to_string_pretty(&assignment.spec).map_err(|error| internal(&error))?;
    fs::write(&recipe, text).map_err(|error| on_disk(&error, FailureKind::Internal, &recipe.display().to_string()))?;

    let mut arguments: Vec<OsString> = vec!["run".into(), "--recipe".into(), recipe.into()];
    let mut add = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
    add("--out", layout.out().into());
    add("--device", slot.device.clone().into());
    add("--threads", slot.threads.to_string().into());
    add("--cache", tokens.into());
    let inputs = layout.folder().join("inputs");
    if let Some(corpus) = &assignment.corpus {
        add("--corpus", dataset(corpus, &inputs.join("corpus"), cache).await?.into());
    }
    if let Some(glue) = &assignment.glue {
        add("--glue", dataset(glue, &inputs.join("glue"), cache).await?.into());
    }
    if let Some(vocabulary) = &assignment.vocabulary {
        let [file] = &vocabulary.files[..] else {
            let message = format!("vocabulary {} has {} files, not one", vocabulary.name, vocabulary.files.len());
            return Err(Failure { kind: FailureKind::BadData, message });
        };
        let folder = dataset(vocabulary, &inputs.join("vocabulary"), cache).await?;
        add("--vocabulary", folder.join(&file.path).into());
    }
    if let Some(checkpoint) = &assignment.checkpoint {
        add("--from", dataset(checkpoint, &inputs.join("from"), cache).await?.into());
    }
    if let Some(manifest) = &assignment.from {
        let folder = inputs.join("from");
        checkpoint(manifest, |_| folder.clone(), |file| WEIGHTS.contains(&file), cache).await?;
        add("--from", folder.into());
    }
    if let Some(manifest) = &assignment.resume {
        let checkpoints = layout.out().join("checkpoints");
        let folder = |manifest: &Manifest| checkpoints.join(format!("step-{:012}", manifest.step));
        checkpoint(manifest, folder, |_| true, cache).await?;
        arguments.push("--resume".into());
    }
    Ok(arguments)
}

/// Links a dataset's files into a folder.
async fn dataset(dataset: &DatasetFiles, folder: &Path, cache: &Cache) -> Result<PathBuf, Failure> {
    let bad = |message| Failure { kind: FailureKind::BadData, message };
    for file in &dataset.files {
        let what = format!("{} of dataset {}", file.path, dataset.name);
        let digest = file.sha256.parse::<Digest>().map_err(|error| bad(format!("{what}: {error}")))?;
        let target =
            name::inside(folder, &file.path).map_err(|error| bad(format!("dataset {}: {error}", dataset.name)))?;
        fetch(&digest, &target, FailureKind::BadData, &what, cache).await?;
    }
    Ok(folder.to_owned())
}

/// Links the files of a checkpoint into a folder: its manifest and those that are wanted.
async fn checkpoint(
    manifest: &str,
    folder: impl Fn(&Manifest) -> PathBuf,
    wanted: impl Fn(&str) -> bool,
    cache: &Cache,
) -> Result<(), Failure> {
    let corrupt = |message| Failure { kind: FailureKind::CorruptCheckpoint, message };
    let digest = manifest.parse::<Digest>().map_err(|error| corrupt(format!("manifest: {error}")))?;
    // Where it belongs is known from its content only, so it is read from the cache.
    let text = cache.read(&digest).await.map_err(|error| refused(error, FailureKind::CorruptCheckpoint, MANIFEST))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| corrupt(format!("manifest {digest}: {error}")))?;
    let folder = folder(&manifest);
    fetch(&digest, &folder.join(MANIFEST), FailureKind::CorruptCheckpoint, MANIFEST, cache).await?;
    for file in manifest.files.iter().filter(|file| wanted(&file.name)) {
        let what = format!("{} of the checkpoint at step {}", file.name, manifest.step);
        let name = name::plain(&file.name).map_err(|error| corrupt(format!("manifest {digest}: {error}")))?;
        let digest = file.sha256.parse::<Digest>().map_err(|error| corrupt(format!("{what}: {error}")))?;
        fetch(&digest, &folder.join(name), FailureKind::CorruptCheckpoint, &what, cache).await?;
    }
    Ok(())
}

/// `kind`: what it means when the bytes are not those that were promised.
async fn fetch(digest: &Digest, target: &Path, kind: FailureKind, what: &str, cache: &Cache) -> Result<(), Failure> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(|error| on_disk(&error, kind, what))?;
    }
    cache.link(digest, target).await.map_err(|error| refused(error, kind, what))
}

fn refused(error: FetchError, kind: FailureKind, what: &str) -> Failure {
    match error {
        FetchError::Mismatch { .. } if kind == FailureKind::BadData => {
            Failure { kind, message: format!("{what} has changed since it was registered: {error}") }
        }
        // The server looks at a dataset's files too, before it sends them.
        FetchError::Refused(ClientError::Refused { code, detail, .. }) if code == "dataset_changed" => {
            Failure { kind, message: format!("{what} has changed since it was registered: {detail}") }
        }
        FetchError::Io(error) => on_disk(&error, FailureKind::Crashed, what),
        error => Failure { kind, message: format!("{what}: {error}") },
    }
}

/// `otherwise`: what it means when the disk is not full.
pub(crate) fn on_disk(error: &io::Error, otherwise: FailureKind, what: &str) -> Failure {
    let kind = if is_full(error) { FailureKind::DiskFull } else { otherwise };
    Failure { kind, message: format!("{what}: {error}") }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn internal(error: &dyn std::error::Error) -> Failure {
    Failure { kind: FailureKind::Internal, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_own_kind_of_failure() {
        for number in [libc::ENOSPC, libc::EDQUOT] {
            let failure = on_disk(&io::Error::from_raw_os_error(number), FailureKind::Crashed, "the journal");
            assert_eq!(failure.kind, FailureKind::DiskFull);
            assert!(failure.message.starts_with("the journal: "), "{}", failure.message);
        }
        let other = io::Error::from_raw_os_error(libc::EIO);
        assert_eq!(on_disk(&other, FailureKind::Crashed, "the journal").kind, FailureKind::Crashed);
    }
}
