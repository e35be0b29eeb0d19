//! The loop that moves everything on.
//!
//! Each step takes no input but the database, may be repeated, and may run on several servers at once; the same code
//! serves the happy path and recovery. Announcements only shorten the wait; the period guarantees it.

use std::time::Duration;

use recipe::event::Manifest;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::artifact::{ArtifactError, Artifacts};
use crate::place::place;
use crate::policy::Policy;
use crate::store::{Store, StoreError};
use protocol::Digest;

/// Time between two rounds when nothing is announced.
const PERIOD: Duration = Duration::from_secs(1);
/// Time between two looks for what can be deleted.
const COLLECT_PERIOD: Duration = Duration::from_secs(60);
/// Announcements closer together than this are answered by one round.
const PAUSE: Duration = Duration::from_millis(50);

pub struct Control {
    store: Store,
    artifacts: Artifacts,
    policy: Policy,
}

/// What a round changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Did {
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

    /// Goes round until it is told to stop. An error ends a round, not the loop: the next one starts from what is there.
    pub async fn run(self, stop: CancellationToken) {
        let mut collect_at = Instant::now();
        loop {
            // Interest is registered before the look, so that nothing falls between the two.
            let mut notices = self.store.subscribe();
            match self.round().await {
                Ok(did) if did != Did::default() => tracing::debug!(?did, "control round"),
                Ok(_) => (),
                Err(error) => tracing::error!(%error, "control round"),
            }
            if Instant::now() >= collect_at {
                collect_at = Instant::now() + COLLECT_PERIOD;
                match self.collect().await {
                    Ok(0) => (),
                    Ok(gone) => tracing::info!(gone, "artifacts deleted"),
                    Err(error) => tracing::error!(%error, "collecting artifacts"),
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

    /// One round of all steps but `collect`.
    pub async fn round(&self) -> Result<Did, StoreError> {
        Ok(Did {
            reaped: self.reap().await?,
            cancelled: self.cancel().await?,
            released: self.unblock().await?,
            placed: self.place().await?,
            announced: self.announce().await?,
        })
    }

    /// Ends attempts whose lease has run out or that stand still.
    pub async fn reap(&self) -> Result<usize, StoreError> {
        self.store.reap(&self.policy).await
    }

    /// Ends what is left of cancelled jobs.
    pub async fn cancel(&self) -> Result<usize, StoreError> {
        self.store.cancel_trials(None).await
    }

    /// Queues, or cancels, the trials whose pre-train or timing trial has ended.
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

    /// Says which jobs' derived status has changed.
    pub async fn announce(&self) -> Result<usize, StoreError> {
        self.store.announce_jobs().await
    }

    /// Deletes the files of checkpoints that nobody needs any more. Returns how many.
    pub async fn collect(&self) -> Result<usize, ArtifactError> {
        self.store.forget_superseded().await?;
        for checkpoint in self.store.unread_checkpoints().await? {
            let digest: Digest = checkpoint.manifest.parse()?;
            let files = match self.artifacts.read(&digest).await {
                Ok(text) => match serde_json::from_slice::<Manifest>(&text) {
                    Ok(manifest) => manifest.files.into_iter().map(|file| file.sha256).collect(),
                    // A manifest that cannot be read keeps nothing alive but itself.
                    Err(error) => {
                        tracing::warn!(manifest = %digest, %error, "not a manifest");
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
