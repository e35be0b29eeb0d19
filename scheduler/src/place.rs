//! Placement decides which trial runs on which slot. It is a pure function from a snapshot of queue and nodes to
//! placements.
//!
//! Trials are served in the order of the queue: jobs by creation, and within a job timing, pretrain, finetune and
//! probe. Each runs on the first suitable slot. Two rules change that order:
//!
//! - On a node with processor slots a timing trial needs every slot idle, and keeps them idle while it runs, because
//!   its neighbours would share its cores. A node is held back for it until it has drained.
//! - A trial avoids nodes on which its device failed, as long as there is another one.

use std::collections::HashSet;

use recipe::Stage;

use protocol::id::{NodeId, TrialId};

/// The state of the cluster from which placements are decided.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// The trials that are ready to run, in the order in which they are to be served.
    pub queue: Vec<WaitingTrial>,
    /// The nodes that are connected.
    pub nodes: Vec<Node>,
}

/// A trial that waits for a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitingTrial {
    pub trial: TrialId,
    pub stage: Stage,
    /// Nodes on which an attempt of this trial met a device fault.
    pub avoid: Vec<NodeId>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub id: NodeId,
    pub slots: Vec<Slot>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    pub index: i32,
    /// True for a share of the processor, false for an accelerator.
    pub is_cpu: bool,
    /// Stage of the trial that runs here, None if the slot is free.
    pub running: Option<Stage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    pub trial: TrialId,
    pub node: NodeId,
    pub slot: i32,
}

/// Returns the placements to make now.
pub fn place(snapshot: &Snapshot) -> Vec<Placement> {
    let mut nodes = snapshot.nodes.clone();
    // The nodes that take no further trial now.
    let mut held_back: HashSet<NodeId> =
        nodes.iter().filter(|node| node.is_kept_for_timing()).map(|node| node.id).collect();
    let mut placements = Vec::new();
    for waiting in &snapshot.queue {
        let has_alternative = nodes.iter().any(|node| !waiting.avoid.contains(&node.id));
        let avoids = |node: &Node| has_alternative && waiting.avoid.contains(&node.id);
        let suits = |node: &Node| !held_back.contains(&node.id) && !avoids(node);
        let is_timing = waiting.stage == Stage::Timing;
        let chosen = nodes.iter_mut().filter(|node| suits(node)).find_map(|node| {
            if is_timing && node.shares_cores() && node.busy_slots() > 0 {
                return None;
            }
            let id = node.id;
            node.slots.iter_mut().find(|slot| slot.running.is_none()).map(|slot| (id, slot))
        });
        if let Some((node, slot)) = chosen {
            slot.running = Some(waiting.stage);
            placements.push(Placement { trial: waiting.trial, node, slot: slot.index });
            held_back.extend(nodes.iter().filter(|node| node.is_kept_for_timing()).map(|node| node.id));
        } else if is_timing {
            // The node with the fewest running trials takes no other trial until this one runs on it.
            let draining =
                nodes.iter().filter(|node| suits(node) && node.shares_cores()).min_by_key(|node| node.busy_slots());
            held_back.extend(draining.map(|node| node.id));
        }
    }
    placements
}

impl Node {
    /// True if trials on this node share processor cores.
    fn shares_cores(&self) -> bool {
        self.slots.iter().any(|slot| slot.is_cpu)
    }

    /// True if a timing trial runs here that must not share its cores.
    fn is_kept_for_timing(&self) -> bool {
        self.shares_cores() && self.slots.iter().any(|slot| slot.running == Some(Stage::Timing))
    }

    fn busy_slots(&self) -> usize {
        self.slots.iter().filter(|slot| slot.running.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(cpu: bool, running: &[Option<Stage>]) -> Node {
        let slots = (0..).zip(running).map(|(index, &running)| Slot { index, is_cpu: cpu, running }).collect();
        Node { id: NodeId::new(), slots }
    }

    fn waiting(stage: Stage) -> WaitingTrial {
        WaitingTrial { trial: TrialId::new(), stage, avoid: vec![] }
    }

    #[test]
    fn the_queue_is_served_in_order() {
        let snapshot = Snapshot {
            queue: vec![waiting(Stage::Pretrain), waiting(Stage::Pretrain), waiting(Stage::Finetune)],
            nodes: vec![node(false, &[Some(Stage::Finetune), None]), node(false, &[None])],
        };
        let placed: Vec<TrialId> = place(&snapshot).iter().map(|placement| placement.trial).collect();
        assert_eq!(placed, [snapshot.queue[0].trial, snapshot.queue[1].trial]);
    }

    #[test]
    fn timing_waits_for_an_idle_processor_and_holds_it_back() {
        let busy = Some(Stage::Pretrain);
        let queue = vec![waiting(Stage::Timing), waiting(Stage::Pretrain)];
        let on = |nodes| place(&Snapshot { queue: queue.clone(), nodes });
        assert_eq!(on(vec![node(true, &[busy, None])]), [], "held back until it has drained");
        let placed = on(vec![node(true, &[None, None])]);
        assert_eq!(placed.iter().map(|p| p.trial).collect::<Vec<_>>(), [queue[0].trial], "and then kept quiet");
        let placed = on(vec![node(true, &[busy, None]), node(true, &[None])]);
        assert_eq!(placed.iter().map(|p| p.trial).collect::<Vec<_>>(), [queue[0].trial, queue[1].trial]);
        let placed = on(vec![node(false, &[busy, None, None])]);
        assert_eq!(placed.len(), 2, "accelerators do not share cores");
    }

    #[test]
    fn nothing_joins_a_timing_trial_on_a_processor() {
        let nodes = vec![node(true, &[Some(Stage::Timing), None])];
        assert_eq!(place(&Snapshot { queue: vec![waiting(Stage::Finetune)], nodes }), []);
    }

    #[test]
    fn a_node_with_a_device_fault_is_avoided_while_there_is_another() {
        let (faulty, other) = (node(false, &[None]), node(false, &[Some(Stage::Pretrain)]));
        let queue = vec![WaitingTrial { avoid: vec![faulty.id], ..waiting(Stage::Pretrain) }];
        assert_eq!(place(&Snapshot { queue: queue.clone(), nodes: vec![faulty.clone(), other] }), []);
        assert_eq!(place(&Snapshot { queue, nodes: vec![faulty] }).len(), 1);
    }

    fn any_stage() -> impl Strategy<Value = Stage> {
        prop_oneof![Just(Stage::Timing), Just(Stage::Pretrain), Just(Stage::Finetune)]
    }

    fn any_snapshot() -> impl Strategy<Value = Snapshot> {
        let slot = (any::<bool>(), proptest::option::weighted(0.3, any_stage()));
        let nodes = proptest::collection::vec(proptest::collection::vec(slot, 1..5), 0..6);
        let queue = proptest::collection::vec((any_stage(), proptest::collection::vec(0usize..6, 0..2)), 0..20);
        (nodes, queue).prop_map(|(nodes, queue)| {
            let nodes: Vec<Node> = nodes
                .into_iter()
                .map(|slots| Node {
                    id: NodeId::new(),
                    slots: (0..).zip(slots).map(|(index, (is_cpu, running))| Slot { index, is_cpu, running }).collect(),
                })
                .collect();
            let queue = queue
                .into_iter()
                .map(|(stage, avoid)| WaitingTrial {
                    avoid: avoid.into_iter().filter_map(|n| nodes.get(n).map(|node| node.id)).collect(),
                    ..waiting(stage)
                })
                .collect();
            Snapshot { queue, nodes }
        })
    }

    proptest! {
        #[test]
        fn placements_are_sound_and_leave_no_slot_idle_without_a_reason(snapshot in any_snapshot()) {
            let placements = place(&snapshot);
            let slots: HashSet<_> = placements.iter().map(|p| (p.node, p.slot)).collect();
            let trials: HashSet<_> = placements.iter().map(|p| p.trial).collect();
            prop_assert_eq!(slots.len(), placements.len(), "never two on one slot");
            prop_assert_eq!(trials.len(), placements.len(), "never a trial twice");

            let mut after = snapshot.clone();
            for placement in &placements {
                let stage = snapshot.queue.iter().find(|w| w.trial == placement.trial).unwrap().stage;
                let node = after.nodes.iter_mut().find(|n| n.id == placement.node).unwrap();
                let slot = node.slots.iter_mut().find(|s| s.index == placement.slot).unwrap();
                prop_assert_eq!(slot.running, None, "never on a busy slot");
                slot.running = Some(stage);
            }
            for node in &after.nodes {
                let placed = placements.iter().filter(|p| p.node == node.id).count();
                if node.is_kept_for_timing() && placed > 0 {
                    prop_assert_eq!(node.busy_slots(), 1, "a timing trial on a processor is alone");
                }
            }
            // With no timing trial about, nothing is held back: a free slot is left only to trials that avoid its node.
            let timing = snapshot.queue.iter().any(|w| w.stage == Stage::Timing)
                || snapshot.nodes.iter().any(Node::is_kept_for_timing);
            if !timing {
                for waiting in snapshot.queue.iter().filter(|w| !trials.contains(&w.trial)) {
                    for node in after.nodes.iter().filter(|node| node.busy_slots() < node.slots.len()) {
                        prop_assert!(waiting.avoid.contains(&node.id));
                    }
                }
            }
        }

        #[test]
        fn a_timing_trial_is_placed_on_any_idle_node(nodes in 1usize..5, cpu: bool) {
            let snapshot = Snapshot {
                queue: vec![waiting(Stage::Timing)],
                nodes: (0..nodes).map(|_| node(cpu, &[None, None])).collect(),
            };
            prop_assert_eq!(place(&snapshot).len(), 1);
        }
    }
}
