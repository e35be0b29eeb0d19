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
    /// Whether its agent has synced within a lease.
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
    /// What runs on it.
    pub attempt: Option<SlotAttempt>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlotAttempt {
    pub id: AttemptId,
    pub trial: TrialId,
    pub job: JobId,
}
