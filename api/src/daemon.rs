//! `lamina serve` and `lamina agent`: flags, logs and signals.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::home::{Home, keep_private, read_secret};
use crate::serve;

#[derive(Args)]
pub(crate) struct ServeArguments {
    /// URL of the Postgres database that holds all state
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: String,
    /// Address of the API and the dashboard
    #[arg(long, env = "LAMINA_BIND", value_name = "ADDRESS", default_value = "127.0.0.1:8642")]
    bind: SocketAddr,
    /// Folder for tokens and artifacts [default: $XDG_DATA_HOME/lamina or ~/.local/share/lamina]
    #[arg(long, env = "LAMINA_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Folder or object store (such as s3://bucket/prefix) for checkpoints [default: artifacts/ in the home]
    #[arg(long, env = "LAMINA_ARTIFACTS", value_name = "URL")]
    artifacts: Option<String>,
    /// Folder whose files may be registered as data sets; repeatable [default: none, and nothing can be registered]
    #[arg(long = "data-root", env = "LAMINA_DATA_ROOT", value_name = "DIR", value_delimiter = ':')]
    data_roots: Vec<PathBuf>,
    /// Seconds that a node may be silent before its attempts count as lost
    #[arg(long, env = "LAMINA_LEASE_SECONDS", value_name = "SECONDS", default_value_t = 15.0, value_parser = seconds)]
    lease_seconds: f64,
    /// File with the admin's token, which is made if it does not exist [default: token in the home]
    #[arg(long, env = "LAMINA_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct AgentArguments {
    /// URL of the server that places trials on this node
    #[arg(long, env = "LAMINA_URL", value_name = "URL")]
    server: String,
    /// File with a token of scope `agent` [default: agent-token in the home]
    #[arg(long, env = "LAMINA_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Folder for inputs, checkpoints and unsent events [default: $XDG_DATA_HOME/lamina or ~/.local/share/lamina]
    #[arg(long, env = "LAMINA_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Unique name of this node [default: the host's name]
    #[arg(long, env = "LAMINA_NODE", value_name = "NAME")]
    name: Option<String>,
    /// Number of trials that may run here at the same time [default: one per GPU, or one on the CPU]
    #[arg(long, env = "LAMINA_SLOTS", value_name = "N")]
    slots: Option<u32>,
    /// Label that is shown with this node, such as rack=3; repeatable. Labels do not affect placement
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The trainer program [default: lamina-trainer beside this program, or on PATH]
    #[arg(long, env = "LAMINA_TRAINER", value_name = "FILE")]
    trainer: Option<PathBuf>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("a label has the form KEY=VALUE".into()),
    }
}

/// A lease in seconds: at least 0.2, so that it outlives the sync that extends it, and at most a day.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.2..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a lease is a number of seconds from 0.2 to 86400".into()),
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
        data_roots: arguments.data_roots,
        lease: Duration::from_secs_f64(arguments.lease_seconds),
    };
    serve::run(config, shutdown()?).await
}

/// Runs the agent until SIGINT or SIGTERM; its trainers then write a checkpoint before they end.
pub(crate) async fn agent(arguments: AgentArguments) -> Result<()> {
    log_to_stderr();
    let home = Home::new(arguments.home)?;
    keep_private(home.path())?;
    let token_file = arguments.token_file.unwrap_or_else(|| home.agent_token_file());
    let token = read_secret(&token_file).with_context(|| {
        format!(
            "cannot read the token file {}; `lamina token create NAME --scope agent` makes a token",
            token_file.display()
        )
    })?;
    let trainer = find_trainer(arguments.trainer)?;
    let config = agent::Config {
        name: arguments.name,
        labels: BTreeMap::from_iter(arguments.labels),
        slots: arguments.slots,
        ..agent::Config::new(arguments.server, token, home.agent_folder(), trainer)
    };
    Ok(agent::run(config, shutdown()?).await?)
}

const TRAINER: &str = "lamina-trainer";

/// The given trainer; without one, the trainer beside this program or on PATH.
pub(crate) fn find_trainer(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(trainer) = given {
        ensure!(trainer.is_file(), "there is no trainer at {}", trainer.display());
        return Ok(trainer);
    }
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let on_path = env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let mut places = beside.into_iter().chain(on_path).map(|folder| folder.join(TRAINER));
    places.find(|trainer| trainer.is_file()).with_context(|| {
        format!("there is no {TRAINER} beside this program or on PATH; build it, or name it with --trainer")
    })
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("LAMINA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::env::var_os("LAMINA_LOG_JSON").is_some() {
        log.json().init();
    } else {
        log.with_ansi(console::colors_enabled_stderr()).init();
    }
    // A panic is one line of the log, in its format and with the id of the request, wherever it happens.
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, message, "panic");
    }));
}

/// A token that the first SIGINT or SIGTERM cancels. The second signal ends the process at once.
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
