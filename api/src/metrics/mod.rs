//! `/metrics`: measurements of this process (requests, resources), and numbers from the database, read at each scrape.
//!
//! Names start with `lamina_`, units are base units, counters end in `_total`. No label holds the id of a trial or attempt,
//! because their number has no bound. Jobs have labels, but only fifty of them at most: those of the view `watched_job`.

mod facts;
mod family;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, HistogramOpts, HistogramVec, Registry, TextEncoder};
use protocol::error_chain;
use scheduler::store::Store;

pub(crate) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The measurements of this process.
pub(crate) struct Metrics {
    registry: Registry,
    requests: HistogramVec,
}

impl Metrics {
    /// # Errors
    /// If two metrics have the same name.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let requests = HistogramVec::new(
            HistogramOpts::new(
                "lamina_http_request_duration_seconds",
                "Time from the end of a request's headers to the start of its answer.",
            )
            .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
            &["method", "path", "status"],
        )?;
        let registry = Registry::new();
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self { registry, requests })
    }

    /// The text that Prometheus reads. If the database does not answer, `lamina_database_up` is 0 and the text has only
    /// the measurements of this process.
    ///
    /// # Errors
    /// If a family breaks the exposition format.
    pub(crate) async fn scrape(&self, store: &Store, lease: Duration) -> prometheus::Result<Vec<u8>> {
        let mut families = self.registry.gather();
        families.push(family::gauge(
            "lamina_build_info",
            "Version of the server, always 1.",
            &["version"],
            vec![(vec![env!("CARGO_PKG_VERSION").to_owned()], 1.0)],
        ));
        let facts = store.metric_facts(&facts::BOUNDS, lease, &facts::point_names()).await;
        families.push(family::gauge(
            "lamina_database_up",
            "1 if the database answered this scrape, 0 otherwise.",
            &[],
            vec![(Vec::new(), if facts.is_ok() { 1.0 } else { 0.0 })],
        ));
        match facts {
            Ok(facts) => families.extend(facts::families(&facts)),
            Err(error) => tracing::warn!(error = error_chain(&error), "a scrape without the numbers of the database"),
        }
        families.retain(|family| !family.get_metric().is_empty());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    fn observe(&self, method: &str, path: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[method, path, &status.to_string()]).observe(took.as_secs_f64());
    }
}

/// Measures the duration of each request that matches a route. The label is the route's pattern, not the address.
pub(crate) async fn measure(
    State(metrics): State<Arc<Metrics>>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let start = Instant::now();
    let response = next.run(request).await;
    metrics.observe(method.as_str(), path.as_str(), response.status().as_u16(), start.elapsed());
    response
}
