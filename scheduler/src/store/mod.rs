//! The store: the only SQL of the project. Postgres' `now()` is the only clock.
//!
//! Rows are locked in one order, so that no two transactions wait for each other: node, attempt, trial, job. Events come last in
//! a transaction, because an event takes its number from the job's row.

use std::sync::Arc;
use std::time::Duration;

use recipe::{Failure, FailureKind};
use serde::de::DeserializeOwned;
use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::node::NodeRefused;
use crate::trial::Refused;
use protocol::id::JobId;

mod assignment;
mod attempt;
mod budget;
mod checkpoint;
mod dataset;
mod event;
mod facts;
mod job;
mod measurement;
mod node;
mod sync;
mod text;
mod token;
mod transition;
mod trial;

#[cfg(test)]
mod tests;

pub use checkpoint::{CheckpointView, Claim, UnreadCheckpoint};
pub use event::{EventRow, Progress};
pub use facts::{
    Capacity, EndedCount, Latency, MetricFacts, NewestPoint, Scores, SlotUse, Timing, TrialCount, WatchedJob, Work,
};
pub use job::{IdempotencyKey, Submitted};
pub use measurement::{LogLine, Series, SeriesPoint};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// The channel on which Postgres announces new events; the payload is the job's id.
const CHANNEL: &str = "lamina_event";

/// A connection to the database. Cloning is cheap: clones share one pool.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    notices: broadcast::Sender<JobId>,
    _listener: Arc<Listener>,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no {what} {id}")]
    NotFound { what: &'static str, id: String },
    #[error("{0}")]
    Conflict(String),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Node(#[from] NodeRefused),
    #[error("the node {name:?} {}", if *live { "is live: stop its agent first" } else { "has trials that have not ended: their leases run out soon" })]
    NodeInUse { name: String, live: bool },
    #[error("this is the last admin token that can be used: create another one first, or nobody could manage tokens")]
    LastAdmin,
    /// A fault of this program.
    #[error("{0}")]
    Internal(String),
    /// A row that this program cannot read. Another program, or another version of this one, wrote it.
    #[error("{table} {id}: column {column} cannot be read: {why}")]
    Row { table: &'static str, column: &'static str, id: String, why: String },
    #[error("the database refused: {0}")]
    Database(#[from] sqlx::Error),
    #[error("cannot connect to the database: {0}")]
    Connect(sqlx::Error),
    #[error("the database's schema cannot be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the database's schema is at version {found}, this program needs {needed}")]
    Schema { found: i64, needed: i64 },
}

impl Store {
    /// Connects and brings the schema up to date. Several servers may do so at once: migrations hold a lock.
    ///
    /// # Errors
    /// `Connect` when the server cannot be reached within ten seconds; `Migrate` when the database is not Lamina's, or
    /// was made by a newer Lamina.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let options = PgPoolOptions::new().max_connections(20).acquire_timeout(Duration::from_secs(10));
        let pool = options.connect(url).await.map_err(StoreError::Connect)?;
        MIGRATIONS.run(&pool).await?;
        let (notices, _) = broadcast::channel(1024);
        let listener = Listener(tokio::spawn(listen(pool.clone(), notices.clone())));
        Ok(Self { pool, notices, _listener: Arc::new(listener) })
    }

    /// Fails unless the database answers and has the schema of this program.
    pub async fn ready(&self) -> Result<(), StoreError> {
        let found = sqlx::query_scalar!(r#"select max(version) as "version!" from _sqlx_migrations where success"#)
            .fetch_one(&self.pool)
            .await?;
        let needed = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        if found == needed { Ok(()) } else { Err(StoreError::Schema { found, needed }) }
    }

    /// Announces the jobs that have new events. An announcement may get lost, so a subscriber must also poll.
    pub fn subscribe(&self) -> broadcast::Receiver<JobId> {
        self.notices.subscribe()
    }
}

struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Forwards the announcements of Postgres. The listener restores a lost connection by itself; announcements during that time
/// are lost.
async fn listen(pool: PgPool, notices: broadcast::Sender<JobId>) {
    loop {
        match forward(&pool, &notices).await {
            Ok(()) => return,
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => tracing::warn!(%error, "not listening for announcements; polling goes on"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn forward(pool: &PgPool, notices: &broadcast::Sender<JobId>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let notice = listener.recv().await?;
        if let Ok(job) = notice.payload().parse() {
            // It is no error if there is no subscriber.
            let _ = notices.send(job);
        }
    }
}

/// Deserialises a column. The error names table, column and row.
fn read<T: DeserializeOwned>(
    table: &'static str,
    column: &'static str,
    id: impl ToString,
    value: serde_json::Value,
) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(|error| StoreError::Row {
        table,
        column,
        id: id.to_string(),
        why: error.to_string(),
    })
}

/// A failure from its two columns, which are null together.
fn failure(kind: Option<FailureKind>, message: Option<String>) -> Option<Failure> {
    kind.zip(message).map(|(kind, message)| Failure { kind, message })
}

/// Postgres has no unsigned integers. Counts and sizes are below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
