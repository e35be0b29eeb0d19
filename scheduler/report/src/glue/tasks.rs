//! The rows of a GLUE task and their comparisons with the baseline.

use std::collections::BTreeMap;

use recipe::{Recipe, Task, TrialReport};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rows::{GlueRow, RunsByRow, runs_by_row, scores_by_seeds};
use super::selection::rows_of_arm;
use crate::comparison::{Comparison, compare};
use crate::facts::{Facts, TrialStatus};
use crate::statistics::holm;

/// The fine-tune runs on one GLUE task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GlueReport {
    pub task: Task,
    /// Names of the task's metrics, whose mean is the score.
    pub metrics: Vec<String>,
    /// Dev score of a constant guess of the majority class (0 for a regression task). A run with this score or a lower
    /// one failed. Absent until a run has succeeded.
    pub majority_score: Option<f64>,
    /// One row per arm, choice of kept blocks and learning rate with a run that has a result: arms in the order of the
    /// job, then most blocks first, then by choice of kept blocks, then by rising rate.
    pub arms: Vec<GlueRow>,
    /// Each other arm against the baseline at the same learning rate and with the same choice of blocks.
    pub comparisons: Vec<Comparison>,
    /// Each other arm at its selected learning rate against the baseline at its own selected rate, with the same choice
    /// of blocks.
    pub selected_comparisons: Vec<Comparison>,
}

pub(crate) fn glue(facts: &Facts) -> Vec<GlueReport> {
    let runs = runs_by_row(facts);
    let mut reports: Vec<GlueReport> =
        Task::ALL.into_iter().filter_map(|task| task_report(facts, task, &runs)).collect();
    apply_holm(&mut reports);
    reports
}

fn task_report(facts: &Facts, task: Task, runs: &RunsByRow<'_>) -> Option<GlueReport> {
    let arms: Vec<GlueRow> = facts.arms.iter().flat_map(|arm| rows_of_arm(task, arm, runs)).collect();
    if arms.is_empty() {
        return None;
    }
    let baseline = || arms.iter().filter(|row| row.arm == facts.baseline);
    let others = || arms.iter().filter(|row| row.arm != facts.baseline);
    let comparisons = others().filter_map(|row| {
        let is_equal = |base: &&GlueRow| base.keep == row.keep && base.learning_rate == row.learning_rate;
        row.against(baseline().find(is_equal)?)
    });
    let selected_comparisons = others().filter(|row| row.selected).filter_map(|row| {
        let is_selected = |base: &&GlueRow| base.keep == row.keep && base.selected;
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

impl GlueRow {
    /// `None` if this row and the baseline's share no seed.
    fn against(&self, baseline: &Self) -> Option<Comparison> {
        let comparison = compare(&self.arm, &scores_by_seeds(&self.scores), &scores_by_seeds(&baseline.scores))?;
        Some(Comparison {
            keep: Some(self.keep),
            blocks: Some(self.blocks),
            learning_rate: Some(self.learning_rate),
            baseline_learning_rate: Some(baseline.learning_rate),
            ..comparison
        })
    }
}

/// Score of the majority class on the dev set of `task`, which is the same in every report of that task.
fn majority_score(facts: &Facts, task: Task) -> Option<f64> {
    facts.trials.iter().find_map(|trial| match (&*trial.recipe, &trial.status) {
        (Recipe::Finetune(recipe), TrialStatus::Succeeded(TrialReport::Finetune(report))) if recipe.task == task => {
            Some(report.majority_score)
        }
        _ => None,
    })
}

/// Sets `p_holm` of every comparison. The tasks of an arm, choice of blocks and learning rate are one family; among the
/// comparisons at selected rates, the tasks of an arm and choice of blocks are one.
fn apply_holm(reports: &mut [GlueReport]) {
    apply_holm_by_family(reports.iter_mut().flat_map(|report| &mut report.comparisons), |comparison| {
        (comparison.arm.clone(), comparison.keep, comparison.learning_rate.map(f64::to_bits))
    });
    apply_holm_by_family(reports.iter_mut().flat_map(|report| &mut report.selected_comparisons), |comparison| {
        (comparison.arm.clone(), comparison.keep)
    });
}

fn apply_holm_by_family<'a, F: Ord>(
    comparisons: impl Iterator<Item = &'a mut Comparison>,
    family: fn(&Comparison) -> F,
) {
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
