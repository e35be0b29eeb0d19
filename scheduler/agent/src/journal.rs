//! The events and log lines of an attempt that the server does not have yet. They are on disk, so that they survive an
//! unreachable server and the end of this process.
//!
//! ```text
//! trainer --> received --> [checkpoint uploaded] --> events --> server
//!         --> log -----------------------------------------> server
//! ```
//!
//! An event waits in `received` until all earlier ones have been forwarded, and a `checkpointed` event also until its
//! files are in the artifact store. So events stay in order, and the server never learns of a checkpoint that it does
//! not have.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use recipe::{Event, Failure};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::spool::Spool;
use protocol::id::AttemptId;
use protocol::{Acknowledgement, AttemptEnd, AttemptReport, AttemptState, SequencedEvent, SequencedLine};

/// The number of waiting bytes above which the trainer's output is not read. Its pipe then fills, and the trainer
/// waits.
const MAX_WAITING: u64 = 64 << 20;
/// The longest log line in bytes; a longer one is stored in pieces.
const MAX_LINE: usize = 16 << 10;

/// The journal of one attempt.
pub(crate) struct Journal {
    attempt: AttemptId,
    folder: PathBuf,
    spools: Mutex<Spools>,
    /// Wakes the agent for an early sync; shared by all attempts.
    urgent: Arc<Notify>,
    received: Notify,
    drained: Notify,
}

struct Spools {
    received: Spool,
    events: Spool,
    log: Spool,
    /// The numbers of the `checkpointed` events that wait in `received`.
    checkpoints: Vec<u64>,
    outcome: Option<AttemptEnd>,
    limited: bool,
    abandoned: bool,
}

/// A line of `events`. `source` is its number in `received`, from which a restarted agent knows where to continue.
#[derive(Serialize, Deserialize)]
struct ForwardedEvent {
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
    /// Opens the journal in an attempt's folder, or creates it.
    pub(crate) fn open(attempt: AttemptId, folder: &Path, urgent: Arc<Notify>) -> io::Result<Self> {
        let spool_folder = folder.join("journal");
        fs::create_dir_all(&spool_folder)?;
        let mut received = Spool::open(&spool_folder.join("received"))?;
        let events = Spool::open(&spool_folder.join("events"))?;
        let log = Spool::open(&spool_folder.join("log"))?;
        if let Some(last) = events.last()? {
            received.take(parse::<ForwardedEvent>(&last)?.source)?;
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

    /// Stores an event of the trainer, and returns its number, which [`forward`](Self::forward) takes.
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

    /// Stores a log line; a very long one in pieces.
    pub(crate) fn log(&self, text: &str) -> io::Result<()> {
        let mut spools = self.spools();
        let mut rest = text;
        loop {
            let (piece, tail) = rest.split_at(rest.floor_char_boundary(MAX_LINE));
            // Postgres cannot store NUL in a text.
            spools.log.append(&serde_json::to_string(&piece.replace('\0', "\u{fffd}"))?)?;
            rest = tail;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits for the first event that has not been forwarded, and returns it with its number. `None` if the attempt has
    /// ended and all events are forwarded.
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
                        // The server closes the attempt when it gets `finished`, so that event waits for the outcome.
                        if ended || !matches!(event, Event::Finished { .. }) {
                            return Ok(Some((number, event)));
                        }
                    }
                }
            }
            // `notify_one` stores a notification that comes before this wait, so none is missed.
            self.received.notified().await;
        }
    }

    /// The number of waiting checkpoints that were received after event `number`.
    pub(crate) fn newer_checkpoints(&self, number: u64) -> usize {
        self.spools().checkpoints.iter().filter(|waiting| **waiting > number).count()
    }

    /// Releases an event for the next sync.
    pub(crate) fn forward(&self, number: u64, event: Event) -> io::Result<()> {
        let is_urgent = !matches!(event, Event::Progress { .. } | Event::Preparing { .. });
        let line = serde_json::to_string(&ForwardedEvent { source: number, event })?;
        let mut spools = self.spools();
        spools.events.append(&line)?;
        spools.take_received(number)?;
        if is_urgent || spools.outcome.is_some() {
            self.urgent.notify_one();
        }
        Ok(())
    }

    /// Leaves an event out. The caller has logged the reason.
    pub(crate) fn skip(&self, number: u64) -> io::Result<()> {
        self.spools().take_received(number)
    }

    /// Records how the attempt ended, unless an outcome is already recorded. After an error it is recorded in memory
    /// only, so that it is reported even if the disk is full.
    pub(crate) fn end(&self, outcome: AttemptEnd) -> io::Result<()> {
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

    /// Gives up the events that are not forwarded, because they cannot be written. The failure replaces any outcome,
    /// whose report would be missing.
    pub(crate) fn abandon(&self, failure: Failure) {
        let mut spools = self.spools();
        spools.outcome = Some(AttemptEnd::Failed { failure });
        spools.abandoned = true;
        self.urgent.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.spools().outcome.is_some()
    }

    /// The report for the next request, and true if there is more than it can carry. The state is `Ended` only in the
    /// last report, because the server closes the attempt when it gets that.
    pub(crate) fn report(&self, share: Share) -> io::Result<(AttemptReport, bool)> {
        let spools = self.spools();
        let mut events = Vec::new();
        for (sequence, line) in spools.events.peek(share.records, share.bytes)? {
            events.push(SequencedEvent { sequence, event: parse::<ForwardedEvent>(&line)?.event });
        }
        let mut log = Vec::new();
        for (sequence, line) in spools.log.peek(share.records, share.bytes)? {
            log.push(SequencedLine { sequence, text: parse(&line)? });
        }
        let log_left = spools.log.has_after(log.last().map(|line| line.sequence));
        if log_left && matches!(events.last(), Some(SequencedEvent { event: Event::Finished { .. }, .. })) {
            // The server closes the attempt when it gets `finished` too, and would refuse the rest of the log.
            events.pop();
        }
        let more = log_left || spools.events.has_after(events.last().map(|event| event.sequence));
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

    /// Waits while more than [`MAX_WAITING`] bytes wait for the server, so that a trainer that writes faster than the
    /// server reads does not fill the disk.
    pub(crate) async fn wait_for_room(&self) {
        loop {
            let drained = self.drained.notified();
            if !self.is_full() {
                return;
            }
            drained.await;
        }
    }

    /// Ends the limit on waiting bytes. The trainer has ended, and little is left in its pipe.
    pub(crate) fn lift_limit(&self) {
        self.spools().limited = false;
        self.drained.notify_waiters();
    }

    fn is_full(&self) -> bool {
        let spools = self.spools();
        let waiting = spools.received.waiting() + spools.events.waiting() + spools.log.waiting();
        spools.limited && waiting > MAX_WAITING
    }

    fn spools(&self) -> MutexGuard<'_, Spools> {
        // After a panic, a spool may at worst send a record again.
        self.spools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spools {
    /// Marks the events up to `number` as forwarded or left out.
    fn take_received(&mut self, number: u64) -> io::Result<()> {
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
    fn only_forwarded_events_are_reported_and_a_skipped_one_leaves_no_gap() {
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
    fn the_outcome_is_reported_only_with_the_last_record() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        journal.log("one").unwrap();
        journal.log("two").unwrap();
        journal.receive(&progress(1)).unwrap();
        journal.end(AttemptEnd::Succeeded).unwrap();
        assert_eq!(journal.report(ALL).unwrap().0.state, AttemptState::Running, "an event waits to be forwarded");

        journal.forward(1, progress(1)).unwrap();
        let (report, more) = journal.report(Share { records: 1, ..ALL }).unwrap();
        assert_eq!((report.state, more), (AttemptState::Running, true));

        journal.acknowledge(&Acknowledgement { attempt: journal.attempt, events: 1, log: 1, closed: false }).unwrap();
        let (report, more) = journal.report(Share { records: 1, ..ALL }).unwrap();
        assert_eq!((report.state, more), (AttemptState::Ended { outcome: AttemptEnd::Succeeded }, false));
        assert_eq!((report.events.len(), report.log[0].sequence, report.log[0].text.as_str()), (0, 2, "two"));
    }

    #[tokio::test]
    async fn a_finished_event_is_reported_after_the_process_has_ended_and_with_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        let report = recipe::TrialReport::Timing(recipe::report::TimingReport { arms: vec![] });
        let finished = Event::Finished { report };
        journal.receive(&finished).unwrap();
        assert!(futures::poll!(std::pin::pin!(journal.next())).is_pending());
        journal.end(AttemptEnd::Succeeded).unwrap();
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
    fn the_outcome_is_reported_even_if_events_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        journal.receive(&progress(1)).unwrap();
        journal.end(AttemptEnd::Succeeded).unwrap();
        let failure = Failure { kind: recipe::FailureKind::DiskFull, message: "no space".into() };
        journal.abandon(failure.clone());
        let state = AttemptState::Ended { outcome: AttemptEnd::Failed { failure } };
        assert_eq!(journal.report(ALL).unwrap().0.state, state);
    }

    #[tokio::test]
    async fn a_restarted_agent_continues_with_the_first_event_that_was_not_forwarded() {
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
    fn the_first_outcome_remains_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).end(AttemptEnd::Interrupted).unwrap();
        let journal = open(folder.path());
        journal.end(AttemptEnd::Lost).unwrap();
        let state = AttemptState::Ended { outcome: AttemptEnd::Interrupted };
        assert_eq!(journal.report(ALL).unwrap().0.state, state);
    }

    #[test]
    fn a_very_long_line_is_stored_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        let text = "é".repeat(MAX_LINE);
        journal.log(&text).unwrap();
        let (report, _) = journal.report(ALL).unwrap();
        assert!(report.log.iter().all(|line| line.text.len() <= MAX_LINE));
        assert_eq!(report.log.into_iter().map(|line| line.text).collect::<String>(), text);
    }

    #[test]
    fn an_empty_line_is_stored_and_nul_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        journal.log("").unwrap();
        journal.log("a\0b").unwrap();
        let texts: Vec<_> = journal.report(ALL).unwrap().0.log.into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["", "a\u{fffd}b"]);
    }
}
