//! `lamina logs`.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use protocol::id::TrialId;
use scheduler::store::LogLine;
use scheduler::trial::TrialState;
use serde::Deserialize;
use tokio::time::sleep;

use super::client::{CallError, Client, Connection};
use super::named;
use crate::page::Page;
use crate::terminal::{note, say};

const PERIOD: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The trial's id (see `lamina trials`)
    #[arg(value_name = "TRIAL", value_parser = named::trial)]
    trial: TrialId,
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
    let trial = arguments.trial;
    let mut after = None;
    loop {
        // The state is read before the lines: once a trial has ended, all its lines are stored.
        let step = async {
            let status = client.get::<TrialStatus>(&format!("/trials/{trial}?points=1")).await?.body;
            print_from(&client, trial, &mut after).await?;
            anyhow::Ok(status.state.is_ended())
        };
        match step.await {
            Ok(ended) if ended || !arguments.follow => break,
            Err(error) if !(arguments.follow && is_transient(&error)) => return Err(error),
            Ok(_) | Err(_) => sleep(PERIOD).await,
        }
    }
    if after.is_none() {
        note(format_args!("the log of trial {trial} is empty"))?;
    }
    Ok(())
}

fn is_transient(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(CallError::is_transient)
}

async fn print_from(client: &Client, trial: TrialId, after: &mut Option<i64>) -> Result<()> {
    loop {
        let from = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let page = client.get::<Page<LogLine>>(&format!("/trials/{trial}/logs?limit=1000{from}")).await?.body;
        if let Some(last) = page.items.last() {
            *after = Some(last.id);
            say(page.items.iter().map(|line| shown(&line.text)).collect::<Vec<_>>().join("\n"))?;
        }
        if page.next.is_none() {
            return Ok(());
        }
    }
}

/// A line as it looked in the end: of a progress bar, which carriage returns overwrite, the last state remains. Colours
/// are left out.
fn shown(line: &str) -> String {
    let plain = console::strip_ansi_codes(line);
    plain.rsplit('\r').find(|state| !state.trim().is_empty()).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_progress_bar_the_last_state_is_shown() {
        assert_eq!(shown("  0%|   |\r 50%|█  |\r100%|███|"), "100%|███|");
        assert_eq!(shown("100%|███|\r   \r"), "100%|███|");
        assert_eq!(shown("\u{1b}[32mloss\u{1b}[0m\t0.5\u{1b}[K\r"), "loss\t0.5");
        assert_eq!((shown(""), shown("\r\r")), (String::new(), String::new()));
        let long = "x".repeat(100_000);
        assert_eq!(shown(&long), long);
    }
}
