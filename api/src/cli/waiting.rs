//! This module puts the reason why a trial does not run into words.

use chrono::SecondsFormat;
use recipe::Stage;
use scheduler::trial::{TrialState, WaitReason};

/// Returns a clause about a trial, such as "waits for a free slot".
pub(super) fn words(reason: &WaitReason) -> String {
    match reason {
        WaitReason::Trial { stage, state } => {
            let trial = match stage {
                Stage::Timing => "the timing trial".to_owned(),
                stage => format!("its {} trial", stage.words()),
            };
            match state {
                TrialState::Failed => format!("{trial} failed"),
                TrialState::Cancelled => format!("{trial} was cancelled"),
                state => format!("waits for {trial}, which is {}", state.name()),
            }
        }
        WaitReason::Retry { attempt, outcome, failure, at } => {
            let kind = failure.map(|kind| format!(" ({})", kind.name())).unwrap_or_default();
            let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
            format!("attempt {attempt} ended as {}{kind}; the next one starts at {at}", outcome.name())
        }
        WaitReason::Node => "no node is connected".into(),
        WaitReason::IdleNode => "waits for a node on which nothing else runs".into(),
        WaitReason::Slot => "waits for a free slot".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_name_the_stage_of_the_trial_that_is_waited_for() {
        let reason = |stage, state| words(&WaitReason::Trial { stage, state });
        assert_eq!(reason(Stage::Timing, TrialState::Running), "waits for the timing trial, which is running");
        assert_eq!(reason(Stage::Pretrain, TrialState::Queued), "waits for its pre-train trial, which is queued");
        assert_eq!(reason(Stage::Pretrain, TrialState::Failed), "its pre-train trial failed");
    }
}
