//! Who may be a node, and nodes that are drained and deleted.

use super::*;
use crate::node::NodeRefused;
use crate::store::StoreError;

#[tokio::test]
async fn a_second_agent_of_a_name_is_refused_and_loses_nothing() {
    let world = World::new().await;
    let first = Agent::new(&world, "a", 1, "cpu");
    let assignment = world.running(&first).await;
    let second = Agent::new(&world, "a", 1, "cpu");
    for _ in 0..3 {
        let refused = world.store.sync(second.request(vec![]), world.token, &world.policy).await;
        assert!(matches!(refused, Err(StoreError::Node(NodeRefused::OtherInstance { .. }))), "{refused:?}");
    }
    let answer = first.sync(&world.store, vec![says(assignment.attempt, 1, vec![started(None)])]).await;
    assert_eq!(answer.keep.len(), 1, "the attempt goes on");

    world.database.execute("update node set last_seen_at = now() - interval '16 seconds'").await;
    second.sync(&world.store, vec![]).await;
    let refused = world.store.sync(first.request(vec![]), world.token, &world.policy).await;
    assert!(matches!(refused, Err(StoreError::Node(NodeRefused::OtherInstance { .. }))), "{refused:?}");
}

#[tokio::test]
async fn a_name_belongs_to_the_token_that_first_synced_it() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    agent.sync(&world.store, vec![]).await;
    let other = world.store.create_token("other", Scope::Agent, &Secret::from_random([8; 32]), None).await.unwrap();
    world.database.execute("update node set last_seen_at = now() - interval '1 day'").await;
    let thief = Agent { token: other.id, ..agent.restarted() };
    let refused = world.store.sync(thief.request(vec![]), other.id, &world.policy).await;
    assert!(matches!(refused, Err(StoreError::Node(NodeRefused::OtherToken { .. }))), "{refused:?}");
    world.store.revoke_token(world.token).await.unwrap();
    thief.sync(&world.store, vec![]).await;
    let nodes = world.store.nodes(world.policy.lease, 10, None).await.unwrap();
    assert_eq!(nodes.iter().map(|node| (node.name.as_str(), node.live)).collect::<Vec<_>>(), [("a", true)]);
}

#[tokio::test]
async fn nothing_is_placed_on_a_node_that_is_drained() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 2, "cpu");
    let running = world.running(&agent).await;
    world.submit(|_| ()).await;
    let node = world.store.nodes(world.policy.lease, 1, None).await.unwrap().remove(0);
    world.store.drain_node(node.id, true).await.unwrap();
    assert_eq!(world.control.place().await.unwrap(), 0);
    assert!(world.store.nodes(world.policy.lease, 1, None).await.unwrap()[0].draining);
    let answer = agent.sync(&world.store, vec![says(running.attempt, 1, vec![started(None)])]).await;
    assert_eq!(answer.keep.len(), 1, "what runs there goes on");
    world.store.drain_node(node.id, false).await.unwrap();
    assert_eq!(world.control.place().await.unwrap(), 1);
}

#[tokio::test]
async fn a_node_is_deleted_once_its_agent_has_stopped() {
    let world = World::new().await;
    let agent = Agent::new(&world, "a", 1, "cpu");
    let assignment = world.running(&agent).await;
    let node = world.store.nodes(world.policy.lease, 1, None).await.unwrap()[0].id;
    let refused = world.store.delete_node(node, world.policy.lease).await;
    assert!(matches!(refused, Err(StoreError::NodeInUse { live: true, .. })), "{refused:?}");
    world.database.execute("update node set last_seen_at = now() - interval '16 seconds'").await;
    let refused = world.store.delete_node(node, world.policy.lease).await;
    assert!(matches!(refused, Err(StoreError::NodeInUse { live: false, .. })), "{refused:?}");
    world.let_leases_run_out().await;
    world.control.reap().await.unwrap();
    world.store.delete_node(node, world.policy.lease).await.unwrap();
    assert_eq!(world.store.nodes(world.policy.lease, 1, None).await.unwrap(), []);
    assert_eq!(world.store.attempts(assignment.trial).await.unwrap()[0].node, "a", "the attempt still names it");
    let again = world.store.delete_node(node, world.policy.lease).await;
    assert!(matches!(again, Err(StoreError::NotFound { what: "node", .. })), "{again:?}");

    let other = world.store.create_token("other", Scope::Agent, &Secret::from_random([8; 32]), None).await.unwrap();
    Agent { token: other.id, ..agent.restarted() }.sync(&world.store, vec![]).await;
    assert_ne!(world.store.nodes(world.policy.lease, 1, None).await.unwrap()[0].id, node);
}

#[tokio::test]
async fn the_last_admin_token_cannot_be_revoked() {
    let world = World::new().await;
    let admin = |name: &'static str, byte, expires| {
        let store = world.store.clone();
        async move { store.create_token(name, Scope::Admin, &Secret::from_random([byte; 32]), expires).await.unwrap().id }
    };
    let (first, second) = (admin("first", 1, None).await, admin("second", 2, None).await);
    admin("expired", 3, Some(Duration::ZERO)).await;
    let (one, other) = tokio::join!(world.store.revoke_token(first), world.store.revoke_token(second));
    let refused = [one, other].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(refused[..], [StoreError::LastAdmin]), "one of two at the same time: {refused:?}");
    world.store.revoke_token(world.token).await.unwrap();
}
