//! The only call between an agent and the server: `POST /agents/sync`, which is idempotent.
//!
//! The agent sends the attempts that it has and what happened in them; the server answers with all attempts that should
//! run there. Each answer is complete, so a lost one costs one round trip and nothing else. Every event carries its
//! attempt and a sequence number, so sending it again changes nothing; every write requires that the attempt is open.

use std::collections::{BTreeMap, BTreeSet};

use recipe::problem::Problems;
use recipe::{Event, TrialSpec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{AttemptId, TrialId};

/// The state of an agent and what happened there since its last call.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SyncRequest {
    pub node: NodeFacts,
    /// A new random id at each start of the agent. Open attempts of an earlier instance that this request does not list
    /// are lost.
    pub instance: uuid::Uuid,
    /// The instance of the agent that used this agent's home before it. It has ended, so its node may be taken over at
    /// once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<uuid::Uuid>,
    /// The attempts that run, and those that have ended but are not acknowledged yet.
    pub attempts: Vec<AttemptReport>,
    /// True if the agent is shutting down; the server then places nothing new there.
    #[serde(default)]
    pub leaving: bool,
}

/// The name and the hardware of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeFacts {
    /// A name that no other node has; the host name by default. It belongs to the token that first synced it, for as long
    /// as that token can be used.
    pub name: String,
    /// Labels that are shown with the node. They do not affect placement.
    pub labels: BTreeMap<String, String>,
    pub slots: Vec<SlotFacts>,
}

/// One accelerator, or a share of the processor's cores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotFacts {
    /// The number of the slot on its node, from 0.
    pub index: u32,
    /// The device in the trainer's notation: `cpu`, or `cuda:0` and so on.
    pub device: String,
    /// The model of the processor or accelerator.
    pub model: String,
    /// The number of processor threads that a trainer uses on this slot.
    pub threads: u32,
    /// The memory of the accelerator, or this slot's share of the machine's memory.
    pub memory_bytes: u64,
}

/// Longest name of a node, a device or its model, and longest label and its value, in characters.
pub const LONGEST_TEXT: usize = 200;
/// A machine has fewer accelerators; a slot of processor cores has at least one core.
pub const MOST_SLOTS: usize = 1024;
pub const MOST_LABELS: usize = 64;
/// Attempts of a node: those on its slots, and ended ones that are not acknowledged yet.
pub const MOST_ATTEMPTS: usize = 10_000;
/// Events, and lines of the log, that one report of an attempt may have; the size of a body allows fewer.
pub const MOST_EVENTS: usize = 1_000_000;
/// The largest number of a slot and of threads, which the database stores with a sign.
pub const LARGEST_NUMBER: u32 = i32::MAX as u32;

impl SyncRequest {
    /// Notes what no agent may report. The events and lines of its attempts come from trainers, and are made fit for
    /// the database instead of refused.
    pub fn check(&self, problems: &mut Problems) {
        problems.within("node", |problems| self.node.check(problems));
        problems.bound("attempts", self.attempts.len(), MOST_ATTEMPTS);
        problems.within("attempts", |problems| {
            for (index, report) in self.attempts.iter().enumerate() {
                problems.within(index, |problems| {
                    problems.bound("events", report.events.len(), MOST_EVENTS);
                    problems.bound("log", report.log.len(), MOST_EVENTS);
                });
            }
        });
    }
}

impl NodeFacts {
    fn check(&self, problems: &mut Problems) {
        check_text(problems, "name", &self.name, 1);
        problems.bound("labels", self.labels.len(), MOST_LABELS);
        problems.within("labels", |problems| {
            for (label, value) in self.labels.iter().take(MOST_LABELS) {
                check_text(problems, label, label, 1);
                check_text(problems, label, value, 0);
            }
        });
        problems.bound("slots", self.slots.len(), MOST_SLOTS);
        let mut indices = BTreeSet::new();
        problems.within("slots", |problems| {
            for (place, slot) in self.slots.iter().take(MOST_SLOTS).enumerate() {
                problems.within(place, |problems| {
                    slot.check(problems);
                    problems.require(indices.insert(slot.index), "index", || {
                        format!("two slots have the index {}: each slot has one of its own", slot.index)
                    });
                });
            }
        });
    }
}

impl SlotFacts {
    fn check(&self, problems: &mut Problems) {
        check_text(problems, "device", &self.device, 1);
        check_text(problems, "model", &self.model, 0);
        for (field, number) in [("index", self.index), ("threads", self.threads)] {
            problems
                .require(number <= LARGEST_NUMBER, field, || format!("{number}: at most {LARGEST_NUMBER} is allowed"));
        }
    }
}

/// A text that is stored, and shown in terminals and pages.
fn check_text(problems: &mut Problems, field: &str, text: &str, shortest: usize) {
    let fits = (shortest..=LONGEST_TEXT).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    problems.require(fits, field, || {
        format!("a text of {shortest} to {LONGEST_TEXT} characters is needed, none of them a control character")
    });
}

/// The state of one attempt, with its events and log lines that the server has not acknowledged.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AttemptReport {
    pub attempt: AttemptId,
    pub state: AttemptState,
    /// Events in order of their sequence numbers, which start at 1 and have no gaps.
    pub events: Vec<SequencedEvent>,
    /// Log lines in order of their sequence numbers, which are counted separately in the same way.
    pub log: Vec<SequencedLine>,
}

/// The state of an attempt on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AttemptState {
    /// Its input files are being fetched, or its trainer runs, or it has ended but some of its events are still to be
    /// sent.
    Running,
    /// Its trainer has ended, and this report holds the last of its events and log lines.
    Ended { outcome: AttemptEnd },
}

/// How an attempt ended, as its agent saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum AttemptEnd {
    /// The trainer finished and reported its result.
    Succeeded,
    /// The trainer failed, or could not be started. If the trainer sent a `failed` event, the failure is the same.
    Failed { failure: recipe::Failure },
    /// The trainer was told to stop and has stopped. Its newest checkpoint, if it has one, is where the next attempt
    /// starts.
    Interrupted,
    /// The trainer was killed: its lease had ended, it was cancelled, or its agent ended.
    Lost,
}

/// An event of a trainer with its sequence number in its attempt.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SequencedEvent {
    pub sequence: u64,
    pub event: Event,
}

/// A log line of a trainer with its sequence number in its attempt.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SequencedLine {
    pub sequence: u64,
    pub text: String,
}

/// All that should run on the node from now on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SyncResponse {
    /// How long the attempts in `run` and `keep` stay open without another sync, in seconds from the moment at which
    /// the agent *sent* this request.
    pub lease_seconds: f64,
    /// The longest time in seconds until the next sync.
    pub sync_seconds: f64,
    /// The attempts to start: those that should run on this node and that the request did not list.
    pub run: Vec<Assignment>,
    /// The attempts of the request that continue. An attempt that runs and is in neither list must be killed at once:
    /// its lease has ended or it was cancelled.
    pub keep: Vec<KeptAttempt>,
    /// For each attempt of the request, how much of it is stored. The agent can forget an attempt that is `closed`.
    pub acknowledged: Vec<Acknowledgement>,
}

/// How much of an attempt the server has stored.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Acknowledgement {
    pub attempt: AttemptId,
    /// Events up to this sequence number are stored and need not be sent again.
    pub events: u64,
    /// Log lines up to this sequence number are stored and need not be sent again.
    pub log: u64,
    /// True if the attempt is closed; the server accepts nothing more about it.
    pub closed: bool,
}

/// An attempt that continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptAttempt {
    pub attempt: AttemptId,
    /// True if its trainer should write a checkpoint and leave.
    pub interrupt: bool,
}

/// An attempt to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Assignment {
    pub attempt: AttemptId,
    pub trial: TrialId,
    /// The index of the slot on this node.
    pub slot: u32,
    /// The recipe and the seeds of the trial.
    #[schema(value_type = Object)]
    pub spec: TrialSpec,
    /// The corpus that the trial reads. The agent fetches each file of this and the other datasets from
    /// `/artifacts/{sha256}` before it starts the trainer.
    pub corpus: Option<DatasetFiles>,
    /// The vocabulary that the trial reads; exactly one file.
    pub vocabulary: Option<DatasetFiles>,
    /// The GLUE folder that the trial reads.
    pub glue: Option<DatasetFiles>,
    /// The registered checkpoint that the trial starts from.
    #[serde(default)]
    pub checkpoint: Option<DatasetFiles>,
    /// The digest of the manifest of the checkpoint that the trial starts from, if another trial wrote it.
    pub from: Option<String>,
    /// The digest of the manifest of this trial's own newest checkpoint, from which it resumes.
    pub resume: Option<String>,
    /// True if its trainer should write a checkpoint and leave, because the trial was paused or preempted.
    pub interrupt: bool,
}

/// The files of a registered dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatasetFiles {
    pub name: String,
    /// The digest over all files, which identifies the dataset.
    pub digest: String,
    pub files: Vec<DatasetFile>,
}

/// One file of a registered dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatasetFile {
    /// The path inside the dataset, with `/` between folders. It is never absolute and never contains `..`.
    pub path: String,
    /// The sha256 of the file as 64 lower-case hexadecimal digits.
    pub sha256: String,
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut NodeFacts)) -> Vec<String> {
        let slot = |index| SlotFacts { index, device: "cpu".into(), model: "m".into(), threads: 1, memory_bytes: 1 };
        let mut node =
            NodeFacts { name: "n".into(), labels: [("rack".into(), "3".into())].into(), slots: vec![slot(0), slot(1)] };
        change(&mut node);
        let request =
            SyncRequest { node, instance: uuid::Uuid::nil(), predecessor: None, attempts: Vec::new(), leaving: false };
        let mut problems = Problems::default();
        request.check(&mut problems);
        problems.into_vec().into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn what_no_node_can_have_is_refused_where_it_stands() {
        assert!(problems(|_| ()).is_empty());
        for name in ["", "a\0b", &"n".repeat(LONGEST_TEXT + 1)] {
            assert_eq!(problems(|node| node.name = name.into()), ["/node/name"], "{name:?}");
        }
        assert_eq!(problems(|node| node.slots[1].index = 0), ["/node/slots/1/index"]);
        assert_eq!(problems(|node| node.slots[0].index = 1 << 31), ["/node/slots/0/index"]);
        assert_eq!(problems(|node| node.slots[0].threads = 1 << 31), ["/node/slots/0/threads"]);
        assert_eq!(problems(|node| node.slots[0].device = "\0".into()), ["/node/slots/0/device"]);
        assert_eq!(problems(|node| node.slots[0].model = "\u{1b}[2J".into()), ["/node/slots/0/model"]);
        assert_eq!(problems(|node| drop(node.labels.insert("rack".into(), "\0".into()))), ["/node/labels/rack"]);
        let labels = (0..=MOST_LABELS).map(|label| (label.to_string(), String::new())).collect();
        assert_eq!(problems(|node| node.labels = labels), ["/node/labels"]);
        let many = |node: &mut NodeFacts| {
            let slot = node.slots[0].clone();
            node.slots = (0..=MOST_SLOTS as u32).map(|index| SlotFacts { index, ..slot.clone() }).collect();
        };
        assert_eq!(problems(many), ["/node/slots"]);
    }
}
