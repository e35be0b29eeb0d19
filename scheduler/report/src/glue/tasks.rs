//! The rows of a GLUE task and their comparisons with the baseline.

use recipe::{Recipe, Task, TrialReport};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rows::{GlueRow, RunsByRow, Scale, runs_by_row};
use super::selection::{SelectedScore, cross_fitted, rows_of_arm, selected_scores};
use crate::comparison::{Comparison, Runs, Shared};
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
    /// One entry per arm and choice of kept blocks at the learning rate that represents it.
    pub selected: Vec<SelectedScore>,
    /// Each other arm at its selected learning rate against the baseline at its own selected rate, with the same choice
    /// of blocks, over the runs of `selected`. Left out for an arm for which more or fewer rates were tried than for
    /// the baseline: the longer search wins by luck.
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
    let scale = scale(facts, task);
    let arms: Vec<GlueRow> = facts.arms.iter().flat_map(|arm| rows_of_arm(scale, arm, runs)).collect();
    if arms.is_empty() {
        return None;
    }
    let of_arms = arms.chunk_by(|a, b| a.arm == b.arm);
    let selected: Vec<SelectedScore> = of_arms.flat_map(|rows| selected_scores(scale, rows)).collect();
    let baseline = || arms.iter().filter(|row| row.arm == facts.baseline);
    let comparisons = arms.iter().filter(|row| row.arm != facts.baseline).filter_map(|row| {
        let is_equal = |base: &&GlueRow| base.keep == row.keep && base.learning_rate == row.learning_rate;
        row.against(baseline().find(is_equal)?, scale)
    });
    let selected_comparisons = selected.iter().filter(|score| score.arm != facts.baseline).filter_map(|score| {
        let base = selected.iter().find(|base| base.arm == facts.baseline && base.is_searched_like(score))?;
        let shared = Shared::new(&runs_of(&arms, scale, score)?, &runs_of(&arms, scale, base)?);
        let comparison = shared.compare(&score.arm, Some(scale.differences()))?;
        let rate = |score: &SelectedScore| {
            let mut rows = arms.iter().filter(|row| (&row.arm, row.keep) == (&score.arm, score.keep));
            rows.find(|row| row.selected).map(|row| row.learning_rate)
        };
        Some(Comparison {
            keep: Some(score.keep),
            blocks: Some(score.blocks),
            learning_rate: rate(score),
            baseline_learning_rate: rate(base),
            ..comparison
        })
    });
    Some(GlueReport {
        task,
        metrics: task.row().metrics.iter().map(|metric| metric.name().to_owned()).collect(),
        majority_score: scale.majority,
        comparisons: comparisons.collect(),
        selected_comparisons: selected_comparisons.collect(),
        selected,
        arms,
    })
}

impl GlueRow {
    /// `None` if this row and the baseline's share no seed.
    fn against(&self, baseline: &Self, scale: Scale) -> Option<Comparison> {
        let shared = Shared::new(&scale.runs(&self.scores), &scale.runs(&baseline.scores));
        Some(Comparison {
            keep: Some(self.keep),
            blocks: Some(self.blocks),
            learning_rate: Some(self.learning_rate),
            baseline_learning_rate: Some(baseline.learning_rate),
            ..shared.compare(&self.arm, Some(scale.differences()))?
        })
    }
}

impl SelectedScore {
    /// True if the two can be compared at their best: both had as many rates to choose from.
    fn is_searched_like(&self, other: &Self) -> bool {
        self.keep == other.keep && self.tried == other.tried
    }
}

/// The runs behind `score`.
fn runs_of(rows: &[GlueRow], scale: Scale, score: &SelectedScore) -> Option<Runs> {
    let is_of_score = |row: &&GlueRow| (&row.arm, row.keep) == (&score.arm, score.keep);
    let rates: Vec<GlueRow> = rows.iter().filter(is_of_score).cloned().collect();
    Some(cross_fitted(scale, &rates)?.1)
}

impl GlueReport {
    /// The runs of `score`, by their seeds.
    pub(super) fn runs_of(&self, score: &SelectedScore) -> Option<Runs> {
        runs_of(&self.arms, Scale { task: self.task, majority: self.majority_score }, score)
    }

    /// An arm against the baseline, both with all blocks and at their selected rates. `None` unless they can be
    /// compared.
    pub(crate) fn selected_pair(&self, arm: &str, baseline: &str) -> Option<Shared> {
        let of = |name: &str| self.selected.iter().find(|score| score.arm == name && score.keep.is_all());
        let (own, base) = of(arm).zip(of(baseline)).filter(|(own, base)| own.is_searched_like(base))?;
        Some(Shared::new(&self.runs_of(own)?, &self.runs_of(base)?))
    }
}

pub(super) fn scale(facts: &Facts, task: Task) -> Scale {
    Scale { task, majority: majority_score(facts, task) }
}

/// Score of the majority class on the dev set of `task`, which is the same in every report of that task.
fn majority_score(facts: &Facts, task: Task) -> Option<f64> {
    facts.trials.iter().find_map(|trial| match (&*trial.recipe, &trial.status) {
        (Recipe::Finetune(recipe), TrialStatus::Succeeded(TrialReport::Finetune(report))) if recipe.task == task => {
            Some(report.majority_score).filter(|score| (-1.0..=1.0).contains(score))
        }
        _ => None,
    })
}

/// Sets `p_holm` of every comparison. The comparisons at equal rates are one family, over all tasks, arms, choices of
/// blocks and rates; those at selected rates are another.
fn apply_holm(reports: &mut [GlueReport]) {
    apply_holm_to(reports.iter_mut().flat_map(|report| &mut report.comparisons).collect());
    apply_holm_to(reports.iter_mut().flat_map(|report| &mut report.selected_comparisons).collect());
}

fn apply_holm_to(mut family: Vec<&mut Comparison>) {
    family.retain(|comparison| comparison.p_paired_t.is_some());
    let p: Vec<f64> = family.iter().filter_map(|comparison| comparison.p_paired_t).collect();
    for (comparison, adjusted) in family.iter_mut().zip(holm(&p)) {
        comparison.p_holm = Some(adjusted);
    }
}
