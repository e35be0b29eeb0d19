//! Decides from an answer of the server which attempts to start, interrupt, kill and forget. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::lease::Instruction;
use protocol::id::AttemptId;
use protocol::{Assignment, SyncResponse};

/// What this agent knows about an attempt when an answer arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Its inputs are being fetched, or its trainer runs.
    Active,
    /// It has ended, but the server has not closed it yet.
    Ended,
}

/// What the agent does after an answer.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) start: Vec<Assignment>,
    /// Attempts whose trainer must leave, and how.
    pub(crate) instructions: BTreeMap<AttemptId, Instruction>,
    /// Attempts that the server has closed; it accepts nothing more about them.
    pub(crate) closed: BTreeSet<AttemptId>,
}

/// The plan depends on the current answer only, so a repeated answer changes nothing and the next answer replaces a
/// lost one. If `leaving`, the agent is shutting down and starts nothing.
pub(crate) fn plan(known: &BTreeMap<AttemptId, Known>, answer: SyncResponse, leaving: bool) -> Plan {
    let mut plan = Plan {
        closed: answer.acknowledged.iter().filter(|ack| ack.closed).map(|ack| ack.attempt).collect(),
        ..Plan::default()
    };
    // An attempt in `run` may already be known, because the agent started it after it sent this request.
    let assigned = answer.run.iter().map(|assignment| (assignment.attempt, assignment.interrupt));
    let named: BTreeMap<_, _> = answer.keep.iter().map(|kept| (kept.attempt, kept.interrupt)).chain(assigned).collect();
    for (attempt, _) in known.iter().filter(|(_, known)| **known == Known::Active) {
        match named.get(attempt) {
            Some(_) if plan.closed.contains(attempt) => plan.instructions.insert(*attempt, Instruction::Kill),
            Some(true) => plan.instructions.insert(*attempt, Instruction::Interrupt),
            Some(false) => None,
            None => plan.instructions.insert(*attempt, Instruction::Kill),
        };
    }
    let mut seen = BTreeSet::new();
    plan.start = answer.run;
    // An attempt runs once: one that is known, active or ended, is not started again.
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
    use protocol::{Acknowledgement, KeptAttempt};

    fn answer(run: Vec<Assignment>, closed: &[AttemptId]) -> SyncResponse {
        let acknowledged =
            closed.iter().map(|&attempt| Acknowledgement { attempt, events: 0, log: 0, closed: true }).collect();
        SyncResponse { lease_seconds: 15.0, sync_seconds: 1.0, run, keep: vec![], acknowledged }
    }

    fn assignment(attempt: AttemptId) -> Assignment {
        Assignment { attempt, ..fixture::assignment(0) }
    }

    #[test]
    fn an_assigned_attempt_is_started_once() {
        let new = assignment(AttemptId::new());
        let plan = plan(&BTreeMap::new(), answer(vec![new.clone(), new.clone()], &[]), false);
        assert_eq!(plan.start, [new]);
        assert!(plan.instructions.is_empty());
    }

    #[test]
    fn a_known_attempt_is_not_started_again_even_if_it_has_ended() {
        let (running, ended) = (AttemptId::new(), AttemptId::new());
        let known = BTreeMap::from([(running, Known::Active), (ended, Known::Ended)]);
        let run = vec![assignment(running), assignment(ended)];
        assert_eq!(plan(&known, answer(run, &[]), false), Plan::default());
    }

    #[test]
    fn an_active_attempt_that_the_answer_does_not_list_is_killed() {
        let (running, ended) = (AttemptId::new(), AttemptId::new());
        let known = BTreeMap::from([(running, Known::Active), (ended, Known::Ended)]);
        let plan = plan(&known, answer(vec![], &[]), false);
        assert_eq!(plan.instructions, BTreeMap::from([(running, Instruction::Kill)]));
    }

    #[test]
    fn a_kept_attempt_runs_on_unless_the_answer_interrupts_it() {
        let (kept, interrupted) = (AttemptId::new(), AttemptId::new());
        let known = BTreeMap::from([(kept, Known::Active), (interrupted, Known::Active)]);
        let keep = vec![
            KeptAttempt { attempt: kept, interrupt: false },
            KeptAttempt { attempt: interrupted, interrupt: true },
        ];
        let plan = plan(&known, SyncResponse { keep, ..answer(vec![], &[]) }, false);
        assert_eq!(
            plan,
            Plan { instructions: BTreeMap::from([(interrupted, Instruction::Interrupt)]), ..Plan::default() }
        );
    }

    #[test]
    fn a_closed_attempt_is_killed_even_if_the_answer_lists_it() {
        let (interrupted, closed) = (AttemptId::new(), AttemptId::new());
        let known = BTreeMap::from([(interrupted, Known::Active), (closed, Known::Active)]);
        let run = vec![
            Assignment { interrupt: true, ..assignment(interrupted) },
            Assignment { interrupt: true, ..assignment(closed) },
        ];
        let plan = plan(&known, answer(run, &[closed]), false);
        assert_eq!(
            plan.instructions,
            BTreeMap::from([(interrupted, Instruction::Interrupt), (closed, Instruction::Kill)])
        );
        assert_eq!(plan.closed, BTreeSet::from([closed]));
    }

    #[test]
    fn an_agent_that_is_leaving_starts_nothing() {
        let run = vec![assignment(AttemptId::new())];
        assert_eq!(plan(&BTreeMap::new(), answer(run, &[]), true), Plan::default());
    }
}
