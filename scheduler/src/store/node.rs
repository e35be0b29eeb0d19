//! Nodes and slots, and the snapshot from which placement decides.

use std::time::Duration;

use recipe::Stage;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Store, StoreError, read, signed, unsigned};
use crate::node::{NodeView, SlotAttempt, SlotView};
use crate::place::{Node, Slot, Snapshot, WaitingTrial};
use protocol::id::{AttemptId, JobId, NodeId, TrialId};
use protocol::{NodeFacts, SlotFacts};

/// Number of queued trials in a snapshot beyond the number of free slots. Some of the first trials may suit no free
/// slot.
const LOOK_AHEAD: i64 = 200;

impl Store {
    /// Nodes by name, from the one that follows on `after`. A node is live if its agent has synced within `lease`.
    pub async fn nodes(&self, lease: Duration, limit: i64, after: Option<NodeId>) -> Result<Vec<NodeView>, StoreError> {
        let rows = sqlx::query!(
            r#"select id as "id: NodeId", name, labels, last_seen_at,
                      last_seen_at > now() - make_interval(secs => $1) as "live!"
               from node
               where $3::uuid is null or name > (select name from node where id = $3)
               order by name limit $2"#,
            lease.as_secs_f64(),
            limit,
            after.map(|id| id.0)
        )
        .fetch_all(&self.pool)
        .await?;
        let slots = sqlx::query!(
            r#"select s.node_id as "node: NodeId", s.index, s.device, s.model, s.threads, s.memory_bytes,
                      a.id as "attempt?: AttemptId", t.id as "trial?: TrialId", t.job_id as "job?: JobId"
               from slot s
               left join attempt a on a.node_id = s.node_id and a.slot = s.index and a.ended_at is null
               left join trial t on t.id = a.trial_id
               where s.node_id = any($1)
               order by s.node_id, s.index"#,
            &rows.iter().map(|row| row.id.0).collect::<Vec<_>>()
        )
        .fetch_all(&self.pool)
        .await?;
        let mut nodes = Vec::with_capacity(rows.len());
        for row in rows {
            nodes.push(NodeView {
                labels: read("node", "labels", row.id, row.labels)?,
                id: row.id,
                name: row.name,
                live: row.live,
                last_seen: row.last_seen_at,
                slots: Vec::new(),
            });
        }
        let place: std::collections::HashMap<NodeId, usize> =
            nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
        for slot in slots {
            let Some(&at) = place.get(&slot.node) else { continue };
            let attempt = match (slot.attempt, slot.trial, slot.job) {
                (Some(id), Some(trial), Some(job)) => Some(SlotAttempt { id, trial, job }),
                _ => None,
            };
            nodes[at].slots.push(SlotView {
                index: slot.index as u32,
                device: slot.device,
                model: slot.model,
                threads: slot.threads as u32,
                memory_bytes: unsigned(slot.memory_bytes),
                attempt,
            });
        }
        Ok(nodes)
    }

    /// Notes that a node's agent is connected, and its slots.
    pub(super) async fn register_node(
        &self,
        facts: &NodeFacts,
        instance: Uuid,
        leaving: bool,
    ) -> Result<NodeId, StoreError> {
        let id = sqlx::query_scalar!(
            r#"insert into node (id, name, instance, labels, leaving) values ($1, $2, $3, $4, $5)
               on conflict on constraint node_name_unique
               do update set instance = excluded.instance, labels = excluded.labels, leaving = excluded.leaving,
                             last_seen_at = now()
               returning id as "id: NodeId""#,
            NodeId::new().0,
            facts.name,
            instance,
            Json(&facts.labels) as _,
            leaving
        )
        .fetch_one(&self.pool)
        .await?;
        let slots = |column: fn(&SlotFacts) -> i64| facts.slots.iter().map(column).collect::<Vec<_>>();
        // Unchanged rows are not written.
        sqlx::query!(
            "with reported as (
                 select * from unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
                     as s (index, device, model, threads, memory_bytes)
             ), gone as (
                 delete from slot where node_id = $1 and index not in (select index from reported)
             )
             insert into slot as old (node_id, index, device, model, threads, memory_bytes)
             select $1, index, device, model, threads, memory_bytes from reported
             on conflict (node_id, index)
             do update set device = excluded.device, model = excluded.model, threads = excluded.threads,
                           memory_bytes = excluded.memory_bytes
             where (old.device, old.model, old.threads, old.memory_bytes)
                   is distinct from (excluded.device, excluded.model, excluded.threads, excluded.memory_bytes)",
            id.0,
            &slots(|slot| slot.index.into()),
            &facts.slots.iter().map(|slot| slot.device.clone()).collect::<Vec<_>>(),
            &facts.slots.iter().map(|slot| slot.model.clone()).collect::<Vec<_>>(),
            &slots(|slot| slot.threads.into()),
            &slots(|slot| signed(slot.memory_bytes))
        )
        .execute(&self.pool)
        .await?;
        Ok(id)
    }

    /// The head of the queue and the live nodes. The queue is empty if no slot is free.
    pub(crate) async fn snapshot(&self, lease: Duration) -> Result<Snapshot, StoreError> {
        let rows = sqlx::query!(
            r#"select n.id as "node: NodeId", s.index, s.device = 'cpu' as "is_cpu!", t.stage as "busy?: Stage"
               from node n
               join slot s on s.node_id = n.id
               left join attempt a on a.node_id = s.node_id and a.slot = s.index and a.ended_at is null
               left join trial t on t.id = a.trial_id
               where n.last_seen_at > now() - make_interval(secs => $1) and not n.leaving
               order by n.name, s.index"#,
            lease.as_secs_f64()
        )
        .fetch_all(&self.pool)
        .await?;
        let mut nodes: Vec<Node> = Vec::new();
        let mut free = 0;
        for row in rows {
            free += i64::from(row.busy.is_none());
            if nodes.last().is_none_or(|node| node.id != row.node) {
                nodes.push(Node { id: row.node, slots: Vec::new() });
            }
            if let Some(node) = nodes.last_mut() {
                node.slots.push(Slot { index: row.index, is_cpu: row.is_cpu, running: row.busy });
            }
        }
        let queue = if free > 0 { self.queue(free + LOOK_AHEAD).await? } else { Vec::new() };
        Ok(Snapshot { queue, nodes })
    }

    async fn queue(&self, limit: i64) -> Result<Vec<WaitingTrial>, StoreError> {
        let rows = sqlx::query!(
            r#"select t.id as "id: TrialId", t.stage as "stage: Stage",
                      array(select distinct a.node_id from attempt a
                            where a.trial_id = t.id and a.failure_kind = 'device_fault') as "avoid!"
               from trial t where t.state = 'queued' and t.ready_at <= now()
               order by t.job_id, t.stage, t.ordinal limit $1"#,
            limit
        )
        .fetch_all(&self.pool)
        .await?;
        let waiting = rows.into_iter().map(|row| WaitingTrial {
            stage: row.stage,
            trial: row.id,
            avoid: row.avoid.into_iter().map(NodeId).collect(),
        });
        Ok(waiting.collect())
    }
}
