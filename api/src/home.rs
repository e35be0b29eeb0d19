//! The folder in which a service keeps its files.

use std::env;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folder of one service: `postgres/`, `artifacts/`, `agent/`, `log/`, `token`, `agent-token` and `url`.
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
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_default_folder_follows_xdg() {
        let folder =
            |data: Option<&str>, home: Option<&str>| default_folder(data.map(Into::into), home.map(Into::into));
        assert_eq!(folder(Some("/data"), Some("/h")).unwrap(), Path::new("/data/lamina"));
        assert_eq!(folder(Some("relative"), Some("/h")).unwrap(), Path::new("/h/.local/share/lamina"));
        assert!(folder(None, None).unwrap_err().to_string().contains("--home"));
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
