//! Brings the files that a trainer needs to the disk, and makes the command line that names them.

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

/// The files of a checkpoint that are enough to start a trial from it.
const STARTING_FILES: [&str; 3] = [MODEL, CONFIG, VOCABULARY];

/// The places in an attempt's folder.
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
    /// The folder with links to the files of a checkpoint that is to be uploaded; `number` is that of its event.
    pub(crate) fn staged(&self, number: u64) -> PathBuf {
        self.folder.join("staged").join(number.to_string())
    }
}

/// Brings every file of the assignment into the attempt's folder, and returns the trainer's arguments. Waits as long as
/// the server cannot be reached.
pub(crate) async fn prepare(
    assignment: &Assignment,
    slot: &SlotFacts,
    layout: &Layout,
    cache: &Cache,
    tokens: &Path,
) -> Result<Vec<OsString>, Failure> {
    let recipe = layout.folder().join("recipe.json");
    let text = serde_json::to_string_pretty(&assignment.spec).map_err(|error| internal(&error))?;
    fs::write(&recipe, text)
        .map_err(|error| disk_failure(&error, FailureKind::Internal, &recipe.display().to_string()))?;

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
            let message = format!(
                "the vocabulary {} has {} files; it must have exactly one",
                vocabulary.name,
                vocabulary.files.len()
            );
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
        checkpoint(manifest, |_| folder.clone(), |file| STARTING_FILES.contains(&file), cache).await?;
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

/// Links the files of a dataset into a folder, and returns the folder.
async fn dataset(dataset: &DatasetFiles, folder: &Path, cache: &Cache) -> Result<PathBuf, Failure> {
    let bad = |message| Failure { kind: FailureKind::BadData, message };
    for file in &dataset.files {
        let file_text = format!("{} of dataset {}", file.path, dataset.name);
        let digest = file.sha256.parse::<Digest>().map_err(|error| bad(format!("{file_text}: {error}")))?;
        let target = name::path_inside(folder, &file.path)
            .map_err(|error| bad(format!("dataset {}: {error}; rename the file", dataset.name)))?;
        fetch(&digest, &target, FailureKind::BadData, &file_text, cache).await?;
    }
    Ok(folder.to_owned())
}

/// Links the manifest of a checkpoint and those of its files that are `wanted` into a folder.
async fn checkpoint(
    manifest: &str,
    folder: impl Fn(&Manifest) -> PathBuf,
    wanted: impl Fn(&str) -> bool,
    cache: &Cache,
) -> Result<(), Failure> {
    let corrupt = |message| Failure { kind: FailureKind::CorruptCheckpoint, message };
    let digest = manifest.parse::<Digest>().map_err(|error| corrupt(format!("manifest: {error}")))?;
    // The manifest is read from the cache first, because the folder depends on its content.
    let text =
        cache.read(&digest).await.map_err(|error| fetch_failure(error, FailureKind::CorruptCheckpoint, MANIFEST))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| corrupt(format!("manifest {digest}: {error}")))?;
    let folder = folder(&manifest);
    fetch(&digest, &folder.join(MANIFEST), FailureKind::CorruptCheckpoint, MANIFEST, cache).await?;
    for file in manifest.files.iter().filter(|file| wanted(&file.name)) {
        let file_text = format!("{} of the checkpoint at step {}", file.name, manifest.step);
        let name = name::plain_name(&file.name).map_err(|error| corrupt(format!("manifest {digest}: {error}")))?;
        let digest = file.sha256.parse::<Digest>().map_err(|error| corrupt(format!("{file_text}: {error}")))?;
        fetch(&digest, &folder.join(name), FailureKind::CorruptCheckpoint, &file_text, cache).await?;
    }
    Ok(())
}

/// Links one file, which is fetched first if the cache does not have it. `kind` is the failure to report if the bytes
/// do not have this digest; `file_text` names the file in the message.
async fn fetch(
    digest: &Digest,
    target: &Path,
    kind: FailureKind,
    file_text: &str,
    cache: &Cache,
) -> Result<(), Failure> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(|error| disk_failure(&error, kind, file_text))?;
    }
    cache.link(digest, target).await.map_err(|error| fetch_failure(error, kind, file_text))
}

fn fetch_failure(error: FetchError, kind: FailureKind, file_text: &str) -> Failure {
    match error {
        FetchError::Mismatch { .. } if kind == FailureKind::BadData => {
            Failure { kind, message: format!("{file_text} has changed since it was registered: {error}") }
        }
        // The server compares a dataset's files with their digests too, before it sends them.
        FetchError::Refused(ClientError::Refused { code, detail, .. }) if code == "dataset_changed" => {
            Failure { kind, message: format!("{file_text} has changed since it was registered: {detail}") }
        }
        FetchError::Io(error) => disk_failure(&error, FailureKind::Crashed, file_text),
        error => Failure { kind, message: format!("{file_text}: {error}") },
    }
}

/// The failure that an I/O error stands for: a full disk, or else `kind`.
pub(crate) fn disk_failure(error: &io::Error, kind: FailureKind, file_text: &str) -> Failure {
    let kind = if is_full(error) { FailureKind::DiskFull } else { kind };
    Failure { kind, message: format!("{file_text}: {error}") }
}

/// True if the disk or the user's share of it is full.
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
    fn a_full_disk_is_a_failure_of_its_own_kind() {
        for number in [libc::ENOSPC, libc::EDQUOT] {
            let failure = disk_failure(&io::Error::from_raw_os_error(number), FailureKind::Crashed, "the journal");
            assert_eq!(failure.kind, FailureKind::DiskFull);
            assert!(failure.message.starts_with("the journal: "), "{}", failure.message);
        }
        let other = io::Error::from_raw_os_error(libc::EIO);
        assert_eq!(disk_failure(&other, FailureKind::Crashed, "the journal").kind, FailureKind::Crashed);
    }
}
