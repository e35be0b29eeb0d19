//! The progress of a job, one line per stage and arm: as bars on a terminal, as plain lines elsewhere.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use protocol::id::TrialId;
use recipe::Stage;
use scheduler::job::JobSummary;
use scheduler::trial::{TrialState, TrialView};

use super::text;
use super::waiting;

pub(super) trait View {
    /// Shows the job and its trials at the server's time `now`.
    fn show(&mut self, job: &JobSummary, trials: &[TrialView], now: Option<DateTime<Utc>>);
    /// Shows a message that is not about the job, such as that the server does not answer. Repeated calls are allowed.
    fn note(&mut self, note: &str);
}

/// The trials of one stage and arm.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    stage: &'static str,
    arm: String,
    /// Mean over the trials, from 0 to 1.
    progress: f64,
    /// The state of the trials in a few words.
    state: String,
}

fn groups(job: &JobSummary, trials: &[TrialView]) -> Vec<Group> {
    let mut by_key: BTreeMap<(Stage, usize), Vec<&TrialView>> = BTreeMap::new();
    for trial in trials {
        let arm = job.arms.iter().position(|arm| Some(arm) == trial.arm.as_ref()).unwrap_or(0);
        by_key.entry((trial.stage, arm)).or_default().push(trial);
    }
    let group = |((stage, _), trials): ((Stage, usize), Vec<&TrialView>)| {
        let arm = trials[0].arm.clone().unwrap_or_else(|| "all arms".into());
        let progress = trials.iter().map(|trial| progress(trial)).sum::<f64>() / trials.len() as f64;
        Group { stage: stage.words(), arm, progress, state: state(&trials) }
    };
    by_key.into_iter().map(group).collect()
}

/// The share of a trial's steps that are done, from 0 to 1. A trial that has ended counts as done.
fn progress(trial: &TrialView) -> f64 {
    match trial.total_steps {
        _ if trial.state.is_ended() => 1.0,
        Some(total) if total > 0 => (trial.step as f64 / total as f64).min(1.0),
        _ => 0.0,
    }
}

/// The state of a group of trials, in a few words.
fn state(trials: &[&TrialView]) -> String {
    let count = |state: TrialState| trials.iter().filter(|trial| trial.state == state).count();
    let (all, running) = (trials.len(), count(TrialState::Running));
    let (succeeded, failed, cancelled) =
        (count(TrialState::Succeeded), count(TrialState::Failed), count(TrialState::Cancelled));
    let ended = succeeded + failed + cancelled;
    let what = match trials {
        [only] if running == 1 && only.step > 0 => format!("step {} of {}", only.step, only.total_steps.unwrap_or(0)),
        [_] if running == 1 => "starting".into(),
        _ if succeeded == all => "done".into(),
        _ if ended == all => format!("ended, {succeeded} of {all} succeeded"),
        _ if running > 0 || ended > 0 => format!("{ended} of {all} trials"),
        _ if count(TrialState::Queued) > 0 => "queued".into(),
        _ if count(TrialState::Paused) > 0 => "paused".into(),
        _ => trials[0].waiting.as_ref().map(waiting::words).unwrap_or_default(),
    };
    if failed > 0 { format!("{what}, {failed} failed") } else { what }
}

/// One sentence for each failed trial that is not in `shown` yet; they are added to it.
fn new_failures(shown: &mut HashSet<TrialId>, trials: &[TrialView]) -> Vec<String> {
    let failed = trials.iter().filter_map(|trial| Some((trial, trial.failure.as_ref()?)));
    failed
        .filter(|(trial, _)| trial.state == TrialState::Failed && shown.insert(trial.id))
        .map(|(trial, failure)| {
            let parts = [Some(trial.stage.words()), trial.arm.as_deref(), trial.task.as_deref()];
            let what: Vec<&str> = parts.into_iter().flatten().collect();
            format!("{} failed: {} ({})", what.join(" "), failure.message, trial.id)
        })
        .collect()
}

fn estimate(job: &JobSummary, now: Option<DateTime<Utc>>) -> String {
    match text::until(job.estimated_end, now) {
        Some(left) => format!("about {} left", text::duration(left)),
        None => String::new(),
    }
}

/// Bars that are redrawn in place.
pub(super) struct Bars {
    screen: MultiProgress,
    total: ProgressBar,
    bars: BTreeMap<(&'static str, String), ProgressBar>,
    failures: HashSet<TrialId>,
}

/// The number of steps of a bar from empty to full.
const PARTS: u64 = 1000;

impl Bars {
    pub(super) fn new() -> Self {
        let screen = MultiProgress::new();
        let total = screen.add(bar("{prefix:<24.bold} {bar:32.green/black.bright} {percent:>3} %  {msg}"));
        total.enable_steady_tick(Duration::from_millis(500));
        Self { screen, total, bars: BTreeMap::new(), failures: HashSet::new() }
    }
}

fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(PARTS).with_style(style.progress_chars("━╸─"))
}

fn parts(progress: f64) -> u64 {
    (progress.clamp(0.0, 1.0) * PARTS as f64) as u64
}

impl View for Bars {
    fn show(&mut self, job: &JobSummary, trials: &[TrialView], now: Option<DateTime<Utc>>) {
        for failure in new_failures(&mut self.failures, trials) {
            // If the terminal is gone, nobody could read the sentence, so the error is ignored.
            let _ = self.screen.println(failure);
        }
        self.total.set_prefix(console::truncate_str(&job.name, 24, "…").into_owned());
        self.total.set_position(parts(job.progress));
        self.total.set_message(estimate(job, now));
        for group in groups(job, trials) {
            let bar = self.bars.entry((group.stage, group.arm.clone())).or_insert_with(|| {
                let bar = self.screen.add(bar("  {prefix:<22} {bar:32.cyan/black.bright} {percent:>3} %  {msg:.dim}"));
                let arm = console::truncate_str(&group.arm, 11, "…").into_owned();
                bar.with_prefix(format!("{:<10} {arm}", group.stage))
            });
            bar.set_position(parts(group.progress));
            bar.set_message(group.state);
        }
    }

    fn note(&mut self, note: &str) {
        self.total.set_message(note.to_owned());
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for bar in self.bars.values() {
            bar.abandon();
        }
        self.total.set_message("");
        self.total.abandon();
    }
}

/// Plain lines: one whenever the progress of a group passes another tenth.
#[derive(Default)]
pub(super) struct Lines {
    /// The last printed progress of each group, in tenths, and whether the group was done.
    printed: BTreeMap<(&'static str, String), (u32, bool)>,
    failures: HashSet<TrialId>,
    /// The last message, which is not printed twice in a row.
    noted: String,
}

impl Lines {
    /// The lines to print: what is new since the last call.
    fn new_lines(&mut self, job: &JobSummary, trials: &[TrialView], now: Option<DateTime<Utc>>) -> Vec<String> {
        let mut new_lines = new_failures(&mut self.failures, trials);
        for group in groups(job, trials) {
            let tenths = (group.progress * 10.0) as u32;
            let mark = (tenths, group.progress >= 1.0);
            // A group that has not started is not printed.
            let before = self.printed.insert((group.stage, group.arm.clone()), mark).unwrap_or((0, false));
            if before != mark {
                let percent = format!("{:.0} %", group.progress * 100.0);
                let line = format!(
                    "{:<10} {:<16} {percent:>5}  {:<24} {}",
                    group.stage,
                    group.arm,
                    group.state,
                    estimate(job, now)
                );
                new_lines.push(line.trim_end().to_owned());
            }
        }
        new_lines
    }
}

impl View for Lines {
    fn show(&mut self, job: &JobSummary, trials: &[TrialView], now: Option<DateTime<Utc>>) {
        self.noted.clear();
        for line in self.new_lines(job, trials, now) {
            eprintln!("{line}");
        }
    }

    fn note(&mut self, note: &str) {
        if self.noted != note {
            eprintln!("{note}");
            self.noted = note.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scheduler::job::TrialCounts;
    use scheduler::trial::WaitReason;
    use serde_json::json;
    use uuid::Uuid;

    fn job() -> JobSummary {
        serde_json::from_value(json!({
            "id": Uuid::nil(), "name": "compare", "status": "running", "created_at": "2026-11-23T19:00:00Z",
            "started_at": null, "finished_at": null, "arms": ["pre-ln", "pld"], "baseline": "pre-ln", "progress": 0.5,
            "estimated_end": "2026-11-23T19:10:00Z", "trials": TrialCounts::default(),
        }))
        .unwrap()
    }

    fn trial(stage: &str, arm: &str, state: &str, step: u64) -> TrialView {
        let failure = (state == "failed").then(|| json!({"kind": "out_of_memory", "message": "no memory"}));
        serde_json::from_value(json!({
            "id": Uuid::now_v7(), "job": Uuid::nil(), "attempt_count": 1, "trained_seconds": 0.0, "fingerprint": "",
            "created_at": "2026-11-23T19:00:00Z", "stage": stage, "arm": arm, "task": null, "state": state, "step": step,
            "total_steps": 200, "failure": failure, "seeds": {"init": 0, "data": 0, "dropout": 0, "gate": 0, "head": 0}
        }))
        .unwrap()
    }

    #[test]
    fn groups_are_in_the_order_of_the_stages_and_of_the_jobs_arms() {
        let waiting = Some(WaitReason::Trial { stage: Stage::Pretrain, state: TrialState::Running });
        let blocked = TrialView { waiting, ..trial("finetune", "pld", "blocked", 0) };
        let trials = [
            blocked,
            trial("pretrain", "pld", "running", 50),
            trial("pretrain", "pre-ln", "succeeded", 200),
            trial("finetune", "pre-ln", "succeeded", 200),
            trial("finetune", "pre-ln", "running", 100),
        ];
        let found = groups(&job(), &trials);
        let shown: Vec<_> = found.iter().map(|g| (g.stage, g.arm.as_str(), g.progress, g.state.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("pre-train", "pre-ln", 1.0, "done"),
                ("pre-train", "pld", 0.25, "step 50 of 200"),
                ("fine-tune", "pre-ln", 0.75, "1 of 2 trials"),
                ("fine-tune", "pld", 0.0, "waits for its pre-train trial, which is running"),
            ]
        );
    }

    #[test]
    fn a_line_is_printed_once_per_tenth_and_once_per_failure() {
        let mut lines = Lines::default();
        let now = DateTime::parse_from_rfc3339("2026-11-23T19:08:00Z").ok().map(|now| now.to_utc());
        let mut one = trial("pretrain", "pld", "running", 0);
        assert_eq!(lines.new_lines(&job(), std::slice::from_ref(&one), now), [""; 0]);
        one.step = 20;
        let news = lines.new_lines(&job(), std::slice::from_ref(&one), now);
        assert_eq!(news, ["pre-train  pld               10 %  step 20 of 200           about 2 min 00 s left"]);
        one.step = 30;
        assert_eq!(lines.new_lines(&job(), std::slice::from_ref(&one), now), [""; 0]);
        let failed = [trial("pretrain", "pld", "failed", 30)];
        let news = lines.new_lines(&job(), &failed, now);
        assert!(news[0].starts_with("pre-train pld failed: no memory") && news[1].contains("1 failed"), "{news:?}");
        assert_eq!(lines.new_lines(&job(), &failed, now), [""; 0]);
    }
}
