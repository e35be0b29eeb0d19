//! A private Postgres with one data folder, one socket, no TCP, and every commit written to disk.

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

/// Name of the database and of its only role.
const NAME: &str = "lamina";
/// The place of the data under root if root's home is closed to the account that Postgres runs under.
const ROOT_STATE: &str = "/var/lib/lamina";
/// Largest length of a socket's path (`sun_path` of Linux without its final zero).
const SOCKET_PATH_BYTES: usize = 107;
const SOCKET_NAME: &str = "/.s.PGSQL.5432";
const SOCKET_LOCK: &str = ".s.PGSQL.5432.lock";
const POLL: Duration = Duration::from_millis(20);

/// SIGINT rolls open transactions back and shuts down in order; after SIGQUIT the next start recovers the data.
pub(super) const STOP: Stop = Stop { signal: libc::SIGINT, force: libc::SIGQUIT, patience: Duration::from_secs(60) };

pub(super) struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    /// The account that it runs under, if it is not that of this process.
    user: Option<User>,
}

impl Postgres {
    /// Finds the programs and the data folder under `home`. The first start makes the data folder, complete or not at
    /// all. The caller must hold the lock on the home.
    pub(super) async fn prepare(home: &Path, bin: Option<&Path>, log: PathBuf) -> Result<Self> {
        let mut user = binaries::unprivileged_user()?;
        let folder = cluster_folder(&home.join("postgres"), user.as_ref())?;
        let data = folder.join("data");
        // An existing data folder keeps its owner, and Postgres runs under that account.
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

    /// The URL of the database: `postgres:///lamina?host=...`.
    pub(super) fn url(&self) -> String {
        format!("postgres:///{NAME}?host={}&user={NAME}", percent_encode(&self.socket.to_string_lossy()))
    }

    /// Starts the server and waits until it accepts connections; a recovery may come first.
    pub(super) async fn start(&self) -> Result<Child> {
        self.remove_leftovers().await?;
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

        // The single-user mode has no socket and no second process.
        let mut single = self.command("postgres", &self.log)?;
        single.arg("--single").arg("-D").arg(&partial).arg("postgres").stdin(Stdio::piped());
        let mut child = single.spawn()?;
        let mut input = child.stdin.take().context("no input to Postgres")?;
        input.write_all(format!("create database {NAME}\n").as_bytes()).await?;
        drop(input);
        self.finish(child, "postgres --single").await?;

        ensure!(!self.data.exists(), "{} is not a data folder of Postgres; move it away", self.data.display());
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
        // The other account may not enter the current folder, and PG variables of the environment would change the
        // server.
        command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").env("LC_ALL", "C");
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
        Ok(command)
    }

    /// Stops a server that a killed `up` has left, and removes its lock files. Their process id may belong to another
    /// process by now, or to a zombie; Postgres would take either for a running server.
    async fn remove_leftovers(&self) -> Result<()> {
        let locks = [self.data.join("postmaster.pid"), self.socket.join(SOCKET_LOCK)];
        for server in locks.iter().filter_map(|lock| first_number(lock)) {
            self.stop(server).await?;
        }
        // Sessions end by themselves once their server is gone; a new server must not start while one is left.
        let deadline = Instant::now() + STOP.patience;
        while let Some(session) = self.leftover_session() {
            ensure!(Instant::now() < deadline, "a Postgres session (process {session}) does not end; end it by hand");
            sleep(POLL).await;
        }
        for lock in locks {
            match fs::remove_file(&lock) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", lock.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Stops a server on this data folder that is not a child of this process.
    async fn stop(&self, server: u32) -> Result<()> {
        for signal in [STOP.signal, STOP.force] {
            if !self.is_ours(server) {
                return Ok(());
            }
            process::send(server, signal)?;
            // If the wait times out, the next check sees that the server still runs.
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

    /// True if the process is a server on this data folder, which its command line then names.
    fn is_ours(&self, process: u32) -> bool {
        fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| {
            line.split(|byte| *byte == 0).any(|argument| argument == self.data.as_os_str().as_encoded_bytes())
        })
    }

    /// A process whose current folder is the data folder, as it is for every session of Postgres.
    fn leftover_session(&self) -> Option<String> {
        fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let folder = fs::read_link(entry.path().join("cwd")).ok()?;
            (folder == self.data).then(|| entry.file_name().to_string_lossy().into_owned())
        })
    }

    /// True if the server accepts connections; Postgres writes this to the eighth line of its pid file.
    fn is_ready(&self, child: Option<u32>) -> bool {
        let file = self.data.join("postmaster.pid");
        let text = fs::read_to_string(&file).unwrap_or_default();
        first_number(&file) == child && text.lines().nth(7).map(str::trim) == Some("ready")
    }
}

/// The process id in a lock file of Postgres.
fn first_number(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()
}

/// The folder of the cluster, made if it does not exist: `wanted` itself, or a folder under [`ROOT_STATE`] with
/// `wanted` as a link to it if `user` cannot reach `wanted`.
fn cluster_folder(wanted: &Path, user: Option<&User>) -> Result<PathBuf> {
    if wanted.exists() {
        return Ok(fs::canonicalize(wanted)?);
    }
    ensure!(
        !wanted.is_symlink(),
        "{} is a link to a folder that does not exist; remove it to start with an empty database",
        wanted.display()
    );
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

/// Lets `user` pass through a folder without reading it.
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

/// The folder of the socket, which only `user` may enter: beside the data, or under /tmp if that path is too long.
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
        "{} must belong to the account that Postgres runs under and be closed to others; remove it",
        path.display()
    );
    Ok(path)
}

/// A folder under /tmp whose name follows from the data folder, so that each home has its own and finds it again.
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
    fn each_home_with_a_long_path_has_its_own_short_socket_folder() {
        let long = |name: &str| PathBuf::from(format!("/{}/{name}", "x".repeat(100)));
        let (one, two) = (short_folder(&long("one")), short_folder(&long("two")));
        assert_ne!(one, two);
        assert!(one.as_os_str().len() + SOCKET_NAME.len() <= SOCKET_PATH_BYTES);
    }

    #[test]
    fn a_socket_folder_that_others_may_enter_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = socket_folder(root.path(), None).unwrap();
        assert_eq!(folder, root.path().join("socket"));
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert!(socket_folder(root.path(), None).unwrap_err().to_string().contains("closed to others"));
    }

    #[test]
    fn special_characters_of_a_path_are_encoded_in_the_url() {
        assert_eq!(percent_encode("/tmp/a b&c=d%"), "/tmp/a%20b%26c%3Dd%25");
    }
}
