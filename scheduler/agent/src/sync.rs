//! The agent's loop: tell the server what is here, hear what should be, make it so.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recipe::FailureKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Error;
use crate::attempt::{Attempt, Site};
use crate::client::ClientError;
use crate::inputs::on_disk;
use crate::journal::Share;
use crate::lease::{Lease, Wish};
use crate::plan::{Known, plan};
use protocol::id::AttemptId;
use protocol::{
    Acknowledgement, Assignment, AttemptReport, AttemptState, EndedAs, NodeFacts, SyncRequest, SyncResponse,
};

/// Between two syncs at least, so that events that come together travel together.
const GAP: Duration = Duration::from_millis(50);
/// Between a sync that failed and the next.
const RETRY: Duration = Duration::from_secs(1);
/// The longest time between two syncs, whatever the server says.
const LONGEST: Duration = Duration::from_secs(60);
/// What one request may carry, over all attempts.
const REQUEST: Share = Share { records: 500, bytes: 2 << 20 };
/// After the trainers were killed at shutdown, so long to say so.
const LAST_WORD: Duration = Duration::from_secs(3);

pub(crate) struct Agent {
    site: Arc<Site>,
    node: NodeFacts,
    instance: Uuid,
    lease: watch::Sender<Lease>,
    attempts: BTreeMap<AttemptId, Attempt>,
    /// Attempts without a journal, because it could not be made or read. Known until the server has closed them.
    without_journal: BTreeMap<AttemptId, EndedAs>,
    leaving: bool,
}

/// When to sync again.
enum Next {
    /// There is more to tell than went into one request.
    AtOnce,
    Within(Duration),
}

impl Agent {
    pub(crate) fn new(site: Arc<Site>, node: NodeFacts, lease: watch::Sender<Lease>) -> Self {
        let instance = Uuid::now_v7();
        let (attempts, without_journal) = Default::default();
        Self { site, node, instance, lease, attempts, without_journal, leaving: false }
    }

    /// Takes up what an earlier agent left on this disk.
    pub(crate) fn recover(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.site.attempts)? {
            let name = entry?.file_name();
            let Some(attempt) = name.to_str().and_then(|name| name.parse().ok()) else {
                tracing::warn!(?name, "is no attempt, and is left alone");
                continue;
            };
            tracing::info!(%attempt, "left behind by an earlier agent");
            match Attempt::recover(self.site.clone(), attempt) {
                Ok(recovered) => drop(self.attempts.insert(attempt, recovered)),
                Err(error) => self.report_without_journal(attempt, &error),
            }
        }
        Ok(())
    }

    /// Syncs until `shutdown`, then lets the trainers write their checkpoints for `grace` at most, and tells the server.
    pub(crate) async fn run(mut self, shutdown: CancellationToken, grace: Duration) -> Result<(), Error> {
        let mut known_to_server = false;
        let mut next = Next::AtOnce;
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
                        tracing::info!(node = self.node.name, slots = self.node.slots.len(), "known to the server");
                    }
                    known_to_server = true;
                    next
                }
                Err(error) if error.is_about_the_token() && !known_to_server => {
                    return Err(Error::Token(error.to_string()));
                }
                Err(error) => after_failure(&error),
            };
        }
        self.leave(grace).await;
        Ok(())
    }

    /// The orderly end: interrupt, flush, and at the deadline kill.
    async fn leave(&mut self, grace: Duration) {
        self.leaving = true;
        tracing::info!(attempts = self.attempts.len(), "leaving");
        for (wish, limit) in [(Wish::Interrupt, grace), (Wish::Kill, LAST_WORD)] {
            self.attempts.values().for_each(|attempt| attempt.wish(wish));
            if tokio::time::timeout(limit, self.flush()).await.is_ok() {
                return;
            }
        }
        tracing::warn!(attempts = self.attempts.len(), "left unsaid; the next agent here will tell");
    }

    /// Syncs until the server has closed every attempt, and once in any case: it should know that this node is leaving.
    async fn flush(&mut self) {
        loop {
            let next = self.sync().await.unwrap_or_else(|error| after_failure(&error));
            if self.attempts.is_empty() {
                return;
            }
            self.pause(next).await;
        }
    }

    async fn pause(&self, next: Next) {
        tokio::time::sleep(GAP).await;
        if let Next::Within(pause) = next {
            // Elapsed or woken, the time has come.
            drop(tokio::time::timeout(pause, self.site.urgent.notified()).await);
        }
    }

    async fn sync(&mut self) -> Result<Next, ClientError> {
        self.remove_closed();
        let (request, more) = self.request();
        let sent = Instant::now();
        let answer = self.site.client.sync(&request).await?;
        self.lease.send_replace(Lease::new(sent, answer.lease_seconds));
        let pause = Duration::try_from_secs_f64(answer.sync_seconds).unwrap_or(RETRY).min(LONGEST);
        self.apply(answer);
        Ok(if more { Next::AtOnce } else { Next::Within(pause) })
    }

    fn request(&mut self) -> (SyncRequest, bool) {
        let open: Vec<_> =
            self.attempts.iter().filter(|(_, attempt)| !attempt.is_closed()).map(|(id, _)| *id).collect();
        let count = open.len().max(1);
        let share = Share { records: (REQUEST.records / count).max(1), bytes: REQUEST.bytes / count as u64 };
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
        let (node, instance, leaving) = (self.node.clone(), self.instance, self.leaving);
        (SyncRequest { node, instance, attempts: reports, leaving }, more)
    }

    fn apply(&mut self, answer: SyncResponse) {
        for acknowledgement in &answer.acknowledged {
            self.acknowledge(acknowledgement);
        }
        let known = |attempt: &Attempt| if attempt.journal.has_ended() { Known::Ended } else { Known::Active };
        let mut all: BTreeMap<_, _> = self.attempts.iter().map(|(id, attempt)| (*id, known(attempt))).collect();
        all.extend(self.without_journal.keys().map(|id| (*id, Known::Ended)));
        let plan = plan(&all, answer, self.leaving);
        for (attempt, wish) in plan.wishes {
            self.attempts[&attempt].wish(wish);
        }
        for closed in plan.closed {
            let had_no_journal = self.without_journal.remove(&closed).is_some();
            match self.attempts.get(&closed) {
                Some(attempt) => attempt.close(),
                None if had_no_journal => removed(closed, fs::remove_dir_all(self.site.folder_of(closed))),
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

    /// Ends an attempt whose journal does not work: there is nothing to send but that.
    fn report_without_journal(&mut self, attempt: AttemptId, error: &io::Error) {
        tracing::error!(%attempt, %error, "the journal does not work");
        let failure = on_disk(error, FailureKind::Crashed, "the agent's journal");
        self.without_journal.insert(attempt, EndedAs::Failed { failure });
        if let Some(attempt) = self.attempts.get(&attempt) {
            attempt.close();
        }
    }

    fn remove_closed(&mut self) {
        let gone = self.attempts.extract_if(.., |_, attempt| attempt.is_closed() && attempt.is_done());
        gone.for_each(|(id, attempt)| removed(id, attempt.remove()));
    }
}

fn removed(attempt: AttemptId, result: io::Result<()>) {
    match result {
        // What is left is taken up, reported and removed by the next agent here.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%attempt, %error, "cannot remove the attempt's folder");
        }
        _ => {}
    }
}

fn after_failure(error: &ClientError) -> Next {
    tracing::warn!(source = error.source().map(tracing::field::display), "{error}");
    Next::Within(RETRY)
}
