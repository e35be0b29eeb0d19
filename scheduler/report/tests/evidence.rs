//! The statistics agree with reference values of SciPy, statsmodels and enumeration, which `fixtures/evidence.json`
//! holds with their sources.

use report::statistics::{
    Estimate, bonett_interval, brown_forsythe, difference_of_rates, equivalence, expected_maximum, hodges_lehmann,
    hodges_lehmann_interval, holm, mann_whitney, mcnemar, mean, nested_rate_interval, nesting, paired_t, pitman_morgan,
    power_of_difference, power_of_sameness, spread_within, t_interval, walsh_rank, wilcoxon_signed_rank,
    wilson_interval,
};
use serde_json::Value;

/// The fixtures whose name starts with `name`, which exist.
fn fixtures(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("fixtures/evidence.json")).unwrap();
    let all = all["fixtures"].as_array().unwrap().iter();
    let found: Vec<Value> =
        all.filter(|fixture| fixture["name"].as_str().unwrap().starts_with(name)).cloned().collect();
    assert!(!found.is_empty(), "no fixture is called {name}");
    found
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap_or_else(|| panic!("{value}")).iter().map(|number| number.as_f64().unwrap()).collect()
}

fn groups(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn samples(fixture: &Value) -> (Vec<f64>, Vec<f64>) {
    (numbers(&fixture["inputs"]["a"]), numbers(&fixture["inputs"]["b"]))
}

fn pairs(fixture: &Value) -> Vec<(f64, f64)> {
    let (a, b) = samples(fixture);
    a.into_iter().zip(b).collect()
}

/// Each of `ours` is within the tolerance of the fixture, which is relative and at least that of 0.001.
#[track_caller]
fn assert_close(fixture: &Value, ours: &[f64], theirs: &Value) {
    let theirs = if theirs.is_array() { numbers(theirs) } else { vec![theirs.as_f64().unwrap()] };
    // The values are written with 12 digits.
    let tolerance = fixture["tolerance"].as_f64().unwrap().max(1e-11);
    assert_eq!(ours.len(), theirs.len(), "{}", fixture["name"]);
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!(
            (ours - theirs).abs() <= tolerance * theirs.abs().max(1e-3),
            "{}: {ours}, not {theirs}",
            fixture["name"]
        );
    }
}

#[test]
fn paired_differences_have_the_interval_the_test_and_the_effect_size_of_scipy() {
    for fixture in fixtures("t and paired t") {
        let expected = &fixture["expected"];
        let pairs = pairs(&fixture);
        assert_close(&fixture, &t_interval(&samples(&fixture).0).unwrap(), &expected["t_interval_a"]);
        let estimate = Estimate::of_differences(&pairs).unwrap();
        assert_close(&fixture, &[estimate.centre], &expected["difference"]);
        assert_close(&fixture, &estimate.interval(0.05).unwrap(), &expected["interval"]);
        assert_close(&fixture, &[estimate.p_of(0.0).unwrap()], &expected["p"]);
        assert_eq!(paired_t(&pairs).unwrap().p, estimate.p_of(0.0));
        match estimate.size() {
            Some(size) => assert_close(&fixture, &[size], &expected["hedges_gz"]),
            None => assert!(expected["hedges_gz"].is_null()),
        }
    }
}

#[test]
fn rank_tests_are_those_of_enumeration() {
    for fixture in fixtures("Wilcoxon signed rank exact") {
        assert_close(&fixture, &[wilcoxon_signed_rank(&pairs(&fixture)).unwrap()], &fixture["expected"]["p"]);
    }
    for fixture in fixtures("Mann-Whitney exact") {
        let (a, b) = samples(&fixture);
        assert_close(&fixture, &[mann_whitney(&a, &b).unwrap()], &fixture["expected"]["p"]);
    }
}

#[test]
fn the_pseudomedian_and_its_interval_are_those_of_the_walsh_averages() {
    for fixture in fixtures("Hodges-Lehmann interval") {
        let rounds = numbers(&fixture["inputs"]["rounds"]);
        let ranks: Vec<f64> = rounds.iter().map(|n| walsh_rank(*n as usize, 0.05).unwrap() as f64).collect();
        assert_close(&fixture, &ranks, &fixture["expected"]["rank_of_ends"]);
    }
    for fixture in fixtures("speed ratio of 8 rounds") {
        let inputs = &fixture["inputs"];
        let turns = numbers(&inputs["baseline"]).into_iter().zip(numbers(&inputs["arm"]));
        let logs: Vec<f64> = turns.map(|(base, own)| (base / own).ln()).collect();
        let [low, high] = hodges_lehmann_interval(&logs, 0.05).unwrap();
        let ours = [hodges_lehmann(&logs).unwrap(), low, high].map(f64::exp);
        assert_close(&fixture, &ours, &fixture["expected"]["hodges_lehmann"]);
    }
}

#[test]
fn spreads_are_compared_as_in_the_literature() {
    for fixture in fixtures("spread, n=") {
        let (a, b) = samples(&fixture);
        let expected = &fixture["expected"];
        let p = brown_forsythe(&a, &b).unwrap();
        assert_close(&fixture, &[p], &expected["brown_forsythe_structural_zero_removed_p"]);
        assert_close(&fixture, &[bonett_interval(&a, &b).unwrap().0], &expected["sd_ratio"]);
    }
    for fixture in fixtures("ratio of two sds") {
        let (a, b) = samples(&fixture);
        let (ratio, interval) = bonett_interval(&a, &b).unwrap();
        let [low, high] = interval.unwrap();
        assert_close(&fixture, &[ratio, low, high], &fixture["expected"]["ratio_low_high"]);
    }
    for fixture in fixtures("Pitman-Morgan") {
        assert_close(&fixture, &[pitman_morgan(&pairs(&fixture)).unwrap()], &fixture["expected"]["p"]);
    }
    for fixture in fixtures("spread over fine-tune seeds nested") {
        let inputs = &fixture["inputs"];
        let checkpoints: Vec<_> = groups(&inputs["baseline"]).into_iter().zip(groups(&inputs["arm"])).collect();
        let spread = spread_within(&checkpoints).unwrap();
        let expected = &fixture["expected"];
        assert_close(&fixture, &[spread.centre.exp()], &expected["sd_ratio"]);
        assert_close(&fixture, &spread.interval(0.05).unwrap().map(f64::exp), &expected["interval"]);
        assert_close(&fixture, &[spread.p_of(0.0).unwrap()], &expected["p"]);
    }
}

/// With its structural zeros, the test of three against three runs has F <= 4 and p >= 0.116 whatever the data.
#[test]
fn a_test_of_spread_can_reject_at_three_runs() {
    let least = fixtures("Brown-Forsythe cannot reject")[0]["expected"]["least_p"].as_f64().unwrap();
    let p = brown_forsythe(&[0.0, 1e-3, 2.1e-3], &[-1.0, 0.1, 1.0]).unwrap();
    assert!(p < least && p < 0.05, "{p}");
}

#[test]
fn rates_have_the_intervals_of_statsmodels() {
    for fixture in fixtures("Wilson ") {
        let count = |name: &str| fixture["inputs"][name].as_u64().unwrap() as usize;
        assert_close(&fixture, &wilson_interval(count("hits"), count("n")).unwrap(), &fixture["expected"]["interval"]);
    }
    let rate = |value: &Value| (value[0].as_u64().unwrap() as usize, value[1].as_u64().unwrap() as usize);
    for fixture in fixtures("difference of failed-run rates") {
        let (base, arm) = (rate(&fixture["inputs"]["baseline"]), rate(&fixture["inputs"]["arm"]));
        let (_, interval) = difference_of_rates(&[base], &[arm]).unwrap();
        assert_close(&fixture, &interval.unwrap(), &fixture["expected"]["newcombe"]);
    }
    for fixture in fixtures("paired failed runs") {
        let count = |name: &str| fixture["inputs"][name].as_u64().unwrap() as usize;
        let p = mcnemar(count("baseline_only"), count("arm_only")).unwrap();
        assert_close(&fixture, &[p], &fixture["expected"]["p"]);
    }
    for fixture in fixtures("failed-run rate over nested runs") {
        let counts = |name: &str| numbers(&fixture["inputs"][name]).into_iter().map(|count| count as usize);
        let groups: Vec<_> = counts("failed").zip(counts("runs")).collect();
        assert_close(&fixture, &nested_rate_interval(&groups).unwrap(), &fixture["expected"]["interval"]);
    }
}

#[test]
fn the_expected_best_is_the_u_statistic() {
    let fixture = &fixtures("expected best of k")[0];
    let scores = numbers(&fixture["inputs"]["scores"]);
    let ours = [2, 5, 10].map(|k| expected_maximum(&scores, k).unwrap());
    assert_close(fixture, &ours, &fixture["expected"]["unbiased_k_2_5_10"]);
}

#[test]
fn corrections_and_tests_of_sameness_are_those_of_statsmodels() {
    let fixture = &fixtures("Holm over arms and tasks")[0];
    assert_close(fixture, &holm(&numbers(&fixture["inputs"]["p"])), &fixture["expected"]["adjusted"]);
    let fixture = &fixtures("equivalence within a margin")[0];
    let (pairs, expected) = (pairs(fixture), &fixture["expected"]);
    let margin = fixture["inputs"]["margin"].as_f64().unwrap();
    assert_close(fixture, &[equivalence(&pairs, margin).unwrap()], &expected["p"]);
    let estimate = Estimate::of_differences(&pairs).unwrap();
    assert_close(fixture, &estimate.interval(0.10).unwrap(), &expected["interval_90"]);
    assert_close(fixture, &estimate.interval(0.05).unwrap(), &expected["interval_95"]);
}

#[test]
fn runs_of_checkpoints_have_the_components_of_an_analysis_of_variance() {
    let fixture = &fixtures("runs nested in checkpoints")[0];
    let (scores, expected) = (groups(&fixture["inputs"]["scores"]), &fixture["expected"]);
    let means: Vec<f64> = scores.iter().map(|runs| mean(runs).unwrap()).collect();
    assert_close(fixture, &[mean(&means).unwrap()], &expected["mean_of_checkpoint_means"]);
    assert_close(fixture, &t_interval(&means).unwrap(), &expected["interval_t_over_checkpoints"]);
    let nested = nesting(&scores).unwrap();
    assert_close(fixture, &[nested.correlation], &expected["ICC"]);
    assert_close(fixture, &[nested.effective_n], &expected["effective_n"]);
    assert_close(fixture, &[nested.sd_between], &expected["sd_between"]);
    assert_close(fixture, &[nested.sd_within], &expected["sd_within"]);
}

/// The smallest number of pairs at which `power` is at least 0.8.
fn pairs_needed(power: impl Fn(usize) -> Option<f64>) -> f64 {
    (2..200).find(|n| power(*n).unwrap() >= 0.8).unwrap() as f64
}

#[test]
fn a_plan_needs_as_many_pairs_as_statsmodels_says() {
    let fixture = &fixtures("pairs needed, paired t")[0];
    let effects = numbers(&fixture["inputs"]["effect_over_sd"]);
    let ours: Vec<f64> = effects.iter().map(|effect| pairs_needed(|n| power_of_difference(*effect, n, 0.05))).collect();
    assert_close(fixture, &ours, &fixture["expected"]["n"]);
    let fixture = &fixtures("pairs needed to show sameness")[0];
    let margins = numbers(&fixture["inputs"]["margin_over_sd"]);
    // Two one-sided tests at 5 % are one interval of 90 %.
    let ours: Vec<f64> = margins.iter().map(|margin| pairs_needed(|n| power_of_sameness(*margin, n, 0.10))).collect();
    assert_close(fixture, &ours, &fixture["expected"]["n"]);
}
