//! Child processes that end with their parent, and are started again if they end by themselves.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::terminal::mention;

/// A child that lived this long was healthy, so the delay before its next restart is the first one again.
const STEADY: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(10);
/// A log of more bytes is renamed to `.log.1` when its process starts.
const LOG_BYTES: u64 = 16 << 20;

/// How to stop a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// The signal for an orderly stop; the kernel also sends it if `up` itself is killed.
    pub(super) signal: i32,
    /// The signal that follows if the process has not stopped after `patience`.
    pub(super) force: i32,
    pub(super) patience: Duration,
}

/// A command that gets `stop.signal` when this process dies. It runs in a process group of its own, so that a
/// terminal's Ctrl-C does not reach it directly. Call [`Command::spawn`] on the thread that lives as long as this
/// process: to the kernel, the parent is a thread.
pub(super) fn command(program: impl AsRef<OsStr>, stop: Stop, log: &Path) -> io::Result<Command> {
    let log = open_log(log)?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let parent = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let signal = stop.signal;
    let bind_to_parent = move || {
        // SAFETY: both are plain system calls without memory arguments, and async-signal-safe.
        #[expect(unsafe_code, reason = "prctl and getppid have no safe form in std")]
        let (set, alive) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, signal) == 0, libc::getppid() == parent) };
        match (set, alive) {
            (true, true) => Ok(()),
            (false, _) => Err(io::Error::last_os_error()),
            // The parent died before the signal was set, so no signal will come.
            (true, false) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    #[expect(unsafe_code, reason = "a child can ask for its parent-death signal only between fork and exec")]
    unsafe {
        command.pre_exec(bind_to_parent);
    }
    Ok(command)
}

fn open_log(path: &Path) -> io::Result<File> {
    if path.metadata().is_ok_and(|log| log.len() > LOG_BYTES) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Sends `signal` to a process. It is not an error if the process has ended already.
pub(super) fn send(process: u32, signal: i32) -> io::Result<()> {
    let process = i32::try_from(process).map_err(io::Error::other)?;
    // SAFETY: a plain system call without memory arguments.
    #[expect(unsafe_code, reason = "kill has no safe form in std")]
    let sent = unsafe { libc::kill(process, signal) };
    let error = io::Error::last_os_error();
    if sent == 0 || error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Stops `child` with `stop.signal`, and with `stop.force` after `stop.patience` or as soon as `hurry` is cancelled.
pub(super) async fn stop(child: &mut Child, stop: Stop, hurry: &CancellationToken) -> io::Result<ExitStatus> {
    if let Some(id) = child.id() {
        send(id, stop.signal)?;
        tokio::select! {
            ended = timeout(stop.patience, child.wait()) => if let Ok(status) = ended { return status },
            () = hurry.cancelled() => {}
        }
        send(id, stop.force)?;
    }
    child.wait().await
}

/// Keeps a process running until `stopped` is cancelled, then stops it. `start` starts the next one.
pub(super) async fn keep(
    name: &str,
    log: &Path,
    mut child: Child,
    mut start: impl AsyncFnMut() -> Result<Child>,
    how: Stop,
    stopped: &CancellationToken,
    hurry: &CancellationToken,
) -> Result<()> {
    let mut delay = FIRST_DELAY;
    loop {
        let born = Instant::now();
        let status = tokio::select! {
            status = child.wait() => status?,
            () = stopped.cancelled() => {
                stop(&mut child, how, hurry).await?;
                return Ok(());
            }
        };
        mention(format_args!("lamina: the {name} {}; starting it again (log: {})", describe(status), log.display()));
        if born.elapsed() > STEADY {
            delay = FIRST_DELAY;
        }
        child = loop {
            tokio::select! {
                () = sleep(delay) => {}
                () = stopped.cancelled() => return Ok(()),
            }
            delay = (delay * 2).min(LAST_DELAY);
            let started = tokio::select! {
                started = start() => started,
                () = stopped.cancelled() => return Ok(()),
            };
            match started {
                Ok(child) => break child,
                Err(error) => mention(format_args!("lamina: the {name} does not start: {error:#}")),
            }
        };
    }
}

/// The end of a process as the predicate of a sentence: "ended with status 1".
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

/// The last eight lines of a log, indented, for the end of an error message.
pub(super) fn log_tail(path: &Path) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(8)..].iter().map(|line| format!("\n  | {line}")).collect()
        }
        Err(error) => format!("\n  ({} cannot be read: {error})", path.display()),
    }
}
