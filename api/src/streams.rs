//! The streams of a job's events: however many clients follow a job, one task looks at it.
//!
//! A follower reads older events from the database, and new ones from the looks of that task, which all followers of
//! the job share. The task ends with the job, with its last follower, or with the server.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::error_chain;
use protocol::id::JobId;
use scheduler::job::JobSummary;
use scheduler::store::{EventRow, Progress, Store, StoreError};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// Largest number of events that one query reads.
pub(crate) const BATCH: i64 = 200;
/// Time between two looks at a job without an announcement; also the delay of an event whose announcement was lost.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);
/// New events of a job that are held for its followers. One that is further behind reads them from the database.
const HELD_EVENTS: usize = 1000;

/// The open streams.
#[derive(Clone)]
pub(crate) struct Streams {
    places: Arc<Semaphore>,
    jobs: Arc<Mutex<HashMap<JobId, Looks>>>,
}

/// What the followers of a job get: the newest look at it, once there is one.
type Looks = watch::Sender<Option<Arc<Look>>>;

/// A job as it was at one moment.
pub(crate) struct Look {
    pub(crate) summary: JobSummary,
    pub(crate) running: Vec<Progress>,
    /// Number of the last event before `events`.
    pub(crate) before: i64,
    /// The newest events, without a gap.
    pub(crate) events: Vec<Arc<Message>>,
}

/// An event as it is sent.
pub(crate) struct Message {
    pub(crate) number: i64,
    pub(crate) kind: String,
    pub(crate) data: String,
}

/// A place among the open streams, and the looks at a job.
pub(crate) struct Follower {
    pub(crate) looks: watch::Receiver<Option<Arc<Look>>>,
    _place: OwnedSemaphorePermit,
}

impl From<EventRow> for Message {
    fn from(event: EventRow) -> Self {
        Self { number: event.id, data: json!(event).to_string(), kind: event.kind }
    }
}

impl Streams {
    pub(crate) fn new(most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), jobs: Arc::default() }
    }

    /// Follows a job, together with all others that do.
    ///
    /// # Errors
    /// `busy` if as many streams are open as the server holds.
    pub(crate) fn follow(&self, store: &Store, job: JobId, shutdown: &CancellationToken) -> Result<Follower, Error> {
        let place =
            self.places.clone().try_acquire_owned().map_err(|_| {
                Error::Busy("the server has as many event streams as it can hold; try again later".into())
            })?;
        let looks = match self.lock().entry(job) {
            Entry::Occupied(open) => open.get().subscribe(),
            Entry::Vacant(vacant) => {
                let (sender, looks) = watch::channel(None);
                vacant.insert(sender.clone());
                tokio::spawn(self.clone().watch(store.clone(), job, sender, shutdown.clone()));
                looks
            }
        };
        Ok(Follower { looks, _place: place })
    }

    /// Looks at a job for its followers.
    async fn watch(self, store: Store, job: JobId, looks: Looks, shutdown: CancellationToken) {
        let watched = self.look_again_and_again(&store, job, &looks, &shutdown).await;
        if let Err(error) = watched {
            tracing::warn!(%job, error = error_chain(&error), "the event streams of a job end early");
        }
        // Followers see the end when the last sender is gone. One that comes now finds none and starts another task.
        self.lock().retain(|other, open| *other != job || !open.same_channel(&looks));
    }

    async fn look_again_and_again(
        &self,
        store: &Store,
        job: JobId,
        looks: &Looks,
        shutdown: &CancellationToken,
    ) -> Result<(), StoreError> {
        // The subscription starts before the first query, so that no announcement is missed.
        let mut announcements = store.subscribe();
        let mut before = store.event_count(job).await?;
        let mut events = VecDeque::new();
        loop {
            // The job is read first: once it has ended, all its events are stored.
            let summary = store.job(job).await?.summary;
            let running = store.progress(job).await?;
            read_events(store, job, before, &mut events).await?;
            while events.len() > HELD_EVENTS {
                before = events.pop_front().map_or(before, |event: Arc<Message>| event.number);
            }
            let has_ended = summary.status.is_ended();
            let look = Look { summary, running, before, events: events.iter().cloned().collect() };
            looks.send_replace(Some(Arc::new(look)));
            if has_ended {
                return Ok(());
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = announced(&mut announcements, job) => {}
                () = sleep(PERIOD) => {}
                () = looks.closed() => {}
            }
            // The lock is held, so that nobody comes between this look at the followers and the removal.
            let mut jobs = self.lock();
            if looks.receiver_count() == 0 {
                jobs.remove(&job);
                return Ok(());
            }
        }
    }

    /// The number of jobs that are looked at.
    #[cfg(test)]
    pub(crate) fn watched(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Looks>> {
        // A panic while the lock is held leaves the map in order.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends the events that follow on those that are held.
async fn read_events(
    store: &Store,
    job: JobId,
    before: i64,
    events: &mut VecDeque<Arc<Message>>,
) -> Result<(), StoreError> {
    loop {
        let last = events.back().map_or(before, |event| event.number);
        let new = store.events(job, last, BATCH).await?;
        let is_all = new.len() < BATCH as usize;
        events.extend(new.into_iter().map(|event| Arc::new(event.into())));
        if is_all {
            return Ok(());
        }
    }
}

/// Waits until something happened to the job, or until announcements were missed.
async fn announced(announcements: &mut Receiver<JobId>, job: JobId) {
    loop {
        match announcements.recv().await {
            Ok(other) if other != job => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // No more announcements will come, so the caller's timer alone sets the pace.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}
