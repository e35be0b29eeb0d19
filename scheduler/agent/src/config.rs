//! The settings of an agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How an agent is to run.
pub struct Config {
    /// The base URL of the server.
    pub server: String,
    /// An access token with the scope `agent`.
    pub token: String,
    /// The agent's own folder, which holds its attempts and its cache.
    pub home: PathBuf,
    /// A name that no other node of the server has; `None` stands for the host name.
    pub name: Option<String>,
    /// Labels that the server shows with this node. They do not affect placement.
    pub labels: BTreeMap<String, String>,
    /// The number of slots to offer. `None` stands for one slot per accelerator, or one slot with all cores on a node
    /// without accelerators. Without accelerators the cores are divided among the slots.
    pub slots: Option<u32>,
    /// The path of the program `lamina-trainer`.
    pub trainer: PathBuf,
    /// The size in bytes that files which no attempt uses may take in the cache. Token shards may take as much again.
    pub cache_bytes: u64,
    /// The time at shutdown in which trainers may write a checkpoint and the server must learn of it.
    pub shutdown_grace: Duration,
}

impl Config {
    /// A configuration with these values, and the default for all others.
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
