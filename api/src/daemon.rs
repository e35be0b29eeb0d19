//! `lamina serve` and `lamina agent`: their flags, their log, their signals.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::home::Home;
use crate::serve;

#[derive(Args)]
pub(crate) struct ServeArguments {
    /// The Postgres that holds all state
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: String,
    /// Address of the API and the dashboard
    #[arg(long, env = "LAMINA_BIND", value_name = "ADDRESS", default_value = "127.0.0.1:8642")]
    bind: SocketAddr,
    /// Folder for tokens and artifacts [default: $XDG_DATA_HOME/lamina or ~/.local/share/lamina]
    #[arg(long, env = "LAMINA_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Where checkpoints are kept: a folder or an object store such as s3://bucket/prefix [default: artifacts/ in the home]
    #[arg(long, env = "LAMINA_ARTIFACTS", value_name = "URL")]
    artifacts: Option<String>,
    /// How long a node may be silent before its attempts are lost, in seconds
    #[arg(long, env = "LAMINA_LEASE_SECONDS", value_name = "SECONDS", default_value_t = 15.0, value_parser = seconds)]
    lease_seconds: f64,
    /// File with the admin's token, made when there is none [default: token in the home]
    #[arg(long, env = "LAMINA_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct AgentArguments {
    /// The server that this node works for
    #[arg(long, env = "LAMINA_URL", value_name = "URL")]
    server: String,
    /// File with a token of scope `agent` [default: agent-token in the home]
    #[arg(long, env = "LAMINA_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Folder for what runs here: inputs, checkpoints, unsent events [default: $XDG_DATA_HOME/lamina or ~/.local/share/lamina]
    #[arg(long, env = "LAMINA_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Unique name of this node [default: the host's name]
    #[arg(long, env = "LAMINA_NODE", value_name = "NAME")]
    name: Option<String>,
    /// How many trials may run here at a time [default: one per GPU, or one on the CPU]
    #[arg(long, env = "LAMINA_SLOTS", value_name = "N")]
    slots: Option<u32>,
    /// The trainer [default: lamina-trainer beside this program, or on PATH]
    #[arg(long, env = "LAMINA_TRAINER", value_name = "FILE")]
    trainer: Option<PathBuf>,
}

/// From a fifth of a second, so that a lease outlives the sync that extends it, to a day.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.2..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.2 to 86400".into()),
    }
}

/// Runs the server until SIGINT or SIGTERM.
pub(crate) async fn serve(arguments: ServeArguments) -> Result<()> {
    log_to_stderr();
    let home = Home::new(arguments.home)?;
    let config = serve::Config {
        database_url: arguments.database_url,
        bind: arguments.bind,
        token_file: arguments.token_file.unwrap_or_else(|| home.token_file()),
        agent_token_file: home.agent_token_file(),
        home,
        artifacts: arguments.artifacts,
        lease: Duration::from_secs_f64(arguments.lease_seconds),
    };
    serve::run(config, shutdown()?).await
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("LAMINA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::env::var_os("LAMINA_LOG_JSON").is_some() {
        log.json().init();
    } else {
        log.with_ansi(std::io::stderr().is_terminal()).init();
    }
}

/// Set by the first SIGINT or SIGTERM. A second one ends the process at once.
fn shutdown() -> Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = CancellationToken::new();
    let set = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if set.is_cancelled() {
                std::process::exit(1);
            }
            set.cancel();
        }
    });
    Ok(token)
}
