//! Setting up an agent and running it.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::attempt::{Site, Slot};
use crate::cache::{self, Cache};
use crate::client::Client;
use crate::config::Config;
use crate::error::Error;
use crate::facts;
use crate::identity::Identity;
use crate::lease::Lease;
use crate::process::Starter;
use crate::sync::Agent;

/// Runs an agent until `shutdown` is cancelled. Then its trainers may write a last checkpoint, and the server is told.
///
/// # Errors
/// There is no trainer, the home cannot be used or another agent uses it, or the server refuses the token at the first
/// call.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let in_home = |source| Error::Home { path: config.home.clone(), source };
    let trainer =
        fs::canonicalize(&config.trainer).map_err(|source| Error::Trainer { path: config.trainer.clone(), source })?;
    fs::create_dir_all(&config.home).map_err(in_home)?;
    // The path must be absolute because each trainer runs in a folder of its own.
    let home = fs::canonicalize(&config.home).map_err(in_home)?;
    let _lock = lock(&home)?;
    let (attempts, tokens) = (home.join("attempts"), home.join("cache/tokens"));
    for folder in [&attempts, &tokens] {
        fs::create_dir_all(folder).map_err(in_home)?;
    }
    cache::trim(&tokens, config.cache_bytes).map_err(in_home)?;

    let client = Client::new(&config.server, &config.token)
        .map_err(|source| Error::Server { server: config.server.clone(), source: source.into() })?;
    let node = facts::discover(config.name, config.labels, config.slots);
    let (lease, extended) = watch::channel(Lease::none(Instant::now()));
    let site = Arc::new(Site {
        trainer,
        attempts,
        tokens,
        slots: node.slots.iter().map(|facts| Slot { facts: facts.clone(), occupied: Mutex::new(()) }).collect(),
        cache: Cache::open(home.join("cache/files"), config.cache_bytes, client.clone()).map_err(in_home)?,
        client,
        starter: Starter::new().map_err(Error::Thread)?,
        lease: extended,
        urgent: Arc::new(Notify::new()),
    });
    let identity = Identity::new(&home).map_err(in_home)?;
    let mut agent = Agent::new(site, node, identity, lease);
    agent.recover().map_err(in_home)?;
    agent.run(shutdown, config.shutdown_grace).await
}

/// Locks the home. Two agents in one home would each report the other's attempts as lost. The kernel releases the lock
/// when this process ends.
fn lock(home: &Path) -> Result<File, Error> {
    let path = home.join("lock");
    let in_home = |source| Error::Home { path: path.clone(), source };
    let file = File::create(&path).map_err(in_home)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::HomeInUse { path: home.to_owned() }),
        Err(TryLockError::Error(source)) => Err(in_home(source)),
    }
}
