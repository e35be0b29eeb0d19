//! The reports of jobs: computed off the threads that answer requests, one computation of a job at a time, and kept
//! until the job has a new event.
//!
//! Whoever asks for a report while it is computed waits for that computation. It ends when the last of them has left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use moka::sync::Cache;
use protocol::id::JobId;
use report::Report;
use scheduler::store::Store;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use scheduler::work::{Stop, Workers};

/// Reports that are computed at a time. Each holds the facts of its job in memory.
const AT_ONCE: usize = 2;
/// Jobs whose reports wait for their turn.
const WAITING: usize = 16;
/// Time to compute the statistics of one job. The largest jobs take seconds.
const LIMIT: Duration = Duration::from_secs(50);
/// Memory for reports that are kept, in bytes. A report has some 100 kB.
const KEPT_BYTES: u64 = 64 << 20;
/// A report counts as at least this many bytes, which bounds the number of those that are kept.
const LEAST_BYTES: usize = 64 << 10;

#[derive(Clone)]
pub(crate) struct Reports {
    kept: Cache<JobId, Arc<Computed>>,
    /// The computation of each job whose report somebody waits for.
    running: Arc<Mutex<HashMap<JobId, WeakShared<Computation>>>>,
    /// One permit for each computation that runs or waits.
    places: Arc<Semaphore>,
    /// One permit for each computation that runs.
    slots: Arc<Semaphore>,
    workers: Workers,
}

type Computation = BoxFuture<'static, Result<Arc<Computed>, Arc<Error>>>;

/// A report, from which every format is written.
pub(crate) struct Computed {
    /// Number of the job's newest event when its facts were read.
    events: i64,
    pub(crate) json: Bytes,
}

impl Computed {
    fn bytes(&self) -> u32 {
        u32::try_from(self.json.len().max(LEAST_BYTES)).unwrap_or(u32::MAX)
    }
}

impl Reports {
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        let weigh = |_: &JobId, report: &Arc<Computed>| report.bytes();
        Self {
            kept: Cache::builder().max_capacity(KEPT_BYTES).weigher(weigh).build(),
            running: Arc::default(),
            places: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            workers: Workers::new("computing reports", AT_ONCE, WAITING, shutdown),
        }
    }

    /// The report of a job as it is now, or as it was when a computation that still runs began.
    ///
    /// # Errors
    /// `not_found`; `busy` if too many other jobs are waiting for theirs; `timed_out`.
    pub(crate) async fn get(&self, store: &Store, job: JobId) -> Result<Arc<Computed>, Error> {
        let events = store.event_count(job).await?;
        if let Some(kept) = self.kept.get(&job).filter(|kept| kept.events == events) {
            return Ok(kept);
        }
        self.computation(store, job).await.map_err(shared)
    }

    /// What `write` makes of a report.
    ///
    /// # Errors
    /// `busy` if too many other reports are computed or written; `timed_out`.
    pub(crate) async fn write(
        &self,
        computed: &Computed,
        write: impl FnOnce(&Report) -> String + Send + 'static,
    ) -> Result<String, Error> {
        let json = computed.json.clone();
        let written = move |_: &Stop| serde_json::from_slice::<Report>(&json).map(|report| write(&report));
        self.workers.run(LIMIT, written).await?.map_err(Error::internal)
    }

    /// The computation that runs for the job, or a new one.
    fn computation(&self, store: &Store, job: JobId) -> Shared<Computation> {
        // A panic while the lock is held leaves the map in order.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // A computation that has a result is over: its facts are from before this request.
        let open = running.get(&job).and_then(WeakShared::upgrade).filter(|open| open.peek().is_none());
        open.unwrap_or_else(|| {
            running.retain(|_, open| open.upgrade().is_some());
            let (reports, store) = (self.clone(), store.clone());
            let new: Computation = async move { reports.compute(store, job).await.map_err(Arc::new) }.boxed();
            let new = new.shared();
            running.extend(new.downgrade().map(|weak| (job, weak)));
            new
        })
    }

    /// Waits until the facts of another job may be held in memory, until the answer is dropped.
    ///
    /// # Errors
    /// `busy` if too many wait already.
    pub(crate) async fn admit(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), Error> {
        let place = self
            .places
            .try_acquire()
            .map_err(|_| Error::Busy("the results of too many jobs are computed already; try again later".into()))?;
        Ok((place, self.slots.acquire().await.map_err(Error::internal)?))
    }

    async fn compute(&self, store: Store, id: JobId) -> Result<Arc<Computed>, Error> {
        let _admitted = self.admit().await?;
        // The number comes before the facts: facts that are newer are computed again, and none are missed.
        let events = store.event_count(id).await?;
        let job = store.job(id).await?;
        let trials = store.facts(id).await?;
        let compute = move |stop: &Stop| {
            let report = report::report(&job.facts(trials));
            // Nobody reads a report that nobody waits for.
            if stop.is_set() { Ok(Vec::new()) } else { serde_json::to_vec(&report) }
        };
        let json = self.workers.run(LIMIT, compute).await?.map_err(Error::internal)?;
        let computed = Arc::new(Computed { events, json: json.into() });
        self.kept.insert(id, computed.clone());
        Ok(computed)
    }
}

/// The error of a computation, for one of those who waited for it.
fn shared(error: Arc<Error>) -> Error {
    match &*error {
        Error::NotFound(what) => Error::NotFound(what.clone()),
        Error::Busy(message) => Error::Busy(message.clone()),
        Error::TimedOut(message) => Error::TimedOut(message.clone()),
        Error::NotReady(message) => Error::NotReady(message.clone()),
        _ => Error::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_report_counts_so_much_that_the_number_of_kept_ones_is_bounded() {
        let report = Computed { events: 1, json: Bytes::new() };
        assert_eq!(KEPT_BYTES / u64::from(report.bytes()), 1024);
    }
}
