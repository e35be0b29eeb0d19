//! Nodes and slots, and the snapshot from which placement decides.

use std::time::Duration;

use recipe::Stage;
use sqlx::types::Json;

use super::{Store, StoreError, read, signed, unsigned};
use crate::node::{KnownNode, NodeRefused, NodeView, SlotAttempt, SlotView};
use crate::place::{Node, Slot, Snapshot, WaitingTrial};
use protocol::id::{AttemptId, JobId, NodeId, TokenId, TrialId};
use protocol::{SlotFacts, SyncRequest};

/// Number of queued trials in a snapshot beyond the number of free slots. Some of the first trials may suit no free
/// slot.
const LOOK_AHEAD: i64 = 200;

impl Store {
    /// Nodes by name, from the one that follows on `after`. A node is live if its agent has synced within `lease`.
    pub async fn nodes(&self, lease: Duration, limit: i64, after: Option<NodeId>) -> Result<Vec<NodeView>, StoreError> {
        let rows = sqlx::query!(
            r#"select id as "id: NodeId", name, instance, labels, draining, last_seen_at,
                      last_seen_at > now() - make_interval(secs => $1) as "live!"
               from node
               where deleted_at is null and ($3::uuid is null or name > (select name from node where id = $3))
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
                instance: row.instance,
                live: row.live,
                draining: row.draining,
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
    ///
    /// # Errors
    /// `Node` if the name belongs to another token or to another live agent; nothing is noted then.
    pub(super) async fn register_node(
        &self,
        request: &SyncRequest,
        token: TokenId,
        lease: Duration,
    ) -> Result<NodeId, StoreError> {
        let facts = &request.node;
        let mut transaction = self.pool.begin().await?;
        // Two agents that sync under a new name at the same time are one after the other here.
        let known = sqlx::query!(
            r#"select n.id as "id: NodeId", n.token_id as "token: TokenId", n.instance, n.leaving,
                      t.revoked_at is null and coalesce(t.expires_at > now(), true) as "token_is_usable!",
                      greatest(extract(epoch from now() - n.last_seen_at), 0)::float8 as "silence!"
               from node n join token t on t.id = n.token_id
               where n.name = $1 and n.deleted_at is null for no key update of n"#,
            facts.name
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(row) = &known {
            let node = KnownNode {
                token: row.token,
                token_is_usable: row.token_is_usable,
                instance: row.instance,
                leaving: row.leaving,
                silence: Duration::from_secs_f64(row.silence),
            };
            node.admits(request, token, lease)?;
        }
        let id = sqlx::query_scalar!(
            r#"insert into node as known (id, name, token_id, instance, labels, leaving) values ($1, $2, $3, $4, $5, $6)
               on conflict (name) where deleted_at is null
               do update set token_id = excluded.token_id, instance = excluded.instance, labels = excluded.labels,
                             leaving = excluded.leaving, last_seen_at = now()
               where known.id = $7
               returning id as "id: NodeId""#,
            NodeId::new().0,
            facts.name,
            token.0,
            request.instance,
            Json(&facts.labels) as _,
            request.leaving,
            known.map(|row| row.id.0)
        )
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        // Another agent has taken the name since it was looked up.
        let id = id.ok_or_else(|| NodeRefused::OtherInstance { name: facts.name.clone(), silence: 0 })?;
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

    /// Starts or ends the draining of a node: nothing new is placed on a node that is drained, and its trials go on.
    pub async fn drain_node(&self, id: NodeId, draining: bool) -> Result<(), StoreError> {
        let changed =
            sqlx::query!("update node set draining = $2 where id = $1 and deleted_at is null", id.0, draining);
        match changed.execute(&self.pool).await?.rows_affected() {
            0 => Err(StoreError::NotFound { what: "node", id: id.to_string() }),
            _ => Ok(()),
        }
    }

    /// Deletes a node: it leaves the list of nodes, and its name is free. Attempts that ran there still name it.
    ///
    /// # Errors
    /// `NodeInUse` if its agent has synced within `lease`, or an attempt is open there.
    pub async fn delete_node(&self, id: NodeId, lease: Duration) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        let node = sqlx::query!(
            r#"select name, last_seen_at > now() - make_interval(secs => $2) and not leaving as "live!",
                      exists (select from attempt where node_id = $1 and ended_at is null) as "busy!"
               from node where id = $1 and deleted_at is null for update"#,
            id.0,
            lease.as_secs_f64()
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| StoreError::NotFound { what: "node", id: id.to_string() })?;
        if node.live || node.busy {
            return Err(StoreError::NodeInUse { name: node.name, live: node.live });
        }
        sqlx::query!("update node set deleted_at = now() where id = $1", id.0).execute(&mut *transaction).await?;
        sqlx::query!("delete from slot where node_id = $1", id.0).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The head of the queue and the live nodes. The queue is empty if no slot is free.
    pub(crate) async fn snapshot(&self, lease: Duration) -> Result<Snapshot, StoreError> {
        let rows = sqlx::query!(
            r#"select n.id as "node: NodeId", s.index, s.device = 'cpu' as "is_cpu!", t.stage as "busy?: Stage"
               from node n
               join slot s on s.node_id = n.id
               left join attempt a on a.node_id = s.node_id and a.slot = s.index and a.ended_at is null
               left join trial t on t.id = a.trial_id
               where n.last_seen_at > now() - make_interval(secs => $1) and not n.leaving and not n.draining
                 and n.deleted_at is null
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
