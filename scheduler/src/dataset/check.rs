//! The check, before a registered file is used, that it still has the registered content.
//!
//! The file is opened, looked at, and then read through the same descriptor: nothing that happens to its path in the
//! meantime matters.

use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::sync::oneshot;

use super::root::{Identity, Roots};
use super::{DatasetError, Scan, ScannedFile, Stopped, Watched, hash};

/// An open file with the registered content.
#[derive(Debug)]
pub struct Verified {
    /// For messages.
    pub path: PathBuf,
    /// At its start.
    pub file: File,
    /// What the file was when its content was known. If it differs later, the content may differ too.
    pub identity: Identity,
}

/// A file whose content may have changed.
struct Suspect(Verified);

impl Roots {
    /// Opens a registered file under `folder`. A file that is the one that was registered, as far as the file system
    /// knows, is not read; any other is hashed, one after the other, on a thread that ends when nobody waits for it.
    ///
    /// # Errors
    /// [`DatasetError::Changed`] if the file is not there, is not beneath a root of this server, or has other content.
    pub async fn open_registered(&self, folder: PathBuf, scanned: ScannedFile) -> Result<Verified, DatasetError> {
        let roots = self.clone();
        let (scanned, looked) = detached(move |_| {
            let looked = look(&roots, &folder, &scanned);
            (scanned, looked)
        })
        .await?;
        match looked? {
            Ok(verified) => Ok(verified),
            Err(suspect) => {
                // The semaphore is never closed.
                let _slot = self.hashing().acquire().await.map_err(|_| DatasetError::Stopped)?;
                detached(move |stopped| rehash(suspect, &scanned, stopped)).await?
            }
        }
    }

    /// Fails unless all files of the dataset still have the registered content.
    ///
    /// # Errors
    /// Those of [`open_registered`](Self::open_registered).
    pub async fn verify(&self, scan: &Scan) -> Result<(), DatasetError> {
        let (roots, folder, files) = (self.clone(), scan.folder.clone(), scan.files.clone());
        // All files are looked at by one thread, because a dataset may have thousands.
        let suspects = detached(move |stopped| {
            let mut suspects = Vec::new();
            for scanned in files {
                if stopped() {
                    break;
                }
                if look(&roots, &folder, &scanned)?.is_err() {
                    suspects.push(scanned);
                }
            }
            Ok::<_, DatasetError>(suspects)
        });
        for scanned in suspects.await?? {
            self.open_registered(scan.folder.clone(), scanned).await?;
        }
        Ok(())
    }
}

fn look(roots: &Roots, folder: &Path, scanned: &ScannedFile) -> Result<Result<Verified, Suspect>, DatasetError> {
    let path = folder.join(&scanned.file.path);
    let opened = roots.place(folder).and_then(|place| place.join(&scanned.file.path).open_file());
    let (file, metadata) = opened
        .map_err(|_| changed(&path, "it is no longer a file that this server may read beneath a data root".into()))?;
    let identity = Identity::of(&metadata);
    if identity.bytes != scanned.file.bytes {
        return Err(changed(&path, format!("it has {} bytes, not {}", identity.bytes, scanned.file.bytes)));
    }
    let verified = Verified { path, file, identity };
    Ok(if identity == scanned.identity { Ok(verified) } else { Err(Suspect(verified)) })
}

fn rehash(Suspect(verified): Suspect, scanned: &ScannedFile, stopped: &Stopped) -> Result<Verified, DatasetError> {
    let Verified { path, file, identity } = verified;
    let mut watched = Watched { file, stopped: stopped.clone() };
    let sha256 = hash(&path, &mut watched)?;
    let Watched { mut file, .. } = watched;
    if sha256 != scanned.file.sha256 {
        return Err(changed(&path, "its content differs".into()));
    }
    let io = |source| DatasetError::Io { path: path.clone(), source };
    if Identity::of(&file.metadata().map_err(io)?) != identity {
        return Err(changed(&path, "it was written to while it was read".into()));
    }
    file.rewind().map_err(io)?;
    Ok(Verified { path, file, identity })
}

fn changed(path: &Path, what: String) -> DatasetError {
    DatasetError::Changed { path: path.into(), what }
}

/// Runs blocking work on a thread of its own, which tokio does not wait for when the program ends. The work is told to
/// stop if the future is dropped.
async fn detached<T: Send + 'static>(work: impl FnOnce(&Stopped) -> T + Send + 'static) -> Result<T, DatasetError> {
    struct Guard(Arc<AtomicBool>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let flag = Arc::new(AtomicBool::new(false));
    let _guard = Guard(Arc::clone(&flag));
    let (sender, receiver) = oneshot::channel();
    let thread = thread::Builder::new().name("dataset".into()).spawn(move || {
        let stopped: Stopped = Arc::new(move || flag.load(Ordering::Relaxed));
        // Nobody takes the result of work that was stopped.
        let _ = sender.send(work(&stopped));
    });
    let broken = |source: io::Error| DatasetError::Io { path: PathBuf::new(), source };
    thread.map_err(broken)?;
    receiver.await.map_err(|_| broken(io::Error::other("the check of a file panicked")))
}
