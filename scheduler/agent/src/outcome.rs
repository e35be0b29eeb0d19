//! How an attempt ended, from what its trainer said and how its process left. No I/O but one counter.

use std::fs;

use recipe::failure::INTERRUPTED_EXIT_CODE;
use recipe::{Event, Failure, FailureKind};

use crate::lease::Wish;
use protocol::EndedAs;

/// What a trainer said about its end.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Said {
    pub(crate) finished: bool,
    pub(crate) failure: Option<Failure>,
}

impl Said {
    pub(crate) fn hear(&mut self, event: &Event) {
        match event {
            Event::Finished { .. } => self.finished = true,
            Event::Failed { failure } => self.failure = Some(failure.clone()),
            _ => {}
        }
    }
}

/// How a process left.
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
            // A status that `wait` returns is one or the other.
            (None, None) => Self::Code(-1),
        }
    }
}

/// `wish`: what the agent last asked of the trainer. `memory_killed`: the kernel killed for memory meanwhile.
/// `last_words`: the end of the trainer's log.
pub(crate) fn outcome(exit: Exit, said: Said, wish: Wish, memory_killed: bool, last_words: &str) -> EndedAs {
    let failed = |kind, how: String| EndedAs::Failed { failure: Failure { kind, message: quote(how, last_words) } };
    match (exit, said) {
        (Exit::Code(0), Said { finished: true, .. }) => EndedAs::Succeeded,
        (Exit::Code(code), _) if code == i32::from(INTERRUPTED_EXIT_CODE) => EndedAs::Interrupted,
        // Its own word is better than anything that the status can tell.
        (Exit::Code(_), Said { failure: Some(failure), .. }) => EndedAs::Failed { failure },
        (Exit::Code(0), _) => failed(FailureKind::Crashed, "the trainer left without a report".into()),
        (Exit::Code(code), _) => {
            let kind = FailureKind::ALL.into_iter().find(|kind| i32::from(kind.exit_code()) == code);
            failed(kind.unwrap_or(FailureKind::Crashed), format!("the trainer left with status {code}"))
        }
        (Exit::Signal(libc::SIGKILL), _) if wish == Wish::Kill => EndedAs::Lost,
        // Asked before it could listen: it has nothing newer than what it started from.
        (Exit::Signal(libc::SIGTERM), _) if wish >= Wish::Interrupt => EndedAs::Interrupted,
        (Exit::Signal(libc::SIGKILL), _) if memory_killed => {
            failed(FailureKind::OutOfMemory, "the kernel killed the trainer for want of memory".into())
        }
        (Exit::Signal(signal), _) => failed(FailureKind::Crashed, format!("the trainer was killed by signal {signal}")),
    }
}

fn quote(how: String, last_words: &str) -> String {
    match last_words.trim() {
        "" => how,
        words => format!("{how}; its last words: {words}"),
    }
}

/// How often the kernel has killed for memory where this agent lives: in its control group, else on this machine. Only
/// the difference over a trainer's life says something. `None` where the kernel does not tell.
pub(crate) fn memory_kills() -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::")));
    let own = group.and_then(|path| fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.events")).ok());
    own.or_else(|| fs::read_to_string("/proc/vmstat").ok()).as_deref().and_then(parse_memory_kills)
}

/// The `oom_kill` row of `memory.events` or `/proc/vmstat`.
fn parse_memory_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(exit: Exit, said: Said, wish: Wish) -> EndedAs {
        outcome(exit, said, wish, false, "")
    }

    fn kind(ended: EndedAs) -> FailureKind {
        match ended {
            EndedAs::Failed { failure } => failure.kind,
            other => panic!("{other:?} is no failure"),
        }
    }

    fn finished() -> Said {
        Said { finished: true, ..Said::default() }
    }

    #[test]
    fn success_takes_both_a_report_and_status_zero() {
        assert_eq!(plain(Exit::Code(0), finished(), Wish::Run), EndedAs::Succeeded);
        assert_eq!(kind(plain(Exit::Code(0), Said::default(), Wish::Run)), FailureKind::Crashed);
        assert_eq!(kind(plain(Exit::Code(1), finished(), Wish::Run)), FailureKind::Crashed);
        assert_eq!(kind(plain(Exit::Signal(11), finished(), Wish::Run)), FailureKind::Crashed);
    }

    #[test]
    fn a_result_that_came_before_the_agents_signal_counts() {
        assert_eq!(plain(Exit::Code(0), finished(), Wish::Kill), EndedAs::Succeeded);
    }

    #[test]
    fn each_kind_of_failure_has_its_status() {
        for kind_ in FailureKind::ALL {
            let exit = Exit::Code(kind_.exit_code().into());
            assert_eq!(kind(plain(exit, Said::default(), Wish::Run)), kind_);
        }
        assert_eq!(kind(plain(Exit::Code(101), Said::default(), Wish::Run)), FailureKind::Crashed);
    }

    #[test]
    fn the_trainers_own_word_wins_over_its_status() {
        let failure = Failure { kind: FailureKind::NonFiniteLoss, message: "loss is NaN at step 7".into() };
        let said = Said { failure: Some(failure.clone()), ..Said::default() };
        assert_eq!(plain(Exit::Code(1), said, Wish::Run), EndedAs::Failed { failure });
    }

    #[test]
    fn an_interrupted_trainer_says_so_by_its_status() {
        let code = Exit::Code(INTERRUPTED_EXIT_CODE.into());
        assert_eq!(plain(code, Said::default(), Wish::Interrupt), EndedAs::Interrupted);
        assert_eq!(plain(Exit::Signal(libc::SIGTERM), Said::default(), Wish::Interrupt), EndedAs::Interrupted);
        assert_eq!(kind(plain(Exit::Signal(libc::SIGTERM), Said::default(), Wish::Run)), FailureKind::Crashed);
    }

    #[test]
    fn a_kill_is_the_agents_the_kernels_or_somebody_elses() {
        let kill = Exit::Signal(libc::SIGKILL);
        assert_eq!(outcome(kill, Said::default(), Wish::Kill, true, ""), EndedAs::Lost);
        assert_eq!(kind(outcome(kill, Said::default(), Wish::Run, true, "")), FailureKind::OutOfMemory);
        assert_eq!(kind(outcome(kill, Said::default(), Wish::Run, false, "")), FailureKind::Crashed);
    }

    #[test]
    fn a_crash_quotes_the_end_of_the_log() {
        let ended = outcome(Exit::Signal(11), Said::default(), Wish::Run, false, "free(): invalid pointer\n");
        let message = "the trainer was killed by signal 11; its last words: free(): invalid pointer";
        assert_eq!(ended, EndedAs::Failed { failure: Failure { kind: FailureKind::Crashed, message: message.into() } });
    }

    #[test]
    fn memory_kills_are_read_from_either_file() {
        assert_eq!(parse_memory_kills("low 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse_memory_kills("pgfault 1\noom_kill 0\n"), Some(0));
        assert_eq!(parse_memory_kills("pgfault 1\n"), None);
    }
}
