//! The progress of a job, one line per stage and arm: as bars on a terminal, as plain lines elsewhere.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use console::{Alignment, Term, pad_str, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use protocol::id::TrialId;
use recipe::Stage;
use scheduler::job::JobSummary;
use scheduler::trial::{TrialState, TrialView};

use super::table::shortened;
use super::{text, waiting};
use crate::terminal::{self, printable};

pub(super) trait View {
    /// Shows the job and its trials at the server's time `now`.
    ///
    /// # Errors
    /// The output cannot be written.
    fn show(&mut self, job: &JobSummary, trials: &[TrialView], now: Option<DateTime<Utc>>) -> Result<()>;
    /// Shows a message that is not about the job, such as that the server does not answer. Repeated calls are allowed.
    ///
    /// # Errors
    /// The output cannot be written.
    fn note(&mut self, note: &str) -> Result<()>;
}

/// The shares of the work that are done, from 0 to 1, as they were last shown.
#[derive(Default)]
struct Shares {
    job: Option<f64>,
    trials: HashMap<TrialId, f64>,
}

impl Shares {
    fn update(&mut self, job: &JobSummary, trials: &[TrialView]) {
        for trial in trials {
            // A new attempt counts from step 0 until its trainer has read the checkpoint. Until then, the trial keeps
            // the share that it had.
            if trial.step > 0 || trial.state.is_ended() {
                self.trials.insert(trial.id, share(trial));
            }
        }
        self.job = Some(match self.job {
            // The server leaves out the work of an attempt that ended early, until the next one has read the checkpoint.
            Some(shown) if trials.iter().any(is_between_attempts) => job.progress.max(shown),
            _ => job.progress,
        });
    }

    fn of(&self, trial: &TrialView) -> f64 {
        self.trials.get(&trial.id).copied().unwrap_or(0.0)
    }
}

/// The share of a trial's steps that are done. A trial that was cancelled or failed keeps the share it had reached.
fn share(trial: &TrialView) -> f64 {
    match trial.total_steps {
        _ if trial.state == TrialState::Succeeded => 1.0,
        Some(total) if total > 0 => (trial.step as f64 / total as f64).min(1.0),
        _ => 0.0,
    }
}

fn is_between_attempts(trial: &TrialView) -> bool {
    match trial.state {
        TrialState::Queued => trial.attempt_count > 0,
        TrialState::Running => trial.attempt_count > 1 && trial.step == 0,
        _ => false,
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

/// The trials of one stage and arm.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    stage: &'static str,
    arm: String,
    /// Mean over the trials, from 0 to 1.
    share: f64,
    /// The state of the trials in a few words.
    state: String,
    /// True if all trials have ended.
    ended: bool,
}

/// The trials by stage and arm; by stage alone if there are more than `most` such groups.
fn groups(job: &JobSummary, shares: &Shares, trials: &[TrialView], most: usize) -> Vec<Group> {
    let index = |trial: &TrialView| job.arms.iter().position(|arm| Some(arm) == trial.arm.as_ref()).unwrap_or(0);
    let mut by_key: BTreeMap<(Stage, usize), Vec<&TrialView>> = BTreeMap::new();
    for trial in trials {
        by_key.entry((trial.stage, index(trial))).or_default().push(trial);
    }
    if by_key.len() > most {
        by_key.clear();
        for trial in trials {
            by_key.entry((trial.stage, 0)).or_default().push(trial);
        }
    }
    let group = |((stage, _), trials): ((Stage, usize), Vec<&TrialView>)| Group {
        stage: stage.words(),
        arm: match &trials[0].arm {
            Some(arm) if trials.iter().all(|trial| trial.arm.as_ref() == Some(arm)) => printable(arm),
            _ => "all arms".into(),
        },
        share: mean(trials.iter().map(|trial| shares.of(trial))),
        state: state(&trials),
        ended: trials.iter().all(|trial| trial.state.is_ended()),
    };
    by_key.into_iter().map(group).collect()
}

/// The state of a group of trials, in a few words.
fn state(trials: &[&TrialView]) -> String {
    let count = |state: TrialState| trials.iter().filter(|trial| trial.state == state).count();
    let (all, running) = (trials.len(), count(TrialState::Running));
    let (succeeded, failed, cancelled) =
        (count(TrialState::Succeeded), count(TrialState::Failed), count(TrialState::Cancelled));
    let ended = succeeded + failed + cancelled;
    let restarted = restarted(trials.iter().copied());
    let what = match trials {
        [only] if running == 1 => match (only.step, only.attempt_count) {
            (0, 0 | 1) => "starting".into(),
            (0, attempt) => format!("starting attempt {attempt}"),
            (step, attempt) => {
                let steps = format!("step {step} of {}", only.total_steps.unwrap_or(0));
                if attempt > 1 { format!("{steps}, attempt {attempt}") } else { steps }
            }
        },
        [only] if count(TrialState::Queued) == 1 && only.attempt_count > 0 => {
            format!("queued for attempt {}", only.attempt_count + 1)
        }
        _ if succeeded == all => "done".into(),
        _ if cancelled == all => return "cancelled".into(),
        _ if ended == all => format!("{succeeded} of {all} succeeded"),
        _ if restarted > 0 => format!("{ended} of {all} trials, {restarted} restarted"),
        _ if running > 0 || ended > 0 => format!("{ended} of {all} trials"),
        _ if count(TrialState::Queued) > 0 => "queued".into(),
        _ if count(TrialState::Paused) > 0 => "paused".into(),
        _ => trials[0].waiting.as_ref().map(waiting::words).unwrap_or_default(),
    };
    let others = [(failed, "failed"), (cancelled, "cancelled")];
    others.iter().filter(|(count, _)| *count > 0).fold(what, |what, (count, how)| format!("{what}, {count} {how}"))
}

/// The number of trials that run again, from a checkpoint or from step 0, after an attempt that ended early.
fn restarted<'a>(trials: impl Iterator<Item = &'a TrialView>) -> usize {
    trials.filter(|trial| trial.state == TrialState::Running && trial.attempt_count > 1).count()
}

/// One sentence for each failed trial that is not in `shown` yet; they are added to it.
fn new_failures(shown: &mut HashSet<TrialId>, trials: &[TrialView]) -> Vec<String> {
    let failed = trials.iter().filter_map(|trial| Some((trial, trial.failure.as_ref()?)));
    failed
        .filter(|(trial, _)| trial.state == TrialState::Failed && shown.insert(trial.id))
        .map(|(trial, failure)| {
            let parts = [Some(trial.stage.words()), trial.arm.as_deref(), trial.task.as_deref()];
            let what: Vec<&str> = parts.into_iter().flatten().collect();
            printable(&format!("{} failed: {} ({})", what.join(" "), failure.message, trial.id))
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
    shares: Shares,
    failures: HashSet<TrialId>,
    /// The columns of the terminal for the names of the bars.
    names: usize,
    /// The columns of the terminal for the words behind the bars.
    words: usize,
    /// The lines of the terminal for the bars of groups.
    lines: usize,
}

/// The number of steps of a bar from empty to full.
const PARTS: u64 = 1000;
/// The columns of the stage in the name of a bar, with the spaces around it.
const STAGE: usize = 13;
/// The columns of a bar and its percentage, with the spaces around them.
const BAR: usize = 29;

impl Bars {
    pub(super) fn new() -> Self {
        let (height, width) = Term::stderr().size();
        // On 80 columns, this leaves as many for the bar and the words behind it. A name has up to 64 characters.
        let width = usize::from(width).max(80);
        let names = 24 + ((width - 80) / 2).min(STAGE + 64 - 24);
        let screen = MultiProgress::new();
        let total = screen.add(bar("{prefix:.bold} {bar:20.green/black.bright} {percent:>3} %  {wide_msg}"));
        total.enable_steady_tick(Duration::from_millis(500));
        let (bars, shares, failures) = (BTreeMap::new(), Shares::default(), HashSet::new());
        let lines = usize::from(height).saturating_sub(2);
        Self { screen, total, bars, shares, failures, names, words: width - names - BAR, lines }
    }
}

fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(PARTS).with_style(style.progress_chars("━╸─"))
}

fn parts(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * PARTS as f64) as u64
}

/// The text in exactly `width` columns.
fn padded(text: &str, width: usize) -> String {
    pad_str(&shortened(text, width), width, Alignment::Left, None).into_owned()
}

impl View for Bars {
    fn show(&mut self, job: &JobSummary, trials: &[TrialView], now: Option<DateTime<Utc>>) -> Result<()> {
        for failure in new_failures(&mut self.failures, trials) {
            // If the terminal is gone, nobody could read the sentence, so the error is ignored.
            let _ = self.screen.println(failure);
        }
        self.shares.update(job, trials);
        self.total.set_prefix(padded(&printable(&job.name), self.names));
        self.total.set_position(parts(self.shares.job.unwrap_or(0.0)));
        let restarted = match restarted(trials.iter()) {
            0 => String::new(),
            1 => "1 trial restarted".into(),
            several => format!("{several} trials restarted"),
        };
        let remarks: Vec<String> =
            [restarted, estimate(job, now)].into_iter().filter(|remark| !remark.is_empty()).collect();
        self.total.set_message(remarks.join(", "));
        for group in groups(job, &self.shares, trials, self.lines) {
            let bar = self.bars.entry((group.stage, group.arm.clone())).or_insert_with(|| {
                let bar = self.screen.add(bar("{prefix} {bar:20.cyan/black.bright} {percent:>3} %  {wide_msg:.dim}"));
                bar.with_prefix(format!("  {:<10} {}", group.stage, padded(&group.arm, self.names - STAGE)))
            });
            bar.set_position(parts(group.share));
            bar.set_message(truncate_str(&group.state, self.words, "…").into_owned());
        }
        Ok(())
    }

    fn note(&mut self, note: &str) -> Result<()> {
        self.total.set_message(note.to_owned());
        Ok(())
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

/// Plain lines: one whenever the progress of a group passes another tenth, falls, or ends.
#[derive(Default)]
pub(super) struct Lines {
    /// The last printed progress of each group, in tenths, and whether the group had ended.
    printed: BTreeMap<(&'static str, String), (u32, bool)>,
    shares: Shares,
    failures: HashSet<TrialId>,
    /// The last message, which is not printed twice in a row.
    noted: String,
}

impl Lines {
    /// The lines to print: what is new since the last call.
    fn new_lines(&mut self, job: &JobSummary, trials: &[TrialView], now: Option<DateTime<Utc>>) -> Vec<String> {
        let mut new_lines = new_failures(&mut self.failures, trials);
        self.shares.update(job, trials);
        for group in groups(job, &self.shares, trials, usize::MAX) {
            let mark = ((group.share * 10.0) as u32, group.ended);
            // A group that has not started is not printed.
            let before = self.printed.insert((group.stage, group.arm.clone()), mark).unwrap_or((0, false));
            if before != mark {
                let percent = format!("{:.0} %", group.share * 100.0);
                let arm = pad_str(&group.arm, 16, Alignment::Left, None);
                let line =
                    format!("{:<10} {arm} {percent:>5}  {:<24} {}", group.stage, group.state, estimate(job, now));
                new_lines.push(line.trim_end().to_owned());
            }
        }
        new_lines
    }
}

impl View for Lines {
    fn show(&mut self, job: &JobSummary, trials: &[TrialView], now: Option<DateTime<Utc>>) -> Result<()> {
        self.noted.clear();
        self.new_lines(job, trials, now).into_iter().try_for_each(terminal::note)
    }

    fn note(&mut self, note: &str) -> Result<()> {
        if self.noted != note {
            terminal::note(note)?;
            self.noted = note.to_owned();
        }
        Ok(())
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

    fn shares(trials: &[TrialView]) -> Shares {
        let mut shares = Shares::default();
        shares.update(&job(), trials);
        shares
    }

    fn nth_attempt(attempt_count: u32, trial: TrialView) -> TrialView {
        TrialView { attempt_count, id: TrialId(Uuid::nil()), ..trial }
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
        let found = groups(&job(), &shares(&trials), &trials, usize::MAX);
        let shown: Vec<_> = found.iter().map(|g| (g.stage, g.arm.as_str(), g.share, g.state.as_str())).collect();
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

    #[test]
    fn a_cancelled_trial_is_not_done() {
        let cancelled = [trial("pretrain", "pld", "cancelled", 50), trial("finetune", "pld", "cancelled", 0)];
        let shown = groups(&job(), &shares(&cancelled), &cancelled, usize::MAX);
        let shown: Vec<_> = shown.iter().map(|group| (group.share, group.state.as_str(), group.ended)).collect();
        assert_eq!(shown, [(0.25, "cancelled", true), (0.0, "cancelled", true)]);
    }

    #[test]
    fn progress_does_not_fall_while_a_trial_is_started_again_and_says_so_if_it_falls_then() {
        let mut lines = Lines::default();
        let at = |progress| JobSummary { progress, estimated_end: None, ..job() };
        let mut next = |progress, trial: &TrialView| lines.new_lines(&at(progress), std::slice::from_ref(trial), None);
        let first = nth_attempt(1, trial("pretrain", "pld", "running", 134));
        assert_eq!(next(0.67, &first), ["pre-train  pld               67 %  step 134 of 200"]);
        for (restarting, words) in [
            (nth_attempt(1, trial("pretrain", "pld", "queued", 134)), "queued for attempt 2"),
            (nth_attempt(2, trial("pretrain", "pld", "running", 0)), "starting attempt 2"),
        ] {
            assert_eq!(next(0.0, &restarting), [""; 0]);
            assert_eq!(state(&[&restarting]), words);
        }
        let resumed = nth_attempt(2, trial("pretrain", "pld", "running", 70));
        assert_eq!(next(0.35, &resumed), ["pre-train  pld               35 %  step 70 of 200, attempt 2"]);
        assert_eq!(state(&[&resumed, &first]), "0 of 2 trials, 1 restarted");
    }

    #[test]
    fn the_jobs_progress_does_not_fall_before_the_checkpoint_is_read() {
        let mut shares = Shares::default();
        let mut after = |progress, trial| {
            shares.update(&JobSummary { progress, ..job() }, &[trial]);
            shares.job.unwrap()
        };
        assert_eq!(after(0.67, nth_attempt(1, trial("pretrain", "pld", "running", 134))), 0.67);
        assert_eq!(after(0.0, nth_attempt(1, trial("pretrain", "pld", "queued", 134))), 0.67);
        assert_eq!(after(0.0, nth_attempt(2, trial("pretrain", "pld", "running", 0))), 0.67);
        assert_eq!(after(0.35, nth_attempt(2, trial("pretrain", "pld", "running", 70))), 0.35);
    }

    #[test]
    fn more_groups_than_lines_are_shown_by_stage() {
        let arms: Vec<String> = (0..35).map(|n| format!("arm-{n}")).collect();
        let trials: Vec<_> = arms.iter().map(|arm| trial("pretrain", arm, "running", 100)).collect();
        let job = JobSummary { arms, ..job() };
        assert_eq!(groups(&job, &shares(&trials), &trials, 35).len(), 35);
        let merged = groups(&job, &shares(&trials), &trials, 22);
        assert_eq!((merged.len(), merged[0].arm.as_str(), merged[0].share), (1, "all arms", 0.5));
    }
}
