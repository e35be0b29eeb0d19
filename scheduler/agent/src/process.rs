//! Starting a trainer so that it cannot outlive its agent, and sending it signals.

use std::io;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Starts processes from one thread of its own, which lives as long as this value.
///
/// The kernel's "die with the parent" means the *thread* that forked, and the threads of an asynchronous runtime come and
/// go: a trainer that was forked from one of those would be killed when the runtime retires it.
pub(crate) struct Starter {
    orders: mpsc::Sender<Order>,
}

type Order = (Command, Handle, oneshot::Sender<io::Result<Child>>);

impl Starter {
    pub(crate) fn new() -> io::Result<Self> {
        let (orders, received) = mpsc::channel::<Order>();
        thread::Builder::new().name("starter".into()).spawn(move || {
            for (command, runtime, reply) in received {
                let _inside = runtime.enter();
                // Who asked may be gone; the child then dies with the dropped answer (`kill_on_drop`).
                drop(reply.send(start(command)));
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts the command in a process group of its own; it is killed when this agent dies, or when the child is dropped.
    pub(crate) async fn start(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the thread that starts processes is gone");
        let (reply, child) = oneshot::channel();
        self.orders.send((command, Handle::current(), reply)).map_err(|_| gone())?;
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
            // The parent may have died before the kernel was told.
            if libc::getppid().cast_unsigned() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Sends a signal to the process group that a started child leads. A group that is gone is no error.
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
