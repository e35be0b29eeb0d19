//! What an agent and the server say to each other: one idempotent call, `POST /agents/sync`.
//!
//! The agent says what it has and what happened since; the server answers with everything that should run there.
//! Level-triggered: a lost answer costs one round trip and nothing else. Every event is named by its attempt and a
//! sequence number, so repeating it changes nothing; every write is conditional on the attempt being open.

use std::collections::BTreeMap;

use recipe::{Event, TrialSpec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{AttemptId, TrialId};

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SyncRequest {
    pub node: NodeFacts,
    /// Drawn anew at each start of the agent; open attempts of an earlier instance are lost.
    pub instance: uuid::Uuid,
    /// Every attempt that the agent still has something to say about: running ones and ended ones whose outcome the
    /// server has not acknowledged.
    pub attempts: Vec<AttemptReport>,
    /// The agent is shutting down: place nothing new there.
    #[serde(default)]
    pub leaving: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeFacts {
    /// Unique name; the host name by default.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub slots: Vec<SlotFacts>,
}

/// One accelerator, or a share of the processor's cores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotFacts {
    /// From 0.
    pub index: u32,
    /// As given to the trainer: `cpu` or `cuda:0`.
    pub device: String,
    /// Processor or accelerator model.
    pub model: String,
    pub threads: u32,
    pub memory_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AttemptReport {
    pub attempt: AttemptId,
    pub state: AttemptState,
    /// Events that the server has not acknowledged, in order of their sequence numbers (from 1, without gaps).
    pub events: Vec<SequencedEvent>,
    /// Log lines, likewise.
    pub log: Vec<SequencedLine>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AttemptState {
    /// The child runs, or its inputs are being fetched.
    Running,
    /// The child has ended and every event has been read from it.
    Ended { outcome: EndedAs },
}

/// How the agent saw an attempt end. `Failed` is also said by the trainer's own `failed` event, which then comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum EndedAs {
    Succeeded,
    Failed {
        failure: recipe::Failure,
    },
    /// Asked to stop; it left a checkpoint.
    Interrupted,
    /// The agent was restarted and its child is gone.
    Lost,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SequencedEvent {
    pub sequence: u64,
    pub event: Event,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SequencedLine {
    pub sequence: u64,
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SyncResponse {
    /// How long the attempts named below stay open without another sync, counted from the moment at which the agent
    /// *sent* this request.
    pub lease_seconds: f64,
    /// When to call again at the latest.
    pub sync_seconds: f64,
    /// What should run on this node beyond what the request names.
    pub run: Vec<Assignment>,
    /// What the request names and what should go on. An attempt that the agent runs and that neither list names must be
    /// stopped at once: its lease is gone or it was cancelled.
    pub keep: Vec<Kept>,
    /// Per attempt, what was stored; an ended attempt that is acknowledged in full can be forgotten.
    pub acknowledged: Vec<Acknowledgement>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Acknowledgement {
    pub attempt: AttemptId,
    /// Events and log lines up to these numbers need not be sent again.
    pub events: u64,
    pub log: u64,
    /// The attempt is closed: nothing more about it will be accepted.
    pub closed: bool,
}

/// An attempt that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kept {
    pub attempt: AttemptId,
    /// As in [`Assignment`].
    pub interrupt: bool,
}

/// One attempt to carry out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Assignment {
    pub attempt: AttemptId,
    pub trial: TrialId,
    /// Slot index on this node.
    pub slot: u32,
    #[schema(value_type = Object)]
    pub spec: TrialSpec,
    /// Files to bring before the start, fetched by digest from `/artifacts/{sha256}`.
    pub corpus: Option<DatasetFiles>,
    pub vocabulary: Option<DatasetFiles>,
    pub glue: Option<DatasetFiles>,
    /// The published checkpoint that a fine-tune starts from.
    #[serde(default)]
    pub checkpoint: Option<DatasetFiles>,
    /// Manifest digest of the checkpoint, made here, that a fine-tune starts from.
    pub from: Option<String>,
    /// Manifest digest of this trial's own newest checkpoint, to go on from.
    pub resume: Option<String>,
    /// The server wants it to write a checkpoint and leave (pause, preemption).
    pub interrupt: bool,
}

/// The files of a registered dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatasetFiles {
    pub name: String,
    /// Identity of the whole; also the name of its folder in the agent's cache.
    pub digest: String,
    pub files: Vec<DatasetFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatasetFile {
    /// Path inside the dataset, with `/`; never absolute, never with `..`.
    pub path: String,
    pub sha256: String,
    pub bytes: u64,
}
