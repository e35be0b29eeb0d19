//! Helpers of the black-box tests: a running service, its processes, and waiting for a condition.

mod processes;
mod service;

pub use processes::{Background, Process};
pub use service::{Service, free_port, free_ports, installed, program, real_data};

use std::future::Future;
use std::time::{Duration, Instant};

/// Evaluates `condition` ten times a second until it is `Some`, and returns its value. Panics after `limit`; `what`
/// completes the message.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + limit;
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    loop {
        beat.tick().await;
        if let Some(answer) = condition().await {
            return answer;
        }
        assert!(Instant::now() < end, "waited {} s in vain until {what}", limit.as_secs());
    }
}
