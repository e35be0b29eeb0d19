//! Long work that blocks its thread: at most some at once, some more waiting, each with a time limit.
//!
//! The work runs on threads of its own and not on those of tokio, because tokio waits for its blocking threads when the
//! program ends, and a read from a device or a lost network disk may never return. These threads end with the process.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

/// Runs blocking work of one sort. Clones share their limits.
#[derive(Debug, Clone)]
pub struct Workers {
    /// Name of the threads, and of the work in messages.
    name: &'static str,
    /// One permit for each piece of work that runs or waits.
    places: Arc<Semaphore>,
    /// One permit for each piece of work that runs.
    slots: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// Tells work that nobody waits for its result any more: the client has left, the server stops, or the time is over.
#[derive(Debug, Clone)]
pub struct Stop(CancellationToken);

/// The reason why work has no result.
#[derive(Debug, Error)]
pub enum WorkError {
    #[error("{0} is busy: as many requests as it takes are running and waiting; try again later")]
    Busy(&'static str),
    #[error("{name} was stopped after {} s, its time limit", limit.as_secs())]
    TimedOut { name: &'static str, limit: Duration },
    #[error("the server is stopping")]
    Stopping,
    /// The panic itself is already in the log.
    #[error("{0} panicked")]
    Panicked(&'static str),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl Workers {
    /// Work called `name`, of which `at_once` pieces run and `waiting` more wait. All stop when `shutdown` is cancelled.
    pub fn new(name: &'static str, at_once: usize, waiting: usize, shutdown: CancellationToken) -> Self {
        let [places, slots] = [at_once + waiting, at_once].map(|permits| Arc::new(Semaphore::new(permits)));
        Self { name, places, slots, shutdown }
    }

    /// Runs `work` on a thread of its own as soon as a slot is free. Work has to look at its [`Stop`] between pieces of
    /// bounded size, and its slot is free again only when it has returned. The wait for a slot does not count towards
    /// `limit`. If the future is dropped, the work is told to stop.
    ///
    /// # Errors
    /// No place in the queue, the time limit, the stop of the server, a panic of `work`, or no thread.
    pub async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| WorkError::Busy(self.name))?;
        let stop = self.shutdown.child_token();
        let _told_when_dropped = stop.clone().drop_guard();
        let slot = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(WorkError::Stopping),
            slot = Arc::clone(&self.slots).acquire_owned() => slot.map_err(|_| WorkError::Stopping)?,
        };
        let mut result = spawn(self.name, (place, slot), Stop(stop.clone()), work)?;
        tokio::select! {
            biased;
            // Work that was told to stop may have returned already, with less than its result.
            () = stop.cancelled() => Err(WorkError::Stopping),
            result = &mut result => result.map_err(|_| WorkError::Panicked(self.name)),
            () = tokio::time::sleep(limit) => Err(WorkError::TimedOut { name: self.name, limit }),
        }
    }
}

impl Stop {
    /// For work whose result is always waited for.
    pub fn never() -> Self {
        Self(CancellationToken::new())
    }

    pub fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    held: (OwnedSemaphorePermit, OwnedSemaphorePermit),
    stop: Stop,
    work: impl FnOnce(&Stop) -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (sender, receiver) = oneshot::channel();
    // Linux keeps 15 bytes of a thread's name.
    thread::Builder::new().name(name.chars().take(15).collect()).spawn(move || {
        let result = work(&stop);
        // The slot is given back first, so that a client that has its answer finds it free.
        drop(held);
        // Nobody takes the result of work that was stopped.
        let _ = sender.send(result);
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    fn until_stopped(stop: &Stop) {
        while !stop.is_set() {
            thread::yield_now();
        }
    }

    async fn until(condition: impl Fn() -> bool) {
        tokio::time::timeout(LONG, async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("it has to happen within a minute");
    }

    #[tokio::test]
    async fn work_returns_its_result_and_a_panic_is_an_error() {
        let workers = Workers::new("test", 1, 0, CancellationToken::new());
        assert_eq!(workers.run(LONG, |_| 7).await.unwrap(), 7);
        let panicked = workers.run(LONG, |_| panic!("on purpose")).await;
        assert!(matches!(panicked, Err(WorkError::Panicked("test"))));
        assert_eq!(workers.run(LONG, |_| 8).await.unwrap(), 8, "a panic gives its slot back");
    }

    #[tokio::test]
    async fn more_than_the_limit_waits_and_more_than_the_queue_is_refused() {
        let workers = Workers::new("test", 1, 1, CancellationToken::new());
        let (release, released) = mpsc::channel::<()>();
        let running = tokio::spawn({
            let workers = workers.clone();
            async move { workers.run(LONG, move |_| released.recv()).await }
        });
        until(|| workers.slots.available_permits() == 0).await;
        let waiting = tokio::spawn({
            let workers = workers.clone();
            async move { workers.run(LONG, |_| 2).await }
        });
        until(|| workers.places.available_permits() == 0).await;
        assert!(matches!(workers.run(LONG, |_| 3).await, Err(WorkError::Busy("test"))));
        release.send(()).unwrap();
        running.await.unwrap().unwrap().unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 2);
    }

    #[tokio::test]
    async fn work_stops_when_its_time_is_over_when_its_client_leaves_and_when_the_server_stops() {
        let shutdown = CancellationToken::new();
        let workers = Workers::new("test", 1, 0, shutdown.clone());
        let is_free = || workers.places.available_permits() == 1;

        let over = workers.run(Duration::from_millis(10), until_stopped).await;
        assert!(matches!(over, Err(WorkError::TimedOut { .. })));
        until(is_free).await;

        let left = tokio::time::timeout(Duration::from_millis(10), workers.run(LONG, until_stopped)).await;
        assert!(left.is_err(), "the client left while the work ran");
        until(is_free).await;

        let stopped = tokio::spawn({
            let workers = workers.clone();
            async move { workers.run(LONG, until_stopped).await }
        });
        until(|| !is_free()).await;
        shutdown.cancel();
        assert!(matches!(stopped.await.unwrap(), Err(WorkError::Stopping)));
        until(is_free).await;
        assert!(matches!(workers.run(LONG, |_| ()).await, Err(WorkError::Stopping)));
    }
}
