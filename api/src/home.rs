//! The folder in which a service keeps its files.

use std::env;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::terminal::mention;

/// The folder of one service: `data/`, `postgres/`, `artifacts/`, `agent/`, `log/`, `token`, `agent-token` and `url`.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// The given folder; without one, `$XDG_DATA_HOME/lamina` or `~/.local/share/lamina`.
    pub(crate) fn new(given: Option<PathBuf>) -> Result<Self> {
        let folder = match given {
            Some(folder) => folder,
            None => default_folder(env::var_os("XDG_DATA_HOME").map(Into::into), env::var_os("HOME").map(Into::into))?,
        };
        // The path must be absolute because child processes get it and may run in another folder.
        Ok(Self(std::path::absolute(&folder).with_context(|| format!("{} is not a path", folder.display()))?))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// File with the admin's token, mode 0600.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.0.join("token")
    }

    /// File with the local agent's token, mode 0600.
    pub(crate) fn agent_token_file(&self) -> PathBuf {
        self.0.join("agent-token")
    }

    /// Folder of the local agent: inputs, running attempts, unsent events.
    pub(crate) fn agent_folder(&self) -> PathBuf {
        self.0.join("agent")
    }

    /// Folder for data sets. It is a data root of `lamina up`.
    pub(crate) fn data_folder(&self) -> PathBuf {
        self.0.join("data")
    }

    /// File with the URL of the last `lamina up` in this home.
    pub(crate) fn url_file(&self) -> PathBuf {
        self.0.join("url")
    }
}

fn default_folder(data_home: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf> {
    // The XDG specification says that a relative path is to be ignored.
    match (data_home.filter(|path| path.is_absolute()), home) {
        (Some(data_home), _) => Ok(data_home.join("lamina")),
        (None, Some(home)) => Ok(home.join(".local/share/lamina")),
        (None, None) => bail!("HOME is not set; name a folder with --home or LAMINA_HOME"),
    }
}

/// Makes `path` and its missing parents, accessible to this user alone.
pub(crate) fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes `path` if it is missing, and closes it to other users if it was open to them, with a message. If Postgres runs
/// under another account, members of that account's `group` may pass through, but not look around.
///
/// # Errors
/// The folder cannot be made, or belongs to another user.
pub(crate) fn close_to_others(path: &Path, group: Option<u32>) -> Result<()> {
    make_private_folder(path).with_context(|| format!("cannot make {}", path.display()))?;
    if let Some(group) = group {
        chown(path, None, Some(group)).with_context(|| format!("cannot give {} to a group", path.display()))?;
    }
    let wanted = if group.is_some() { 0o710 } else { 0o700 };
    let mode = mode(path)?;
    if mode != wanted {
        set_mode(path, wanted)?;
    }
    if mode & 0o067 != 0 {
        mention(format_args!(
            "lamina: {} was open to other users (mode {mode:03o}); it is closed to them now",
            path.display()
        ));
    }
    Ok(())
}

/// Closes a home to other users, with a message, if it exists and was open to them. A group may still pass through:
/// `lamina up` lets Postgres do so.
///
/// # Errors
/// The home belongs to another user.
pub(crate) fn keep_private(home: &Path) -> Result<()> {
    if !home.exists() {
        return Ok(());
    }
    let mode = mode(home)?;
    if mode & 0o067 != 0 {
        set_mode(home, 0o700)?;
        tracing::warn!(home = %home.display(), mode = format!("{mode:03o}"), "the home was open to other users and is closed now");
    }
    Ok(())
}

fn mode(path: &Path) -> Result<u32> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(metadata.permissions().mode() & 0o777)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(|| {
        format!("{} is open to other users and cannot be closed; name a folder of your own with --home", path.display())
    })
}

/// Writes a secret to a file that only this user can read. The file appears complete or not at all.
pub(crate) fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let partial = path.with_extension("partial");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    fs::rename(partial, path)
}

/// Reads a token file and removes white space around the token.
pub(crate) fn read_secret(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_folder_follows_xdg() {
        let folder =
            |data: Option<&str>, home: Option<&str>| default_folder(data.map(Into::into), home.map(Into::into));
        assert_eq!(folder(Some("/data"), Some("/h")).unwrap(), Path::new("/data/lamina"));
        assert_eq!(folder(Some("relative"), Some("/h")).unwrap(), Path::new("/h/.local/share/lamina"));
        assert!(folder(None, None).unwrap_err().to_string().contains("--home"));
    }

    #[test]
    fn a_folder_that_was_open_to_others_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("new/home");
        keep_private(&home).unwrap();
        assert!(!home.exists());
        close_to_others(&home, None).unwrap();
        assert_eq!(mode(&home).unwrap(), 0o700);
        for (open, kept) in [(0o755, 0o700), (0o711, 0o700), (0o701, 0o700), (0o710, 0o710), (0o700, 0o700)] {
            set_mode(&home, open).unwrap();
            keep_private(&home).unwrap();
            assert_eq!(mode(&home).unwrap(), kept, "{open:o}");
            close_to_others(&home, None).unwrap();
            assert_eq!(mode(&home).unwrap(), 0o700, "{open:o}");
        }
    }

    #[test]
    fn a_secret_file_is_private_and_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for secret in ["first", "second"] {
            write_secret(&path, secret).unwrap();
            assert_eq!(read_secret(&path).unwrap(), secret);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
