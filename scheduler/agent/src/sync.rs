//! The agent's loop: it tells the server what runs here, and carries out the answer.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recipe::FailureKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::attempt::{Attempt, Site};
use crate::client::ClientError;
use crate::error::Error;
use crate::identity::Identity;
use crate::inputs::disk_failure;
use crate::journal::Share;
use crate::lease::{Instruction, Lease};
use crate::plan::{Known, plan};
use protocol::id::AttemptId;
use protocol::{
    Acknowledgement, Assignment, AttemptEnd, AttemptReport, AttemptState, NodeFacts, SyncRequest, SyncResponse,
};

/// The shortest time between two syncs, so that events that come close together travel in one request.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
/// The time between a sync that failed and the next one.
const RETRY: Duration = Duration::from_secs(1);
/// The longest time between two syncs, even if the server asks for a longer one.
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// The most that one request may carry, over all attempts.
const REQUEST_LIMIT: Share = Share { records: 500, bytes: 2 << 20 };
/// The time at shutdown in which the server must learn that the trainers were killed.
const FINAL_SYNC_LIMIT: Duration = Duration::from_secs(3);

pub(crate) struct Agent {
    site: Arc<Site>,
    node: NodeFacts,
    identity: Identity,
    lease: watch::Sender<Lease>,
    attempts: BTreeMap<AttemptId, Attempt>,
    /// The outcomes of attempts whose journal cannot be written or read. They stay here until the server has closed
    /// them.
    without_journal: BTreeMap<AttemptId, AttemptEnd>,
    leaving: bool,
}

/// When to sync again.
enum NextSync {
    /// One request could not carry everything.
    Immediately,
    Within(Duration),
}

impl Agent {
    pub(crate) fn new(site: Arc<Site>, node: NodeFacts, identity: Identity, lease: watch::Sender<Lease>) -> Self {
        let (attempts, without_journal) = Default::default();
        Self { site, node, identity, lease, attempts, without_journal, leaving: false }
    }

    /// Reads the attempts that an earlier agent left on this disk.
    pub(crate) fn recover(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.site.attempts)? {
            let name = entry?.file_name();
            let Some(attempt) = name.to_str().and_then(|name| name.parse().ok()) else {
                tracing::warn!(?name, "this entry of the folder of attempts is not an attempt; it is ignored");
                continue;
            };
            tracing::info!(%attempt, "an earlier agent left this attempt; what it has not sent is sent now");
            match Attempt::recover(self.site.clone(), attempt) {
                Ok(recovered) => drop(self.attempts.insert(attempt, recovered)),
                Err(error) => self.report_without_journal(attempt, &error),
            }
        }
        Ok(())
    }

    /// Syncs until `shutdown`. Then the trainers get `grace` to write their checkpoints, and the server is told.
    pub(crate) async fn run(mut self, shutdown: CancellationToken, grace: Duration) -> Result<(), Error> {
        let mut known_to_server = false;
        let mut next = NextSync::Immediately;
        loop {
            if !self.leaving {
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = self.pause(next) => {}
                }
            }
            let answer = tokio::select! {
                () = shutdown.cancelled() => break,
                answer = self.sync() => answer,
            };
            next = match answer {
                Ok(next) => {
                    if !known_to_server {
                        tracing::info!(
                            node = self.node.name,
                            slots = self.node.slots.len(),
                            "the server knows this node"
                        );
                    }
                    known_to_server = true;
                    next
                }
                Err(error) if error.is_about_the_token() && !known_to_server => {
                    return Err(Error::Token(error.to_string()));
                }
                Err(error) if error.code() == Some("node_of_another_token") && !known_to_server => {
                    return Err(Error::Node(error.to_string()));
                }
                Err(error) => after_failure(&error),
            };
        }
        self.leave(grace).await;
        Ok(())
    }

    /// Interrupts the trainers and syncs until all have ended; those that still run after `grace` are killed.
    async fn leave(&mut self, grace: Duration) {
        self.leaving = true;
        tracing::info!(attempts = self.attempts.len(), "the agent is shutting down");
        for (instruction, limit) in [(Instruction::Interrupt, grace), (Instruction::Kill, FINAL_SYNC_LIMIT)] {
            self.attempts.values().for_each(|attempt| attempt.instruct(instruction));
            if tokio::time::timeout(limit, self.flush()).await.is_ok() {
                return;
            }
        }
        tracing::warn!(
            attempts = self.attempts.len(),
            "the server has not heard how these attempts ended; the next agent with this home will report it"
        );
    }

    /// Syncs until the server has closed every attempt, and at least once, so that it knows that this node is leaving.
    async fn flush(&mut self) {
        loop {
            let next = self.sync().await.unwrap_or_else(|error| after_failure(&error));
            if self.attempts.is_empty() {
                return;
            }
            self.pause(next).await;
        }
    }

    async fn pause(&self, next: NextSync) {
        tokio::time::sleep(MIN_INTERVAL).await;
        if let NextSync::Within(pause) = next {
            // The next sync is due whether the time has passed or the agent was woken.
            drop(tokio::time::timeout(pause, self.site.urgent.notified()).await);
        }
    }

    async fn sync(&mut self) -> Result<NextSync, ClientError> {
        self.remove_closed();
        let (request, more) = self.request();
        let sent = Instant::now();
        let answer = self.site.client.sync(&request).await?;
        self.lease.send_replace(Lease::new(sent, answer.lease_seconds));
        let pause = Duration::try_from_secs_f64(answer.sync_seconds).unwrap_or(RETRY).min(MAX_INTERVAL);
        self.apply(answer);
        Ok(if more { NextSync::Immediately } else { NextSync::Within(pause) })
    }

    fn request(&mut self) -> (SyncRequest, bool) {
        let open: Vec<_> =
            self.attempts.iter().filter(|(_, attempt)| !attempt.is_closed()).map(|(id, _)| *id).collect();
        let count = open.len().max(1);
        let share =
            Share { records: (REQUEST_LIMIT.records / count).max(1), bytes: REQUEST_LIMIT.bytes / count as u64 };
        let mut reports = Vec::new();
        let mut more = false;
        for id in open {
            match self.attempts[&id].journal.report(share) {
                Ok((report, rest)) => {
                    reports.push(report);
                    more |= rest;
                }
                Err(error) => self.report_without_journal(id, &error),
            }
        }
        reports.extend(self.without_journal.iter().map(|(attempt, outcome)| AttemptReport {
            attempt: *attempt,
            state: AttemptState::Ended { outcome: outcome.clone() },
            events: Vec::new(),
            log: Vec::new(),
        }));
        let Identity { instance, predecessor } = self.identity;
        let (node, leaving) = (self.node.clone(), self.leaving);
        (SyncRequest { node, instance, predecessor, attempts: reports, leaving }, more)
    }

    fn apply(&mut self, answer: SyncResponse) {
        for acknowledgement in &answer.acknowledged {
            self.acknowledge(acknowledgement);
        }
        let known = |attempt: &Attempt| if attempt.journal.has_ended() { Known::Ended } else { Known::Active };
        let mut all: BTreeMap<_, _> = self.attempts.iter().map(|(id, attempt)| (*id, known(attempt))).collect();
        all.extend(self.without_journal.keys().map(|id| (*id, Known::Ended)));
        let plan = plan(&all, answer, self.leaving);
        for (attempt, instruction) in plan.instructions {
            self.attempts[&attempt].instruct(instruction);
        }
        for closed in plan.closed {
            let had_no_journal = self.without_journal.remove(&closed).is_some();
            match self.attempts.get(&closed) {
                Some(attempt) => attempt.close(),
                None if had_no_journal => log_failed_removal(closed, fs::remove_dir_all(self.site.folder_of(closed))),
                None => {}
            }
        }
        for assignment in plan.start {
            self.start(assignment);
        }
    }

    fn acknowledge(&mut self, acknowledgement: &Acknowledgement) {
        let Some(attempt) = self.attempts.get(&acknowledgement.attempt) else { return };
        if let Err(error) = attempt.journal.acknowledge(acknowledgement) {
            self.report_without_journal(acknowledgement.attempt, &error);
        }
    }

    fn start(&mut self, assignment: Assignment) {
        let attempt = assignment.attempt;
        match Attempt::start(self.site.clone(), assignment) {
            Ok(started) => drop(self.attempts.insert(attempt, started)),
            Err(error) => self.report_without_journal(attempt, &error),
        }
    }

    /// Ends an attempt whose journal does not work. Only this failure can be reported of it.
    fn report_without_journal(&mut self, attempt: AttemptId, error: &io::Error) {
        tracing::error!(%attempt, %error, "cannot use the attempt's journal; the attempt is reported as failed");
        let failure = disk_failure(error, FailureKind::Crashed, "the agent's journal");
        self.without_journal.insert(attempt, AttemptEnd::Failed { failure });
        if let Some(attempt) = self.attempts.get(&attempt) {
            attempt.close();
        }
    }

    fn remove_closed(&mut self) {
        let gone = self.attempts.extract_if(.., |_, attempt| attempt.is_closed() && attempt.is_done());
        gone.for_each(|(id, attempt)| log_failed_removal(id, attempt.remove()));
    }
}

/// Logs that the folder of an attempt could not be removed.
fn log_failed_removal(attempt: AttemptId, result: io::Result<()>) {
    match result {
        // The next agent with this home finds the folder, reports the attempt and removes the folder.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%attempt, %error, "cannot remove the attempt's folder");
        }
        _ => {}
    }
}

/// Logs a failed sync, and returns when to try again.
fn after_failure(error: &ClientError) -> NextSync {
    tracing::warn!(source = error.source().map(tracing::field::display), "{error}");
    NextSync::Within(RETRY)
}
