//! A private Postgres: one data folder, one socket, no TCP, every commit on disk.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::binaries::{self, User};
use super::process::{self, Stop};

/// The database, and its only role.
const NAME: &str = "lamina";
/// Where a root's data goes when its home is closed to others: Postgres then runs as somebody who cannot enter it.
const ROOT_STATE: &str = "/var/lib/lamina";
/// A socket's path may not be longer (Linux's sun_path, less its final zero).
const SOCKET_PATH_BYTES: usize = 107;
const SOCKET_NAME: &str = "/.s.PGSQL.5432";
const SOCKET_LOCK: &str = ".s.PGSQL.5432.lock";
const POLL: Duration = Duration::from_millis(20);

/// SIGINT rolls open transactions back and leaves in good order; SIGQUIT leaves the rest to recovery at the next start.
pub(super) const STOP: Stop = Stop { signal: libc::SIGINT, force: libc::SIGQUIT, patience: Duration::from_secs(60) };

pub(super) struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    /// As whom it runs, if not as ourselves.
    user: Option<User>,
}

impl Postgres {
    /// Finds the programs and the data folder under `home`, which is made at the first start: whole or not at all.
    /// The caller holds the home's lock.
    pub(super) async fn prepare(home: &Path, bin: Option<&Path>, log: PathBuf) -> Result<Self> {
        let mut user = binaries::unprivileged_user()?;
        let folder = settle(&home.join("postgres"), user.as_ref())?;
        let data = folder.join("data");
        // A folder that was made for another account stays with it.
        if let (Some(user), Ok(meta)) = (&mut user, data.metadata()) {
            (user.uid, user.gid) = (meta.uid(), meta.gid());
        }
        let major = match fs::read_to_string(data.join("PG_VERSION")) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(_) => None,
        };
        let bin = binaries::find(bin, user.as_ref(), major.as_deref())?;
        let socket = socket_folder(&folder, user.as_ref())?;
        let postgres = Self { bin, data, socket, log, user };
        if major.is_none() {
            postgres.initialize(&folder).await?;
        }
        Ok(postgres)
    }

    /// For sqlx and for people: `postgres:///lamina?host=...`.
    pub(super) fn url(&self) -> String {
        format!("postgres:///{NAME}?host={}&user={NAME}", percent_encode(&self.socket.to_string_lossy()))
    }

    /// Starts the server and waits until it takes connections, through a recovery if need be.
    pub(super) async fn start(&self) -> Result<Child> {
        self.clear_the_way().await?;
        let mut command = self.command("postgres", &self.log)?;
        command.arg("-D").arg(&self.data);
        let socket = self.socket.to_string_lossy().replace('"', "\"\"");
        for setting in [
            "listen_addresses=",
            &format!("unix_socket_directories=\"{socket}\""),
            "unix_socket_permissions=0700",
            "fsync=on",
            "log_checkpoints=off",
        ] {
            command.args(["-c", setting]);
        }
        let mut child = command.spawn().context("cannot start Postgres")?;
        while !self.is_ready(child.id()) {
            if let Some(status) = child.try_wait()? {
                bail!("Postgres {}:{}", process::describe(status), process::log_tail(&self.log));
            }
            sleep(POLL).await;
        }
        Ok(child)
    }

    /// Makes the cluster and the database under a temporary name, and renames them when they are complete.
    async fn initialize(&self, folder: &Path) -> Result<()> {
        let partial = folder.join("data.partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        }
        make_folder(&partial, self.user.as_ref())?;
        let mut initdb = self.command("initdb", &self.log)?;
        initdb.args(["--username", NAME, "--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums", "-D"]);
        self.finish(initdb.arg(&partial).spawn()?, "initdb").await?;

        // A server for a single session: no socket, no second process, no port to wait for.
        let mut single = self.command("postgres", &self.log)?;
        single.arg("--single").arg("-D").arg(&partial).arg("postgres").stdin(Stdio::piped());
        let mut child = single.spawn()?;
        let mut input = child.stdin.take().context("no input to Postgres")?;
        input.write_all(format!("create database {NAME}\n").as_bytes()).await?;
        drop(input);
        self.finish(child, "postgres --single").await?;

        ensure!(!self.data.exists(), "{} is no data folder of Postgres; move it away", self.data.display());
        fs::rename(&partial, &self.data).context("cannot rename the new data folder")?;
        fs::File::open(folder)?.sync_all()?;
        Ok(())
    }

    async fn finish(&self, mut child: Child, what: &str) -> Result<()> {
        let status = child.wait().await?;
        ensure!(status.success(), "{what} {}:{}", process::describe(status), process::log_tail(&self.log));
        Ok(())
    }

    fn command(&self, program: &str, log: &Path) -> Result<Command> {
        let mut command = process::command(self.bin.join(program), STOP, log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        // Not every user may enter the current folder; a user's own PG variables would change the server's behaviour.
        command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").env("LC_ALL", "C");
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
        Ok(command)
    }

    /// Ends what a killed `up` may have left: a server that is still running is asked to stop, and the files in which
    /// it noted its number are removed. That number may belong to another process by now, or to a dead one that nobody
    /// has buried; Postgres would take either for a running server.
    async fn clear_the_way(&self) -> Result<()> {
        let notes = [self.data.join("postmaster.pid"), self.socket.join(SOCKET_LOCK)];
        for server in notes.iter().filter_map(|note| first_number(note)) {
            self.stop(server).await?;
        }
        // Its sessions end by themselves once their server is gone; a new one must not start beside them.
        let deadline = Instant::now() + STOP.patience;
        while let Some(session) = self.leftover() {
            ensure!(Instant::now() < deadline, "a Postgres session (process {session}) does not end; end it by hand");
            sleep(POLL).await;
        }
        for note in notes {
            match fs::remove_file(&note) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", note.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Stops a server on our data that is not our child.
    async fn stop(&self, server: u32) -> Result<()> {
        for signal in [STOP.signal, STOP.force] {
            if !self.is_ours(server) {
                return Ok(());
            }
            process::send(server, signal)?;
            // Too late is seen by the next look.
            let _ = timeout(STOP.patience, self.until_gone(server)).await;
        }
        ensure!(!self.is_ours(server), "a Postgres (process {server}) does not stop; end it by hand");
        Ok(())
    }

    async fn until_gone(&self, server: u32) {
        while self.is_ours(server) {
            sleep(POLL).await;
        }
    }

    /// Whether this process is a server on our data: its command line names the folder.
    fn is_ours(&self, process: u32) -> bool {
        fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| {
            line.split(|byte| *byte == 0).any(|argument| argument == self.data.as_os_str().as_encoded_bytes())
        })
    }

    /// A process whose current folder is our data folder, as every session of a Postgres's is.
    fn leftover(&self) -> Option<String> {
        fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let folder = fs::read_link(entry.path().join("cwd")).ok()?;
            (folder == self.data).then(|| entry.file_name().to_string_lossy().into_owned())
        })
    }

    /// Postgres notes in its pid file, on the eighth line, when it takes connections.
    fn is_ready(&self, child: Option<u32>) -> bool {
        let file = self.data.join("postmaster.pid");
        let text = fs::read_to_string(&file).unwrap_or_default();
        first_number(&file) == child && text.lines().nth(7).map(str::trim) == Some("ready")
    }
}

/// The process that a lock file of Postgres's names.
fn first_number(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()
}

/// The folder of the cluster: `wanted` itself or, where `user` cannot get there, one under [`ROOT_STATE`] to which
/// `wanted` becomes a link. Both are kept from then on.
fn settle(wanted: &Path, user: Option<&User>) -> Result<PathBuf> {
    if wanted.exists() {
        return Ok(fs::canonicalize(wanted)?);
    }
    ensure!(!wanted.is_symlink(), "{} leads nowhere; remove it to start with an empty database", wanted.display());
    let parent = fs::canonicalize(wanted.parent().context("the home has no parent")?)?;
    match user.and_then(|user| binaries::first_closed(&parent, user)) {
        None => {
            make_folder(wanted, None)?;
            open_for_passage(wanted, user)?;
            Ok(fs::canonicalize(wanted)?)
        }
        Some(_) => {
            let folder = Path::new(ROOT_STATE).join(format!("postgres-{}", uuid::Uuid::now_v7().simple()));
            DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            symlink(&folder, wanted).with_context(|| format!("cannot make {}", wanted.display()))?;
            Ok(folder)
        }
    }
}

fn open_for_passage(folder: &Path, user: Option<&User>) -> Result<()> {
    if user.is_some() {
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    }
    Ok(())
}

/// Makes a folder that only `user` may enter.
fn make_folder(path: &Path, user: Option<&User>) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).with_context(|| format!("cannot make {}", path.display()))?;
    if let Some(user) = user {
        chown(path, Some(user.uid), Some(user.gid))
            .with_context(|| format!("cannot give {} to user {}", path.display(), user.name))?;
    }
    Ok(())
}

/// A folder for the socket, for `user` alone: beside the data or, where that path is too long, under /tmp.
fn socket_folder(folder: &Path, user: Option<&User>) -> Result<PathBuf> {
    let beside = folder.join("socket");
    let short = beside.as_os_str().len() + SOCKET_NAME.len() <= SOCKET_PATH_BYTES;
    let path = if short { beside } else { short_folder(folder) };
    if path.symlink_metadata().is_err() {
        make_folder(&path, user)?;
    }
    let (meta, owner) = (path.symlink_metadata()?, user.map_or_else(binaries::effective_uid, |user| Ok(user.uid))?);
    ensure!(
        meta.is_dir() && meta.uid() == owner && meta.mode() & 0o077 == 0,
        "{} is not a folder of ours that is closed to others; remove it",
        path.display()
    );
    Ok(path)
}

/// Named after the data folder, so that each home has its own and finds it again.
fn short_folder(folder: &Path) -> PathBuf {
    let digest = hex::encode(Sha256::digest(folder.as_os_str().as_encoded_bytes()));
    Path::new("/tmp").join(format!("lamina-{}", &digest[..16]))
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_home_gets_a_short_socket_folder_of_its_own() {
        let long = |name: &str| PathBuf::from(format!("/{}/{name}", "x".repeat(100)));
        let (one, two) = (short_folder(&long("one")), short_folder(&long("two")));
        assert_ne!(one, two);
        assert!(one.as_os_str().len() + SOCKET_NAME.len() <= SOCKET_PATH_BYTES);
    }

    #[test]
    fn a_folder_that_others_may_enter_is_no_place_for_a_socket() {
        let root = tempfile::tempdir().unwrap();
        let folder = socket_folder(root.path(), None).unwrap();
        assert_eq!(folder, root.path().join("socket"));
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert!(socket_folder(root.path(), None).unwrap_err().to_string().contains("closed to others"));
    }

    #[test]
    fn a_path_with_odd_characters_survives_the_url() {
        assert_eq!(percent_encode("/tmp/a b&c=d%"), "/tmp/a%20b%26c%3Dd%25");
    }
}
