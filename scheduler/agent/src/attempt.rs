//! One attempt on this node, from its assignment to its outcome.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use recipe::{Failure, FailureKind};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::client::Client;
use crate::inputs::{self, Layout, on_disk};
use crate::journal::Journal;
use crate::lease::{Lease, Wish};
use crate::outcome::{self, Exit};
use crate::process::{Starter, signal_group};
use crate::{output, upload};
use protocol::id::AttemptId;
use protocol::{Assignment, EndedAs, SlotFacts};

/// How long the pipes of a trainer that is gone may stay open, held by a process that left its group.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// What all attempts of an agent share.
pub(crate) struct Site {
    pub(crate) trainer: PathBuf,
    /// Of all attempts.
    pub(crate) attempts: PathBuf,
    /// Token shards, shared by trainers.
    pub(crate) tokens: PathBuf,
    pub(crate) slots: Vec<Slot>,
    pub(crate) cache: Cache,
    pub(crate) client: Client,
    pub(crate) starter: Starter,
    pub(crate) lease: watch::Receiver<Lease>,
    /// Wakes the agent for a sync before its time.
    pub(crate) urgent: Arc<Notify>,
}

impl Site {
    pub(crate) fn folder_of(&self, attempt: AttemptId) -> PathBuf {
        self.attempts.join(attempt.to_string())
    }
}

pub(crate) struct Slot {
    pub(crate) facts: SlotFacts,
    /// Held while a trainer lives: one that is slow to die keeps the next one waiting.
    pub(crate) occupied: Mutex<()>,
}

/// What the agent keeps of an attempt; the rest is its task's.
pub(crate) struct Attempt {
    pub(crate) journal: Arc<Journal>,
    folder: PathBuf,
    wish: Arc<watch::Sender<Wish>>,
    closed: CancellationToken,
    task: JoinHandle<()>,
}

impl Attempt {
    /// Begins to carry out an assignment.
    pub(crate) fn start(site: Arc<Site>, assignment: Assignment) -> io::Result<Self> {
        let folder = site.folder_of(assignment.attempt);
        fs::create_dir(&folder)?;
        Self::with_task(assignment.attempt, folder, site, Some(assignment))
    }

    /// Takes up an attempt that an earlier agent left behind. Its trainer died with that agent: unless it had ended before,
    /// it is lost. What it said is sent on.
    pub(crate) fn recover(site: Arc<Site>, attempt: AttemptId) -> io::Result<Self> {
        let folder = site.folder_of(attempt);
        let recovered = Self::with_task(attempt, folder, site, None)?;
        recovered.journal.end(EndedAs::Lost)?;
        Ok(recovered)
    }

    fn with_task(id: AttemptId, folder: PathBuf, site: Arc<Site>, work: Option<Assignment>) -> io::Result<Self> {
        let journal = Arc::new(Journal::open(id, &folder, site.urgent.clone())?);
        let (wish, given) = watch::channel(Wish::Run);
        let (wish, closed) = (Arc::new(wish), CancellationToken::new());
        let task = tokio::spawn({
            let (journal, folder, wish, closed) = (journal.clone(), folder.clone(), wish.clone(), closed.clone());
            async move {
                let layout = Layout::new(folder);
                let wishes = Wishes { given, lease: site.lease.clone() };
                tokio::join!(
                    async {
                        if let Some(assignment) = work {
                            execute(&site, &assignment, &layout, &journal, wishes).await;
                        }
                    },
                    async {
                        tokio::select! {
                            () = closed.cancelled() => {}
                            () = forward(&journal, &layout, &site.client, &wish) => {}
                        }
                    },
                );
                site.urgent.notify_one();
            }
        });
        Ok(Self { journal, folder, wish, closed, task })
    }

    /// Asks the trainer to leave; a wish is never taken back.
    pub(crate) fn wish(&self, wish: Wish) {
        raise(&self.wish, wish);
    }

    /// The server has closed it: nothing more about it matters.
    pub(crate) fn close(&self) {
        self.wish(Wish::Kill);
        self.closed.cancel();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Whether its task has come to its end, its trainer with it.
    pub(crate) fn is_done(&self) -> bool {
        self.task.is_finished()
    }

    /// Deletes what it left on this disk.
    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // The trainer is killed with the task that waits for it.
        self.task.abort();
    }
}

fn raise(wishes: &watch::Sender<Wish>, wish: Wish) {
    wishes.send_if_modified(|current| {
        let raised = wish > *current;
        *current = wish.max(*current);
        raised
    });
}

/// What a trainer should do, by the server's word and by the clock.
struct Wishes {
    given: watch::Receiver<Wish>,
    lease: watch::Receiver<Lease>,
}

impl Wishes {
    fn now(&self) -> Wish {
        self.lease.borrow().wish(Instant::now()).max(*self.given.borrow())
    }

    /// Waits for a wish beyond that one. The clock is asked first whenever this agent wakes, also after a long pause.
    async fn beyond(&mut self, level: Wish) -> Wish {
        loop {
            let wish = self.now();
            if wish > level {
                return wish;
            }
            let change = self.lease.borrow().next_change(Instant::now());
            let timer = async {
                match change {
                    Some(moment) => tokio::time::sleep_until(moment.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                // Whoever could extend the lease is gone.
                alive = self.given.changed() => if alive.is_err() { return Wish::Kill },
                alive = self.lease.changed() => if alive.is_err() { return Wish::Kill },
            }
        }
    }
}

async fn forward(journal: &Journal, layout: &Layout, client: &Client, wish: &watch::Sender<Wish>) {
    if let Err(error) = upload::forward(journal, layout, client).await {
        tracing::error!(%error, "cannot write the journal");
        raise(wish, Wish::Kill);
        journal.abandon(on_disk(&error, FailureKind::Crashed, "the agent's journal"));
    }
}

async fn execute(site: &Site, assignment: &Assignment, layout: &Layout, journal: &Journal, wishes: Wishes) {
    let (attempt, trial) = (assignment.attempt, assignment.trial);
    tracing::info!(%attempt, %trial, slot = assignment.slot, "attempt begins");
    let ended = carry_out(site, assignment, layout, journal, wishes).await;
    let ended = ended.unwrap_or_else(|failure| EndedAs::Failed { failure });
    tracing::info!(%attempt, %trial, outcome = ?ended, "attempt has ended");
    if let Err(error) = journal.end(ended) {
        tracing::error!(%attempt, %error, "the outcome is not on disk: a restart of this agent would report it as lost");
    }
}

async fn carry_out(
    site: &Site,
    assignment: &Assignment,
    layout: &Layout,
    journal: &Journal,
    mut wishes: Wishes,
) -> Result<EndedAs, Failure> {
    let Some(slot) = site.slots.iter().find(|slot| slot.facts.index == assignment.slot) else {
        let message = format!("this node has no slot {}", assignment.slot);
        return Err(Failure { kind: FailureKind::Crashed, message });
    };
    let arguments = tokio::select! {
        biased;
        wish = wishes.beyond(Wish::Run) => return Ok(never_started(wish)),
        arguments = inputs::prepare(assignment, &slot.facts, layout, &site.cache, &site.tokens) => arguments?,
    };
    let _occupied = tokio::select! {
        biased;
        wish = wishes.beyond(Wish::Run) => return Ok(never_started(wish)),
        occupied = slot.occupied.lock() => occupied,
    };
    train(site, arguments, layout, journal, wishes).await
}

/// Without a trainer there is no work to lose.
fn never_started(wish: Wish) -> EndedAs {
    if wish == Wish::Kill { EndedAs::Lost } else { EndedAs::Interrupted }
}

/// Runs the trainer to its end, whatever that is.
async fn train(
    site: &Site,
    arguments: Vec<OsString>,
    layout: &Layout,
    journal: &Journal,
    mut wishes: Wishes,
) -> Result<EndedAs, Failure> {
    let crashed = |message| Failure { kind: FailureKind::Crashed, message };
    let cannot_start = |error: io::Error| crashed(format!("cannot start {}: {error}", site.trainer.display()));
    let memory_kills = outcome::memory_kills();
    let mut child = site.starter.start(command(&site.trainer, &arguments)).await.map_err(cannot_start)?;
    let (Some(leader), Some(stdout), Some(stderr)) = (child.id(), child.stdout.take(), child.stderr.take()) else {
        return Err(crashed("the trainer started without its pipes".into()));
    };
    let signal =
        |signal| signal_group(leader, signal).map_err(|error| crashed(format!("cannot signal the trainer: {error}")));

    let read =
        async { tokio::try_join!(output::read_events(stdout, journal, layout), output::read_log(stderr, journal)) };
    tokio::pin!(read);
    let mut heard = None;
    let mut wish = Wish::Run;
    let status = loop {
        tokio::select! {
            biased;
            next = wishes.beyond(wish), if wish < Wish::Kill => {
                wish = next;
                signal(if wish == Wish::Kill { libc::SIGKILL } else { libc::SIGTERM })?;
            }
            status = child.wait() => break status.map_err(|error| crashed(format!("cannot wait: {error}")))?,
            output = &mut read, if heard.is_none() => {
                if output.is_err() {
                    // Its output cannot be kept, so its work would be for nothing.
                    signal(libc::SIGKILL)?;
                }
                heard = Some(output);
            }
        }
    };
    // Whatever it started goes with it, and lets go of the pipes.
    signal(libc::SIGKILL)?;
    journal.lift_limit();
    let heard = match heard {
        Some(heard) => heard,
        None => tokio::time::timeout(LAST_OUTPUT, read).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
    };
    let (said, last_words) =
        heard.map_err(|error| on_disk(&error, FailureKind::Crashed, "the trainer's output cannot be kept"))?;
    let memory_killed = memory_kills.zip(outcome::memory_kills()).is_some_and(|(before, after)| after > before);
    Ok(outcome::outcome(Exit::from(status), said, wish, memory_killed, &last_words))
}

fn command(trainer: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new(trainer);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Slots are numbered as the listing tool does it; CUDA's own default is by speed.
    command.env("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
    // By default OpenMP's threads spin while they wait for each other; on cores that anything else uses, that costs a
    // multiple of the step. It reads this before main, so the trainer cannot set it for itself.
    command.env("OMP_WAIT_POLICY", "passive");
    command
}
