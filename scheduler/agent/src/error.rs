//! The errors that end an agent.

use std::io;
use std::path::PathBuf;

/// Why an agent cannot start. A problem that appears later fails one attempt, or is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the server refuses this agent's token: {0}")]
    Token(String),
    #[error("the server refuses this agent's node: {0}")]
    Node(String),
    #[error("cannot use the server {server:?}")]
    Server { server: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("there is no trainer at {path}")]
    Trainer { path: PathBuf, source: io::Error },
    #[error("another agent already uses the folder {path}: stop it, or give this one another home")]
    HomeInUse { path: PathBuf },
    #[error("cannot use {path}")]
    Home { path: PathBuf, source: io::Error },
    #[error("cannot start the thread that starts trainers")]
    Thread(#[source] io::Error),
}
