//! Starts a trainer so that it cannot outlive its agent, and sends it signals.

use std::io;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Starts processes from one thread of its own, which lives as long as this value.
///
/// With `PR_SET_PDEATHSIG` the kernel kills a child when the *thread* that forked it ends. An asynchronous runtime ends
/// its threads when it likes, and a trainer that one of them had forked would be killed then.
pub(crate) struct Starter {
    requests: mpsc::Sender<StartRequest>,
}

type StartRequest = (Command, Handle, oneshot::Sender<io::Result<Child>>);

impl Starter {
    pub(crate) fn new() -> io::Result<Self> {
        let (requests, received) = mpsc::channel::<StartRequest>();
        thread::Builder::new().name("starter".into()).spawn(move || {
            for (command, runtime, reply) in received {
                let _inside = runtime.enter();
                // The caller may have stopped waiting; the child is then killed when the reply is dropped
                // (`kill_on_drop`).
                drop(reply.send(start(command)));
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts the command in a process group of its own. The process is killed when this agent ends or when the
    /// returned child is dropped.
    pub(crate) async fn start(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts processes has ended");
        let (reply, child) = oneshot::channel();
        self.requests.send((command, Handle::current(), reply)).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}

fn start(mut command: Command) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
    die_with_parent(&mut command);
    tokio::process::Command::from(command).kill_on_drop(true).spawn()
}

#[expect(unsafe_code, reason = "code between fork and exec: it calls async-signal-safe functions only")]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    // SAFETY: prctl and getppid are plain system calls, `Error` from a number does not allocate, and nothing is shared.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have ended before this call.
            if libc::getppid().cast_unsigned() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Sends a signal to the process group whose leader is a started child. It is not an error if the group has ended.
#[expect(unsafe_code, reason = "kill(2) has no safe wrapper in the standard library")]
pub(crate) fn signal_group(leader: u32, signal: i32) -> io::Result<()> {
    let leader = i32::try_from(leader).map_err(io::Error::other)?;
    // SAFETY: killpg takes two integers and touches no memory of this process.
    match unsafe { libc::killpg(leader, signal) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}
