//! Policy: the consequence of an attempt's end. Pure: it returns data and applies nothing.

use std::time::Duration;

use recipe::{Failure, FailureKind, TrialReport};

use crate::attempt::Outcome;

/// The durations and bounds by which the server decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// How long an attempt stays open without a sync of its agent.
    pub lease: Duration,
    /// Longest time between two syncs of an agent.
    pub sync_every: Duration,
    /// An attempt is ended as stalled when its step and phase have not moved for this time.
    pub stall: Duration,
    /// A trial fails after this number of failed attempts.
    pub failed_attempts: u32,
    /// A trial fails after this number of lost and preempted attempts, so that a trial which takes its node down cannot do so
    /// for ever.
    pub lost_attempts: u32,
    /// Wait before the first retry of a failure. It doubles with each retry.
    pub backoff: Duration,
    /// An artifact to which nothing refers is kept for this time after its last use.
    pub keep_unreferenced: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            sync_every: Duration::from_secs(1),
            stall: Duration::from_secs(600),
            failed_attempts: 3,
            lost_attempts: 20,
            backoff: Duration::from_secs(2),
            keep_unreferenced: Duration::from_secs(600),
        }
    }
}

/// The number of earlier attempts of a trial by their outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    pub failed: u32,
    /// Lost or preempted.
    pub lost: u32,
}

/// The consequence for a trial whose attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Succeed {
        report: Box<TrialReport>,
    },
    Requeue {
        after: Duration,
        /// True if the newest checkpoint cannot be read, so that the next attempt starts from the one before it.
        forget_checkpoint: bool,
    },
    Fail {
        failure: Failure,
    },
    Pause,
    Cancel,
}

impl Policy {
    /// How long an attempt may stand still before its trainer has started: its inputs are fetched meanwhile, which moves
    /// no step.
    pub fn stall_before_start(&self) -> Duration {
        6 * self.stall
    }

    /// The consequence of `outcome` for the trial, given how its earlier attempts ended. `pausing`: the attempt was
    /// interrupted to pause the trial.
    pub fn next(&self, outcome: Outcome, earlier: History, pausing: bool) -> Next {
        let requeue = |after| Next::Requeue { after, forget_checkpoint: false };
        match outcome {
            Outcome::Succeeded { report } => Next::Succeed { report },
            Outcome::Failed { failure } => {
                let failures = earlier.failed + 1;
                if !failure.kind.is_retryable() || failures >= self.failed_attempts {
                    return Next::Fail { failure };
                }
                Next::Requeue {
                    after: self.backoff * 2u32.saturating_pow(failures - 1),
                    forget_checkpoint: failure.kind == FailureKind::CorruptCheckpoint,
                }
            }
            Outcome::Lost | Outcome::Preempted if pausing => Next::Pause,
            Outcome::Lost | Outcome::Preempted if earlier.lost + 1 >= self.lost_attempts => {
                let message = format!("{} attempts were lost or interrupted", earlier.lost + 1);
                Next::Fail { failure: Failure { kind: FailureKind::Crashed, message } }
            }
            Outcome::Lost | Outcome::Preempted => requeue(Duration::ZERO),
            Outcome::Cancelled => Next::Cancel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn failed(kind: FailureKind) -> Outcome {
        Outcome::Failed { failure: Failure { kind, message: "m".into() } }
    }

    #[test]
    fn a_failure_that_only_depends_on_recipe_and_data_is_not_tried_again() {
        for kind in FailureKind::ALL {
            let next = Policy::default().next(failed(kind), History::default(), false);
            assert_eq!(matches!(next, Next::Requeue { .. }), kind.is_retryable(), "{kind:?}");
        }
    }

    #[test]
    fn retries_wait_longer_each_time_and_end_at_the_budget() {
        let policy = Policy { failed_attempts: 4, ..Policy::default() };
        let waits: Vec<Option<u64>> = (0..4)
            .map(|n| match policy.next(failed(FailureKind::Crashed), History { failed: n, lost: 19 }, false) {
                Next::Requeue { after, forget_checkpoint } => {
                    assert!(!forget_checkpoint);
                    Some(after.as_secs())
                }
                _ => None,
            })
            .collect();
        assert_eq!(waits, [Some(2), Some(4), Some(8), None]);
    }

    #[test]
    fn a_corrupt_checkpoint_is_forgotten() {
        let next = Policy::default().next(failed(FailureKind::CorruptCheckpoint), History::default(), false);
        assert!(matches!(next, Next::Requeue { forget_checkpoint: true, .. }));
    }

    proptest! {
        #[test]
        fn every_trial_ends_after_a_bounded_number_of_attempts(losses in proptest::collection::vec(any::<bool>(), 40)) {
            let policy = Policy::default();
            let mut history = History::default();
            let mut attempts = 0;
            for lost in losses {
                attempts += 1;
                let outcome = if lost { Outcome::Lost } else { failed(FailureKind::Crashed) };
                match policy.next(outcome, history, false) {
                    Next::Requeue { .. } if lost => history.lost += 1,
                    Next::Requeue { .. } => history.failed += 1,
                    _ => break,
                }
            }
            prop_assert!(attempts < policy.failed_attempts + policy.lost_attempts);
            // Being lost does not use up the budget for failures.
            prop_assert!(history.failed < policy.failed_attempts && history.lost < policy.lost_attempts);
        }
    }
}
