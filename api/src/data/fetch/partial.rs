//! An incomplete download on the disk.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use reqwest::Response;
use reqwest::header::{ETAG, HeaderName, LAST_MODIFIED};

/// An incomplete download: `NAME.part` with the bytes so far, and `NAME.version` with the address and the version of the
/// file that they belong to.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    version: PathBuf,
}

impl Partial {
    /// The incomplete download of `file`.
    pub(super) fn of(file: &Path) -> Self {
        Self { path: with_ending(file, ".part"), version: with_ending(file, ".version") }
    }

    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }

    /// The version of the file at `url` that the bytes belong to.
    pub(super) fn read_version(&self, url: &str) -> Option<String> {
        let text = fs::read_to_string(&self.version).ok()?;
        let (from, version) = text.split_once('\n')?;
        (from == url).then(|| version.to_owned())
    }

    /// Stores the version of the file. Without a version, the download cannot be resumed.
    pub(super) fn write_version(&self, url: &str, response: &Response) -> Result<()> {
        // A weak tag does not promise equal bytes.
        let tag = header(response, ETAG).filter(|tag| !tag.starts_with("W/"));
        match tag.or_else(|| header(response, LAST_MODIFIED)) {
            Some(version) => {
                let path = self.version.display();
                fs::write(&self.version, format!("{url}\n{version}")).with_context(|| format!("cannot write {path}"))
            }
            None => self.remove_version(),
        }
    }

    pub(super) fn remove(&self) -> Result<()> {
        remove(&self.path)?;
        self.remove_version()
    }

    pub(super) fn remove_version(&self) -> Result<()> {
        remove(&self.version)
    }
}

/// Removes a file, if there is one.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

pub(super) fn header(response: &Response, name: HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

pub(super) fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
