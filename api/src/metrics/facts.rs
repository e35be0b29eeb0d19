//! The numbers of the database as metric families. Several servers on one database show the same numbers, so a query
//! must take their maximum, not their sum.

use prometheus::proto::MetricFamily;
use recipe::{FailureKind, Stage};
use report::statistics::{mean, standard_deviation, t_interval};
use scheduler::attempt::OutcomeName;
use scheduler::store::{Latency, MetricFacts, NewestPoint, Scores, SlotUse, TimedArm, Timing, WatchedJob, Work};
use scheduler::trial::TrialState;

use super::family::{Buckets, Sample, counter, gauge, histogram};

/// Upper bounds of the buckets of a latency, in seconds.
pub(super) const BOUNDS: [f64; 14] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0, 3600.0];

/// Metric points whose newest value is shown for each arm and stage: name of the point, name of the metric, help text.
const POINTS: [(&str, &str, &str); 6] = [
    ("step_seconds", "lamina_step_seconds", "Newest seconds per step"),
    ("theta", "lamina_theta", "Newest theta of layer drop"),
    ("open_blocks", "lamina_open_blocks", "Number of open blocks in the newest step"),
    ("train_loss", "lamina_train_loss", "Newest training loss"),
    ("validation_loss", "lamina_validation_loss", "Newest validation loss, at full depth"),
    (
        "validation_accuracy",
        "lamina_validation_accuracy",
        "Newest share of held-out images that are classified correctly, at full depth",
    ),
];

pub(super) fn point_names() -> Vec<String> {
    POINTS.map(|(point, _, _)| point.to_owned()).into()
}

pub(super) fn families(facts: &MetricFacts) -> Vec<MetricFamily> {
    let mut families = vec![trials(facts), attempts(facts), failures(facts)];
    let capacity = &facts.capacity;
    families.push(gauge(
        "lamina_nodes",
        "Known nodes; live is true if the node's agent has synced within the lease.",
        &["live"],
        vec![
            (vec!["true".into()], capacity.nodes_live as f64),
            (vec!["false".into()], (capacity.nodes - capacity.nodes_live) as f64),
        ],
    ));
    families.push(single("lamina_slots", "Slots of live nodes.", capacity.slots as f64));
    families.push(single("lamina_slots_busy", "Slots with an open attempt.", capacity.slots_busy as f64));
    families.push(gauge(
        "lamina_slot_busy",
        "1 if an attempt is open on the slot, 0 otherwise; for each slot of live nodes.",
        &["node", "slot", "device", "model"],
        facts.slots.iter().map(slot).collect(),
    ));
    families.push(single(
        "lamina_oldest_queued_seconds",
        "Time for which the oldest queued trial has been ready, 0 if none is queued.",
        facts.oldest_queued,
    ));
    families.push(histogram(
        "lamina_placement_latency_seconds",
        "Time from the moment at which a trial could start to its placement on a slot.",
        buckets(&facts.placement),
    ));
    families.push(histogram(
        "lamina_start_latency_seconds",
        "Time from a trial's placement to its trainer's first event, including the download of its files.",
        buckets(&facts.start),
    ));
    let work = |number: fn(&Work) -> Option<i64>| -> Vec<Sample> {
        facts.work.iter().filter_map(|work| Some((vec![work.stage.clone()], number(work)? as f64))).collect()
    };
    families.push(counter(
        "lamina_steps_total",
        "Training steps of all attempts, including steps that were repeated after an attempt was lost.",
        &["stage"],
        work(|work| Some(work.steps)),
    ));
    families.push(counter(
        "lamina_tokens_total",
        "Tokens of these steps; for pre-training only, because its sequences have no padding.",
        &["stage"],
        work(|work| work.tokens),
    ));
    families.extend(POINTS.map(|(point, metric, what)| newest(&facts.points, point, metric, what)));
    families.extend(timings(&facts.timings));
    families.extend(scores(&facts.scores));
    families
}

/// Every stage and state has a sample, if need be 0, because an alert on a series that does not exist never fires.
fn trials(facts: &MetricFacts) -> MetricFamily {
    let count = |stage: &str, state: &str| {
        let found = facts.trials.iter().find(|count| count.stage == stage && count.state == state);
        found.map_or(0, |count| count.trials) as f64
    };
    let samples = Stage::ALL.iter().flat_map(|stage| {
        TrialState::ALL
            .iter()
            .map(|state| (stage.name(), state.name()))
            .map(|(stage, state)| (vec![stage.to_owned(), state.to_owned()], count(stage, state)))
    });
    gauge(
        "lamina_trials",
        "Trials by stage and state; state queued is the queue.",
        &["stage", "state"],
        samples.collect(),
    )
}

fn attempts(facts: &MetricFacts) -> MetricFamily {
    let samples = OutcomeName::ALL.iter().map(|outcome| {
        let ended = facts.attempts.iter().filter(|ended| ended.outcome == outcome.name());
        (vec![outcome.name().to_owned()], ended.map(|ended| ended.attempts).sum::<i64>() as f64)
    });
    counter("lamina_attempts_total", "Ended attempts by outcome.", &["outcome"], samples.collect())
}

fn failures(facts: &MetricFacts) -> MetricFamily {
    let samples = FailureKind::ALL.iter().map(|kind| {
        let found = facts.attempts.iter().filter(|ended| ended.failure.as_deref() == Some(kind.name()));
        (vec![kind.name().to_owned()], found.map(|ended| ended.attempts).sum::<i64>() as f64)
    });
    counter("lamina_failures_total", "Failed attempts by kind of failure.", &["kind"], samples.collect())
}

fn slot(slot: &SlotUse) -> Sample {
    let SlotUse { node, index, device, model, busy } = slot;
    (vec![node.clone(), index.to_string(), device.clone(), model.clone()], if *busy { 1.0 } else { 0.0 })
}

/// The values of the labels `job_name` and `job_id`, and the others. The label `job` is Prometheus' own.
fn labels(job: &WatchedJob, others: &[&str]) -> Vec<String> {
    [job.name.clone(), job.id.to_string()].into_iter().chain(others.iter().map(|value| (*value).to_owned())).collect()
}

fn newest(points: &[NewestPoint], point: &str, metric: &str, what: &str) -> MetricFamily {
    let help =
        format!("{what}; mean over the arm's trials, for each of the twenty newest jobs and of the jobs that run.");
    let points = points.iter().filter(|found| found.name == point);
    gauge(
        metric,
        &help,
        &["job_name", "job_id", "stage", "arm"],
        points.map(|found| (labels(&found.job, &[&found.stage, &found.arm]), found.value)).collect(),
    )
}

/// Times of timing trials. Only these may be compared between arms: they ran interleaved on one device.
fn timings(timings: &[Timing]) -> [MetricFamily; 2] {
    const LABELS: [&str; 3] = ["job_name", "job_id", "arm"];
    let (mut seconds, mut ratios) = (Vec::new(), Vec::new());
    for Timing { job, arms } in timings {
        for TimedArm { arm, step_seconds, ratio } in &**arms {
            seconds.push((labels(job, &[arm]), *step_seconds));
            ratios.extend(ratio.map(|ratio| (labels(job, &[arm]), ratio)));
        }
    }
    [
        gauge(
            "lamina_timed_step_seconds",
            "Seconds of a mean step of the arm's whole run, from the job's timing trial, which runs the arms interleaved on \
             one device.",
            &LABELS,
            seconds,
        ),
        gauge(
            "lamina_speedup_ratio",
            "Seconds per step of the baseline divided by those of the arm, in the job's timing trial; above 1 is faster.",
            &LABELS,
            ratios,
        ),
    ]
}

fn scores(scores: &[Scores]) -> [MetricFamily; 6] {
    let family = |name: &str, help: &str, number: fn(&Scores) -> Option<f64>| {
        let sample = |row: &Scores| {
            let rate = row.learning_rate.to_string();
            Some((labels(&row.job, &[&row.task, &row.arm, &row.keep, &rate]), number(row)?))
        };
        let names = ["job_name", "job_id", "task", "arm", "keep", "learning_rate"];
        gauge(name, help, &names, scores.iter().filter_map(sample).collect())
    };
    [
        family("lamina_finetune_score", "Mean dev score over the seeds, as a fraction.", |row| mean(&row.scores)),
        family("lamina_finetune_score_low", "Lower end of the 95 % t interval of the mean dev score.", |row| {
            t_interval(&row.scores).map(|[low, _]| low)
        }),
        family("lamina_finetune_score_high", "Upper end of the 95 % t interval of the mean dev score.", |row| {
            t_interval(&row.scores).map(|[_, high]| high)
        }),
        family("lamina_finetune_score_sd", "Sample standard deviation of the dev score over the seeds.", |row| {
            standard_deviation(&row.scores)
        }),
        family("lamina_finetune_score_trials", "Number of fine-tune trials in the mean.", |row| {
            Some(row.scores.len() as f64)
        }),
        family(
            "lamina_finetune_failed_ratio",
            "Share of the runs that failed: they diverged, or did no better than the majority guess.",
            |row| (row.runs > 0).then(|| row.failed as f64 / row.runs as f64),
        ),
    ]
}

fn buckets(latency: &Latency) -> Buckets {
    let cumulative = BOUNDS.iter().zip(&latency.counts).scan(0, |below, (bound, count)| {
        *below += count;
        Some((*bound, *below))
    });
    Buckets { cumulative: cumulative.collect(), count: latency.count, sum: latency.sum }
}

fn single(name: &str, help: &str, value: f64) -> MetricFamily {
    gauge(name, help, &[], vec![(Vec::new(), value)])
}
