//! Scores on the GLUE tasks.

use super::cell::{difference, known, number, p_value, percent, percent_with_interval, rate, rates};
use super::table::Table;
use crate::comparison::Comparison;
use crate::glue::{BEST_OF_COUNTS, GlueAverage, GlueReport, GlueRow};

/// A row of a table: a task with one of its arms or comparisons.
type OfTask<'a, T> = (&'a GlueReport, &'a T);

pub(super) fn section(tasks: &[GlueReport], averages: &[GlueAverage]) -> Vec<String> {
    if tasks.is_empty() {
        return Vec::new();
    }
    let rows: Vec<OfTask<'_, GlueRow>> =
        tasks.iter().flat_map(|task| task.arms.iter().map(move |row| (task, row))).collect();
    let equal = tasks.iter().flat_map(|task| task.comparisons.iter().map(move |row| (task, row)));
    let selected = tasks.iter().flat_map(|task| task.selected_comparisons.iter().map(move |row| (task, row)));
    let mut selected: Vec<OfTask<'_, Comparison>> = selected.collect();
    // Where every arm's selected rate is the baseline's, the table of equal rates has the same rows.
    if selected.iter().all(|(_, row)| row.learning_rate == row.baseline_learning_rate) {
        selected.clear();
    }
    [
        score_section(&rows),
        best_of_section(&rows),
        comparison_section("equal learning rates", &equal.collect::<Vec<_>>()),
        comparison_section("selected learning rates", &selected),
        average_section(averages),
    ]
    .concat()
}

fn score_section(rows: &[OfTask<'_, GlueRow>]) -> Vec<String> {
    let table = Table::of(rows)
        .left("Task", |(task, _)| title(task))
        .left("Arm", |(_, row)| row.arm.clone())
        .right("Blocks", |(_, row)| row.blocks.to_string())
        .right("Rate", |(_, row)| rate(Some(row.learning_rate)))
        .right("Selection", |(_, row)| {
            let is_marked = row.selected && row.selection.is_some();
            percent(row.selection) + if is_marked { "*" } else { "" }
        })
        .right("n", |(_, row)| row.n.to_string())
        .right("Mean", |(_, row)| percent_with_interval(row.mean, row.interval))
        .right("sd", |(_, row)| percent(row.sd))
        .right("Median", |(_, row)| percent(row.median))
        .right("Min", |(_, row)| percent(row.min))
        .right("Max", |(_, row)| percent(row.max))
        .right("Failed", |(_, row)| format!("{} of {}", row.failed, row.n))
        .right("Failed, %", |(_, row)| {
            percent_with_interval(Some(row.failed as f64 / row.n as f64), row.failed_interval)
        })
        .right("Hours", |(_, row)| known(row.hours, |hours| number(hours, 3)));
    vec![
        "## GLUE, dev scores".into(),
        "Scores are times 100. Selection: mean score on the held-out part of the training set; a star marks the \
         selected learning rate. n: runs with a result, diverged ones included; mean to max are over the runs with a \
         score. Failed: diverged, or at or below the score of the majority class. Hours: mean training time of a run."
            .into(),
        table.to_text(),
    ]
}

/// Expected best scores, if a row has at least 5 runs.
fn best_of_section(rows: &[OfTask<'_, GlueRow>]) -> Vec<String> {
    if rows.iter().all(|(_, row)| row.scores.len() < 5) {
        return Vec::new();
    }
    let table = Table::of(rows)
        .left("Task", |(task, _)| title(task))
        .left("Arm", |(_, row)| row.arm.clone())
        .right("Blocks", |(_, row)| row.blocks.to_string())
        .right("Rate", |(_, row)| rate(Some(row.learning_rate)))
        .right("n", |(_, row)| row.n.to_string());
    let table = BEST_OF_COUNTS.into_iter().fold(table, |table, k| {
        let expected = move |row: &GlueRow| row.best_of.iter().find(|best| best.runs == k).map(|best| best.expected);
        table.right(format!("k = {k}"), move |(_, row)| percent(expected(row)))
    });
    vec![
        "## GLUE, expected best of k runs".into(),
        "Expected maximum of k scores drawn with replacement from those of the row (Dodge et al. 2019), times 100."
            .into(),
        table.to_text(),
    ]
}

fn comparison_section(rates_compared: &str, rows: &[OfTask<'_, Comparison>]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let table = Table::of(rows)
        .left("Task", |(task, _)| title(task))
        .left("Arm", |(_, row)| row.arm.clone())
        .right("Blocks", |(_, row)| known(row.blocks, |blocks| blocks.to_string()))
        .right("Rate", |(_, row)| rates(row.learning_rate, row.baseline_learning_rate))
        .right("Pairs", |(_, row)| row.n_pairs.to_string())
        .right("Difference", |(_, row)| difference(Some(row), 100.0, 1))
        .right("p", |(_, row)| p_value(row.p_paired_t))
        .right("p, Holm", |(_, row)| p_value(row.p_holm))
        .right("p, Wilcoxon", |(_, row)| p_value(row.p_wilcoxon))
        .right("p, spread", |(_, row)| p_value(row.p_brown_forsythe));
    vec![
        format!("## GLUE, difference from the baseline at {rates_compared}"),
        "Difference: arm minus baseline, of scores times 100, over pairs of runs with equal seeds. p: paired t test; \
         Holm: the same p, corrected over the tasks of an arm; Wilcoxon: exact signed rank test; spread: \
         Brown-Forsythe test of equal spread."
            .into(),
        table.to_text(),
    ]
}

fn average_section(averages: &[GlueAverage]) -> Vec<String> {
    if averages.is_empty() {
        return Vec::new();
    }
    let table = Table::of(averages)
        .left("Arm", |row| row.arm.clone())
        .left("Tasks", |row| row.tasks.iter().map(|task| task.name()).collect::<Vec<_>>().join(", "))
        .right("Blocks", |row| row.blocks.to_string())
        .right("Mean", |row| percent(Some(row.mean)));
    vec![
        "## GLUE, mean over tasks".into(),
        "Mean over the tasks of the mean dev score at the selected learning rate, times 100.".into(),
        table.to_text(),
    ]
}

/// Name of a task with its metrics, as `mrpc (f1, accuracy)`.
fn title(task: &GlueReport) -> String {
    format!("{} ({})", task.task.name(), task.metrics.join(", "))
}
