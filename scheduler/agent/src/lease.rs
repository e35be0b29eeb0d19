//! Until when this agent may let its trainers run.

use std::time::{Duration, Instant};

/// What a trainer should do now. A later variant overrules an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    Run,
    /// Write a checkpoint and leave (SIGTERM).
    Interrupt,
    /// Be gone (SIGKILL).
    Kill,
}

/// Share of the lease that is kept back, so that a trainer is dead before the server lets another start.
const MARGIN: f64 = 0.1;
/// Share of the lease before that in which a trainer may still write a checkpoint.
const GRACE: f64 = 0.2;

/// The moments, on this machine's monotonic clock, at which a trainer must leave unless the server answers.
///
/// The server counts the lease from when it *got* a request, which is after the agent sent it; so counting from the
/// sending makes this agent's deadline the earlier one, whatever the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    interrupt: Instant,
    kill: Instant,
}

impl Lease {
    /// A lease of `seconds`, given in the answer to a request that was sent at `sent`.
    pub(crate) fn new(sent: Instant, seconds: f64) -> Self {
        // A year is as good as for ever, and cannot overflow the clock.
        let lease = Duration::from_secs_f64(if seconds.is_finite() { seconds.clamp(0.0, 31_536_000.0) } else { 0.0 });
        Self { interrupt: sent + lease.mul_f64(1.0 - MARGIN - GRACE), kill: sent + lease.mul_f64(1.0 - MARGIN) }
    }

    /// No answer yet: nothing may run.
    pub(crate) fn none(now: Instant) -> Self {
        Self { interrupt: now, kill: now }
    }

    pub(crate) fn wish(&self, now: Instant) -> Wish {
        if now >= self.kill {
            Wish::Kill
        } else if now >= self.interrupt {
            Wish::Interrupt
        } else {
            Wish::Run
        }
    }

    /// When [`wish`](Self::wish) next changes by itself; `None` once it has come to its end.
    pub(crate) fn next_change(&self, now: Instant) -> Option<Instant> {
        [self.interrupt, self.kill].into_iter().find(|moment| *moment > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_before_the_servers_own_and_asks_first() {
        let sent = Instant::now();
        let lease = Lease::new(sent, 10.0);
        let at = |seconds: f64| sent + Duration::from_secs_f64(seconds);
        assert_eq!(lease.wish(sent), Wish::Run);
        assert_eq!(lease.next_change(sent), Some(at(7.0)));
        assert_eq!(lease.wish(at(7.0)), Wish::Interrupt);
        assert_eq!(lease.next_change(at(7.0)), Some(at(9.0)));
        assert_eq!(lease.wish(at(9.0)), Wish::Kill);
        assert_eq!(lease.next_change(at(9.0)), None);
    }

    #[test]
    fn an_answer_that_was_read_too_late_gives_nothing() {
        let sent = Instant::now();
        let woken_after_a_pause = sent + Duration::from_secs(60);
        assert_eq!(Lease::new(sent, 15.0).wish(woken_after_a_pause), Wish::Kill);
    }

    #[test]
    fn a_lease_that_is_no_duration_is_none_at_all() {
        let sent = Instant::now();
        for seconds in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            assert_eq!(Lease::new(sent, seconds).wish(sent), Wish::Kill);
        }
        assert_eq!(Lease::new(sent, f64::MAX).wish(sent), Wish::Run);
    }
}
