//! What the outside hears: JSON lines on a pipe, a progress bar on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use recipe::Event;
use recipe::event::Point;

use crate::failure::TrainerError;

/// At most so often does it say where it stands.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

pub struct Emitter {
    sink: Sink,
    /// Points that no event has carried yet.
    pending: Vec<Point>,
    /// When it last said where it stands.
    said: Option<Instant>,
}

enum Sink {
    Lines(Box<dyn Write>),
    Bar(ProgressBar),
}

impl Emitter {
    /// Lines or a bar, by what stdout is.
    pub fn stdout() -> Self {
        if io::stdout().is_terminal() { Self::new(Sink::Bar(bar())) } else { Self::lines(Box::new(io::stdout())) }
    }

    /// JSON lines into `out`.
    pub fn lines(out: Box<dyn Write>) -> Self {
        Self::new(Sink::Lines(out))
    }

    fn new(sink: Sink) -> Self {
        Self { sink, pending: Vec::new(), said: None }
    }

    /// Says `event` at once.
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

    /// Work before the first step; said at most a few times a second, and always when it is done.
    pub fn preparing(&mut self, what: &str, done: u64, total: u64) -> Result<(), TrainerError> {
        if done < total && self.said_lately() {
            return Ok(());
        }
        self.said = Some(Instant::now());
        self.emit(&Event::Preparing { what: what.to_owned(), done, total })
    }

    /// Keeps `points` for the next progress event.
    pub fn keep(&mut self, points: impl IntoIterator<Item = Point>) {
        self.pending.extend(points);
    }

    /// Where training stands, with the points kept since the last time; said at most a few times a second.
    pub fn progress(&mut self, step: u64, total_steps: u64, trained_seconds: f64) -> Result<(), TrainerError> {
        if self.said_lately() { Ok(()) } else { self.progress_now(step, total_steps, trained_seconds) }
    }

    /// As [`Emitter::progress`], however short the last time is ago.
    pub fn progress_now(&mut self, step: u64, total_steps: u64, trained_seconds: f64) -> Result<(), TrainerError> {
        self.said = Some(Instant::now());
        let points = std::mem::take(&mut self.pending);
        self.emit(&Event::Progress { step, total_steps, trained_seconds, points })
    }

    fn said_lately(&self) -> bool {
        self.said.is_some_and(|said| said.elapsed() < PROGRESS_EVERY)
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    // The template is a constant that indicatif accepts; were it refused, the default style would do.
    if let Ok(style) = ProgressStyle::with_template("{msg:20} {wide_bar} {pos}/{len} {elapsed}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn draw(bar: &ProgressBar, event: &Event) {
    let place = |what: &str, done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(what.to_owned());
    };
    match event {
        Event::Started { total_steps, resumed_from, .. } => {
            place("starting", resumed_from.unwrap_or(0), *total_steps);
            bar.reset_eta();
        }
        Event::Preparing { what, done, total } => place(what, *done, *total),
        Event::Progress { step, total_steps, points, .. } => {
            let loss = points.iter().rev().find(|point| point.name == "train_loss");
            let message = loss.map_or_else(|| bar.message(), |point| format!("loss {:.4}", point.value));
            place(&message, *step, *total_steps);
        }
        Event::Evaluated { step, points, .. } => {
            let scores: Vec<_> = points.iter().map(|point| format!("{} {:.4}", point.name, point.value)).collect();
            bar.println(format!("step {step}: {}", scores.join(", ")));
        }
        Event::Checkpointed { step, folder, .. } => bar.println(format!("step {step}: checkpoint in {folder}")),
        Event::Finished { report } => {
            bar.finish();
            // A report is plain data; should it not print, report.json still has it.
            println!("{}", serde_json::to_string_pretty(report).unwrap_or_default());
        }
        // main says why on stderr, with or without a terminal.
        Event::Failed { .. } => bar.abandon(),
        Event::Interrupted { step } => {
            bar.abandon();
            eprintln!("interrupted after step {step}; go on with --resume");
        }
    }
}
