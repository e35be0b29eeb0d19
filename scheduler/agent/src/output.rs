//! Reads a trainer's output line by line, and writes its events and log lines to the journal.

use std::collections::VecDeque;
use std::io;

use recipe::Event;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::inputs::{Layout, is_full};
use crate::journal::Journal;
use crate::outcome::FinalEvents;
use crate::upload;

/// The longest line, in bytes; a longer one is read as several lines. No event is as long, not even the report of a
/// timing trial, which lists every step.
const MAX_LINE: usize = 16 << 20;
/// The size in bytes of the end of the log that is quoted if the trainer crashes.
const LOG_TAIL: usize = 2_000;

/// Reads stdout to its end. Each line is an event, or else a log line.
pub(crate) async fn read_events(
    stdout: impl AsyncRead + Unpin,
    journal: &Journal,
    layout: &Layout,
) -> io::Result<FinalEvents> {
    let mut final_events = FinalEvents::default();
    let mut lines = Lines::new(stdout);
    while let Some(line) = lines.next().await? {
        journal.wait_for_room().await;
        match serde_json::from_str::<Event>(&line) {
            Ok(event) => {
                final_events.note(&event);
                record(&event, journal, layout)?;
            }
            Err(_) => journal.log(&line)?,
        }
    }
    Ok(final_events)
}

/// Writes an event to the journal. The files of a checkpoint are linked first.
fn record(event: &Event, journal: &Journal, layout: &Layout) -> io::Result<()> {
    if let Event::Checkpointed { step, folder, .. } = event {
        // The trainer deletes all but its last two checkpoints, so the links must exist before anything else is done.
        if let Err(error) = upload::stage(&layout.out(), folder, &layout.staged(journal.next_number())) {
            if is_full(&error) {
                return Err(error);
            }
            return journal.log(&format!("agent: the checkpoint at step {step} is left out: {error}"));
        }
    }
    journal.receive(event).map(drop)
}

/// Reads stderr to its end, writes it to the log, and returns the end of it.
pub(crate) async fn read_log(stderr: impl AsyncRead + Unpin, journal: &Journal) -> io::Result<String> {
    let mut last = VecDeque::new();
    let mut size = 0;
    let mut lines = Lines::new(stderr);
    while let Some(line) = lines.next().await? {
        journal.wait_for_room().await;
        journal.log(&line)?;
        size += line.len();
        last.push_back(line);
        while size > LOG_TAIL && last.len() > 1 {
            size -= last.pop_front().map_or(0, |line| line.len());
        }
    }
    let tail = Vec::from(last).join("\n");
    Ok(tail[tail.ceil_char_boundary(tail.len().saturating_sub(LOG_TAIL))..].to_owned())
}

/// Reads lines of at most [`MAX_LINE`] bytes. Bytes that are not UTF-8 are replaced.
struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(64 << 10, reader), line: Vec::new() }
    }

    async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok((!self.line.is_empty()).then(|| self.take_line()));
            }
            let room = MAX_LINE - self.line.len();
            let available = &available[..available.len().min(room)];
            let (used, ended) = match available.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (available.len(), available.len() == room),
            };
            self.line.extend_from_slice(&available[..used]);
            self.reader.consume(used);
            if ended {
                return Ok(Some(self.take_line()));
            }
        }
    }

    /// Takes the line that has been read, without its line break.
    fn take_line(&mut self) -> String {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use recipe::report::{ArmTiming, TimingReport, Turn};
    use recipe::{Timing, TrialReport};

    use super::*;

    async fn lines(bytes: &[u8]) -> Vec<String> {
        let mut lines = Lines::new(bytes);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(line);
        }
        found
    }

    #[tokio::test]
    async fn lines_end_at_a_line_break_or_at_the_end_of_the_output() {
        assert_eq!(lines(b"a\r\n\nb\xff\nc").await, ["a", "", "b\u{fffd}", "c"]);
        assert!(lines(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_very_long_line_is_read_in_pieces_without_loss() {
        let text = "x".repeat(2 * MAX_LINE + 7);
        let found = lines(format!("{text}\nnext").as_bytes()).await;
        let sizes: Vec<_> = found.iter().map(String::len).collect();
        assert_eq!(sizes, [MAX_LINE, MAX_LINE, 7, 4]);
    }

    #[test]
    fn the_longest_report_of_a_timing_trial_fits_into_a_line() {
        let turn = Turn { place: 99, warmup_seconds: vec![], seconds: vec![1.0 / 3.0], open_blocks: vec![100.5] };
        let arm = ArmTiming {
            name: "pre-ln".into(),
            blocks: 101,
            turns: vec![turn; Timing::MOST_STEPS as usize],
            tokens_per_step: 4096,
            memory: None,
            largest_batch: None,
        };
        let event = Event::Finished { report: TrialReport::Timing(TimingReport { arms: vec![arm] }) };
        assert!(serde_json::to_string(&event).unwrap().len() < MAX_LINE / 2);
    }

    #[tokio::test]
    async fn the_tail_of_the_log_is_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(protocol::id::AttemptId::new(), folder.path(), Default::default()).unwrap();
        let log: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let tail = read_log(log.as_bytes(), &journal).await.unwrap();
        assert!(tail.ends_with("line 998\nline 999") && tail.len() <= LOG_TAIL, "{tail}");
    }
}
