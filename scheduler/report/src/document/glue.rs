//! Scores on the GLUE tasks.

use super::cell::{
    difference, known, number, p_value, percent, percent_with_interval, rate, rates, spread, with_interval,
};
use super::figure::{Figure, Row};
use super::part::Part;
use super::table::Table;
use crate::comparison::{Comparison, Units};
use crate::glue::{BEST_OF_COUNTS, GlueAverage, GlueReport, GlueRow, SelectedScore};

/// A row of a table: a task with one of its arms or comparisons.
type OfTask<'a, T> = (&'a GlueReport, &'a T);

pub(super) fn section(tasks: &[GlueReport], averages: &[GlueAverage]) -> Vec<Part> {
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
        selected_section(tasks),
        comparison_section("equal learning rates", &equal.collect::<Vec<_>>()),
        comparison_section("selected learning rates", &selected),
        average_section(averages),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn score_section(rows: &[OfTask<'_, GlueRow>]) -> Vec<Part> {
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
        .right("Without failures", |(_, row)| percent(row.mean_without_failures))
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
        Part::heading("GLUE, dev scores"),
        "Scores are times 100. Selection: mean score on the held-out part of the training set; a star marks the \
         selected learning rate. n: runs with a result; one that diverged has the score of the majority class. Mean: with \
         several pre-train seeds, the mean of the means of their checkpoints; without failures: the mean of the runs that \
         did not fail. Failed: diverged, or at or below the score of the majority class. Hours: mean training time of a \
         run."
            .into(),
        table.into(),
    ]
    .into_iter()
    .chain(figures(rows))
    .collect()
}

/// One figure per task, with the rows that were selected.
fn figures(rows: &[OfTask<'_, GlueRow>]) -> Vec<Part> {
    let row = |(_, row): &OfTask<'_, GlueRow>| Row {
        label: if row.keep.is_all() { row.arm.clone() } else { format!("{}, {} blocks", row.arm, row.blocks) },
        points: row.scores.iter().filter_map(|run| run.score).map(|score| 100.0 * score).collect(),
        estimate: row.mean.map(|mean| 100.0 * mean),
        interval: row.interval.map(|ends| ends.map(|end| 100.0 * end)),
    };
    let figure = |rows: &[OfTask<'_, GlueRow>]| {
        let (task, _) = rows.first()?;
        Some(Part::Figure(Figure {
            title: format!("Dev score of each run on {}, with the mean and its 95 % interval.", title(task)),
            axis: "score, times 100; the dashed line is the score of the majority class".into(),
            reference: task.majority_score.map(|score| 100.0 * score),
            rows: rows.iter().filter(|(_, row)| row.selected).map(row).collect(),
        }))
    };
    rows.chunk_by(|a, b| a.0.task == b.0.task).filter_map(figure).collect()
}

/// Expected best scores, if a row has at least 5 runs.
fn best_of_section(rows: &[OfTask<'_, GlueRow>]) -> Vec<Part> {
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
        Part::heading("GLUE, expected best of k runs"),
        "Expected maximum of k scores drawn without replacement from those of the row (Tang et al. 2020), times 100."
            .into(),
        table.into(),
    ]
}

/// Cross-fitted scores, if an arm has several learning rates.
fn selected_section(tasks: &[GlueReport]) -> Vec<Part> {
    let all = tasks.iter().flat_map(|task| task.selected.iter().map(move |score| (task, score)));
    let rows: Vec<OfTask<'_, SelectedScore>> = all.filter(|(_, score)| score.tried > 1).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let table = Table::of(&rows)
        .left("Task", |(task, _)| title(task))
        .left("Arm", |(_, row)| row.arm.clone())
        .right("Blocks", |(_, row)| row.blocks.to_string())
        .right("Rates", |(_, row)| {
            row.learning_rates.iter().map(|own| rate(Some(*own))).collect::<Vec<String>>().join(", ")
        })
        .right("Tried", |(_, row)| row.tried.to_string())
        .right("n", |(_, row)| row.n.to_string())
        .right("Mean", |(_, row)| percent_with_interval(Some(row.mean), row.interval));
    vec![
        Part::heading("GLUE, scores at selected learning rates"),
        "Cross-fitted: one half of the seeds selects the rate at which the other half is scored, and the other way round. \
         Rates: what the halves selected; tried: number of rates to select from. Scores are times 100."
            .into(),
        table.into(),
    ]
}

fn comparison_section(rates_compared: &str, rows: &[OfTask<'_, Comparison>]) -> Vec<Part> {
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
        .right("Effect size", |(_, row)| known(row.effect_size, |size| format!("{size:+.2}")))
        .right("Spread", |(_, row)| spread(row.spread.as_ref()))
        .right("More failed, %", |(_, row)| {
            with_interval(format!("{:+.1}", 100.0 * row.failed.difference), row.failed.interval, 100.0, 1)
        });
    let is_of_one = |(_, row): &OfTask<'_, Comparison>| row.units == Units::RunsOfOneCheckpoint;
    let (about, title) = if rows.iter().any(is_of_one) {
        ("between the two checkpoints, not the arms; ", "difference between these two checkpoints")
    } else {
        ("", "difference from the baseline")
    };
    vec![
        Part::heading(format!("GLUE, {title} at {rates_compared}")),
        format!(
            "Difference: arm minus baseline, of scores times 100, over pairs of runs with equal seeds; {about}p: paired t \
             test; Holm: the same p, corrected over all rows; Wilcoxon: exact signed rank test, from 6 pairs; effect \
             size: Hedges' g of the pairs; spread: standard deviation of the arm divided by that of the baseline, within \
             checkpoints; more failed: share of failed runs, arm minus baseline."
        )
        .into(),
        table.into(),
    ]
}

fn average_section(averages: &[GlueAverage]) -> Vec<Part> {
    if averages.is_empty() {
        return Vec::new();
    }
    let table = Table::of(averages)
        .left("Arm", |row| row.arm.clone())
        .left("Tasks", |row| row.tasks.iter().map(|task| task.name()).collect::<Vec<_>>().join(", "))
        .right("Blocks", |row| row.blocks.to_string())
        .right("Mean", |row| percent_with_interval(Some(row.mean), row.interval));
    vec![
        Part::heading("GLUE, mean over tasks"),
        "Mean over the tasks, which are those that all arms share, of the mean dev score at the selected learning rate, \
         times 100; the interval is over pre-train seeds."
            .into(),
        table.into(),
    ]
}

/// Name of a task with its metrics, as `mrpc (f1, accuracy)`.
fn title(task: &GlueReport) -> String {
    format!("{} ({})", task.task.name(), task.metrics.join(", "))
}
