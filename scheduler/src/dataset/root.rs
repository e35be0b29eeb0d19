//! Data roots: the folders of the server's disk whose files may be registered.
//!
//! Every file of a dataset is opened here, when it is registered, checked and served. A path is followed from the root's
//! open descriptor, so that neither `..` nor a link leads out of the root, even if somebody exchanges a folder for a link
//! at the same moment; and what was opened is looked at after it was opened, not before. Only regular files are read.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use tokio_util::sync::CancellationToken;

use super::DatasetError;
use crate::work::Workers;

/// Registered files that are opened and looked at at the same time. A look is short, unless a network disk hangs.
const LOOKS_AT_ONCE: usize = 16;
/// Registered files that are hashed again at the same time. Each needs a core and a disk.
const HASHES_AT_ONCE: usize = 2;
/// Looks and hashes that wait. Thousands of agents may ask for a file of one dataset at the same time.
const WAITING: usize = 10_000;

/// The data roots of a server. Clones share their descriptors.
#[derive(Debug, Clone)]
pub struct Roots {
    roots: Arc<[Root]>,
    looks: Workers,
    hashes: Workers,
}

#[derive(Debug)]
struct Root {
    /// As it was given; a path may start with either form.
    given: PathBuf,
    /// Without links.
    canonical: PathBuf,
    folder: Dir,
}

/// What a path beneath a root leads to.
#[derive(Debug)]
pub(super) enum Opened {
    File(File, Metadata),
    Folder(Dir),
}

/// A path that lies beneath a root, as far as its words go; its links are followed when it is opened.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    root: &'a Root,
    /// From the root; empty for the root itself.
    relative: PathBuf,
}

impl Roots {
    /// Opens these folders.
    ///
    /// # Errors
    /// One of them is not a folder, or this process may not read it; the error names it.
    pub fn open(folders: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        let open = |given: PathBuf| {
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", given.display()));
            let canonical = given.canonicalize().map_err(named)?;
            let folder = Dir::open_ambient_dir(&canonical, ambient_authority()).map_err(named)?;
            Ok(Root { given, canonical, folder })
        };
        let roots = folders.into_iter().map(open).collect::<io::Result<_>>()?;
        // What is started here ends with the request that waits for it, so it needs no other end.
        let workers = |name, at_once| Workers::new(name, at_once, WAITING, CancellationToken::new());
        Ok(Self {
            roots,
            looks: workers("looking at data sets", LOOKS_AT_ONCE),
            hashes: workers("hashing data sets", HASHES_AT_ONCE),
        })
    }

    /// The workers that open registered files.
    pub(super) const fn looks(&self) -> &Workers {
        &self.looks
    }

    /// The workers that hash registered files again.
    pub(super) const fn hashes(&self) -> &Workers {
        &self.hashes
    }

    /// The place of an absolute path.
    ///
    /// # Errors
    /// There are no roots, or the path does not lead to one of them.
    pub(super) fn place(&self, path: &Path) -> Result<Place<'_>, DatasetError> {
        if self.roots.is_empty() {
            return Err(DatasetError::NoRoots);
        }
        let unreachable = || DatasetError::Unreachable(path.into());
        if !path.is_absolute() {
            return Err(unreachable());
        }
        if let Some(place) = self.beneath(path) {
            return Ok(place);
        }
        // A link outside may lead to a root, such as a home folder that is one. What is opened is opened beneath the root
        // all the same, whatever happens to the link after this.
        let canonical = path.canonicalize().map_err(|_| unreachable())?;
        self.beneath(&canonical).ok_or_else(unreachable)
    }

    /// The place of a path whose words begin with those of a root.
    fn beneath(&self, path: &Path) -> Option<Place<'_>> {
        self.roots.iter().find_map(|root| {
            let mut starts = [&root.given, &root.canonical].into_iter();
            let relative = starts.find_map(|start| path.strip_prefix(start).ok())?.to_owned();
            Some(Place { root, relative }).filter(Place::is_plain)
        })
    }
}

impl Place<'_> {
    /// The absolute path, for messages and for the database.
    pub(super) fn path(&self) -> PathBuf {
        // A join with an empty path would end in a slash.
        match self.relative.as_os_str().is_empty() {
            true => self.root.canonical.clone(),
            false => self.root.canonical.join(&self.relative),
        }
    }

    pub(super) fn join(&self, path: &str) -> Self {
        Self { root: self.root, relative: self.relative.join(path) }
    }

    /// The folder that this lies in, and its name there; `None` for the root itself.
    pub(super) fn split(&self) -> Option<(Self, &str)> {
        let name = self.relative.file_name()?.to_str()?;
        Some((Self { root: self.root, relative: self.relative.parent()?.to_owned() }, name))
    }

    fn is_plain(&self) -> bool {
        self.relative.components().all(|part| matches!(part, Component::Normal(_)))
    }

    /// Opens the file or folder that is here.
    ///
    /// # Errors
    /// [`DatasetError::Unreachable`], whatever the reason: nothing is here, this process may not read it, a link leaves
    /// the root, or it is a device, a pipe or a socket. A client must not learn which, because the difference tells of
    /// files that are none of its business.
    pub(super) fn open(&self) -> Result<Opened, DatasetError> {
        self.try_open().map_err(|_| DatasetError::Unreachable(self.path()))
    }

    fn try_open(&self) -> io::Result<Opened> {
        let relative = if self.relative.as_os_str().is_empty() { Path::new(".") } else { &self.relative };
        // Without O_NONBLOCK the open of a pipe waits for a writer. For a regular file it changes nothing.
        let options = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).clone();
        let file = self.root.folder.open_with(relative, &options)?.into_std();
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            Ok(Opened::Folder(Dir::from_std_file(file)))
        } else if metadata.is_file() {
            Ok(Opened::File(file, metadata))
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    /// Opens the file that is here.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); and a folder is here.
    pub(super) fn open_file(&self) -> Result<(File, Metadata), DatasetError> {
        match self.open()? {
            Opened::File(file, metadata) => Ok((file, metadata)),
            Opened::Folder(_) => Err(DatasetError::Unreachable(self.path())),
        }
    }
}

/// What tells a file and its content apart from others without reading it. No program can set the time of the last
/// change, so a file that was written to, or exchanged for another, differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The device number, bit for bit.
    pub device: i64,
    /// The inode number, bit for bit.
    pub inode: i64,
    pub bytes: u64,
    /// Time of the last write in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Time of the last change of content, name or permissions in nanoseconds since 1970.
    pub changed_ns: i64,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            device: metadata.dev().cast_signed(),
            inode: metadata.ino().cast_signed(),
            bytes: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
