//! Metric families made from numbers that are counted elsewhere: in the database, which is read at each scrape.

use prometheus::proto::{self, MetricFamily, MetricType};

/// The label values, in the order of the family's label names, and the number.
pub(crate) type Sample = (Vec<String>, f64);

/// The content of a histogram.
#[derive(Debug, Clone)]
pub(crate) struct Buckets {
    /// Pairs of an upper bound and the number of observations up to it, both ascending, without the bound infinity.
    pub(crate) cumulative: Vec<(f64, u64)>,
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

pub(crate) fn gauge(name: &str, help: &str, labels: &[&str], samples: Vec<Sample>) -> MetricFamily {
    let metrics = samples.into_iter().map(|(values, value)| {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        let mut metric = proto::Metric::from_label(pairs(labels, values));
        metric.set_gauge(gauge);
        metric
    });
    family(name, help, MetricType::GAUGE, metrics.collect())
}

/// A number that never falls; `name` ends in `_total`.
pub(crate) fn counter(name: &str, help: &str, labels: &[&str], samples: Vec<Sample>) -> MetricFamily {
    let metrics = samples.into_iter().map(|(values, value)| {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        let mut metric = proto::Metric::from_label(pairs(labels, values));
        metric.set_counter(counter);
        metric
    });
    family(name, help, MetricType::COUNTER, metrics.collect())
}

pub(crate) fn histogram(name: &str, help: &str, buckets: Buckets) -> MetricFamily {
    let bounds = buckets.cumulative.into_iter().map(|(bound, count)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(bounds.collect());
    histogram.set_sample_count(buckets.count);
    histogram.set_sample_sum(buckets.sum);
    let mut metric = proto::Metric::default();
    metric.set_histogram(histogram);
    family(name, help, MetricType::HISTOGRAM, vec![metric])
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<proto::Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn pairs(names: &[&str], values: Vec<String>) -> Vec<proto::LabelPair> {
    let pair = |(name, value): (&&str, String)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value);
        pair
    };
    names.iter().zip(values).map(pair).collect()
}
