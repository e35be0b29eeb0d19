//! What follows from an answer: what to start, interrupt, kill and forget. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::lease::Wish;
use protocol::id::AttemptId;
use protocol::{Assignment, SyncResponse};

/// What this agent knows about an attempt when an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Its task works on it: inputs are fetched, or the trainer runs.
    Active,
    /// It has ended; what is left of it is to be told to the server.
    Ended,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) start: Vec<Assignment>,
    /// Attempts whose trainer shall leave, and how.
    pub(crate) wishes: BTreeMap<AttemptId, Wish>,
    /// Closed at the server: nothing more about these will be accepted.
    pub(crate) closed: BTreeSet<AttemptId>,
}

/// Level-triggered: the same answer again changes nothing, a lost answer is made up for by the next.
///
/// `leaving`: the agent is shutting down and starts nothing new.
pub(crate) fn plan(known: &BTreeMap<AttemptId, Known>, answer: SyncResponse, leaving: bool) -> Plan {
    let mut plan = Plan {
        closed: answer.acknowledged.iter().filter(|ack| ack.closed).map(|ack| ack.attempt).collect(),
        ..Plan::default()
    };
    // One that was assigned may have become known since the request was made.
    let assigned = answer.run.iter().map(|assignment| (assignment.attempt, assignment.interrupt));
    let named: BTreeMap<_, _> = answer.keep.iter().map(|kept| (kept.attempt, kept.interrupt)).chain(assigned).collect();
    for (attempt, _) in known.iter().filter(|(_, known)| **known == Known::Active) {
        match named.get(attempt) {
            Some(_) if plan.closed.contains(attempt) => plan.wishes.insert(*attempt, Wish::Kill),
            Some(true) => plan.wishes.insert(*attempt, Wish::Interrupt),
            Some(false) => None,
            None => plan.wishes.insert(*attempt, Wish::Kill),
        };
    }
    let mut seen = BTreeSet::new();
    plan.start = answer.run;
    // An attempt is carried out once: whatever is known already, running or ended, is not started again.
    plan.start.retain(|assignment| {
        let attempt = assignment.attempt;
        !leaving && !known.contains_key(&attempt) && !plan.closed.contains(&attempt) && seen.insert(attempt)
    });
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use protocol::{Acknowledgement, Kept};

    fn answer(run: Vec<Assignment>, closed: &[AttemptId]) -> SyncResponse {
        let acknowledged =
            closed.iter().map(|&attempt| Acknowledgement { attempt, events: 0, log: 0, closed: true }).collect();
        SyncResponse { lease_seconds: 15.0, sync_seconds: 1.0, run, keep: vec![], acknowledged }
    }

    #[test]
    fn what_is_named_and_not_known_is_started_once() {
        let assignment = fixture::assignment(AttemptId::new());
        let plan = plan(&BTreeMap::new(), answer(vec![assignment.clone(), assignment.clone()], &[]), false);
        assert_eq!(plan.start, [assignment]);
        assert!(plan.wishes.is_empty());
    }

    #[test]
    fn what_is_known_is_not_started_again_even_when_it_has_ended() {
        let (running, ended) = (AttemptId::new(), AttemptId::new());
        let known = BTreeMap::from([(running, Known::Active), (ended, Known::Ended)]);
        let run = vec![fixture::assignment(running), fixture::assignment(ended)];
        assert_eq!(plan(&known, answer(run, &[]), false), Plan::default());
    }

    #[test]
    fn what_is_not_named_is_killed() {
        let (running, ended) = (AttemptId::new(), AttemptId::new());
        let known = BTreeMap::from([(running, Known::Active), (ended, Known::Ended)]);
        let plan = plan(&known, answer(vec![], &[]), false);
        assert_eq!(plan.wishes, BTreeMap::from([(running, Wish::Kill)]));
    }

    #[test]
    fn what_is_kept_runs_on_or_is_asked_to_leave() {
        let (on, asked) = (AttemptId::new(), AttemptId::new());
        let known = BTreeMap::from([(on, Known::Active), (asked, Known::Active)]);
        let keep = vec![Kept { attempt: on, interrupt: false }, Kept { attempt: asked, interrupt: true }];
        let plan = plan(&known, SyncResponse { keep, ..answer(vec![], &[]) }, false);
        assert_eq!(plan, Plan { wishes: BTreeMap::from([(asked, Wish::Interrupt)]), ..Plan::default() });
    }

    #[test]
    fn an_interrupt_asks_and_a_closed_attempt_is_killed_though_named() {
        let (asked, closed) = (AttemptId::new(), AttemptId::new());
        let known = BTreeMap::from([(asked, Known::Active), (closed, Known::Active)]);
        let run = vec![
            Assignment { interrupt: true, ..fixture::assignment(asked) },
            Assignment { interrupt: true, ..fixture::assignment(closed) },
        ];
        let plan = plan(&known, answer(run, &[closed]), false);
        assert_eq!(plan.wishes, BTreeMap::from([(asked, Wish::Interrupt), (closed, Wish::Kill)]));
        assert_eq!(plan.closed, BTreeSet::from([closed]));
    }

    #[test]
    fn nothing_is_started_when_leaving() {
        let run = vec![fixture::assignment(AttemptId::new())];
        assert_eq!(plan(&BTreeMap::new(), answer(run, &[]), true), Plan::default());
    }
}
