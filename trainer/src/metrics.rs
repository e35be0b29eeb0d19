//! The metrics of the GLUE tasks, as scikit-learn and SciPy define them.

use std::collections::BTreeMap;

use recipe::Task;
use recipe::task::{ANSWERS_HEADER, Metric, Target};

/// Each metric of `task` by name, and their mean, which is the task's score. All are fractions, not per cent.
///
/// `predictions` and `labels` have the same length; class 1 is `1.0`.
pub fn score(task: Task, predictions: &[f64], labels: &[f64]) -> (BTreeMap<String, f64>, f64) {
    let metrics = task.row().metrics;
    let values: BTreeMap<String, f64> =
        metrics.iter().map(|metric| (metric.name().to_owned(), value(*metric, predictions, labels))).collect();
    let mean = values.values().sum::<f64>() / values.len() as f64;
    (values, mean)
}

/// The score of a classifier that always predicts the most frequent class of `labels`, or the lower one of two equally
/// frequent classes. 0 for a regression task, because a constant correlates with nothing.
pub fn majority_score(task: Task, labels: &[f64]) -> f64 {
    let Target::Classes(classes) = task.row().target else { return 0.0 };
    let count = |class: &usize| labels.iter().filter(|label| **label == *class as f64).count();
    let majority = (0..classes.len()).rev().max_by_key(count).unwrap_or(0);
    score(task, &vec![majority as f64; labels.len()], labels).1
}

/// The text of a file that is submitted to the GLUE server. After a header, each line has the number of an example,
/// from 0, and its answer: the name of a class, or a score within its range, with three decimals.
pub fn answers(task: Task, predictions: &[f64]) -> String {
    let answer = |prediction: f64| match task.row().target {
        Target::Classes(classes) => classes[prediction as usize].to_owned(),
        Target::Score { low, high } => format!("{:.3}", prediction.clamp(low.into(), high.into())),
    };
    let lines = predictions.iter().enumerate().map(|(index, &prediction)| format!("{index}\t{}\n", answer(prediction)));
    std::iter::once(format!("{ANSWERS_HEADER}\n")).chain(lines).collect()
}

fn value(metric: Metric, predictions: &[f64], labels: &[f64]) -> f64 {
    match metric {
        Metric::Accuracy => accuracy(predictions, labels),
        Metric::F1 => f1(predictions, labels),
        Metric::Matthews => matthews(predictions, labels),
        Metric::Pearson => pearson(predictions, labels),
        Metric::Spearman => spearman(predictions, labels),
    }
}

/// Share of predictions that equal their label; 0 if there are none.
pub fn accuracy(predictions: &[f64], labels: &[f64]) -> f64 {
    ratio(count(predictions, labels, |guess, truth| guess == truth), labels.len() as f64)
}

/// Harmonic mean of precision and recall of class 1: `2 TP / (2 TP + FP + FN)`; 0 if class 1 occurs nowhere.
pub fn f1(predictions: &[f64], labels: &[f64]) -> f64 {
    let hits = count(predictions, labels, |guess, truth| guess == 1.0 && truth == 1.0);
    let misses = count(predictions, labels, |guess, truth| (guess == 1.0) != (truth == 1.0));
    ratio(2.0 * hits, 2.0 * hits + misses)
}

/// Matthews' correlation for any number of classes (Gorodkin 2004); 0 if all predictions or all labels are equal.
pub fn matthews(predictions: &[f64], labels: &[f64]) -> f64 {
    let total = labels.len() as f64;
    let correct = count(predictions, labels, |guess, truth| guess == truth);
    let (guessed, true_) = (histogram(predictions), histogram(labels));
    let dot = |a: &BTreeMap<u64, f64>, b: &BTreeMap<u64, f64>| -> f64 {
        a.iter().map(|(class, count)| count * b.get(class).unwrap_or(&0.0)).sum()
    };
    let covariance = correct * total - dot(&guessed, &true_);
    let spread = (total * total - dot(&guessed, &guessed)) * (total * total - dot(&true_, &true_));
    ratio(covariance, spread.sqrt())
}

/// Pearson's linear correlation; 0 if one side is constant.
pub fn pearson(predictions: &[f64], labels: &[f64]) -> f64 {
    let (a, b) = (centred(predictions), centred(labels));
    let product = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
    ratio(product(&a, &b), product(&a, &a).sqrt() * product(&b, &b).sqrt()).clamp(-1.0, 1.0)
}

/// Spearman's rank correlation. Equal values share their mean rank; 0 if one side is constant.
pub fn spearman(predictions: &[f64], labels: &[f64]) -> f64 {
    if predictions.iter().chain(labels).any(|value| value.is_nan()) {
        return f64::NAN;
    }
    pearson(&ranks(predictions), &ranks(labels))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean = below as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|&at| ranks[at] = mean);
        below += tied.len();
    }
    ranks
}

fn centred(values: &[f64]) -> Vec<f64> {
    // In floating point, the mean of equal values need not be that value, but a constant has to give exact zeros.
    if values.windows(2).all(|pair| pair[0] == pair[1]) {
        return vec![0.0; values.len()];
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

fn count(predictions: &[f64], labels: &[f64], holds: impl Fn(f64, f64) -> bool) -> f64 {
    predictions.iter().zip(labels).filter(|(guess, truth)| holds(**guess, **truth)).count() as f64
}

/// Occurrences of each class, by the bits of its number. Classes are whole numbers, so equal classes have equal bits.
fn histogram(classes: &[f64]) -> BTreeMap<u64, f64> {
    let mut counts = BTreeMap::new();
    classes.iter().for_each(|class| *counts.entry(class.to_bits()).or_insert(0.0) += 1.0);
    counts
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    #[test]
    fn every_metric_equals_scikit_learn_and_scipy() {
        let reference: Value = serde_json::from_str(include_str!("../tests/fixtures/reference.json")).unwrap();
        type Rule = fn(&[f64], &[f64]) -> f64;
        let metrics: [(&str, Rule); 5] =
            [("accuracy", accuracy), ("f1", f1), ("matthews", matthews), ("pearson", pearson), ("spearman", spearman)];
        let mut compared = BTreeMap::new();
        for case in
            ["classification", "regression"].iter().flat_map(|kind| reference["metrics"][kind].as_array().unwrap())
        {
            let (predictions, labels) = (numbers(&case["predictions"]), numbers(&case["labels"]));
            for (name, metric) in metrics {
                let Some(expected) = case.get(name).and_then(Value::as_f64) else { continue };
                let found = metric(&predictions, &labels);
                assert!((found - expected).abs() < 1e-12, "{name}: {found} is not {expected}");
                *compared.entry(name).or_insert(0) += 1;
            }
        }
        assert_eq!(compared, [("accuracy", 5), ("f1", 4), ("matthews", 5), ("pearson", 1), ("spearman", 1)].into());
    }

    #[test]
    fn a_task_is_scored_by_the_mean_of_its_metrics() {
        let (metrics, mean) = score(Task::Mrpc, &[1.0, 1.0, 0.0, 0.0], &[1.0, 0.0, 0.0, 0.0]);
        assert_eq!(metrics, [("accuracy".to_owned(), 0.75), ("f1".to_owned(), 2.0 / 3.0)].into());
        assert_eq!(mean, (0.75 + 2.0 / 3.0) / 2.0);
    }

    #[test]
    fn the_majority_score_is_that_of_a_constant_classifier() {
        let labels = [0.0, 1.0, 1.0, 1.0];
        assert_eq!(majority_score(Task::Rte, &labels), 0.75);
        assert_eq!(majority_score(Task::Cola, &labels), 0.0);
        assert_eq!(majority_score(Task::Mrpc, &labels), (0.75 + 6.0 / 7.0) / 2.0);
        assert_eq!(majority_score(Task::StsB, &[0.5, 3.0]), 0.0);
        assert_eq!(majority_score(Task::Mnli, &[2.0, 2.0, 0.0, 1.0]), 0.5);
        // Two classes are equally frequent: the lower one is predicted, so class 1 is never found.
        assert_eq!(majority_score(Task::Mrpc, &[0.0, 1.0]), 0.25);
    }

    #[test]
    fn an_undefined_metric_is_zero_and_nan_stays_nan() {
        assert_eq!(pearson(&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0]), 0.0);
        assert_eq!(spearman(&[0.1, 0.2, 0.3], &[4.0, 4.0, 4.0]), 0.0);
        assert_eq!(f1(&[0.0, 0.0], &[0.0, 0.0]), 0.0);
        assert!(pearson(&[f64::NAN, 1.0], &[1.0, 2.0]).is_nan());
        assert!(spearman(&[f64::NAN, 1.0], &[1.0, 2.0]).is_nan());
    }

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
    }

    proptest! {
        #[test]
        fn matthews_of_two_classes_is_their_pearson_correlation(
            pairs in prop::collection::vec((0u8..2, 0u8..2), 1..60),
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).unzip();
            prop_assert!((matthews(&a, &b) - pearson(&a, &b)).abs() < 1e-12);
        }

        #[test]
        fn a_correlation_keeps_its_value_under_an_increasing_map(values in prop::collection::vec((-9i32..9, -9i32..9), 2..60)) {
            let (a, b): (Vec<f64>, Vec<f64>) = values.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).unzip();
            let stretched: Vec<f64> = a.iter().map(|v| v.exp()).collect();
            prop_assert!((spearman(&a, &b) - spearman(&stretched, &b)).abs() < 1e-12);
            prop_assert!(pearson(&a, &b).abs() <= 1.0);
        }
    }

    #[test]
    fn answers_have_the_names_and_the_range_of_the_task() {
        assert_eq!(answers(Task::Rte, &[1.0, 0.0]), "index\tprediction\n0\tnot_entailment\n1\tentailment\n");
        assert_eq!(answers(Task::Mnli, &[2.0]), "index\tprediction\n0\tneutral\n");
        assert_eq!(answers(Task::Wnli, &[1.0]), "index\tprediction\n0\t1\n");
        let scores = answers(Task::StsB, &[-0.2, 0.0, 3.071_59, 5.5]);
        assert_eq!(scores, "index\tprediction\n0\t0.000\n1\t0.000\n2\t3.072\n3\t5.000\n");
    }
}
