//! `lamina serve`: the HTTP server and the control loop.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use scheduler::artifact::Artifacts;
use scheduler::control::Control;
use scheduler::policy::Policy;
use scheduler::store::Store;
use scheduler::token::{Scope, Secret};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::connections::{self, ConnectionLimits};
use crate::guesses::Guesses;
use crate::home::{self, Home};
use crate::limits;
use crate::metrics::Metrics;
use crate::random;
use crate::reports::Reports;
use crate::router::router;
use crate::routes::datasets;
use crate::streams::Streams;

/// Time that open requests have to end after the server was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// The settings of a server.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) database_url: String,
    pub(crate) bind: SocketAddr,
    pub(crate) home: Home,
    /// File with the admin's token; made if it is absent, as is the next one.
    pub(crate) token_file: PathBuf,
    /// File with the local agent's token.
    pub(crate) agent_token_file: PathBuf,
    /// Folder or URL (`s3://bucket/prefix`) of the artifacts; by default a folder of the home.
    pub(crate) artifacts: Option<String>,
    /// Time that an attempt stays open without a sync of its agent.
    pub(crate) lease: Duration,
}

/// Serves until `shutdown` is cancelled; open requests then have [`GRACE`] to end.
///
/// # Errors
/// When the port is taken, the database or the artifact store cannot be opened, or a token file cannot be read.
pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> Result<()> {
    // The port comes first: it is the most frequent fault, and a taken port must leave the database untouched.
    let listener = bind(config.bind)?;
    let store = Store::connect(&config.database_url).await?;
    for (scope, name, file) in
        [(Scope::Admin, "admin", &config.token_file), (Scope::Agent, "local agent", &config.agent_token_file)]
    {
        let secret = token(file).with_context(|| format!("cannot use the token file {}", file.display()))?;
        store.ensure_token(name, scope, &secret).await.with_context(|| format!("cannot register the {name} token"))?;
    }
    let place = config.artifacts.unwrap_or_else(|| config.home.path().join("artifacts").display().to_string());
    let environment =
        std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
    let artifacts = Artifacts::open(&place, environment, store.clone())?;
    let policy = Policy { lease: config.lease, ..Policy::default() };
    // Nothing that people ask for may hold up the control loop or the agents.
    let agents = store.reserved();
    let control = Control::new(agents.clone(), artifacts.clone(), policy.clone());
    let control = tokio::spawn(control.run(shutdown.clone()));
    let connections = limits::connections(limits::raise_open_files());
    let app = App {
        store,
        agents,
        artifacts,
        policy,
        metrics: Arc::new(Metrics::new()?),
        scans: datasets::scans(shutdown.clone()),
        guesses: Guesses::default(),
        reports: Reports::new(shutdown.clone()),
        streams: Streams::new(limits::streams(connections)),
        workers: limits::workers(shutdown.clone()),
        agent_workers: limits::agent_workers(shutdown.clone()),
        shutdown: shutdown.clone(),
    };
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(address = %listener.local_addr()?, connections, version, "serving");
    let limits = ConnectionLimits::new(connections, GRACE);
    connections::serve(listener, router(app)?, limits, &shutdown).await;
    control.await.context("the control loop panicked")?;
    tracing::info!("stopped");
    Ok(())
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    match listen(address) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "port {} of {} is in use; stop what listens there, or choose another address with --bind",
            address.port(),
            address.ip()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that starts again takes the port although connections of the last one are not forgotten yet.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(limits::BACKLOG)
}

/// The token in `file`. If the file does not exist, it is made with a new token.
fn token(file: &Path) -> Result<Secret> {
    match home::read_secret(file) {
        Ok(text) => return Secret::parse(&text).context("it holds no token; remove it, and a new one is made"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(folder) = file.parent() {
        home::make_private_folder(folder)?;
    }
    let secret = Secret::from_random(random::bytes()?);
    home::write_secret(file, secret.expose())?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_error_of_a_taken_port_names_the_port() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let message = format!("{:#}", bind(address).unwrap_err());
        assert!(message.contains(&format!("port {}", address.port())) && message.contains("in use"), "{message}");
    }

    #[test]
    fn a_token_file_is_made_once_and_then_reused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new").join("token");
        let first = token(&file).unwrap();
        assert_eq!(token(&file).unwrap(), first);
        std::fs::write(&file, "\n").unwrap();
        assert!(token(&file).unwrap_err().to_string().contains("holds no token"));
    }
}
