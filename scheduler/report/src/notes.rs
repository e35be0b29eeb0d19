//! Sentences that a reader should know before using the numbers of a report.

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::TrialId;
use recipe::Stage;

use crate::content::Report;
use crate::facts::{Facts, TrialFacts, TrialStatus};
use crate::glue::GlueRow;
use crate::speed::Speed;

/// With fewer values than this, an interval is wide and a spread is poorly known.
const SMALL: usize = 5;

pub(crate) fn notes(facts: &Facts, report: &Report) -> Vec<String> {
    let rows: Vec<&GlueRow> = report.glue.iter().flat_map(|task| &task.arms).collect();
    [
        unfinished_trials(facts),
        cancelled_trials(facts),
        failed_trials(facts),
        speed_notes(facts, report.speed.as_ref()),
        diverged_runs(report),
        score_samples(&rows),
        Vec::from_iter(pretrain_seeds(&rows)),
        Vec::from_iter(finetune_rates(report, &rows)),
        loss_notes(report),
        Vec::from_iter(published_arms(facts, &rows)),
    ]
    .concat()
}

fn unfinished_trials(facts: &Facts) -> Vec<String> {
    let unfinished = facts.trials.iter().filter(|trial| trial.status == TrialStatus::Unfinished);
    let sentence = |(stage, count)| {
        format!(
            "{} {} not ended yet, so the numbers can still change.",
            trials(count, stage),
            word(count, "has", "have")
        )
    };
    count_equal(unfinished.map(stage)).into_iter().map(sentence).collect()
}

/// Cancelled trials. Those that were cancelled because their pre-train trial failed have sentences of their own.
fn cancelled_trials(facts: &Facts) -> Vec<String> {
    let failed = facts.trials.iter().filter(|trial| matches!(trial.status, TrialStatus::Failed(_)));
    let failed: BTreeSet<TrialId> = failed.map(|trial| trial.id).collect();
    let is_orphan = |trial: &&TrialFacts| {
        stage(trial) == Stage::Finetune && trial.waits_for.is_some_and(|awaited| failed.contains(&awaited))
    };
    let cancelled = facts.trials.iter().filter(|trial| trial.status == TrialStatus::Cancelled);
    let (orphans, others): (Vec<_>, Vec<_>) = cancelled.partition(is_orphan);
    let others = count_equal(others.into_iter().map(stage)).into_iter();
    let others =
        others.map(|(stage, count)| format!("{} {} cancelled.", trials(count, stage), word(count, "was", "were")));
    let orphans = count_equal(orphans.into_iter().map(arm_name)).into_iter();
    let orphans = orphans.map(|(arm, count)| {
        format!(
            "{} of {arm} never started, because pre-training failed; no statistic includes {}.",
            trials(count, Stage::Finetune),
            word(count, "it", "them"),
        )
    });
    others.chain(orphans).collect()
}

/// Failed trials without a result. A fine-tune trial that diverged has one, which [`diverged_runs`] names.
fn failed_trials(facts: &Facts) -> Vec<String> {
    let failed = facts.trials.iter().filter_map(|trial| match &trial.status {
        TrialStatus::Failed(failure) if stage(trial) == Stage::Finetune && failure.kind.is_divergence() => None,
        TrialStatus::Failed(failure) => {
            let is_diverged_seed = stage(trial) == Stage::Pretrain && failure.kind.is_divergence();
            Some((stage(trial), arm_name(trial), failure.kind.name(), is_diverged_seed))
        }
        _ => None,
    });
    let sentence = |((stage, arm, kind, is_diverged_seed), count)| {
        let (trials, it) = (trials(count, stage), word(count, "it", "them"));
        match is_diverged_seed {
            true => format!("{trials} of {arm} failed ({kind}); the share of diverged seeds includes {it}."),
            false => format!("{trials} of {arm} failed ({kind}); no statistic includes {it}."),
        }
    };
    count_equal(failed).into_iter().map(sentence).collect()
}

fn speed_notes(facts: &Facts, speed: Option<&Speed>) -> Vec<String> {
    if facts.pretrained_arms().next().is_none() {
        return Vec::new();
    }
    let Some(speed) = speed else {
        return vec!["No timing trial has succeeded, so the speed of the arms is not known.".into()];
    };
    let mut notes = Vec::new();
    let unknown = "so the encoder's share of a step and the limit of the speed-up are not known";
    if speed.arms.iter().all(|arm| arm.closed_form_saving.is_none()) {
        notes.push(format!("No timed arm has layer drop and otherwise the same steps as the baseline, {unknown}."));
    } else if speed.fit.is_none() {
        notes.push(format!(
            "No line of step time over open blocks with a positive slope and no negative intercept fits the timed \
             steps (there are too few, or they are too noisy), {unknown}."
        ));
    }
    if let Some(rounds) = speed.arms.iter().map(|arm| arm.seconds_per_step.n).min().filter(|rounds| *rounds < SMALL) {
        notes.push(format!(
            "The speed of an arm rests on as few as {}; below {SMALL}, intervals are wide.",
            counted(rounds, "round")
        ));
    }
    let missing: Vec<&str> =
        facts.pretrained_arms().map(String::as_str).filter(|arm| speed.arm(arm).is_none()).collect();
    if !missing.is_empty() {
        notes.push(format!("The timing trial has no steps of {}.", missing.join(", ")));
    }
    notes
}

fn diverged_runs(report: &Report) -> Vec<String> {
    let rows = report.glue.iter().flat_map(|task| task.arms.iter().map(move |row| (task.task, row)));
    let sentence = |(task, row): (recipe::Task, &GlueRow)| {
        format!(
            "{} of {} runs of {}{} on {} at learning rate {:e} diverged. They count as failed; means, intervals and \
             comparisons are over the other {}.",
            row.diverged,
            row.n,
            row.arm,
            if row.keep.is_all() { String::new() } else { format!(" with {} blocks", row.blocks) },
            task.name(),
            row.learning_rate,
            row.n - row.diverged
        )
    };
    rows.filter(|(_, row)| row.diverged > 0).map(sentence).collect()
}

/// Rows of scores without spread, and the smallest sample of scores.
fn score_samples(rows: &[&GlueRow]) -> Vec<String> {
    let mut notes = Vec::new();
    let flat = rows.iter().filter(|row| row.sd == Some(0.0)).count();
    if flat > 0 {
        notes.push(format!(
            "All scores of {} are equal, so {} no interval.",
            counted(flat, "row"),
            word(flat, "it has", "they have")
        ));
    }
    if let Some(least) = rows.iter().map(|row| row.independent).min().filter(|least| *least < SMALL) {
        notes.push(format!(
            "The smallest sample of scores has {}; below {SMALL}, intervals are wide.",
            counted(least, "independent value")
        ));
    }
    notes
}

/// The population that intervals and tests of scores describe, which depends on the number of pre-train seeds.
fn pretrain_seeds(rows: &[&GlueRow]) -> Option<String> {
    let seeds: BTreeSet<u64> = rows.iter().flat_map(|row| row.scores.iter().map(|run| run.pretrain_seed)).collect();
    match seeds.len() {
        0 => None,
        1 => Some(
            "There is one pre-train seed: intervals and tests of scores are about repeated fine-tuning of one \
             checkpoint per arm, not about repeated pre-training."
                .into(),
        ),
        several => Some(format!(
            "There are {several} pre-train seeds. Runs from one checkpoint are not independent, so intervals and \
             paired tests of scores use the mean of each checkpoint; failed-run rates and Brown-Forsythe tests use all \
             runs."
        )),
    }
}

/// The rule by which the fine-tune learning rate to report is selected. `None` if there is one rate.
fn finetune_rates(report: &Report, rows: &[&GlueRow]) -> Option<String> {
    let rates = rows.iter().map(|row| row.learning_rate.to_bits()).collect::<BTreeSet<u64>>().len();
    let has_unselected = report.glue.iter().any(|task| {
        let mut choices = task.arms.chunk_by(|a, b| (&a.arm, a.keep) == (&b.arm, b.keep));
        choices.any(|rows| rows.iter().all(|row| !row.selected))
    });
    if has_unselected {
        Some(format!(
            "Scores at {rates} fine-tune learning rates stand side by side. To choose the best of them here would be \
             to select and report on the same dev scores."
        ))
    } else if rates > 1 {
        Some(format!(
            "There are {rates} fine-tune learning rates. The one to report is selected per arm and task by the mean \
             score on a held-out part of the training set; dev scores have no influence."
        ))
    } else {
        None
    }
}

/// Limits of the validation losses and of their comparisons.
fn loss_notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let samples: Vec<usize> = report.pretrain.iter().filter_map(|arm| Some(arm.validation_loss.as_ref()?.n)).collect();
    if !samples.is_empty() && samples.iter().all(|n| *n == 1) {
        notes.push("There is one pre-train run per arm, so validation losses have no interval.".into());
    }
    let other: Vec<&str> = report.pretrain.iter().filter(|arm| arm.other_measure).map(|arm| arm.arm.as_str()).collect();
    if !other.is_empty() {
        notes.push(format!(
            "The validation loss of {} is not compared with that of {}, because their objectives measure different \
             quantities.",
            other.join(", "),
            report.baseline
        ));
    }
    if report.effects.iter().any(|effect| effect.each_at_its_best) {
        notes.push(
            "The best learning rate of pre-training is chosen by the same validation losses that are then compared, \
             which favours an arm that was given more rates."
                .into(),
        );
    }
    notes
}

/// The arms with scores that start from a published checkpoint, if other arms were pre-trained in this job.
fn published_arms(facts: &Facts, rows: &[&GlueRow]) -> Option<String> {
    let has_scores = |arm: &&str| rows.iter().any(|row| row.arm == **arm);
    let arms: Vec<&str> = facts.published.iter().map(String::as_str).filter(has_scores).collect();
    (!arms.is_empty() && facts.pretrained_arms().next().is_some()).then(|| {
        format!(
            "Arms that start from a published checkpoint: {}. Such a checkpoint was trained elsewhere, on other data \
             and with other settings, so a difference from the other arms is not the effect of one setting.",
            arms.join(", ")
        )
    })
}

fn stage(trial: &TrialFacts) -> Stage {
    trial.recipe.stage()
}

fn arm_name(trial: &TrialFacts) -> &str {
    trial.arm.as_deref().unwrap_or("all arms")
}

/// The number of times that each item occurs.
fn count_equal<K: Ord>(items: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

fn trials(count: usize, stage: Stage) -> String {
    counted(count, &format!("{} trial", stage.words()))
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", word(count, "", "s"))
}

const fn word(count: usize, one: &'static str, several: &'static str) -> &'static str {
    if count == 1 { one } else { several }
}
