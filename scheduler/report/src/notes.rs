//! What a reader must know before using the numbers.

use std::collections::{BTreeMap, BTreeSet};

use recipe::{Recipe, Stage};

use crate::content::Report;
use crate::facts::{Facts, TrialEnd};

/// Below this many values an interval is wide and a spread hardly known.
const SMALL: usize = 5;

pub(crate) fn notes(facts: &Facts, report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    missing(facts, &mut notes);
    about_speed(facts, report, &mut notes);
    about_runs(report, &mut notes);
    about_checkpoints(facts, report, &mut notes);
    notes
}

fn about_checkpoints(facts: &Facts, report: &Report, notes: &mut Vec<String>) {
    let scored = |arm: &&String| report.glue.iter().any(|task| task.arms.iter().any(|row| row.arm == **arm));
    let published: Vec<&str> = facts.published.iter().filter(scored).map(String::as_str).collect();
    if !published.is_empty() && facts.pretrained().next().is_some() {
        notes.push(format!(
            "{} started from a published checkpoint, which others trained on other data and with other means: what \
             it differs by is not what a setting of an arm makes.",
            published.join(", ")
        ));
    }
}

fn missing(facts: &Facts, notes: &mut Vec<String>) {
    let unfinished = (&facts.unfinished, "not ended yet: the numbers will still move");
    for (counts, what) in [unfinished, (&facts.cancelled, "been cancelled")] {
        for (stage, count) in counts.iter().filter(|(_, count)| **count > 0) {
            notes.push(format!("{} {} {what}.", counted(*count, stage_trial(*stage)), have(*count)));
        }
    }
    for (arm, count) in &facts.orphaned {
        let trials = counted(*count, stage_trial(Stage::Finetune));
        notes.push(format!(
            "{trials} of {arm} never started, because the pre-training failed: no score stands for them."
        ));
    }
    // A diverged run is a result; everything else is a hole.
    let mut holes: BTreeMap<(Stage, &str, &str), u64> = BTreeMap::new();
    for trial in &facts.ended {
        if let TrialEnd::Failed(failure) = &trial.end
            && !(trial.end.diverged() && matches!(trial.spec.recipe, Recipe::Finetune(_)))
        {
            let arm = trial.arm.as_deref().unwrap_or("all arms");
            *holes.entry((trial.spec.recipe.stage(), arm, failure.kind.name())).or_default() += 1;
        }
    }
    for ((stage, arm, kind), count) in holes {
        notes.push(format!(
            "{} of {arm} failed ({kind}) and {} no result.",
            counted(count, stage_trial(stage)),
            have(count)
        ));
    }
}

fn about_speed(facts: &Facts, report: &Report, notes: &mut Vec<String>) {
    let Some(speed) = &report.speed else {
        if facts.pretrained().next().is_none() {
            return;
        }
        notes.push("No timing trial has succeeded, so nothing is said about speed.".into());
        return;
    };
    let drops = speed.arms.iter().any(|arm| arm.closed_form_saving.is_some());
    if !drops {
        notes.push(
            "No arm closes blocks, so the encoder's share of a step and the limit of the speed-up are not known."
                .into(),
        );
    } else if speed.fit.is_none() {
        notes.push(
            "No line of step time over open blocks with both parts positive fits the timed steps (too few, or too noisy), so \
             the encoder's share of a step and the limit of the speed-up are not known."
                .into(),
        );
    }
    if let Some(rounds) = speed.arms.iter().map(|arm| arm.seconds_per_step.n).min().filter(|rounds| *rounds < SMALL) {
        notes.push(format!("Speed rests on {} per arm.", counted(rounds as u64, "round")));
    }
    if !facts.pretrained().all(|arm| speed.arms.iter().any(|row| row.arm == *arm)) {
        notes.push("The timing trial did not run every arm.".into());
    }
}

fn about_runs(report: &Report, notes: &mut Vec<String>) {
    let rows = || report.glue.iter().flat_map(|task| task.arms.iter().map(move |row| (task.task, row)));
    for (task, row) in rows().filter(|(_, row)| row.diverged > 0) {
        notes.push(format!(
            "{} of {} runs of {}{} on {} at learning rate {:e} diverged: they count as failed; means, intervals and \
             comparisons are over the other {}.",
            row.diverged,
            row.n,
            row.arm,
            if row.keep.is_all() { String::new() } else { format!(" with {} blocks", row.blocks) },
            task.name(),
            row.learning_rate,
            row.n - row.diverged
        ));
    }
    let flat = rows().filter(|(_, row)| row.sd == Some(0.0)).count() as u64;
    if flat > 0 {
        notes.push(format!("{} of scores {} no spread at all, and so no interval.", counted(flat, "row"), have(flat)));
    }
    if let Some(least) = rows().map(|(_, row)| row.independent).min().filter(|least| *least < SMALL) {
        notes.push(format!(
            "The smallest sample of scores has {}: its interval is wide.",
            counted(least as u64, "independent value")
        ));
    }
    let seeds: BTreeSet<u64> = rows().flat_map(|(_, row)| row.scores.iter().map(|run| run.pretrain_seed)).collect();
    match seeds.len() {
        0 => {}
        1 => notes.push(
            "One pre-train seed: score intervals and tests cover fine-tuning from one checkpoint per arm, not a \
             repetition of the pre-training."
                .into(),
        ),
        several => notes.push(format!(
            "{several} pre-train seeds: runs from one checkpoint are not independent, so intervals and paired tests of \
             scores are over the mean of each checkpoint; failed-run rates and Brown-Forsythe are over all runs."
        )),
    }
    let rates: BTreeSet<u64> = rows().map(|(_, row)| row.learning_rate.to_bits()).collect();
    let unselected = report.glue.iter().any(|task| {
        task.arms.chunk_by(|a, b| (&a.arm, a.keep) == (&b.arm, b.keep)).any(|rows| rows.iter().all(|row| !row.selected))
    });
    if unselected {
        notes.push(format!(
            "{} fine-tune learning rates are reported side by side. Taking the best of them from this table would select \
             and report on the same dev scores.",
            rates.len()
        ));
    } else if rates.len() > 1 {
        notes.push(format!(
            "{} fine-tune learning rates: the one to report is selected per arm and task by the mean score on a part of \
             train that was not trained on; dev had no say.",
            rates.len()
        ));
    }
    let losses: Vec<usize> = report.pretrain.iter().filter_map(|arm| Some(arm.validation_loss.as_ref()?.n)).collect();
    if !losses.is_empty() && losses.iter().all(|n| *n == 1) {
        notes.push("One pre-train run per arm: its validation loss comes without an interval.".into());
    }
    let other: Vec<&str> = report.pretrain.iter().filter(|arm| arm.other_measure).map(|arm| arm.arm.as_str()).collect();
    if !other.is_empty() {
        notes.push(format!(
            "The validation loss of {} is not compared with that of {}: another objective makes it another measure.",
            other.join(", "),
            report.baseline
        ));
    }
    if report.effects.iter().any(|effect| effect.each_at_its_best) {
        notes.push(
            "The best learning rate of a pre-training is picked by the validation losses that are then compared: the more \
             rates an arm was given, the luckier it looks."
                .into(),
        );
    }
}

const fn stage_trial(stage: Stage) -> &'static str {
    match stage {
        Stage::Timing => "timing trial",
        Stage::Pretrain => "pre-train trial",
        Stage::Finetune => "fine-tune trial",
        Stage::Probe => "probe trial",
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn have(count: u64) -> &'static str {
    if count == 1 { "has" } else { "have" }
}
