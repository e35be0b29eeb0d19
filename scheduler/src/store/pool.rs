//! The connections to Postgres, with their limits of time.
//!
//! A caller may be dropped while it waits, because its client has left. sqlx then closes a connection that is being
//! checked, and leaves one that is just opening a transaction with that transaction open (sqlx 0.9). So both run in
//! tasks of their own here, which end whatever becomes of the caller.

use std::str::FromStr;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Either, Error, Execute, Executor, PgPool, Postgres, SqlStr, Transaction};

/// Connections for what people ask for.
pub(super) const PEOPLE: PoolLimits = PoolLimits { connections: 20, patience: Duration::from_secs(5) };
/// Connections for agents and the control loop. Without them a lease runs out and its attempt is lost, so they have
/// connections of their own, and wait longer for one.
pub(super) const RESERVED: PoolLimits = PoolLimits { connections: 12, patience: Duration::from_secs(10) };
/// Migrations run one after the other, on one connection.
const MIGRATIONS: PoolLimits = PoolLimits { connections: 1, patience: Duration::from_secs(10) };

/// Limits of what a connection may do to others. The longest statements of this program are the submission of a large
/// job and the metrics of a large database, which take seconds.
const TIMEOUTS: [(&str, &str); 3] =
    [("statement_timeout", "60s"), ("lock_timeout", "15s"), ("idle_in_transaction_session_timeout", "60s")];
/// A migration may rewrite a large table, and a second server waits for the first one's migrations.
const MIGRATION_TIMEOUTS: [(&str, &str); 3] =
    [("statement_timeout", "1h"), ("lock_timeout", "1h"), ("idle_in_transaction_session_timeout", "1h")];

/// A connection that was idle for less is used without asking Postgres if it still works.
const TRUSTED_IDLE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub(super) struct PoolLimits {
    connections: u32,
    /// Longest wait for a connection.
    patience: Duration,
}

/// A pool of connections, which a statement or a transaction borrows.
#[derive(Debug, Clone)]
pub(super) struct Pool(PgPool);

impl Pool {
    /// A pool that connects when it is first used.
    pub(super) fn new(url: &str, limits: PoolLimits) -> Result<Self, Error> {
        Ok(Self(options(limits).connect_lazy_with(PgConnectOptions::from_str(url)?.options(TIMEOUTS))))
    }

    /// A transaction, which is rolled back unless it is committed.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, Error> {
        let pool = self.0.clone();
        unhurried(async move { pool.begin().await }).await
    }

    /// The pool itself, for what brings its own care.
    pub(super) const fn inner(&self) -> &PgPool {
        &self.0
    }

    async fn acquire(&self) -> Result<PoolConnection<Postgres>, Error> {
        let pool = self.0.clone();
        unhurried(async move { pool.acquire().await }).await
    }
}

/// A pool of one connection with the time that migrations need.
///
/// # Errors
/// When the server cannot be reached within ten seconds.
pub(super) async fn for_migrations(url: &str) -> Result<PgPool, Error> {
    let options = options(MIGRATIONS);
    options.connect_with(PgConnectOptions::from_str(url)?.options(MIGRATION_TIMEOUTS)).await
}

fn options(limits: PoolLimits) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(limits.connections)
        .acquire_timeout(limits.patience)
        // A connection is tested when it comes back, so a busy one needs no second test before the next statement.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED_IDLE {
                    sqlx::Connection::ping(connection).await?;
                }
                Ok(true)
            })
        })
}

/// Runs `work` to its end even if the caller stops to wait for it.
async fn unhurried<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    // The task is only ever cancelled with its runtime.
    tokio::spawn(work).await.unwrap_or(Err(Error::WorkerCrashed))
}

impl<'p> Executor<'p> for &Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async_stream::stream! {
            match pool.acquire().await {
                Ok(mut connection) => {
                    let mut rows = connection.fetch_many(query);
                    while let Some(row) = rows.next().await {
                        yield row;
                    }
                }
                Err(error) => yield Err(error),
            }
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async move { pool.acquire().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move { pool.acquire().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, Error>> {
        let pool = self.clone();
        Box::pin(async move { pool.acquire().await?.describe(sql).await })
    }
}
