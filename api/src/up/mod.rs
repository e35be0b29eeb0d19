//! `lamina up`, the whole service on one machine: a private Postgres, `lamina serve` and `lamina agent`. Each is a
//! process of its own and is started again if it ends. They start in this order and stop in the reverse order.
//!
//! | module | content |
//! |---|---|
//! | [`process`] | child processes that end with their parent and are started again if they end by themselves |
//! | [`binaries`] | the place of Postgres's programs, and the account that they run under |
//! | [`postgres`] | the private Postgres |

mod binaries;
mod postgres;
mod process;

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use scheduler::node::NodeView;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::daemon::find_trainer;
use crate::home::{self, Home, close_to_others, write_secret};
use crate::page::Page;
use crate::terminal::{announce, mention};
use postgres::Postgres;
use process::Stop;

/// Time that the server of a killed `lamina up` may still hold the port.
const PORT_PATIENCE: Duration = Duration::from_secs(5);
/// Time in which the server must accept the agent.
const AGENT_PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// Signals that follow each other within this time count as one.
const SAME_SIGNAL: Duration = Duration::from_secs(1);
const SERVER_STOP: Stop = Stop { signal: libc::SIGTERM, force: libc::SIGKILL, patience: Duration::from_secs(15) };
/// The agent has more time than the server because its trainers write a checkpoint first.
const AGENT_STOP: Stop = Stop { signal: libc::SIGTERM, force: libc::SIGKILL, patience: Duration::from_secs(90) };

#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder for all files of the service [default: $XDG_DATA_HOME/lamina or ~/.local/share/lamina]
    #[arg(long, env = "LAMINA_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Address of the API and the dashboard; port 0 takes a free one
    #[arg(long, env = "LAMINA_BIND", value_name = "ADDRESS", default_value = "127.0.0.1:8642")]
    bind: SocketAddr,
    /// Folder with Postgres's programs [default: the first found on PATH, in /usr/lib/postgresql or in the cache]
    #[arg(long, env = "LAMINA_POSTGRES_BIN", value_name = "DIR")]
    postgres_bin: Option<PathBuf>,
    /// URL of a Postgres database to use instead of a private one
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Folder besides data/ in the home whose files may be registered as data sets; repeatable
    #[arg(long = "data-root", env = "LAMINA_DATA_ROOT", value_name = "DIR", value_delimiter = ':')]
    data_roots: Vec<PathBuf>,
    /// Number of trials that may run here at the same time [default: one per GPU, or one on the CPU]
    #[arg(long, env = "LAMINA_SLOTS", value_name = "N")]
    slots: Option<u32>,
    /// The trainer program [default: lamina-trainer beside this program, or on PATH]
    #[arg(long, env = "LAMINA_TRAINER", value_name = "FILE")]
    trainer: Option<PathBuf>,
}

/// Runs the service until SIGINT or SIGTERM.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    // The runtime has only this thread: to the kernel, the parent of a child is the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async {
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let listening = tokio::spawn(listen(stop.clone(), hurry.clone())?);
        let ended = Service::new(arguments)?.run(&stop, &hurry).await;
        listening.abort();
        ended
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// The first signal sets `stop`, for an orderly stop; a later one sets `hurry`, for a quick one.
fn listen(stop: CancellationToken, hurry: CancellationToken) -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        let mut first = None::<Instant>;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // One Ctrl-C may arrive twice: from the terminal, and from the program that started this one.
            match first {
                None => stop.cancel(),
                Some(at) if at.elapsed() > SAME_SIGNAL => hurry.cancel(),
                Some(_) => {}
            }
            first.get_or_insert_with(Instant::now);
        }
    })
}

struct Service {
    home: Home,
    /// The lock on the home, held for as long as this process lives.
    _lock: File,
    address: SocketAddr,
    arguments: Arguments,
}

/// A process that is kept running.
struct Part {
    name: &'static str,
    /// Cancelled to stop the process.
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Service {
    fn new(arguments: Arguments) -> Result<Self> {
        let home = Home::new(arguments.home.clone())?;
        let folder = home.path();
        // Under root, Postgres runs under another account, which must pass through the home to reach its own folder.
        let group = match arguments.database_url {
            // Existing data keep their owner.
            None => binaries::unprivileged_user()?
                .map(|user| fs::metadata(folder.join("postgres/data")).map_or(user.gid, |meta| meta.gid())),
            Some(_) => None,
        };
        close_to_others(folder, group)?;
        for name in ["artifacts", "agent", "data", "log"] {
            close_to_others(&folder.join(name), None)?;
        }
        let lock = lock(folder)?;
        Ok(Self { address: arguments.bind, home, _lock: lock, arguments })
    }

    async fn run(mut self, stop: &CancellationToken, hurry: &CancellationToken) -> Result<()> {
        let mut parts = Vec::new();
        let started = tokio::select! {
            started = self.start(&mut parts, hurry) => started,
            () = stop.cancelled() => Ok(()),
        };
        if started.is_ok() && !stop.is_cancelled() {
            announce(self.welcome());
            stop.cancelled().await;
            mention("lamina: stopping; running trials write a checkpoint (Ctrl-C again stops at once)");
        }
        let mut ended = started;
        for part in parts.into_iter().rev() {
            part.stop.cancel();
            let stopped = part.task.await.context("it panicked").flatten();
            ended = ended.and(stopped.with_context(|| format!("the {} did not stop", part.name)));
        }
        ended
    }

    async fn start(&mut self, parts: &mut Vec<Part>, hurry: &CancellationToken) -> Result<()> {
        // A client must not find the URL of an earlier run, whose port may belong to another program by now.
        match fs::remove_file(self.home.url_file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).context("cannot remove the old url file");
            }
            _ => {}
        }
        // A missing trainer would stop the last part from starting, so it is looked for before the first part starts.
        let trainer = find_trainer(self.arguments.trainer.take())?;
        self.address = free_address(self.arguments.bind).await?;
        let database_url = match &self.arguments.database_url {
            Some(url) => url.clone(),
            None => {
                let log = self.log("postgres");
                let bin = self.arguments.postgres_bin.as_deref();
                let postgres = Postgres::prepare(self.home.path(), bin, log.clone()).await?;
                let url = postgres.url();
                let child = postgres.start().await?;
                let start = async move || postgres.start().await;
                parts.push(keep("Postgres", log, child, start, postgres::STOP, hurry));
                url
            }
        };

        let data_roots = [self.home.data_folder()].into_iter().chain(self.arguments.data_roots.clone()).collect();
        let log = self.log("server");
        let server = Server { home: self.home.clone(), address: self.address, database_url, data_roots, log };
        let mut child = server.start()?;
        let ready = server.until_ready(&mut child).await;
        let log = server.log.clone();
        parts.push(keep("server", log.clone(), child, async move || server.start(), SERVER_STOP, hurry));
        ready.with_context(|| format!("the server did not start; its log is {}", log.display()))?;

        let agent = Agent {
            home: self.home.clone(),
            server: url(self.address),
            slots: self.arguments.slots,
            trainer,
            log: self.log("agent"),
        };
        let mut child = agent.start()?;
        let known = agent.until_known(&mut child).await;
        parts.push(keep("agent", self.log("agent"), child, async move || agent.start(), AGENT_STOP, hurry));
        known.with_context(|| format!("the agent did not start; its log is {}", self.log("agent").display()))?;
        write_secret(&self.home.url_file(), &url(self.address))?;
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.home.path().join("log").join(name).with_extension("log")
    }

    fn welcome(&self) -> String {
        let home = self.home.path().display();
        let lines = [
            ("dashboard", url(self.address)),
            ("token", format!("in {}", self.home.token_file().display())),
            ("data, logs", format!("in {home}")),
            ("", String::new()),
            ("next", "lamina data fetch                  download text, a vocabulary and GLUE".into()),
            ("", "lamina data import DIR             register text, a vocabulary, GLUE or images".into()),
            ("", "lamina submit JOB.json --watch     submit a job and follow it".into()),
            ("stop", "Ctrl-C".into()),
        ];
        let lines = lines.map(|(name, text)| format!("  {name:<12}{text}").trim_end().to_owned());
        format!("lamina {} is running\n\n{}\n", env!("CARGO_PKG_VERSION"), lines.join("\n"))
    }
}

fn keep(
    name: &'static str,
    log: PathBuf,
    child: Child,
    start: impl AsyncFnMut() -> Result<Child> + 'static,
    how: Stop,
    hurry: &CancellationToken,
) -> Part {
    let (stop, hurry) = (CancellationToken::new(), hurry.clone());
    let stopped = stop.clone();
    let task =
        tokio::task::spawn_local(async move { process::keep(name, &log, child, start, how, &stopped, &hurry).await });
    Part { name, stop, task }
}

/// `lamina serve` of this very program.
struct Server {
    home: Home,
    address: SocketAddr,
    database_url: String,
    data_roots: Vec<PathBuf>,
    log: PathBuf,
}

impl Server {
    fn start(&self) -> Result<Child> {
        let mut command = this_program("serve", SERVER_STOP, &self.log)?;
        // The URL may hold a password, and every user can read a command line; hence the environment.
        command.env("DATABASE_URL", &self.database_url);
        command.arg("--bind").arg(self.address.to_string()).arg("--home").arg(self.home.path());
        command.arg("--token-file").arg(self.home.token_file());
        // The flag, which names these folders already, would otherwise be joined by the variable.
        command.env_remove("LAMINA_DATA_ROOT");
        for root in &self.data_roots {
            command.arg("--data-root").arg(root);
        }
        command.spawn().context("cannot start the server")
    }

    /// Waits until the server answers.
    ///
    /// # Errors
    /// If the server ends before it answers.
    async fn until_ready(&self, child: &mut Child) -> Result<()> {
        let ready = format!("{}/readyz", url(self.address));
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("it {}:{}", process::describe(status), process::log_tail(&self.log));
            }
            if client.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }
}

/// `lamina agent` of this very program.
struct Agent {
    home: Home,
    server: String,
    slots: Option<u32>,
    trainer: PathBuf,
    log: PathBuf,
}

impl Agent {
    fn start(&self) -> Result<Child> {
        let mut command = this_program("agent", AGENT_STOP, &self.log)?;
        command.env_remove("DATABASE_URL");
        command.args(["--server", &self.server]).arg("--token-file").arg(self.home.agent_token_file());
        command.arg("--home").arg(self.home.path()).arg("--trainer").arg(&self.trainer);
        if let Some(slots) = self.slots {
            command.arg("--slots").arg(slots.to_string());
        }
        command.spawn().context("cannot start the agent")
    }

    /// Waits until the server lists the agent's process as a live node.
    ///
    /// # Errors
    /// If the agent ends before, or the server still refuses it after [`AGENT_PATIENCE`].
    async fn until_known(&self, child: &mut Child) -> Result<()> {
        let token = home::read_secret(&self.home.token_file())?;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        let nodes = format!("{}/nodes?limit=1000", self.server);
        let deadline = Instant::now() + AGENT_PATIENCE;
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("it {}:{}", process::describe(status), process::log_tail(&self.log));
            }
            let instance = agent::instance_in(&self.home.agent_folder())?;
            let answer = client.get(&nodes).bearer_auth(token.trim()).send().await;
            if let Ok(answer) = answer
                && let Ok(page) = answer.json::<Page<NodeView>>().await
                && page.items.iter().any(|node| node.live && Some(node.instance) == instance)
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the server does not list it as a node:{}", process::log_tail(&self.log));
            }
            sleep(POLL).await;
        }
    }
}

/// The program that runs now, even if its file has been replaced since.
fn this_program(subcommand: &str, stop: Stop, log: &Path) -> Result<Command> {
    let mut command =
        process::command("/proc/self/exe", stop, log).with_context(|| format!("cannot write {}", log.display()))?;
    command.arg0("lamina").arg(subcommand);
    Ok(command)
}

/// Takes the lock on a home, which only one `lamina up` can hold. The lock file contains the id of its process.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => bail!(
            "another `lamina up` (process {}) runs in {}; stop it, or name another folder with --home",
            fs::read_to_string(&path).unwrap_or_default().trim(),
            folder.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// The address to listen on, with port 0 replaced by a free port.
///
/// # Errors
/// If the port is still in use after [`PORT_PATIENCE`].
async fn free_address(wanted: SocketAddr) -> Result<SocketAddr> {
    let deadline = Instant::now() + PORT_PATIENCE;
    loop {
        match TcpListener::bind(wanted).and_then(|listener| listener.local_addr()) {
            Ok(address) => return Ok(address),
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => sleep(POLL).await,
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                bail!("{wanted} is in use; stop what listens there, or choose another address with --bind")
            }
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {wanted}")),
        }
    }
}

/// The URL under which a client on this machine reaches the server.
fn url(address: SocketAddr) -> String {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(host, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_service_at_a_time_can_use_a_home() {
        let home = tempfile::tempdir().unwrap();
        let held = lock(home.path()).unwrap();
        let refused = lock(home.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        drop(held);
        lock(home.path()).unwrap();
    }

    #[test]
    fn the_url_for_clients_never_holds_an_unspecified_address() {
        assert_eq!(url("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
        assert_eq!(url("[::]:80".parse().unwrap()), "http://[::1]:80");
        assert_eq!(url("10.0.0.7:8642".parse().unwrap()), "http://10.0.0.7:8642");
    }

    #[tokio::test]
    async fn port_0_becomes_a_free_port() {
        let address = free_address("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_ne!(address.port(), 0);
    }
}
