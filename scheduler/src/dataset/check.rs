//! The check, before a registered file is used, that it still has the registered content.
//!
//! The file is opened, looked at, and then read through the same descriptor: nothing that happens to its path in the
//! meantime matters.

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::root::{Identity, Roots};
use super::{DatasetError, Scan, ScannedFile, Watched, hash};
use crate::work::Stop;

/// Time to open and look at the files of one dataset, of which there may be thousands on a network disk.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// Time to hash one file. At 200 MB/s, which a network disk gives, this is 120 GB.
const HASH_LIMIT: Duration = Duration::from_secs(600);

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
    /// knows, is not read; any other is hashed.
    ///
    /// # Errors
    /// [`DatasetError::Changed`] if the file is not there, is not beneath a root of this server, or has other content;
    /// [`DatasetError::Work`] if this is not known in time.
    pub async fn open_registered(&self, folder: PathBuf, scanned: ScannedFile) -> Result<Verified, DatasetError> {
        let roots = self.clone();
        let looked = self.looks().run(LOOK_LIMIT, move |_| {
            let looked = look(&roots, &folder, &scanned);
            (scanned, looked)
        });
        let (scanned, looked) = looked.await?;
        match looked? {
            Ok(verified) => Ok(verified),
            Err(suspect) => self.hashes().run(HASH_LIMIT, move |stop| rehash(suspect, &scanned, stop)).await?,
        }
    }

    /// Fails unless all files of the dataset still have the registered content.
    ///
    /// # Errors
    /// Those of [`open_registered`](Self::open_registered).
    pub async fn verify(&self, scan: &Scan) -> Result<(), DatasetError> {
        let (roots, folder, files) = (self.clone(), scan.folder.clone(), scan.files.clone());
        // All files are looked at by one thread, because a dataset may have thousands.
        let suspects = self.looks().run(LOOK_LIMIT, move |stop| {
            let mut suspects = Vec::new();
            for scanned in files {
                if stop.is_set() {
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

fn rehash(Suspect(verified): Suspect, scanned: &ScannedFile, stop: &Stop) -> Result<Verified, DatasetError> {
    let Verified { path, file, identity } = verified;
    let mut watched = Watched { file, stop: stop.clone() };
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
