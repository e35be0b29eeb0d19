//! Emits events: as JSON lines on a pipe, as a progress bar on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use recipe::Event;
use recipe::event::Point;

use crate::failure::TrainerError;

/// Least time between two progress events.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

pub struct Emitter {
    sink: Sink,
    /// Points that no event has carried yet.
    pending: Vec<Point>,
    /// Time of the last progress event.
    last_progress: Option<Instant>,
}

enum Sink {
    Lines(Box<dyn Write>),
    Bar(ProgressBar),
}

impl Emitter {
    /// A progress bar if stdout is a terminal, otherwise JSON lines.
    pub fn stdout() -> Self {
        if io::stdout().is_terminal() { Self::new(Sink::Bar(bar())) } else { Self::lines(Box::new(io::stdout())) }
    }

    /// JSON lines into `out`.
    pub fn lines(out: Box<dyn Write>) -> Self {
        Self::new(Sink::Lines(out))
    }

    fn new(sink: Sink) -> Self {
        Self { sink, pending: Vec::new(), last_progress: None }
    }

    /// Emits `event` at once.
    pub fn emit(&mut self, event: &Event) -> Result<(), TrainerError> {
        match &mut self.sink {
            Sink::Lines(out) => {
                let mut line = serde_json::to_vec(event)?;
                line.push(b'\n');
                out.write_all(&line).and_then(|()| out.flush()).map_err(TrainerError::io("stdout"))?;
            }
            Sink::Bar(bar) => draw(bar, event),
        }
        Ok(())
    }

    /// Emits the progress of work that is not a training step: at most a few times a second, and always at its end.
    pub fn preparing(&mut self, what: &str, done: u64, total: u64) -> Result<(), TrainerError> {
        if done < total && self.is_too_soon() {
            return Ok(());
        }
        self.last_progress = Some(Instant::now());
        self.emit(&Event::Preparing { what: what.to_owned(), done, total })
    }

    /// Adds `points` to the next progress event.
    pub fn queue(&mut self, points: impl IntoIterator<Item = Point>) {
        self.pending.extend(points);
    }

    /// Emits the progress of training with the queued points, at most a few times a second.
    pub fn progress(&mut self, step: u64, total_steps: u64, trained_seconds: f64) -> Result<(), TrainerError> {
        if self.is_too_soon() { Ok(()) } else { self.progress_now(step, total_steps, trained_seconds) }
    }

    /// Emits the progress of training with the queued points, at once.
    pub fn progress_now(&mut self, step: u64, total_steps: u64, trained_seconds: f64) -> Result<(), TrainerError> {
        self.last_progress = Some(Instant::now());
        let points = std::mem::take(&mut self.pending);
        self.emit(&Event::Progress { step, total_steps, trained_seconds, points })
    }

    fn is_too_soon(&self) -> bool {
        self.last_progress.is_some_and(|last| last.elapsed() < PROGRESS_EVERY)
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    // The template is a constant that indicatif accepts. If it were refused, the default style would do.
    if let Ok(style) = ProgressStyle::with_template("{msg:20} {wide_bar} {pos}/{len} {elapsed}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn draw(bar: &ProgressBar, event: &Event) {
    let show = |message: &str, done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(message.to_owned());
    };
    match event {
        Event::Started { total_steps, resumed_from, .. } => {
            show("starting", resumed_from.unwrap_or(0), *total_steps);
            bar.reset_eta();
        }
        Event::Preparing { what, done, total } => show(what, *done, *total),
        Event::Progress { step, total_steps, points, .. } => {
            let loss = points.iter().rev().find(|point| point.name == "train_loss");
            let message = loss.map_or_else(|| bar.message(), |point| format!("loss {:.4}", point.value));
            show(&message, *step, *total_steps);
        }
        Event::Evaluated { step, points, .. } => {
            let scores: Vec<_> = points.iter().map(|point| format!("{} {:.4}", point.name, point.value)).collect();
            bar.println(format!("step {step}: {}", scores.join(", ")));
        }
        Event::Checkpointed { step, folder, .. } => bar.println(format!("step {step}: checkpoint in {folder}")),
        Event::Finished { report } => {
            bar.finish();
            // If the report cannot be printed, report.json still has it.
            println!("{}", serde_json::to_string_pretty(report).unwrap_or_default());
        }
        // `main` writes the reason to stderr, with or without a terminal.
        Event::Failed { .. } => bar.abandon(),
        Event::Interrupted { step } => {
            bar.abandon();
            eprintln!("interrupted after step {step}; continue with --resume");
        }
    }
}
