//! A cache of files by digest. Each file is fetched once and shared by hard links.
//!
//! An attempt that uses a file has a hard link to it, so a file with one link is not in use. The cache needs no other
//! count when it makes room, and a crash cannot leave a wrong one.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use reqwest::StatusCode;
use sha2::{Digest as _, Sha256};

use crate::client::{Backoff, Client, ClientError};
use protocol::Digest;

pub(crate) struct Cache {
    folder: PathBuf,
    limit: u64,
    client: Client,
    /// One lock per digest, so that each file is fetched once and other users wait for it.
    fetches: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    /// Locked while a file is linked or room is made, so that no file is removed after it was found and before it is
    /// linked.
    folder_lock: Mutex<()>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("its sha256 is {actual}; expected {expected}")]
    Mismatch { expected: Digest, actual: Digest },
    #[error(transparent)]
    Refused(ClientError),
    #[error("cannot store it in the cache")]
    Io(#[from] io::Error),
}

impl Cache {
    /// Opens the cache in `folder`. Files that are not in use may take `limit` bytes; files in use do not count and are
    /// never removed.
    pub(crate) fn open(folder: PathBuf, limit: u64, client: Client) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some() {
                // An earlier agent did not finish this file, and it may never be needed again.
                fs::remove_file(path)?;
            }
        }
        let cache = Self { folder, limit, client, fetches: Mutex::default(), folder_lock: Mutex::default() };
        cache.make_room()?;
        Ok(cache)
    }

    /// Makes `target` a hard link to the file with this digest, which is fetched first if it is not in the cache. Tries
    /// as long as the server cannot be reached. If the future is dropped, the next call continues with the part that
    /// was fetched.
    pub(crate) async fn link(&self, digest: &Digest, target: &Path) -> Result<(), FetchError> {
        if self.link_if_present(digest, target)? {
            return Ok(());
        }
        let fetch = self.fetch_lock(digest);
        let _fetching = fetch.lock().await;
        // Another attempt may have fetched it while this one waited.
        if self.link_if_present(digest, target)? {
            return Ok(());
        }
        let partial = self.folder.join(format!("{digest}.partial"));
        let mut backoff = Backoff::new();
        let mut clean = !partial.try_exists()?;
        loop {
            match self.fetch(digest, &partial).await {
                Ok(()) => break,
                // The part from an earlier try may be wrong, so the file is fetched once more from its first byte.
                Err(FetchError::Mismatch { .. }) if !clean => clean = true,
                Err(FetchError::Refused(error)) if error.is_transient() => {
                    tracing::debug!(%digest, error = &error as &dyn std::error::Error, "trying again to fetch a file");
                    clean = false;
                    backoff.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
        let folder_lock = self.folder_lock.lock().unwrap_or_else(PoisonError::into_inner);
        fs::rename(&partial, self.folder.join(digest.as_str()))?;
        link(&self.folder.join(digest.as_str()), target)?;
        drop(folder_lock);
        Ok(self.make_room()?)
    }

    /// Reads a small file, which is fetched first if it is not in the cache.
    pub(crate) async fn read(&self, digest: &Digest) -> Result<Vec<u8>, FetchError> {
        // Neither a file of the cache nor another reader has this name.
        let link = self.folder.join(format!("{digest}.{}", uuid::Uuid::now_v7()));
        self.link(digest, &link).await?;
        let content = fs::read(&link);
        fs::remove_file(&link)?;
        Ok(content?)
    }

    /// Tries once to fetch the rest of a partial file. Afterwards the file is complete and verified, or longer than
    /// before, or it is removed because its digest is wrong.
    async fn fetch(&self, digest: &Digest, partial: &Path) -> Result<(), FetchError> {
        let (mut file, mut hash, present) = {
            let partial = partial.to_owned();
            tokio::task::spawn_blocking(move || resume(&partial)).await.map_err(io::Error::other)??
        };
        let mut response = match self.client.get(digest, present).await {
            // The partial file is already as long as the whole; its digest is checked below.
            Err(ClientError::Refused { status: StatusCode::RANGE_NOT_SATISFIABLE, .. }) => None,
            answer => Some(answer.map_err(FetchError::Refused)?),
        };
        if present > 0 && response.as_ref().is_some_and(|response| response.status() != StatusCode::PARTIAL_CONTENT) {
            file = File::create(partial)?;
            hash = Sha256::new();
        }
        while let Some(response) = &mut response {
            let Some(chunk) = response.chunk().await.map_err(|error| FetchError::Refused(error.into()))? else { break };
            file.write_all(&chunk)?;
            hash.update(&chunk);
        }
        let actual = Digest::of(hash);
        if actual != *digest {
            fs::remove_file(partial)?;
            return Err(FetchError::Mismatch { expected: digest.clone(), actual });
        }
        // The file is read-only because a write through one hard link would change it for all.
        file.set_permissions(Permissions::from_mode(0o444))?;
        tokio::task::spawn_blocking(move || file.sync_all()).await.map_err(io::Error::other)??;
        Ok(())
    }

    fn fetch_lock(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = fetches.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        fetches.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        fetches.insert(digest.clone(), Arc::downgrade(&lock));
        lock
    }

    /// Links the file if it is in the cache; returns false if it is not.
    fn link_if_present(&self, digest: &Digest, target: &Path) -> io::Result<bool> {
        let _locked = self.folder_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.folder.join(digest.as_str());
        if !path.try_exists()? {
            return Ok(false);
        }
        link(&path, target)?;
        Ok(true)
    }

    /// Removes files that are not in use, the least recently used first, until the others fit the limit.
    fn make_room(&self) -> io::Result<()> {
        let _locked = self.folder_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unused = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() && metadata.nlink() == 1 && entry.path().extension().is_none() {
                unused.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        let mut total: u64 = unused.iter().map(|(_, bytes, _)| bytes).sum();
        unused.sort_unstable();
        for (_, bytes, path) in unused {
            if total <= self.limit {
                break;
            }
            fs::remove_file(&path)?;
            total -= bytes;
        }
        Ok(())
    }
}

/// Removes entries of a folder (files, or folders of files), the oldest first, until the others fit in `limit` bytes.
/// Nothing may use the folder meanwhile.
pub(crate) fn trim(folder: &Path, limit: u64) -> io::Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        entries.push((entry.metadata()?.modified()?, size(&entry.path())?, entry.path()));
    }
    entries.sort_unstable();
    let mut total: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in entries {
        if total <= limit {
            break;
        }
        if path.is_dir() {
            fs::remove_dir_all(&path)?
        } else {
            fs::remove_file(&path)?
        }
        total -= bytes;
    }
    Ok(())
}

fn size(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

/// Makes a hard link and sets the file's time to now, as its last use.
fn link(path: &Path, target: &Path) -> io::Result<()> {
    fs::hard_link(path, target)?;
    File::open(path)?.set_times(FileTimes::new().set_modified(last_use()))
}

#[expect(clippy::disallowed_methods, reason = "a file time, which only orders the cache's files by their last use")]
fn last_use() -> SystemTime {
    SystemTime::now()
}

/// Opens a partial file so that more can be appended, and returns it with the hash and the number of its bytes.
fn resume(partial: &Path) -> io::Result<(File, Sha256, u64)> {
    let mut file = File::options().read(true).append(true).create(true).open(partial)?;
    let mut hash = Sha256::new();
    let mut present = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((file, hash, present)),
            read => {
                hash.update(&buffer[..read]);
                present += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn file(path: &Path, bytes: usize, age_hours: u64) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![0; bytes]).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 - age_hours * 3600);
        File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    }

    fn open(folder: &Path, limit: u64) -> Cache {
        Cache::open(folder.to_owned(), limit, Client::new("http://unused.invalid", "token").unwrap()).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_least_recently_used_files_are_removed_but_never_those_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        for (name, age) in [("oldest-in-use", 9), ("old", 5), ("middle", 3), ("new", 1)] {
            file(&files.join(name), 100, age);
        }
        fs::hard_link(files.join("oldest-in-use"), folder.path().join("user")).unwrap();
        open(&files, 250);
        assert_eq!(names(&files), ["middle", "new", "oldest-in-use"]);
    }

    #[test]
    fn partial_files_of_an_earlier_agent_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        file(&folder.path().join("aa.partial"), 1, 0);
        open(folder.path(), 100);
        assert!(names(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn a_file_that_was_just_used_is_removed_last() {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        let digests = ["aa", "bb"].map(|pair| pair.repeat(32).parse::<Digest>().unwrap());
        for (digest, age) in digests.iter().zip([9, 1]) {
            file(&files.join(digest.as_str()), 100, age);
        }
        let cache = open(&files, 200);
        let user = folder.path().join("user");
        cache.link(&digests[0], &user).await.unwrap();
        fs::remove_file(user).unwrap();
        open(&files, 100);
        assert_eq!(names(&files), [digests[0].as_str()]);
    }

    #[test]
    fn a_folder_of_entries_is_trimmed_to_its_newest() {
        let folder = tempfile::tempdir().unwrap();
        for (name, age) in [("a", 5), ("b", 1)] {
            file(&folder.path().join(name).join("shard"), 100, age);
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 - age * 3600);
            File::open(folder.path().join(name)).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
        }
        trim(folder.path(), 200).unwrap();
        assert_eq!(names(folder.path()), ["a", "b"]);
        trim(folder.path(), 199).unwrap();
        assert_eq!(names(folder.path()), ["b"]);
    }
}
