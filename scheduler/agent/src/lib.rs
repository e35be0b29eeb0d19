//! The process on a node that starts, watches and reports attempts.
//!
//! It is told what should run by one call that it makes itself ([`protocol`]), and keeps nothing in memory that it
//! could not lose: what a trainer says is on disk before it is sent, and is sent until the server has it. A trainer dies
//! with its agent, and before its lease ends.
//!
//! | module | what it does |
//! |---|---|
//! | `sync` | the loop: one call, and what follows from its answer |
//! | `plan`, `lease`, `outcome` | the decisions, without I/O |
//! | `attempt` | one attempt from assignment to outcome |
//! | `inputs`, `cache` | its files, by digest |
//! | `process`, `output` | its trainer, and what that says |
//! | `journal`, `spool`, `upload` | what was said, on its way to the server |
//! | `client`, `facts`, `name` | HTTP; what this machine has; names that become paths |

mod attempt;
mod cache;
mod client;
mod facts;
#[cfg(test)]
mod fixture;
mod inputs;
mod journal;
mod lease;
mod name;
mod outcome;
mod output;
mod plan;
mod process;
mod spool;
mod sync;
mod upload;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use attempt::{Site, Slot};
use lease::Lease;

pub struct Config {
    /// Base URL.
    pub server: String,
    /// Of scope `agent`.
    pub token: String,
    /// This agent's own folder: attempts under way, and the cache.
    pub home: PathBuf,
    /// Unique among the server's nodes; the host name by default.
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// By default one for each accelerator, or else one with all cores. Without accelerators the cores are divided among
    /// this many.
    pub slots: Option<u32>,
    /// The program `lamina-trainer`.
    pub trainer: PathBuf,
    /// What files that no attempt uses may take in the cache; token shards as much again.
    pub cache_bytes: u64,
    /// At shutdown, how long trainers may take to write a checkpoint and the server to hear of it.
    pub shutdown_grace: Duration,
}

impl Config {
    /// Everything but these at its default.
    pub fn new(server: impl Into<String>, token: impl Into<String>, home: PathBuf, trainer: PathBuf) -> Self {
        Self {
            server: server.into(),
            token: token.into(),
            home,
            name: None,
            labels: BTreeMap::new(),
            slots: None,
            trainer,
            cache_bytes: 50 << 30,
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

/// Why an agent cannot work at all. What goes wrong later is a failure of an attempt, or passes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the server does not take this token: {0}")]
    Token(String),
    #[error("cannot reach a server at {server:?}")]
    Server { server: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("there is no trainer at {path}")]
    Trainer { path: PathBuf, source: io::Error },
    #[error("another agent works in {path}")]
    Taken { path: PathBuf },
    #[error("cannot use {path}")]
    Home { path: PathBuf, source: io::Error },
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Works until `shutdown` is cancelled; then trainers are asked for a last checkpoint, and the server is told.
///
/// # Errors
/// When it cannot begin: no trainer, a home that cannot be used or is used already, a token that the server refuses at the
/// first call.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let in_home = |source| Error::Home { path: config.home.clone(), source };
    let trainer =
        fs::canonicalize(&config.trainer).map_err(|source| Error::Trainer { path: config.trainer.clone(), source })?;
    fs::create_dir_all(&config.home).map_err(in_home)?;
    // Trainers run in folders of their own.
    let home = fs::canonicalize(&config.home).map_err(in_home)?;
    let _lock = lock(&home)?;
    let (attempts, tokens) = (home.join("attempts"), home.join("cache/tokens"));
    for folder in [&attempts, &tokens] {
        fs::create_dir_all(folder).map_err(in_home)?;
    }
    cache::trim(&tokens, config.cache_bytes).map_err(in_home)?;

    let client = client::Client::new(&config.server, &config.token)
        .map_err(|source| Error::Server { server: config.server.clone(), source: source.into() })?;
    let node = facts::discover(config.name, config.labels, config.slots);
    let (lease, extended) = watch::channel(Lease::none(Instant::now()));
    let site = Arc::new(Site {
        trainer,
        attempts,
        tokens,
        slots: node.slots.iter().map(|facts| Slot { facts: facts.clone(), occupied: Mutex::new(()) }).collect(),
        cache: cache::Cache::open(home.join("cache/files"), config.cache_bytes, client.clone()).map_err(in_home)?,
        client,
        starter: process::Starter::new().map_err(Error::Thread)?,
        lease: extended,
        urgent: Arc::new(Notify::new()),
    });
    let mut agent = sync::Agent::new(site, node, lease);
    agent.recover().map_err(in_home)?;
    agent.run(shutdown, config.shutdown_grace).await
}

/// Two agents in one folder would each take the other's attempts for lost. The kernel lets go of it when this process ends.
fn lock(home: &Path) -> Result<File, Error> {
    let path = home.join("lock");
    let in_home = |source| Error::Home { path: path.clone(), source };
    let file = File::create(&path).map_err(in_home)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Taken { path: home.to_owned() }),
        Err(TryLockError::Error(source)) => Err(in_home(source)),
    }
}
