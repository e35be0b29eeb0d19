//! The store: the only SQL of the project. Postgres' `now()` is the only clock.
//!
//! Rows are locked in one order, so that no two transactions wait for each other: node, attempt, trial, job. Events come last in
//! a transaction, because an event takes its number from the job's row.

use std::sync::Arc;
use std::time::Duration;

use recipe::{Failure, FailureKind};
use serde::de::DeserializeOwned;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use self::pool::Pool;
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
mod pool;
mod sync;
mod text;
mod timing;
mod token;
mod transition;
mod trial;

#[cfg(test)]
mod tests;

pub use checkpoint::{CheckpointView, Claim, UnreadCheckpoint};
pub use event::{EventRow, Progress};
use facts::ReadTimings;
pub use facts::{
    Capacity, EndedCount, Latency, MetricFacts, NewestPoint, Scores, SlotUse, TimedArm, Timing, TrialCount, WatchedJob,
    Work,
};
pub use job::{IdempotencyKey, Submitted};
pub use measurement::{LogLine, Series, SeriesPoint};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// Trials in one statement, and in one transaction of a change of many trials: others wait for no more than this.
const BATCH: usize = 1000;
/// The channel on which Postgres announces new events; the payload is the job's id.
const CHANNEL: &str = "lamina_event";

/// A connection to the database. Cloning is cheap: clones share their pools.
#[derive(Clone)]
pub struct Store {
    /// The connections that the statements of this handle borrow.
    pool: Pool,
    /// The connections that are kept for agents and the control loop.
    reserved: Pool,
    notices: broadcast::Sender<JobId>,
    timings: ReadTimings,
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
    Database(sqlx::Error),
    /// Every connection is in use, or a statement took longer than it may.
    #[error("the database has too much to do: {0}")]
    Busy(sqlx::Error),
    /// A text that Postgres does not store.
    #[error("a text contains the character NUL, which cannot be stored")]
    Nul,
    #[error("cannot connect to the database: {0}")]
    Connect(sqlx::Error),
    #[error("the database's schema cannot be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the database's schema is at version {found}, this program needs {needed}")]
    Schema { found: i64, needed: i64 },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        match code.as_deref() {
            // `character_not_in_repertoire` and `untranslatable_character`, which a NUL in text and in JSON causes.
            // Every other character that a Rust string can have is one that the database stores.
            Some("22021" | "22P05") => Self::Nul,
            // `query_canceled` and `lock_not_available`: the statement or its wait for a lock was too long.
            Some("57014" | "55P03") => Self::Busy(error),
            None if matches!(error, sqlx::Error::PoolTimedOut) => Self::Busy(error),
            _ => Self::Database(error),
        }
    }
}

impl Store {
    /// Connects and brings the schema up to date. Several servers may do so at once: migrations hold a lock.
    ///
    /// # Errors
    /// `Connect` when the server cannot be reached within ten seconds; `Migrate` when the database is not Lamina's, or
    /// was made by a newer Lamina.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let migrations = pool::for_migrations(url).await.map_err(StoreError::Connect)?;
        MIGRATIONS.run(&migrations).await?;
        migrations.close().await;
        let new = |limits| Pool::new(url, limits).map_err(StoreError::Connect);
        let (pool, reserved) = (new(pool::PEOPLE)?, new(pool::RESERVED)?);
        let (notices, _) = broadcast::channel(1024);
        let listener = Listener(tokio::spawn(listen(reserved.clone(), notices.clone())));
        Ok(Self { pool, reserved, notices, timings: ReadTimings::default(), _listener: Arc::new(listener) })
    }

    /// The same store on the connections that are kept for agents and the control loop, so that they never wait for
    /// what people ask for.
    pub fn reserved(&self) -> Self {
        Self { pool: self.reserved.clone(), ..self.clone() }
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
async fn listen(pool: Pool, notices: broadcast::Sender<JobId>) {
    loop {
        match forward(&pool, &notices).await {
            Ok(()) => return,
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => tracing::warn!(%error, "not listening for announcements; polling goes on"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn forward(pool: &Pool, notices: &broadcast::Sender<JobId>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool.inner()).await?;
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
