//! What one attempt has said and not yet been heard, on disk, so that it survives the server being away and this process.
//!
//! ```text
//! trainer --> received --> [checkpoint uploaded] --> events --> server
//!         --> log -----------------------------------------> server
//! ```
//!
//! An event waits in `received` until everything before it has been sent on; a `checkpointed` event until its files are in
//! the artifact store. So the order is kept, and the server never hears of a checkpoint that it could not hand out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use recipe::{Event, Failure};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::spool::Spool;
use protocol::id::AttemptId;
use protocol::{Acknowledgement, AttemptReport, AttemptState, EndedAs, SequencedEvent, SequencedLine};

/// Beyond this many bytes that wait for the server, the trainer's output is not read: its pipe fills, and it waits.
const FULL: u64 = 64 << 20;
/// A longer log line is kept in pieces of this many bytes.
const LONGEST_LINE: usize = 16 << 10;

pub(crate) struct Journal {
    attempt: AttemptId,
    folder: PathBuf,
    spools: Mutex<Spools>,
    /// Something happened that the server should hear soon; shared by all attempts.
    urgent: Arc<Notify>,
    received: Notify,
    drained: Notify,
}

struct Spools {
    received: Spool,
    events: Spool,
    log: Spool,
    /// Numbers in `received` of the `checkpointed` events that wait there.
    checkpoints: Vec<u64>,
    outcome: Option<EndedAs>,
    limited: bool,
    abandoned: bool,
}

/// A line of `events`: which line of `received` it was tells a restarted agent where to go on.
#[derive(Serialize, Deserialize)]
struct Sendable {
    source: u64,
    event: Event,
}

/// How much of an attempt's journal may go into one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) records: usize,
    pub(crate) bytes: u64,
}

impl Journal {
    /// Opens the journal in an attempt's folder, or begins it.
    pub(crate) fn open(attempt: AttemptId, folder: &Path, urgent: Arc<Notify>) -> io::Result<Self> {
        let spool_folder = folder.join("journal");
        fs::create_dir_all(&spool_folder)?;
        let mut received = Spool::open(&spool_folder.join("received"))?;
        let events = Spool::open(&spool_folder.join("events"))?;
        let log = Spool::open(&spool_folder.join("log"))?;
        if let Some(last) = events.last()? {
            received.take(parse::<Sendable>(&last)?.source)?;
        }
        let mut checkpoints = Vec::new();
        for (number, line) in received.peek(usize::MAX, u64::MAX)? {
            if matches!(parse(&line)?, Event::Checkpointed { .. }) {
                checkpoints.push(number);
            }
        }
        let outcome = match fs::read_to_string(folder.join("outcome.json")) {
            Ok(text) => Some(parse(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            attempt,
            folder: folder.to_owned(),
            spools: Mutex::new(Spools { received, events, log, checkpoints, outcome, limited: true, abandoned: false }),
            urgent,
            received: Notify::new(),
            drained: Notify::new(),
        })
    }

    /// Keeps an event of the trainer. Returns its number, by which [`forward`](Self::forward) knows it.
    pub(crate) fn receive(&self, event: &Event) -> io::Result<u64> {
        let line = serde_json::to_string(event)?;
        let mut spools = self.spools();
        let number = spools.received.append(&line)?;
        if matches!(event, Event::Checkpointed { .. }) {
            spools.checkpoints.push(number);
        }
        self.received.notify_one();
        Ok(number)
    }

    /// The number that the next received event will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.spools().received.records() + 1
    }

    /// Keeps a log line; a very long one in pieces.
    pub(crate) fn log(&self, text: &str) -> io::Result<()> {
        let mut spools = self.spools();
        let mut rest = text;
        loop {
            let (piece, tail) = rest.split_at(rest.floor_char_boundary(LONGEST_LINE));
            // Postgres has no NUL in its text, and a log line needs none.
            spools.log.append(&serde_json::to_string(&piece.replace('\0', "\u{fffd}"))?)?;
            rest = tail;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// The first event that has not been forwarded, with its number; waits for one. `None` when the attempt has ended and
    /// there will be none.
    pub(crate) async fn next(&self) -> io::Result<Option<(u64, Event)>> {
        loop {
            {
                let spools = self.spools();
                let ended = spools.outcome.is_some();
                match spools.received.peek(1, 0)?.pop() {
                    None if ended => return Ok(None),
                    None => {}
                    Some((number, line)) => {
                        let event = parse(&line)?;
                        // The server closes the attempt on hearing it, so it goes with the end of the process.
                        if ended || !matches!(event, Event::Finished { .. }) {
                            return Ok(Some((number, event)));
                        }
                    }
                }
            }
            // A notification that comes in between is stored, and the next wait returns at once.
            self.received.notified().await;
        }
    }

    /// How many checkpoints were received after that event, and wait.
    pub(crate) fn newer_checkpoints(&self, number: u64) -> usize {
        self.spools().checkpoints.iter().filter(|waiting| **waiting > number).count()
    }

    /// Lets the server have an event.
    pub(crate) fn forward(&self, number: u64, event: Event) -> io::Result<()> {
        let soon = !matches!(event, Event::Progress { .. } | Event::Preparing { .. });
        let line = serde_json::to_string(&Sendable { source: number, event })?;
        let mut spools = self.spools();
        spools.events.append(&line)?;
        spools.leave_behind(number)?;
        if soon || spools.outcome.is_some() {
            self.urgent.notify_one();
        }
        Ok(())
    }

    /// Leaves an event out, for a reason that the caller has logged.
    pub(crate) fn skip(&self, number: u64) -> io::Result<()> {
        self.spools().leave_behind(number)
    }

    /// Records how the attempt ended; the first word stands. An error leaves it recorded in memory only, so that a full
    /// disk does not keep the server from hearing of it.
    pub(crate) fn end(&self, outcome: EndedAs) -> io::Result<()> {
        let mut spools = self.spools();
        if spools.outcome.is_some() {
            return Ok(());
        }
        let text = serde_json::to_string(&outcome)?;
        spools.outcome = Some(outcome);
        self.received.notify_one();
        self.urgent.notify_one();
        let partial = self.folder.join("outcome.json.partial");
        fs::write(&partial, text)?;
        fs::rename(partial, self.folder.join("outcome.json"))
    }

    /// Gives up what was not forwarded: it cannot be written. Overrules an outcome, for its report would be missing.
    pub(crate) fn abandon(&self, failure: Failure) {
        let mut spools = self.spools();
        spools.outcome = Some(EndedAs::Failed { failure });
        spools.abandoned = true;
        self.urgent.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.spools().outcome.is_some()
    }

    /// What to tell the server now, and whether there is more than fits. `Ended` is said only with the last of it, because
    /// the server closes the attempt on hearing it.
    pub(crate) fn report(&self, share: Share) -> io::Result<(AttemptReport, bool)> {
        let spools = self.spools();
        let mut events = Vec::new();
        for (sequence, line) in spools.events.peek(share.records, share.bytes)? {
            events.push(SequencedEvent { sequence, event: parse::<Sendable>(&line)?.event });
        }
        let mut log = Vec::new();
        for (sequence, line) in spools.log.peek(share.records, share.bytes)? {
            log.push(SequencedLine { sequence, text: parse(&line)? });
        }
        let log_left = spools.log.has_beyond(log.last().map(|line| line.sequence));
        if log_left && matches!(events.last(), Some(SequencedEvent { event: Event::Finished { .. }, .. })) {
            // The server closes the attempt on hearing this too, and would not take the rest of the log.
            events.pop();
        }
        let more = log_left || spools.events.has_beyond(events.last().map(|event| event.sequence));
        let state = match &spools.outcome {
            Some(outcome) if !more && (spools.abandoned || spools.received.waiting() == 0) => {
                AttemptState::Ended { outcome: outcome.clone() }
            }
            _ => AttemptState::Running,
        };
        Ok((AttemptReport { attempt: self.attempt, state, events, log }, more))
    }

    pub(crate) fn acknowledge(&self, acknowledgement: &Acknowledgement) -> io::Result<()> {
        let mut spools = self.spools();
        spools.events.take(acknowledgement.events)?;
        spools.log.take(acknowledgement.log)?;
        self.drained.notify_waiters();
        Ok(())
    }

    /// Waits until there is room for more, so that neither memory nor disk fill up when a trainer says more than the server
    /// can hear.
    pub(crate) async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            if !self.is_full() {
                return;
            }
            drained.await;
        }
    }

    /// Makes room for ever: the trainer has ended, and what is still in its pipe is little.
    pub(crate) fn lift_limit(&self) {
        self.spools().limited = false;
        self.drained.notify_waiters();
    }

    fn is_full(&self) -> bool {
        let spools = self.spools();
        let waiting = spools.received.waiting() + spools.events.waiting() + spools.log.waiting();
        spools.limited && waiting > FULL
    }

    fn spools(&self) -> MutexGuard<'_, Spools> {
        // A panic between two of its statements leaves a spool with a mark that is behind at worst.
        self.spools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spools {
    fn leave_behind(&mut self, number: u64) -> io::Result<()> {
        self.checkpoints.retain(|waiting| *waiting > number);
        self.received.take(number)
    }
}

fn parse<T: serde::de::DeserializeOwned>(line: &str) -> io::Result<T> {
    serde_json::from_str(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Share = Share { records: 100, bytes: 1 << 20 };

    fn progress(step: u64) -> Event {
        Event::Progress { step, total_steps: 9, trained_seconds: 0.5, points: vec![] }
    }

    fn checkpointed(step: u64) -> Event {
        Event::Checkpointed { step, trained_seconds: 0.5, folder: "checkpoints/x".into(), manifest: "00".into() }
    }

    fn open(folder: &Path) -> Journal {
        Journal::open(AttemptId::new(), folder, Arc::default()).unwrap()
    }

    fn steps(report: &AttemptReport) -> Vec<(u64, u64)> {
        let step = |event: &Event| match event {
            Event::Progress { step, .. } | Event::Checkpointed { step, .. } => *step,
            other => panic!("{other:?}"),
        };
        report.events.iter().map(|event| (event.sequence, step(&event.event))).collect()
    }

    #[test]
    fn an_event_is_told_when_it_was_forwarded_and_skipping_leaves_no_gap() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        for event in [progress(1), checkpointed(1), progress(2)] {
            journal.receive(&event).unwrap();
        }
        assert!(journal.report(ALL).unwrap().0.events.is_empty());
        journal.forward(1, progress(1)).unwrap();
        journal.skip(2).unwrap();
        journal.forward(3, progress(2)).unwrap();
        assert_eq!(steps(&journal.report(ALL).unwrap().0), [(1, 1), (2, 2)]);
    }

    #[test]
    fn the_end_is_told_with_the_last_record_only() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        journal.log("one").unwrap();
        journal.log("two").unwrap();
        journal.receive(&progress(1)).unwrap();
        journal.end(EndedAs::Succeeded).unwrap();
        assert_eq!(journal.report(ALL).unwrap().0.state, AttemptState::Running, "an event waits to be forwarded");

        journal.forward(1, progress(1)).unwrap();
        let (report, more) = journal.report(Share { records: 1, ..ALL }).unwrap();
        assert_eq!((report.state, more), (AttemptState::Running, true));

        journal.acknowledge(&Acknowledgement { attempt: journal.attempt, events: 1, log: 1, closed: false }).unwrap();
        let (report, more) = journal.report(Share { records: 1, ..ALL }).unwrap();
        assert_eq!((report.state, more), (AttemptState::Ended { outcome: EndedAs::Succeeded }, false));
        assert_eq!((report.events.len(), report.log[0].sequence, report.log[0].text.as_str()), (0, 2, "two"));
    }

    #[tokio::test]
    async fn a_report_is_told_with_the_end_of_the_process_and_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        let report = recipe::TrialReport::Timing(recipe::report::TimingReport { arms: vec![] });
        let finished = Event::Finished { report };
        journal.receive(&finished).unwrap();
        assert!(futures::poll!(std::pin::pin!(journal.next())).is_pending());
        journal.end(EndedAs::Succeeded).unwrap();
        assert_eq!(journal.next().await.unwrap(), Some((1, finished.clone())));

        journal.forward(1, finished).unwrap();
        journal.log("one").unwrap();
        journal.log("two").unwrap();
        let (report, more) = journal.report(Share { records: 1, ..ALL }).unwrap();
        assert_eq!((report.events.len(), report.state, more), (0, AttemptState::Running, true));
        journal.acknowledge(&Acknowledgement { attempt: journal.attempt, events: 0, log: 1, closed: false }).unwrap();
        let (report, more) = journal.report(Share { records: 1, ..ALL }).unwrap();
        assert_eq!((report.events.len(), more), (1, false));
    }

    #[test]
    fn events_that_cannot_be_written_do_not_keep_the_end_back() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        journal.receive(&progress(1)).unwrap();
        journal.end(EndedAs::Succeeded).unwrap();
        let failure = Failure { kind: recipe::FailureKind::DiskFull, message: "no space".into() };
        journal.abandon(failure.clone());
        let state = AttemptState::Ended { outcome: EndedAs::Failed { failure } };
        assert_eq!(journal.report(ALL).unwrap().0.state, state);
    }

    #[tokio::test]
    async fn a_restart_goes_on_where_forwarding_stood() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        for step in 1..=2 {
            journal.receive(&progress(step)).unwrap();
        }
        journal.receive(&checkpointed(2)).unwrap();
        journal.forward(1, progress(1)).unwrap();
        drop(journal);

        let journal = open(folder.path());
        assert_eq!(journal.next().await.unwrap(), Some((2, progress(2))));
        assert_eq!((journal.newer_checkpoints(2), journal.newer_checkpoints(3)), (1, 0));
        journal.forward(2, progress(2)).unwrap();
        journal.forward(3, checkpointed(2)).unwrap();
        assert_eq!(steps(&journal.report(ALL).unwrap().0), [(1, 1), (2, 2), (3, 2)]);
    }

    #[test]
    fn the_first_outcome_stands_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).end(EndedAs::Interrupted).unwrap();
        let journal = open(folder.path());
        journal.end(EndedAs::Lost).unwrap();
        let state = AttemptState::Ended { outcome: EndedAs::Interrupted };
        assert_eq!(journal.report(ALL).unwrap().0.state, state);
    }

    #[test]
    fn a_very_long_line_is_kept_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        let text = "é".repeat(LONGEST_LINE);
        journal.log(&text).unwrap();
        let (report, _) = journal.report(ALL).unwrap();
        assert!(report.log.iter().all(|line| line.text.len() <= LONGEST_LINE));
        assert_eq!(report.log.into_iter().map(|line| line.text).collect::<String>(), text);
    }

    #[test]
    fn an_empty_line_is_a_line_and_a_nul_becomes_a_mark() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        journal.log("").unwrap();
        journal.log("a\0b").unwrap();
        let texts: Vec<_> = journal.report(ALL).unwrap().0.log.into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["", "a\u{fffd}b"]);
    }
}
