//! What the reports of an agent mean. Pure: the store applies it.

use std::collections::BTreeMap;

use protocol::{AttemptEnd, AttemptState, SequencedEvent};
use recipe::event::{Device, Point};
use recipe::{Event, Failure, FailureKind, Recipe, Stage, TrialReport, TrialSpec};

use crate::attempt::Outcome;

/// The combined effect of consecutive events of an attempt.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct EventSummary {
    /// Metric points by (name, step). A later event replaces the point of an earlier one.
    pub(crate) points: BTreeMap<(String, u64), Point>,
    pub(crate) step: Option<u64>,
    pub(crate) trained_seconds: Option<f64>,
    pub(crate) total_steps: Option<u64>,
    /// `Some(None)` if the attempt trains now.
    pub(crate) phase: Option<Option<String>>,
    pub(crate) device: Option<Device>,
    pub(crate) resumed_from: Option<u64>,
    /// True if step or phase moved.
    pub(crate) moved: bool,
    pub(crate) finished: Option<Outcome>,
}

impl EventSummary {
    /// Summarises `events` of an attempt whose trial has this stage. `before` is the attempt's step before the first one.
    pub(crate) fn read(events: &[SequencedEvent], before: u64, stage: Stage) -> Self {
        let mut summary = Self::default();
        let mut at = before;
        for SequencedEvent { event, .. } in events {
            match event {
                Event::Started { device, total_steps, resumed_from, .. } => {
                    summary.device = Some(device.clone());
                    summary.total_steps = Some(*total_steps);
                    summary.resumed_from = *resumed_from;
                    summary.moved = true;
                    at = resumed_from.unwrap_or(0);
                    summary.step = Some(at);
                }
                Event::Preparing { what, .. } => {
                    summary.phase = Some(Some(what.clone()));
                    summary.moved = true;
                }
                Event::Progress { step, total_steps, trained_seconds, points } => {
                    summary.total_steps = Some(*total_steps);
                    summary.reached(*step, *trained_seconds, &mut at);
                    summary.take(points);
                }
                Event::Evaluated { step, trained_seconds, points } => {
                    summary.reached(*step, *trained_seconds, &mut at);
                    summary.moved = true;
                    summary.take(points);
                }
                Event::Checkpointed { step, trained_seconds, .. } => {
                    summary.reached(*step, *trained_seconds, &mut at);
                    summary.moved = true;
                }
                Event::Finished { report } if report.stage() == stage => {
                    summary.finished = Some(Outcome::Succeeded { report: Box::new(report.clone()) });
                }
                Event::Finished { report } => {
                    let message = format!("a {} trial reported as {}", stage.name(), report.stage().name());
                    let failure = Failure { kind: FailureKind::Internal, message };
                    summary.finished = Some(Outcome::Failed { failure });
                }
                // The end of the process decides what follows from these.
                Event::Failed { .. } | Event::Interrupted { .. } => (),
            }
        }
        summary
    }

    /// Fails the trial if its timing report lacks an arm: the report decides the budgets of other trials.
    pub(crate) fn check_timing(&mut self, spec: &TrialSpec) {
        let (Some(Outcome::Succeeded { report }), Recipe::Timing(timing)) = (&self.finished, &spec.recipe) else {
            return;
        };
        if let TrialReport::Timing(report) = &**report
            && let Some(arm) = report.untimed_arm(timing)
        {
            let message = format!("the timing report has no steps of the arm {arm:?}");
            self.finished = Some(Outcome::Failed { failure: Failure { kind: FailureKind::Internal, message } });
        }
    }

    fn reached(&mut self, step: u64, trained_seconds: f64, at: &mut u64) {
        self.phase = Some(None);
        self.moved |= step > *at;
        *at = step;
        self.step = Some(step);
        self.trained_seconds = Some(trained_seconds);
    }

    fn take(&mut self, points: &[Point]) {
        for point in points {
            self.points.insert((point.name.clone(), point.step), point.clone());
        }
    }
}

/// The outcome of an attempt by the state that its agent reports; `None` while it runs.
pub(crate) fn outcome_of(state: &AttemptState) -> Option<Outcome> {
    let AttemptState::Ended { outcome } = state else { return None };
    Some(match outcome {
        AttemptEnd::Succeeded => Outcome::Failed {
            failure: Failure { kind: FailureKind::Internal, message: "the trainer ended without a report".into() },
        },
        AttemptEnd::Failed { failure } => Outcome::Failed { failure: failure.clone() },
        AttemptEnd::Interrupted => Outcome::Preempted,
        AttemptEnd::Lost => Outcome::Lost,
    })
}

/// The items whose numbers follow on `seen` without a gap. Items up to `seen` are repetitions, and items behind a gap will
/// be sent again.
pub(crate) fn following<T>(items: &[T], seen: u64, sequence: fn(&T) -> u64) -> &[T] {
    let start = items.iter().position(|item| sequence(item) > seen).unwrap_or(items.len());
    let fresh = &items[start..];
    let run = fresh.iter().zip(seen + 1..).take_while(|(item, expected)| sequence(item) == *expected).count();
    &fresh[..run]
}
