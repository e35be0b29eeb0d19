//! Decides how an attempt ended, from its trainer's events and the exit status of its process. The only I/O reads a
//! counter of the kernel.

use std::fs;

use recipe::failure::INTERRUPTED_EXIT_CODE;
use recipe::{Event, Failure, FailureKind};

use crate::lease::Instruction;
use protocol::AttemptEnd;

/// The events of a trainer that tell how it ended.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct FinalEvents {
    /// True if the trainer sent `finished`, which carries its report.
    pub(crate) finished: bool,
    /// The failure of the trainer's `failed` event.
    pub(crate) failure: Option<Failure>,
}

impl FinalEvents {
    /// Notes the event if it is one of them.
    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::Finished { .. } => self.finished = true,
            Event::Failed { failure } => self.failure = Some(failure.clone()),
            _ => {}
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

impl From<std::process::ExitStatus> for Exit {
    fn from(status: std::process::ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            // The status of a process that has ended is one or the other.
            (None, None) => Self::Code(-1),
        }
    }
}

/// How the attempt ended. `instruction` is the last one that the trainer got, `memory_killed` is true if the kernel
/// killed a process for lack of memory while the trainer ran, and `log_tail` is the end of the trainer's log.
pub(crate) fn outcome(
    exit: Exit,
    events: FinalEvents,
    instruction: Instruction,
    memory_killed: bool,
    log_tail: &str,
) -> AttemptEnd {
    let failed = |kind, how: String| AttemptEnd::Failed { failure: Failure { kind, message: quote(how, log_tail) } };
    match (exit, events) {
        (Exit::Code(0), FinalEvents { finished: true, .. }) => AttemptEnd::Succeeded,
        (Exit::Code(code), _) if code == i32::from(INTERRUPTED_EXIT_CODE) => AttemptEnd::Interrupted,
        // The trainer's own event says more than its status.
        (Exit::Code(_), FinalEvents { failure: Some(failure), .. }) => AttemptEnd::Failed { failure },
        (Exit::Code(0), _) => failed(FailureKind::Crashed, "the trainer ended without a report".into()),
        (Exit::Code(code), _) => {
            let kind = FailureKind::ALL.into_iter().find(|kind| i32::from(kind.exit_code()) == code);
            failed(kind.unwrap_or(FailureKind::Crashed), format!("the trainer ended with exit status {code}"))
        }
        (Exit::Signal(libc::SIGKILL), _) if instruction == Instruction::Kill => AttemptEnd::Lost,
        // The signal came before the trainer handled it, so it has made nothing that could be lost.
        (Exit::Signal(libc::SIGTERM), _) if instruction >= Instruction::Interrupt => AttemptEnd::Interrupted,
        (Exit::Signal(libc::SIGKILL), _) if memory_killed => {
            failed(FailureKind::OutOfMemory, "the kernel killed the trainer for lack of memory".into())
        }
        (Exit::Signal(signal), _) => failed(FailureKind::Crashed, format!("the trainer was killed by signal {signal}")),
    }
}

/// Adds the end of the log, if there is one.
fn quote(how: String, log_tail: &str) -> String {
    match log_tail.trim() {
        "" => how,
        tail => format!("{how}; its log ends with: {tail}"),
    }
}

/// The number of processes that the kernel has killed for lack of memory in this agent's control group, or else on this
/// machine. Only its increase while a trainer runs is of use. `None` if the kernel does not report it.
pub(crate) fn memory_kills() -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::")));
    let own = group.and_then(|path| fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.events")).ok());
    own.or_else(|| fs::read_to_string("/proc/vmstat").ok()).as_deref().and_then(parse_memory_kills)
}

/// The number in the `oom_kill` row of `memory.events` or `/proc/vmstat`.
fn parse_memory_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(exit: Exit, events: FinalEvents, instruction: Instruction) -> AttemptEnd {
        outcome(exit, events, instruction, false, "")
    }

    fn kind(ended: AttemptEnd) -> FailureKind {
        match ended {
            AttemptEnd::Failed { failure } => failure.kind,
            other => panic!("{other:?} is no failure"),
        }
    }

    fn finished() -> FinalEvents {
        FinalEvents { finished: true, ..FinalEvents::default() }
    }

    #[test]
    fn success_requires_both_a_report_and_status_zero() {
        assert_eq!(plain(Exit::Code(0), finished(), Instruction::Run), AttemptEnd::Succeeded);
        assert_eq!(kind(plain(Exit::Code(0), FinalEvents::default(), Instruction::Run)), FailureKind::Crashed);
        assert_eq!(kind(plain(Exit::Code(1), finished(), Instruction::Run)), FailureKind::Crashed);
        assert_eq!(kind(plain(Exit::Signal(11), finished(), Instruction::Run)), FailureKind::Crashed);
    }

    #[test]
    fn a_trainer_that_finished_before_the_kill_signal_has_succeeded() {
        assert_eq!(plain(Exit::Code(0), finished(), Instruction::Kill), AttemptEnd::Succeeded);
    }

    #[test]
    fn each_kind_of_failure_is_read_from_its_exit_status() {
        for kind_ in FailureKind::ALL {
            let exit = Exit::Code(kind_.exit_code().into());
            assert_eq!(kind(plain(exit, FinalEvents::default(), Instruction::Run)), kind_);
        }
        assert_eq!(kind(plain(Exit::Code(101), FinalEvents::default(), Instruction::Run)), FailureKind::Crashed);
    }

    #[test]
    fn the_failed_event_overrides_the_exit_status() {
        let failure = Failure { kind: FailureKind::NonFiniteLoss, message: "loss is NaN at step 7".into() };
        let events = FinalEvents { failure: Some(failure.clone()), ..FinalEvents::default() };
        assert_eq!(plain(Exit::Code(1), events, Instruction::Run), AttemptEnd::Failed { failure });
    }

    #[test]
    fn an_interrupted_trainer_is_known_by_its_exit_status_or_signal() {
        let code = Exit::Code(INTERRUPTED_EXIT_CODE.into());
        assert_eq!(plain(code, FinalEvents::default(), Instruction::Interrupt), AttemptEnd::Interrupted);
        assert_eq!(
            plain(Exit::Signal(libc::SIGTERM), FinalEvents::default(), Instruction::Interrupt),
            AttemptEnd::Interrupted
        );
        assert_eq!(
            kind(plain(Exit::Signal(libc::SIGTERM), FinalEvents::default(), Instruction::Run)),
            FailureKind::Crashed
        );
    }

    #[test]
    fn a_killed_trainer_is_lost_out_of_memory_or_crashed_by_who_killed_it() {
        let kill = Exit::Signal(libc::SIGKILL);
        assert_eq!(outcome(kill, FinalEvents::default(), Instruction::Kill, true, ""), AttemptEnd::Lost);
        assert_eq!(kind(outcome(kill, FinalEvents::default(), Instruction::Run, true, "")), FailureKind::OutOfMemory);
        assert_eq!(kind(outcome(kill, FinalEvents::default(), Instruction::Run, false, "")), FailureKind::Crashed);
    }

    #[test]
    fn the_message_of_a_crash_quotes_the_end_of_the_log() {
        let ended =
            outcome(Exit::Signal(11), FinalEvents::default(), Instruction::Run, false, "free(): invalid pointer\n");
        let message = "the trainer was killed by signal 11; its log ends with: free(): invalid pointer";
        assert_eq!(
            ended,
            AttemptEnd::Failed { failure: Failure { kind: FailureKind::Crashed, message: message.into() } }
        );
    }

    #[test]
    fn the_number_of_memory_kills_is_read_from_either_file() {
        assert_eq!(parse_memory_kills("low 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse_memory_kills("pgfault 1\noom_kill 0\n"), Some(0));
        assert_eq!(parse_memory_kills("pgfault 1\n"), None);
    }
}
