//! Databases for tests, one for each test. This module needs the feature `testing`.

use std::env;
use std::str::FromStr;
use std::thread;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use uuid::Uuid;

use crate::store::Store;

const VARIABLE: &str = "LAMINA_TEST_DATABASE_URL";

/// An empty database, which is dropped with this value.
pub struct TestDatabase {
    admin: PgConnectOptions,
    name: String,
}

impl TestDatabase {
    /// # Panics
    /// If there is no Postgres for tests. `make test` starts one.
    pub async fn new() -> Self {
        let url = env::var(VARIABLE).unwrap_or_else(|_| panic!("{VARIABLE} is not set: run through make test"));
        let admin = PgConnectOptions::from_str(&url).unwrap_or_else(|error| panic!("{VARIABLE}: {error}"));
        let database = Self { admin, name: format!("lamina_test_{}", Uuid::now_v7().simple()) };
        database.administer("create database").await;
        database
    }

    pub fn url(&self) -> String {
        self.admin.clone().database(&self.name).to_url_lossy().to_string()
    }

    /// Connects as a server would. A second call stands for a second server.
    pub async fn store(&self) -> Store {
        Store::connect(&self.url()).await.expect("the test's database does not accept this program")
    }

    /// Runs a statement that no server would run, to simulate the effect of a clock or a crash.
    pub async fn execute(&self, statement: &'static str) {
        let mut connection =
            self.admin.clone().database(&self.name).connect().await.expect("the Postgres for tests does not answer");
        sqlx::raw_sql(statement).execute(&mut connection).await.expect(statement);
        connection.close().await.expect("the connection to the Postgres for tests broke");
    }

    /// The one column of a query's rows.
    pub async fn strings(&self, query: &str) -> Vec<String> {
        let mut connection =
            self.admin.clone().database(&self.name).connect().await.expect("the Postgres for tests does not answer");
        let query = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
        let rows = query.fetch_all(&mut connection).await.expect("a query of one column of text");
        connection.close().await.expect("the connection to the Postgres for tests broke");
        rows
    }

    /// The statement contains no foreign text, since the name was made here.
    async fn administer(&self, verb: &str) {
        let force = if verb.starts_with("drop") { " with (force)" } else { "" };
        let statement = format!("{verb} \"{}\"{force}", self.name);
        let mut connection = self.admin.connect().await.expect("the Postgres for tests does not answer");
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect(verb);
        connection.close().await.expect("the connection to the Postgres for tests broke");
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // This runs inside a test's runtime, which must not block, so another thread with a runtime of its own waits.
        thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime for dropping the database").block_on(self.administer("drop database"));
            });
        });
    }
}
