use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, SqlitePool};
use uuid::Uuid;

use super::super::{Store, StoreOptions, connect};

/// A store under test, alone on its database.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) options: StoreOptions,
    raw: Raw,
}

#[derive(Debug)]
enum Raw {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Subject {
    pub(super) async fn on_sqlite(part: impl AsyncFnOnce(&Self)) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite:{}", folder.path().join("semblance.db").display());
        let options = options(url.clone());
        let store = connect(&options).await.expect("connected");
        let raw = Raw::Sqlite(SqlitePool::connect(&url).await.expect("connected"));
        let subject = Self { store, options, raw };
        subject.store.migrate().await.expect("migrated");
        part(&subject).await;
    }

    /// Runs a part on a database of its own, which is dropped afterwards.
    pub(crate) async fn on_postgres(part: impl AsyncFnOnce(&Self)) {
        let server = testing::postgres_url();
        let name = create_database(&server).await;
        let url = with_database(&server, &name);
        let options = options(url.clone());
        let store = connect(&options).await.expect("connected");
        let raw = PgPool::connect(&url).await.expect("connected");
        let subject = Self { store, options, raw: Raw::Postgres(raw) };
        subject.store.migrate().await.expect("migrated");
        let outcome = AssertUnwindSafe(part(&subject)).catch_unwind().await;
        drop(subject);
        drop_database(&server, &name).await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }

    /// Another replica on the same database.
    pub(crate) async fn replica(&self) -> Arc<dyn Store> {
        connect(&self.options).await.expect("connected")
    }

    /// A replica with a short timeout.
    pub(super) async fn impatient_replica(&self) -> Arc<dyn Store> {
        let options = StoreOptions { acquire_timeout: Duration::from_millis(200), ..self.options.clone() };
        connect(&options).await.expect("connected")
    }

    /// Executes a statement past the store. Returns how many rows it changed.
    pub(crate) async fn execute(&self, sql: &'static str) -> u64 {
        match &self.raw {
            Raw::Sqlite(pool) => pool.execute(sql).await.expect("executed").rows_affected(),
            Raw::Postgres(pool) => pool.execute(sql).await.expect("executed").rows_affected(),
        }
    }

    /// Executes a statement that a constraint of the schema must refuse.
    pub(super) async fn refuses(&self, sql: &'static str) {
        let refused = match &self.raw {
            Raw::Sqlite(pool) => pool.execute(sql).await.is_err(),
            Raw::Postgres(pool) => pool.execute(sql).await.is_err(),
        };
        assert!(refused, "{sql}");
    }

    /// How many rows each table of the schema has.
    pub(super) async fn row_counts(&self) -> Vec<(String, i64)> {
        let tables: Vec<String> = match &self.raw {
            Raw::Sqlite(pool) => sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
                .fetch_all(pool)
                .await
                .expect("tables"),
            Raw::Postgres(pool) => {
                sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
                    .fetch_all(pool)
                    .await
                    .expect("tables")
            }
        };
        let mut counts = Vec::new();
        for table in tables.into_iter().filter(|table| table != "_sqlx_migrations") {
            let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
            let rows = match &self.raw {
                Raw::Sqlite(pool) => sqlx::query_scalar(count).fetch_one(pool).await.expect("a count"),
                Raw::Postgres(pool) => sqlx::query_scalar(count).fetch_one(pool).await.expect("a count"),
            };
            counts.push((table, rows));
        }
        counts
    }
}

fn options(url: String) -> StoreOptions {
    StoreOptions { acquire_timeout: Duration::from_secs(30), ..StoreOptions::new(url) }
}

/// The same server, another database.
fn with_database(server: &str, name: &str) -> String {
    let (address, parameters) = server.split_once('?').map_or((server, None), |(a, p)| (a, Some(p)));
    let (host, _database) = address.rsplit_once('/').expect("the URL of a database");
    parameters.map_or_else(|| format!("{host}/{name}"), |parameters| format!("{host}/{name}?{parameters}"))
}

#[expect(clippy::disallowed_methods, reason = "test runs share a server, so the name must be unique")]
async fn create_database(server: &str) -> String {
    let name = format!("semblance_test_{}", Uuid::now_v7().simple());
    let mut connection = PgConnection::connect(server).await.expect("connected");
    // Where the server can: a locale that does not sort bytewise, so that a forgotten COLLATE is noticed.
    let sorted_by_dictionary =
        format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
    if connection.execute(AssertSqlSafe(sorted_by_dictionary)).await.is_err() {
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a database");
    }
    name
}

async fn drop_database(server: &str, name: &str) {
    let mut connection = PgConnection::connect(server).await.expect("connected");
    // By force: connections of stores that a part dropped may still be on their way out.
    connection.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.expect("dropped");
}
