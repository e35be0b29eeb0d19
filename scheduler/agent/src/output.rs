//! What a trainer writes, line by line: events and log lines into the journal.

use std::collections::VecDeque;
use std::io;

use recipe::Event;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::inputs::{Layout, is_full};
use crate::journal::Journal;
use crate::outcome::Said;
use crate::upload;

/// A line of this many bytes is cut: the next begins there. The longest event, a progress with many points, is far shorter.
const LONGEST: usize = 1 << 20;
/// What is quoted of a trainer that crashed.
const LAST_WORDS: usize = 2_000;

/// Reads stdout to its end: each line is an event, or else a log line.
pub(crate) async fn read_events(
    stdout: impl AsyncRead + Unpin,
    journal: &Journal,
    layout: &Layout,
) -> io::Result<Said> {
    let mut said = Said::default();
    let mut lines = Lines::new(stdout);
    while let Some(line) = lines.next().await? {
        journal.room().await;
        match serde_json::from_str::<Event>(&line) {
            Ok(event) => {
                said.hear(&event);
                keep(&event, journal, layout)?;
            }
            Err(_) => journal.log(&line)?,
        }
    }
    Ok(said)
}

fn keep(event: &Event, journal: &Journal, layout: &Layout) -> io::Result<()> {
    if let Event::Checkpointed { step, folder, .. } = event {
        // The trainer deletes all but its last two, so the files are held before anything else.
        if let Err(error) = upload::stage(&layout.out(), folder, &layout.staged(journal.next_number())) {
            if is_full(&error) {
                return Err(error);
            }
            return journal.log(&format!("agent: the checkpoint at step {step} is left out: {error}"));
        }
    }
    journal.receive(event).map(drop)
}

/// Reads stderr to its end into the log, and returns its last lines.
pub(crate) async fn read_log(stderr: impl AsyncRead + Unpin, journal: &Journal) -> io::Result<String> {
    let mut last = VecDeque::new();
    let mut size = 0;
    let mut lines = Lines::new(stderr);
    while let Some(line) = lines.next().await? {
        journal.room().await;
        journal.log(&line)?;
        size += line.len();
        last.push_back(line);
        while size > LAST_WORDS && last.len() > 1 {
            size -= last.pop_front().map_or(0, |line| line.len());
        }
    }
    let words = Vec::from(last).join("\n");
    Ok(words[words.ceil_char_boundary(words.len().saturating_sub(LAST_WORDS))..].to_owned())
}

/// Lines of bounded length; what is no UTF-8 is replaced.
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
                return Ok((!self.line.is_empty()).then(|| self.cut()));
            }
            let room = LONGEST - self.line.len();
            let available = &available[..available.len().min(room)];
            let (used, ended) = match available.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (available.len(), available.len() == room),
            };
            self.line.extend_from_slice(&available[..used]);
            self.reader.consume(used);
            if ended {
                return Ok(Some(self.cut()));
            }
        }
    }

    fn cut(&mut self) -> String {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
    }
}

#[cfg(test)]
mod tests {
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
    async fn lines_end_at_a_break_or_at_the_end() {
        assert_eq!(lines(b"a\r\n\nb\xff\nc").await, ["a", "", "b\u{fffd}", "c"]);
        assert!(lines(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_cut_and_nothing_of_it_is_lost() {
        let text = "x".repeat(2 * LONGEST + 7);
        let found = lines(format!("{text}\nnext").as_bytes()).await;
        let sizes: Vec<_> = found.iter().map(String::len).collect();
        assert_eq!(sizes, [LONGEST, LONGEST, 7, 4]);
    }

    #[tokio::test]
    async fn the_last_words_are_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(protocol::id::AttemptId::new(), folder.path(), Default::default()).unwrap();
        let log: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let words = read_log(log.as_bytes(), &journal).await.unwrap();
        assert!(words.ends_with("line 998\nline 999") && words.len() <= LAST_WORDS, "{words}");
    }
}
