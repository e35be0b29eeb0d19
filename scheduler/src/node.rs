//! Machines with an agent, and the slots on them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use protocol::id::{AttemptId, JobId, NodeId, TrialId};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    pub id: NodeId,
    pub name: String,
    /// True if its agent has synced within the last lease.
    pub live: bool,
    pub last_seen: DateTime<Utc>,
    pub labels: BTreeMap<String, String>,
    pub slots: Vec<SlotView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlotView {
    pub index: u32,
    pub device: String,
    pub model: String,
    pub threads: u32,
    pub memory_bytes: u64,
    /// The open attempt on this slot.
    pub attempt: Option<SlotAttempt>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlotAttempt {
    pub id: AttemptId,
    pub trial: TrialId,
    pub job: JobId,
}
