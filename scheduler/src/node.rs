//! Machines with an agent, and the slots on them.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use protocol::SyncRequest;
use protocol::id::{AttemptId, JobId, NodeId, TokenId, TrialId};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    pub id: NodeId,
    pub name: String,
    /// The id of the agent's process.
    pub instance: Uuid,
    /// True if its agent has synced within the last lease.
    pub live: bool,
    /// True if an operator drains the node: its trials go on, and nothing new is placed there.
    pub draining: bool,
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

/// A node that the store knows by the name of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownNode {
    pub token: TokenId,
    /// True if this token has neither expired nor been revoked.
    pub token_is_usable: bool,
    pub instance: Uuid,
    /// True if the agent of this instance has said that it shuts down.
    pub leaving: bool,
    /// Time since the last sync of this instance.
    pub silence: Duration,
}

/// Why an agent may not sync under the name of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeRefused {
    #[error(
        "the node {name:?} belongs to another token: start the agent with that token or with another --name, or delete the node"
    )]
    OtherToken { name: String },
    #[error(
        "another agent runs as the node {name:?}, which synced {silence} s ago: stop it, or start this one with another --name"
    )]
    OtherInstance { name: String, silence: u64 },
}

impl KnownNode {
    /// Whether the agent of `request`, which has this token, may sync as this node. Without this rule, two agents of one
    /// name would each make the other's attempts lost.
    ///
    /// An agent takes a node over from its predecessor at once, and from any other instance once that is leaving or has been
    /// silent for `lease`.
    pub fn admits(&self, request: &SyncRequest, token: TokenId, lease: Duration) -> Result<(), NodeRefused> {
        let name = &request.node.name;
        if self.token != token && self.token_is_usable {
            return Err(NodeRefused::OtherToken { name: name.clone() });
        }
        let is_successor = request.predecessor == Some(self.instance) || self.leaving || self.silence >= lease;
        if self.instance != request.instance && !is_successor {
            return Err(NodeRefused::OtherInstance { name: name.clone(), silence: self.silence.as_secs() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::NodeFacts;

    const LEASE: Duration = Duration::from_secs(15);

    fn request(instance: Uuid, predecessor: Option<Uuid>) -> SyncRequest {
        let node = NodeFacts { name: "a".into(), labels: BTreeMap::new(), slots: vec![] };
        SyncRequest { node, instance, predecessor, attempts: vec![], leaving: false }
    }

    #[test]
    fn a_name_belongs_to_its_token_while_that_can_be_used() {
        let (owner, other, instance) = (TokenId::new(), TokenId::new(), Uuid::now_v7());
        let silence = Duration::from_hours(1);
        let node = KnownNode { token: owner, token_is_usable: true, instance, leaving: true, silence };
        assert_eq!(node.admits(&request(instance, None), owner, LEASE), Ok(()));
        let refused = NodeRefused::OtherToken { name: "a".into() };
        assert_eq!(node.admits(&request(instance, Some(instance)), other, LEASE), Err(refused));
        let revoked = KnownNode { token_is_usable: false, ..node };
        assert_eq!(revoked.admits(&request(Uuid::now_v7(), None), other, LEASE), Ok(()));
    }

    #[test]
    fn a_second_instance_waits_until_the_first_has_ended() {
        let (token, instance, second) = (TokenId::new(), Uuid::now_v7(), Uuid::now_v7());
        let silence = Duration::from_secs(1);
        let live = KnownNode { token, token_is_usable: true, instance, leaving: false, silence };
        let refused = Err(NodeRefused::OtherInstance { name: "a".into(), silence: 1 });
        assert_eq!(live.admits(&request(second, None), token, LEASE), refused);
        assert_eq!(live.admits(&request(second, Some(Uuid::now_v7())), token, LEASE), refused);
        assert_eq!(live.admits(&request(second, Some(instance)), token, LEASE), Ok(()), "the agent was started again");
        let silent = KnownNode { silence: LEASE, ..live.clone() };
        assert_eq!(silent.admits(&request(second, None), token, LEASE), Ok(()));
        let leaving = KnownNode { leaving: true, ..live };
        assert_eq!(leaving.admits(&request(second, None), token, LEASE), Ok(()));
    }
}
