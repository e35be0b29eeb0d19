//! Fine-tuning: the dev scores over seeds, per task, arm, kept blocks and learning rate.

use std::collections::BTreeMap;

use recipe::{Recipe, Task};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rows::{Cells, GlueArm, cells, scored};
use super::selection::rows_of_arm;
use crate::comparison::{Comparison, compare};
use crate::facts::{Facts, TrialEnd};
use crate::statistics::holm;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueReport {
    pub task: Task,
    /// The score is the mean of these.
    pub metrics: Vec<String>,
    /// Score of a constant guess of the majority class: a run at or below it failed. Absent while no run has a score.
    pub majority_score: Option<f64>,
    /// One row per arm, choice of kept blocks and learning rate that has a run: arms in the order of the job, the deepest
    /// first, rates rising.
    pub arms: Vec<GlueArm>,
    /// Each other arm against the baseline at the same learning rate and choice of blocks.
    pub comparisons: Vec<Comparison>,
    /// Each other arm at its selected learning rate against the baseline at its own, at the same choice of blocks.
    #[serde(default)]
    pub selected_comparisons: Vec<Comparison>,
}

pub(crate) fn glue(facts: &Facts) -> Vec<GlueReport> {
    let cells = cells(facts);
    let mut reports: Vec<GlueReport> =
        Task::rows().iter().filter_map(|row| task_report(facts, row.task, &cells)).collect();
    correct(&mut reports);
    reports
}

fn task_report(facts: &Facts, task: Task, cells: &Cells<'_>) -> Option<GlueReport> {
    let arms: Vec<GlueArm> = facts.arms.iter().flat_map(|arm| rows_of_arm(task, arm, cells)).collect();
    if arms.is_empty() {
        return None;
    }
    let baseline = || arms.iter().filter(|row| row.arm == facts.baseline);
    let others = || arms.iter().filter(|row| row.arm != facts.baseline);
    let comparisons = others().filter_map(|row| {
        let is_equal = |base: &&GlueArm| base.keep == row.keep && base.learning_rate == row.learning_rate;
        row.against(baseline().find(is_equal)?)
    });
    let selected_comparisons = others().filter(|row| row.selected).filter_map(|row| {
        let is_selected = |base: &&GlueArm| base.keep == row.keep && base.selected;
        row.against(baseline().find(is_selected)?)
    });
    Some(GlueReport {
        task,
        metrics: task.row().metrics.iter().map(|metric| metric.name().to_owned()).collect(),
        majority_score: majority_score(facts, task),
        comparisons: comparisons.collect(),
        selected_comparisons: selected_comparisons.collect(),
        arms,
    })
}

impl GlueArm {
    fn against(&self, baseline: &Self) -> Option<Comparison> {
        let comparison = compare(&self.arm, &scored(&self.scores), &scored(&baseline.scores))?;
        Some(Comparison {
            keep: Some(self.keep),
            blocks: Some(self.blocks),
            learning_rate: Some(self.learning_rate),
            baseline_learning_rate: Some(baseline.learning_rate),
            ..comparison
        })
    }
}

/// The same for every run of a task, since all are scored on the same dev set.
fn majority_score(facts: &Facts, task: Task) -> Option<f64> {
    facts.ended.iter().find_map(|trial| match (&trial.spec.recipe, &trial.end) {
        (Recipe::Finetune(recipe), TrialEnd::Succeeded(recipe::Report::Finetune(report))) if recipe.task == task => {
            Some(report.majority_score)
        }
        _ => None,
    })
}

/// Holm's correction over the tasks: one family per arm, choice of blocks and learning rate; of the comparisons at selected
/// rates one per arm and choice of blocks.
fn correct(reports: &mut [GlueReport]) {
    correct_families(reports.iter_mut().flat_map(|report| &mut report.comparisons), |comparison| {
        (comparison.arm.clone(), comparison.keep, comparison.learning_rate.map(f64::to_bits))
    });
    correct_families(reports.iter_mut().flat_map(|report| &mut report.selected_comparisons), |comparison| {
        (comparison.arm.clone(), comparison.keep)
    });
}

fn correct_families<'a, F: Ord>(comparisons: impl Iterator<Item = &'a mut Comparison>, family: fn(&Comparison) -> F) {
    let mut families: BTreeMap<F, Vec<&mut Comparison>> = BTreeMap::new();
    for comparison in comparisons.filter(|comparison| comparison.p_paired_t.is_some()) {
        families.entry(family(comparison)).or_default().push(comparison);
    }
    for family in families.values_mut() {
        let p: Vec<f64> = family.iter().filter_map(|comparison| comparison.p_paired_t).collect();
        for (comparison, adjusted) in family.iter_mut().zip(holm(&p)) {
            comparison.p_holm = Some(adjusted);
        }
    }
}
