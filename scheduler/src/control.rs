//! The control loop: it ends expired attempts, unblocks and places trials, and announces the status of jobs.
//!
//! Each step takes no input but the database, may be repeated, and may run on several servers at once. The same code
//! serves normal operation and recovery. Announcements only shorten the wait between two rounds; the period bounds it.

use std::time::Duration;

use recipe::event::Manifest;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::artifact::{ArtifactError, Artifacts};
use crate::place::place;
use crate::policy::Policy;
use crate::store::{Store, StoreError};
use protocol::Digest;

/// Longest time between two rounds.
const PERIOD: Duration = Duration::from_secs(1);
/// Time between two collections of unused artifacts.
const COLLECT_PERIOD: Duration = Duration::from_secs(60);
/// Shortest time between two rounds. One round answers all announcements within it.
const PAUSE: Duration = Duration::from_millis(50);

pub struct Control {
    store: Store,
    artifacts: Artifacts,
    policy: Policy,
}

/// The number of changes that a round made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoundChanges {
    pub reaped: usize,
    pub cancelled: usize,
    pub released: usize,
    pub placed: usize,
    pub announced: usize,
}

impl Control {
    pub fn new(store: Store, artifacts: Artifacts, policy: Policy) -> Self {
        Self { store, artifacts, policy }
    }

    /// Runs rounds until `stop` is cancelled. An error ends a round but not the loop: the next round starts from the
    /// database.
    pub async fn run(self, stop: CancellationToken) {
        let mut collect_at = Instant::now();
        loop {
            // Subscribing comes before the queries of the round, so that no announcement is missed.
            let mut notices = self.store.subscribe();
            match self.round().await {
                Ok(changes) if changes != RoundChanges::default() => {
                    tracing::debug!(?changes, "a control round made changes")
                }
                Ok(_) => (),
                Err(error) => tracing::error!(%error, "a control round failed"),
            }
            if Instant::now() >= collect_at {
                collect_at = Instant::now() + COLLECT_PERIOD;
                match self.collect().await {
                    Ok(0) => (),
                    Ok(gone) => tracing::info!(gone, "artifacts deleted"),
                    Err(error) => tracing::error!(%error, "unused artifacts could not be deleted"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tokio::time::timeout(PERIOD, notices.recv()) => (),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => (),
            }
        }
    }

    /// Runs every step but `collect` once.
    pub async fn round(&self) -> Result<RoundChanges, StoreError> {
        Ok(RoundChanges {
            reaped: self.reap().await?,
            cancelled: self.cancel().await?,
            released: self.unblock().await?,
            placed: self.place().await?,
            announced: self.announce().await?,
        })
    }

    /// Ends attempts whose lease has run out or that are stalled.
    pub async fn reap(&self) -> Result<usize, StoreError> {
        self.store.reap(&self.policy).await
    }

    /// Cancels the open trials of cancelled jobs.
    pub async fn cancel(&self) -> Result<usize, StoreError> {
        self.store.cancel_leftovers().await
    }

    /// Sets the budgets that depend on a timing trial that has succeeded, and then queues or cancels the trials that
    /// waited for a trial that has ended.
    pub async fn unblock(&self) -> Result<usize, StoreError> {
        self.store.settle_budgets().await?;
        self.store.unblock_trials().await
    }

    /// Opens attempts for queued trials on free slots.
    pub async fn place(&self) -> Result<usize, StoreError> {
        let mut placed = 0;
        for placement in place(&self.store.snapshot(self.policy.lease).await?) {
            placed += usize::from(self.store.open_attempt(placement, &self.policy).await?);
        }
        Ok(placed)
    }

    /// Announces each change of a job's derived status.
    pub async fn announce(&self) -> Result<usize, StoreError> {
        self.store.announce_jobs().await
    }

    /// Deletes the files of checkpoints that are no longer needed. Returns their number.
    pub async fn collect(&self) -> Result<usize, ArtifactError> {
        self.store.forget_superseded().await?;
        for checkpoint in self.store.unread_checkpoints().await? {
            let digest: Digest = checkpoint.manifest.parse()?;
            let files = match self.artifacts.read(&digest).await {
                Ok(text) => match serde_json::from_slice::<Manifest>(&text) {
                    Ok(manifest) => manifest.files.into_iter().map(|file| file.sha256).collect(),
                    // The files of a manifest that cannot be read are not kept.
                    Err(error) => {
                        tracing::warn!(
                            manifest = %digest, %error,
                            "an artifact that a checkpoint names as its manifest is not one"
                        );
                        Vec::new()
                    }
                },
                Err(ArtifactError::NotFound(_)) => Vec::new(),
                Err(error) => return Err(error),
            };
            self.store.note_checkpoint_files(checkpoint.id, &files).await?;
        }
        let mut gone = 0;
        for sha256 in self.store.condemn_artifacts(self.policy.keep_unreferenced).await? {
            self.artifacts.delete(&sha256.parse()?).await?;
            gone += 1;
        }
        Ok(gone)
    }
}
