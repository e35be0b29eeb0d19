//! `lamina logs`.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use scheduler::store::LogLine;
use scheduler::trial::TrialState;
use serde::Deserialize;
use tokio::time::sleep;

use super::client::{CallError, Client, Connection};
use crate::page::Page;

const PERIOD: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The trial's id (see `lamina trials`)
    #[arg(value_name = "TRIAL")]
    trial: String,
    /// Wait for new lines until the trial ends
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    connection: Connection,
}

/// The only field of a trial that this command reads.
#[derive(Deserialize)]
struct TrialStatus {
    state: TrialState,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let client = Client::new(&arguments.connection)?;
    let mut after = None;
    loop {
        // The state is read before the lines: once a trial has ended, all its lines are stored.
        let step = async {
            let trial = client.get::<TrialStatus>(&format!("/trials/{}?points=1", arguments.trial)).await?.body;
            print_from(&client, &arguments.trial, &mut after).await?;
            Ok::<_, CallError>(trial.state.is_ended())
        };
        match step.await {
            Ok(ended) if ended || !arguments.follow => return Ok(()),
            Err(error) if !(arguments.follow && error.is_transient()) => return Err(error.into()),
            Ok(_) | Err(_) => sleep(PERIOD).await,
        }
    }
}

async fn print_from(client: &Client, trial: &str, after: &mut Option<i64>) -> Result<(), CallError> {
    loop {
        let from = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let page = client.get::<Page<LogLine>>(&format!("/trials/{trial}/logs?limit=1000{from}")).await?.body;
        let mut out = io::stdout().lock();
        for line in &page.items {
            // A closed pipe (`lamina logs ... | head`) is not an error.
            if writeln!(out, "{}", line.text).is_err() {
                std::process::exit(0);
            }
        }
        if let Some(line) = page.items.last() {
            *after = Some(line.id);
        }
        if page.next.is_none() {
            return Ok(());
        }
    }
}
