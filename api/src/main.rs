//! `lamina`: the service, its agent and its command line in one program.
//!
//! | module | content |
//! |---|---|
//! | [`up`] | the service on one machine: a private Postgres, the server and an agent, started and stopped together |
//! | [`daemon`] | `lamina serve` and `lamina agent`: flags, log, signals |
//! | [`cli`] | the commands that talk to a running server |
//! | [`data`] | data sets: import, fetch, generate |
//! | [`terminal`] | what is printed: closed pipes, widths, control characters |
//! | [`home`] | where a service keeps its files |
//! | [`serve`] | the server: HTTP and the control loop |
//! | [`connections`], [`limits`] | the connections of clients; how much of everything the server holds |
//! | [`admission`], [`guesses`] | what every request has to pass; the limit of wrong tokens |
//! | [`app`] | the state that all handlers share |
//! | [`router`], [`routes`] | the table of routes with the scopes that may call them; the handlers |
//! | [`error`], [`code`], [`body`], [`extract`], [`page`], [`range`], [`etag`], [`idempotency`] | reading of requests and writing of answers |
//! | [`tar`] | archives that are made while they are sent |
//! | [`format`], [`evidence`] | the forms of a report; the archive from which it is computed again |
//! | [`reports`], [`streams`] | reports and event streams, each computed and read once for all who ask |
//! | [`openapi`] | the OpenAPI document |
//! | [`auth`], [`random`] | check and creation of tokens |
//! | [`metrics`], [`dashboard`] | `/metrics`, the web dashboard |

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod admission;
mod app;
mod auth;
mod body;
mod cli;
mod code;
mod connections;
mod daemon;
mod dashboard;
mod data;
mod error;
mod etag;
mod evidence;
mod extract;
mod format;
mod guesses;
mod home;
mod idempotency;
mod limits;
mod metrics;
mod openapi;
mod page;
mod random;
mod range;
mod reports;
mod router;
mod routes;
mod serve;
mod streams;
mod tar;
mod terminal;
#[cfg(test)]
mod tests;
mod up;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

use terminal::{Closed, mention};

/// Compares ways to train Transformers: how much faster, at the same quality, on the same hardware.
#[derive(Parser)]
#[command(name = "lamina", version, max_term_width = 100)]
struct Lamina {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole service on this machine: a private Postgres, the server and an agent
    Up(up::Arguments),
    /// Run the server: the API, the dashboard and the control loop
    Serve(daemon::ServeArguments),
    /// Run an agent: report this machine's slots to a server and carry out what it places on them
    Agent(daemon::AgentArguments),
    #[command(flatten)]
    Client(cli::Command),
    /// Bring data: register a folder, fetch GLUE, or generate a small stand-in
    #[command(subcommand)]
    Data(data::Command),
    /// Print the OpenAPI document of the HTTP API
    Openapi,
}

fn main() -> ExitCode {
    match run(Lamina::parse().command) {
        Ok(code) => code,
        // Whoever closes a pipe has read enough.
        Err(error) if error.is::<Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            mention(format_args!("lamina: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        // `up` has no runtime of many threads: to the kernel, the parent of a child is the thread that started it.
        Command::Up(arguments) => up::run(arguments),
        Command::Serve(arguments) => runtime()?.block_on(daemon::serve(arguments)).map(|()| ExitCode::SUCCESS),
        Command::Agent(arguments) => runtime()?.block_on(daemon::agent(arguments)).map(|()| ExitCode::SUCCESS),
        Command::Client(command) => runtime()?.block_on(cli::run(command)),
        Command::Data(command) => runtime()?.block_on(data::run(command)),
        Command::Openapi => {
            terminal::say_json(&router::document()?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn runtime() -> Result<Runtime> {
    Runtime::new().context("cannot start the asynchronous runtime")
}
