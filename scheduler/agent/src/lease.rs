//! The lease: how long this agent may let its trainers run.

use std::time::{Duration, Instant};

/// What a trainer should do. A later variant overrides an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Instruction {
    /// It should run on.
    Run,
    /// It should write a checkpoint and leave (SIGTERM).
    Interrupt,
    /// It must end at once (SIGKILL).
    Kill,
}

/// The last share of the lease, which is not used, so that a trainer is dead before the server lets another one start.
const MARGIN: f64 = 0.1;
/// The share of the lease before [`MARGIN`] in which a trainer may still write a checkpoint.
const GRACE: f64 = 0.2;

/// The moments, on this machine's monotonic clock, at which a trainer must leave unless the server answers before.
///
/// The server counts the lease from the moment at which it *received* a request, the agent from the earlier moment at
/// which it sent it. So the agent's deadline always comes first, however slow the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    interrupt_at: Instant,
    kill_at: Instant,
}

impl Lease {
    /// A lease of `seconds` that the server granted in its answer to a request sent at `sent`.
    pub(crate) fn new(sent: Instant, seconds: f64) -> Self {
        // A year is long enough for every use and does not overflow the clock.
        let lease = Duration::from_secs_f64(if seconds.is_finite() { seconds.clamp(0.0, 31_536_000.0) } else { 0.0 });
        Self { interrupt_at: sent + lease.mul_f64(1.0 - MARGIN - GRACE), kill_at: sent + lease.mul_f64(1.0 - MARGIN) }
    }

    /// The lease before the first answer of the server: no trainer may run.
    pub(crate) fn none(now: Instant) -> Self {
        Self { interrupt_at: now, kill_at: now }
    }

    /// What the lease demands of a trainer at `now`.
    pub(crate) fn instruction(&self, now: Instant) -> Instruction {
        if now >= self.kill_at {
            Instruction::Kill
        } else if now >= self.interrupt_at {
            Instruction::Interrupt
        } else {
            Instruction::Run
        }
    }

    /// The next moment after `now` at which [`instruction`](Self::instruction) changes; `None` if the lease has ended.
    pub(crate) fn next_change(&self, now: Instant) -> Option<Instant> {
        [self.interrupt_at, self.kill_at].into_iter().find(|moment| *moment > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_interrupts_at_70_percent_and_kills_at_90_percent() {
        let sent = Instant::now();
        let lease = Lease::new(sent, 10.0);
        let at = |seconds: f64| sent + Duration::from_secs_f64(seconds);
        assert_eq!(lease.instruction(sent), Instruction::Run);
        assert_eq!(lease.next_change(sent), Some(at(7.0)));
        assert_eq!(lease.instruction(at(7.0)), Instruction::Interrupt);
        assert_eq!(lease.next_change(at(7.0)), Some(at(9.0)));
        assert_eq!(lease.instruction(at(9.0)), Instruction::Kill);
        assert_eq!(lease.next_change(at(9.0)), None);
    }

    #[test]
    fn a_lease_is_counted_from_the_request_even_if_its_answer_is_read_late() {
        let sent = Instant::now();
        let read_at = sent + Duration::from_secs(60);
        assert_eq!(Lease::new(sent, 15.0).instruction(read_at), Instruction::Kill);
    }

    #[test]
    fn a_lease_that_is_not_a_positive_duration_has_already_ended() {
        let sent = Instant::now();
        for seconds in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            assert_eq!(Lease::new(sent, seconds).instruction(sent), Instruction::Kill);
        }
        assert_eq!(Lease::new(sent, f64::MAX).instruction(sent), Instruction::Run);
    }
}
