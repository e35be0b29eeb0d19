//! The statistics agree with values from SciPy, which `fixtures/statistics.json` holds.

use report::statistics::{Summary, holm, mann_whitney, paired_t, welch, wilcoxon_signed_rank, wilson_interval};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    two_samples: Vec<TwoSamples>,
    holm: Holm,
    wilson: Vec<Wilson>,
}

#[derive(Deserialize)]
struct TwoSamples {
    a: Vec<f64>,
    b: Vec<f64>,
    mean_a: f64,
    std_a: f64,
    t_interval_a: [f64; 2],
    paired_t: PairedT,
    welch_p: f64,
    mann_whitney_exact_p: f64,
    wilcoxon_exact_p: f64,
}

#[derive(Deserialize)]
struct PairedT {
    p: f64,
    interval: [f64; 2],
}

#[derive(Deserialize)]
struct Holm {
    p: Vec<f64>,
    adjusted: Vec<f64>,
}

#[derive(Deserialize)]
struct Wilson {
    failures: usize,
    n: usize,
    interval: [f64; 2],
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap()
}

#[track_caller]
fn assert_close(ours: f64, theirs: f64, what: &str) {
    assert!((ours - theirs).abs() <= 1e-9 * theirs.abs().max(1e-3), "{what}: {ours}, SciPy says {theirs}");
}

#[track_caller]
fn assert_intervals_close(ours: Option<[f64; 2]>, theirs: [f64; 2], what: &str) {
    let ours = ours.unwrap();
    assert_close(ours[0], theirs[0], what);
    assert_close(ours[1], theirs[1], what);
}

#[test]
fn summaries_and_tests_of_two_samples_agree_with_scipy() {
    let cases = reference().two_samples;
    assert_eq!(cases.iter().map(|case| case.a.len()).collect::<Vec<_>>(), [3, 5, 10, 25]);
    for case in cases {
        let summary = Summary::of(&case.a).unwrap();
        assert_close(summary.mean, case.mean_a, "mean");
        assert_close(summary.sd.unwrap(), case.std_a, "sd");
        assert_intervals_close(summary.interval, case.t_interval_a, "t interval");
        let pairs: Vec<(f64, f64)> = case.a.iter().copied().zip(case.b.iter().copied()).collect();
        let paired = paired_t(&pairs).unwrap();
        assert_close(paired.p.unwrap(), case.paired_t.p, "paired t");
        assert_intervals_close(paired.interval, case.paired_t.interval, "paired interval");
        assert_close(welch(&case.a, &case.b).unwrap(), case.welch_p, "Welch");
        assert_close(mann_whitney(&case.a, &case.b).unwrap(), case.mann_whitney_exact_p, "Mann-Whitney");
        assert_close(wilcoxon_signed_rank(&pairs).unwrap(), case.wilcoxon_exact_p, "Wilcoxon");
    }
}

#[test]
fn holm_and_wilson_agree_with_scipy() {
    let reference = reference();
    for (ours, theirs) in holm(&reference.holm.p).into_iter().zip(&reference.holm.adjusted) {
        assert_close(ours, *theirs, "Holm");
    }
    for case in reference.wilson {
        assert_intervals_close(wilson_interval(case.failures, case.n), case.interval, "Wilson");
    }
}
