//! `lamina-trainer`: one attempt of one trial, in its own process.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};
use recipe::failure::INTERRUPTED_EXIT_CODE;
use recipe::{Event, Failure};
use signal_hook::consts::{SIGINT, SIGTERM};
use trainer::attempt::Ended;
use trainer::emit::Emitter;
use trainer::options::Options;
use trainer::run::run;

/// Pre-trains and fine-tunes BERT with progressive layer dropping.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Carry out one trial: pre-train, fine-tune, time or probe, as its recipe says
    ///
    /// Events go to stdout as JSON lines, or as a progress bar on a terminal. The log goes to stderr. On SIGTERM, the
    /// trainer writes a checkpoint at the next step boundary and exits with status 75. If the trial fails, the exit
    /// status tells why: 65 bad data, 70 internal, 71 out of memory, 72 device fault, 74 disk full, 76 non-finite loss,
    /// 77 corrupt checkpoint, 78 invalid recipe, 80 diverged.
    Run(Options),
}

fn main() -> anyhow::Result<ExitCode> {
    let Command::Run(options) = Cli::parse().command;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mut emitter = Emitter::stdout();
    match run(&options, &stop, &mut emitter) {
        Ok(Ended::Finished(())) => Ok(ExitCode::SUCCESS),
        Ok(Ended::Interrupted { .. }) => Ok(ExitCode::from(INTERRUPTED_EXIT_CODE)),
        Err(error) => {
            let failure = Failure::from(error);
            let code = ExitCode::from(failure.kind.exit_code());
            eprintln!("{}: {}", failure.kind.name(), failure.message);
            if let Err(error) = emitter.emit(&Event::Failed { failure }) {
                eprintln!("the failed event could not be written: {error}");
            }
            Ok(code)
        }
    }
}
