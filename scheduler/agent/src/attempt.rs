//! Carrying out one attempt on this node, from its assignment to its outcome.

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
use crate::inputs::{self, Layout, disk_failure};
use crate::journal::Journal;
use crate::lease::{Instruction, Lease};
use crate::outcome::{self, Exit};
use crate::process::{Starter, signal_group};
use crate::{output, upload};
use protocol::id::AttemptId;
use protocol::{Assignment, AttemptEnd, SlotFacts};

/// How long to read on from the pipes of a trainer that has ended. A process that left its group may still hold them
/// open.
const PIPE_LIMIT: Duration = Duration::from_secs(5);

/// Everything that the attempts of an agent share.
pub(crate) struct Site {
    /// The path of the program `lamina-trainer`.
    pub(crate) trainer: PathBuf,
    /// The folder that holds one folder per attempt.
    pub(crate) attempts: PathBuf,
    /// The folder of token shards, which trainers share.
    pub(crate) tokens: PathBuf,
    pub(crate) slots: Vec<Slot>,
    pub(crate) cache: Cache,
    pub(crate) client: Client,
    pub(crate) starter: Starter,
    pub(crate) lease: watch::Receiver<Lease>,
    /// Wakes the agent for an early sync.
    pub(crate) urgent: Arc<Notify>,
}

impl Site {
    pub(crate) fn folder_of(&self, attempt: AttemptId) -> PathBuf {
        self.attempts.join(attempt.to_string())
    }
}

/// A slot of this node.
pub(crate) struct Slot {
    pub(crate) facts: SlotFacts,
    /// Locked while a trainer lives, so that the next one waits for the end of one that is slow to end.
    pub(crate) occupied: Mutex<()>,
}

/// The agent's handle on an attempt, whose work is done in a task of its own.
pub(crate) struct Attempt {
    pub(crate) journal: Arc<Journal>,
    folder: PathBuf,
    instruction: Arc<watch::Sender<Instruction>>,
    closed: CancellationToken,
    task: JoinHandle<()>,
}

impl Attempt {
    /// Starts the work on an assignment.
    pub(crate) fn start(site: Arc<Site>, assignment: Assignment) -> io::Result<Self> {
        let folder = site.folder_of(assignment.attempt);
        fs::create_dir(&folder)?;
        Self::with_task(assignment.attempt, folder, site, Some(assignment))
    }

    /// Reads an attempt that an earlier agent left on the disk, and sends on its events and log lines. Its trainer
    /// ended with that agent, so the attempt is lost unless it has an outcome.
    pub(crate) fn recover(site: Arc<Site>, attempt: AttemptId) -> io::Result<Self> {
        let folder = site.folder_of(attempt);
        let recovered = Self::with_task(attempt, folder, site, None)?;
        recovered.journal.end(AttemptEnd::Lost)?;
        Ok(recovered)
    }

    fn with_task(id: AttemptId, folder: PathBuf, site: Arc<Site>, work: Option<Assignment>) -> io::Result<Self> {
        let journal = Arc::new(Journal::open(id, &folder, site.urgent.clone())?);
        let (instruction, from_agent) = watch::channel(Instruction::Run);
        let (instruction, closed) = (Arc::new(instruction), CancellationToken::new());
        let task = tokio::spawn({
            let (journal, folder, instruction, closed) =
                (journal.clone(), folder.clone(), instruction.clone(), closed.clone());
            async move {
                let layout = Layout::new(folder);
                let instructions = Instructions { from_agent, lease: site.lease.clone() };
                tokio::join!(
                    async {
                        if let Some(assignment) = work {
                            execute(&site, &assignment, &layout, &journal, instructions).await;
                        }
                    },
                    async {
                        tokio::select! {
                            () = closed.cancelled() => {}
                            () = forward(&journal, &layout, &site.client, &instruction) => {}
                        }
                    },
                );
                site.urgent.notify_one();
            }
        });
        Ok(Self { journal, folder, instruction, closed, task })
    }

    /// Gives the trainer an instruction, unless it already has a stronger one.
    pub(crate) fn instruct(&self, instruction: Instruction) {
        escalate(&self.instruction, instruction);
    }

    /// Kills the trainer and stops sending, because the server has closed the attempt.
    pub(crate) fn close(&self) {
        self.instruct(Instruction::Kill);
        self.closed.cancel();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// True if its task has ended, and so its trainer.
    pub(crate) fn is_done(&self) -> bool {
        self.task.is_finished()
    }

    /// Deletes its folder.
    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // The trainer is killed when the task that waits for it is dropped.
        self.task.abort();
    }
}

/// Replaces the current instruction if the new one is stronger.
fn escalate(sender: &watch::Sender<Instruction>, instruction: Instruction) {
    sender.send_if_modified(|current| {
        let is_stronger = instruction > *current;
        *current = instruction.max(*current);
        is_stronger
    });
}

/// The two sources of a trainer's instructions. The stronger of the two counts.
struct Instructions {
    from_agent: watch::Receiver<Instruction>,
    lease: watch::Receiver<Lease>,
}

impl Instructions {
    fn current(&self) -> Instruction {
        self.lease.borrow().instruction(Instant::now()).max(*self.from_agent.borrow())
    }

    /// Waits for an instruction that is stronger than `level`. Each round looks at the clock first, so that a lease
    /// that ended while this agent was suspended is noticed before anything else.
    async fn stronger_than(&mut self, level: Instruction) -> Instruction {
        loop {
            let instruction = self.current();
            if instruction > level {
                return instruction;
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
                // A closed channel means that the agent, which could extend the lease, has ended.
                alive = self.from_agent.changed() => if alive.is_err() { return Instruction::Kill },
                alive = self.lease.changed() => if alive.is_err() { return Instruction::Kill },
            }
        }
    }
}

async fn forward(journal: &Journal, layout: &Layout, client: &Client, instruction: &watch::Sender<Instruction>) {
    if let Err(error) = upload::forward(journal, layout, client).await {
        tracing::error!(%error, "cannot write the attempt's journal; its trainer is killed");
        escalate(instruction, Instruction::Kill);
        journal.abandon(disk_failure(&error, FailureKind::Crashed, "the agent's journal"));
    }
}

async fn execute(site: &Site, assignment: &Assignment, layout: &Layout, journal: &Journal, instructions: Instructions) {
    let (attempt, trial) = (assignment.attempt, assignment.trial);
    tracing::info!(%attempt, %trial, slot = assignment.slot, "attempt starts");
    let ended = carry_out(site, assignment, layout, journal, instructions).await;
    let ended = ended.unwrap_or_else(|failure| AttemptEnd::Failed { failure });
    tracing::info!(%attempt, %trial, outcome = ?ended, "attempt has ended");
    if let Err(error) = journal.end(ended) {
        tracing::error!(%attempt, %error, "cannot write the outcome to disk; after a restart it is reported as lost");
    }
}

async fn carry_out(
    site: &Site,
    assignment: &Assignment,
    layout: &Layout,
    journal: &Journal,
    mut instructions: Instructions,
) -> Result<AttemptEnd, Failure> {
    let Some(slot) = site.slots.iter().find(|slot| slot.facts.index == assignment.slot) else {
        let message = format!("this node has no slot {}", assignment.slot);
        return Err(Failure { kind: FailureKind::Crashed, message });
    };
    let arguments = tokio::select! {
        biased;
        instruction = instructions.stronger_than(Instruction::Run) => return Ok(never_started(instruction)),
        arguments = inputs::prepare(assignment, &slot.facts, layout, &site.cache, &site.tokens) => arguments?,
    };
    let _occupied = tokio::select! {
        biased;
        instruction = instructions.stronger_than(Instruction::Run) => return Ok(never_started(instruction)),
        occupied = slot.occupied.lock() => occupied,
    };
    train(site, arguments, layout, journal, instructions).await
}

/// How an attempt ends that gets an instruction before its trainer starts.
fn never_started(instruction: Instruction) -> AttemptEnd {
    if instruction == Instruction::Kill { AttemptEnd::Lost } else { AttemptEnd::Interrupted }
}

/// Runs the trainer until it ends.
async fn train(
    site: &Site,
    arguments: Vec<OsString>,
    layout: &Layout,
    journal: &Journal,
    mut instructions: Instructions,
) -> Result<AttemptEnd, Failure> {
    let crashed = |message| Failure { kind: FailureKind::Crashed, message };
    let cannot_start = |error: io::Error| crashed(format!("cannot start {}: {error}", site.trainer.display()));
    let cannot_wait = |error: io::Error| crashed(format!("cannot wait for the trainer: {error}"));
    let memory_kills = outcome::memory_kills();
    let mut child = site.starter.start(command(&site.trainer, &arguments)).await.map_err(cannot_start)?;
    let (Some(leader), Some(stdout), Some(stderr)) = (child.id(), child.stdout.take(), child.stderr.take()) else {
        return Err(crashed("the trainer was started without pipes for its output".into()));
    };
    let signal =
        |signal| signal_group(leader, signal).map_err(|error| crashed(format!("cannot signal the trainer: {error}")));

    let read =
        async { tokio::try_join!(output::read_events(stdout, journal, layout), output::read_log(stderr, journal)) };
    tokio::pin!(read);
    let mut output = None;
    let mut instruction = Instruction::Run;
    let status = loop {
        tokio::select! {
            biased;
            next = instructions.stronger_than(instruction), if instruction < Instruction::Kill => {
                instruction = next;
                signal(if instruction == Instruction::Kill { libc::SIGKILL } else { libc::SIGTERM })?;
            }
            status = child.wait() => break status.map_err(cannot_wait)?,
            result = &mut read, if output.is_none() => {
                if result.is_err() {
                    // Its output cannot be stored, so its work would be lost anyway.
                    signal(libc::SIGKILL)?;
                }
                output = Some(result);
            }
        }
    };
    // The processes that the trainer started must end too, and close the pipes.
    signal(libc::SIGKILL)?;
    journal.lift_limit();
    let output = match output {
        Some(result) => result,
        None => tokio::time::timeout(PIPE_LIMIT, read).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
    };
    let (final_events, log_tail) =
        output.map_err(|error| disk_failure(&error, FailureKind::Crashed, "the trainer's output cannot be stored"))?;
    let memory_killed = memory_kills.zip(outcome::memory_kills()).is_some_and(|(before, after)| after > before);
    Ok(outcome::outcome(Exit::from(status), final_events, instruction, memory_killed, &log_tail))
}

fn command(trainer: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new(trainer);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Slots are numbered in the order of nvidia-smi, which is by bus. CUDA's own default order is by speed.
    command.env("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
    // By default, OpenMP's threads spin while they wait for each other, and on cores that other processes use too, a
    // step then takes several times as long. OpenMP reads this variable before `main`, so the trainer cannot set it
    // itself.
    command.env("OMP_WAIT_POLICY", "passive");
    command
}
