//! Sentences that a reader should know before using the numbers of a report.

use std::collections::{BTreeMap, BTreeSet};

use protocol::id::TrialId;
use recipe::Stage;

use crate::content::Report;
use crate::facts::{Facts, TrialFacts, TrialStatus};
use crate::glue::GlueRow;
use crate::speed::{ArmSpeed, Control, LEAST_ROUNDS, Speed};

/// With fewer values than this, an interval is wide and a spread is poorly known.
const SMALL: usize = 5;

/// A first step that takes this many times as long as the next ones is worth a note.
const SLOW_FIRST_STEP: f64 = 1.01;

pub(crate) fn notes(facts: &Facts, report: &Report) -> Vec<String> {
    let rows: Vec<&GlueRow> = report.glue.iter().flat_map(|task| &task.arms).collect();
    [
        unfinished_trials(facts),
        speed_notes(facts, report.speed.as_ref()),
        diverged_runs(report),
        Vec::from_iter(failures(&rows)),
        score_samples(&rows),
        Vec::from_iter(pretrain_seeds(&rows)),
        Vec::from_iter(finetune_rates(report, &rows)),
        loss_notes(report),
        Vec::from_iter(published_arms(facts, &rows)),
    ]
    .concat()
}

/// What did not run as the job planned it.
pub(crate) fn deviations(facts: &Facts) -> Vec<String> {
    [cancelled_trials(facts), failed_trials(facts), mixed_devices(facts)].concat()
}

/// Stages whose trials ran on devices of several models, or by several versions of the trainer.
fn mixed_devices(facts: &Facts) -> Vec<String> {
    let mut found: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
    for trial in &facts.trials {
        if let Some(device) = &trial.device {
            let (models, versions) = found.entry(stage(trial).words()).or_default();
            models.insert(&device.model);
            versions.insert(&device.trainer);
        }
    }
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<&str>>().join(", ");
    let sentences = found.into_iter().flat_map(|(stage, (models, versions))| {
        let models = (models.len() > 1).then(|| {
            format!(
                "The {stage} trials ran on several models of device ({}): compare their reference hours, not their hours.",
                list(&models)
            )
        });
        let versions = (versions.len() > 1)
            .then(|| format!("The {stage} trials ran on several versions of the trainer ({}).", list(&versions)));
        [models, versions].into_iter().flatten()
    });
    sentences.collect()
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

/// Failed trials without a result. A run that diverged has one, which [`diverged_runs`] names.
fn failed_trials(facts: &Facts) -> Vec<String> {
    let failed = facts.trials.iter().filter_map(|trial| match &trial.status {
        TrialStatus::Failed(failure)
            if failure.kind.is_divergence() && matches!(stage(trial), Stage::Pretrain | Stage::Finetune) =>
        {
            None
        }
        TrialStatus::Failed(failure) => Some((stage(trial), arm_name(trial), failure.kind.name())),
        _ => None,
    });
    let sentence = |((stage, arm, kind), count)| {
        format!(
            "{} of {arm} failed ({kind}); no statistic includes {}.",
            trials(count, stage),
            word(count, "it", "them")
        )
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
    if speed.rounds < LEAST_ROUNDS {
        notes.push(format!(
            "The speed of an arm rests on {}; below {LEAST_ROUNDS}, a speed-up has no interval.",
            counted(speed.rounds as usize, "round")
        ));
    }
    notes.extend(control_note(speed.control.as_ref()));
    notes.extend(speed.arms.iter().filter_map(warmup_note));
    let missing: Vec<&str> =
        facts.pretrained_arms().map(String::as_str).filter(|arm| speed.arm(arm).is_none()).collect();
    if !missing.is_empty() {
        notes.push(format!("The timing trial has no steps of {}.", missing.join(", ")));
    }
    notes
}

/// What the timing trial says of two equal arms.
fn control_note(control: Option<&Control>) -> Option<String> {
    let Control { ratio, interval, agrees } = control?;
    let [low, high] = (*interval)?;
    let found = format!("the baseline timed twice gives {ratio:.3}x [{low:.3}, {high:.3}] against itself");
    Some(match (*agrees)? {
        true => format!("Control: {found}, as equal arms should."),
        false => format!(
            "Control: {found}, though both are the same. In one of twenty trials this is chance; else something on the \
             machine disturbs the figures of speed."
        ),
    })
}

/// A warm-up that is too short: the first timed step of a turn is clearly slower than the others.
fn warmup_note(arm: &ArmSpeed) -> Option<String> {
    let first = arm.first_step.as_ref()?;
    let [low, _] = first.interval.filter(|[low, _]| *low > SLOW_FIRST_STEP)?;
    Some(format!(
        "The first timed step of a turn of {} takes {:.0} % longer than the next ones (at least {:.0} %), so its warm-up \
         is too short: set timing.warmup_steps higher.",
        arm.arm,
        100.0 * (first.ratio - 1.0),
        100.0 * (low - 1.0)
    ))
}

fn diverged_runs(report: &Report) -> Vec<String> {
    let rows = report.glue.iter().flat_map(|task| task.arms.iter().map(move |row| (task.task, row)));
    let of_scores = rows.filter(|(_, row)| row.diverged > 0).map(|(task, row)| {
        format!(
            "{} of {} runs of {}{} on {} at learning rate {:e} diverged. {}",
            row.diverged,
            row.n,
            row.arm,
            if row.keep.is_all() { String::new() } else { format!(" with {} blocks", row.blocks) },
            task.name(),
            row.learning_rate,
            match row.mean {
                Some(_) => "They count as failed, with the score of the majority class.",
                None => "They count as failed; no run on this task has reported the score of the majority class.",
            }
        )
    });
    let of_losses = report.pretrain.iter().filter(|arm| arm.diverged > 0).map(|arm| {
        let rest = match arm.guess_loss {
            Some(loss) => format!("with the loss of a guess, {loss:.3}."),
            None => "but no run has reported the loss of a guess, so no mean or comparison includes them.".into(),
        };
        format!(
            "{} of {} pre-train seeds of {} diverged. They count as failed, {rest}",
            arm.diverged,
            arm.results(),
            arm.arm
        )
    });
    of_scores.chain(of_losses).collect()
}

/// Intervals of means, where runs fail.
fn failures(rows: &[&GlueRow]) -> Option<String> {
    let failed = rows.iter().filter(|row| row.failed > 0).count();
    (failed > 0).then(|| {
        format!(
            "Runs failed in {}. An interval of a mean does not hold when runs fail: read the mean without failures and \
             the share of failed runs, each for itself.",
            counted(failed, "row")
        )
    })
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
            "There is one pre-train seed: intervals and tests of scores are about one checkpoint of each arm, and say \
             nothing about the arms. With several seeds (pretrain.seeds) they do."
                .into(),
        ),
        several => Some(format!(
            "There are {several} pre-train seeds. Runs from one checkpoint are not independent, so means, intervals and \
             paired tests of scores use the mean of each checkpoint, spreads are compared within checkpoints, and \
             intervals of failed-run shares count alike runs as fewer."
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
        let is_uneven = report.glue.iter().any(|task| {
            let tried: BTreeSet<usize> = task.selected.iter().map(|score| score.tried).collect();
            tried.len() > 1
        });
        let uneven = match is_uneven {
            true => {
                " Arms with different numbers of rates are not compared at their best: the longer search wins by luck."
            }
            false => "",
        };
        Some(format!(
            "There are {rates} fine-tune learning rates. The one to report is selected per arm and task by the score on \
             a held-out part of the training set, by one half of the seeds for the other half, so that no run counts \
             twice.{uneven}"
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
            "The best learning rate of pre-training is chosen by the same validation losses that are then compared. \
             This favours neither of two arms of which as many rates were tried; others are not compared at their best."
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
