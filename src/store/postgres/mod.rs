//! PostgreSQL: many replicas share one database.

use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Postgres,
    migrate::{AppliedMigration, Migrate, Migrator},
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};

use super::{LogNotice, LogWatch, Result, StoreError, StoreOptions};
use domain::CollectionUid;

#[path = "../sql/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each database; sql/mod.rs says why")]
mod sql;
#[cfg(test)]
mod tests;
mod watch;

pub(super) use sql::SqlStore;

type Database = Postgres;
type DbConnection = sqlx::PgConnection;
type DbTransaction = sqlx::Transaction<'static, Postgres>;

/// How long a transaction may hold its locks without a statement. Otherwise a replica that freezes or loses its network
/// inside a turn would block the others forever.
const IDLE_IN_TRANSACTION_MAX: Duration = Duration::from_mins(1);

/// The connections to one database.
///
/// Writers wait for each other's locks, and all of them may wait for one busy collection. Readers, and the health
/// check, have connections of their own.
#[derive(Debug)]
struct ConnectionPools {
    writers: PgPool,
    readers: PgPool,
    /// The connection of the watch.
    listener: PgPool,
    /// How long a transaction waits for another's lock.
    lock_timeout: Duration,
}

impl ConnectionPools {
    const KIND: &'static str = "postgres";
    const MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

    async fn open(options: &StoreOptions) -> Result<Self> {
        let address = PgConnectOptions::from_str(&options.url)
            .map_err(|error| StoreError::BadUrl(format!("DATABASE_URL names no PostgreSQL database: {error}")))?
            .application_name("semblance");
        // The pool retries until its timeout and reports only the timeout; a single attempt reports the cause.
        let attempt = tokio::time::timeout(options.acquire_timeout, ConnectOptions::connect(&address)).await;
        attempt.map_err(|late| StoreError::Unavailable(late.into()))??.close().await?;
        let writers_max = (options.connections_max / 2).max(1);
        let readers_max = options.connections_max.saturating_sub(writers_max).max(1);
        let pool = |connections_max| {
            PgPoolOptions::new().max_connections(connections_max).acquire_timeout(options.acquire_timeout)
        };
        Ok(Self {
            readers: pool(readers_max).connect_with(address.clone()).await?,
            // It may be silent for hours and must not count as idle. Two, because a connection whose peer vanished may
            // take long to fail.
            listener: pool(2).idle_timeout(None).max_lifetime(None).connect_lazy_with(address.clone()),
            writers: pool(writers_max).connect_lazy_with(address),
            lock_timeout: options.acquire_timeout,
        })
    }

    /// Does nothing: the server's autovacuum removes dead rows, and a vacuum from here would wait for other
    /// transactions.
    #[expect(clippy::unused_async, reason = "the other database has something to wait for")]
    async fn scrub(&self) -> Result<()> {
        Ok(())
    }

    async fn reader(&self) -> Result<PoolConnection<Postgres>> {
        Ok(self.readers.acquire().await?)
    }

    /// Begins a write transaction. Its limits are local to the transaction, so that they also hold behind a connection
    /// pooler, which gives one session to many clients.
    async fn begin(&self) -> Result<DbTransaction> {
        let begin = format!(
            "BEGIN; SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}",
            self.lock_timeout.as_millis(),
            IDLE_IN_TRANSACTION_MAX.as_millis()
        );
        // The numbers are constants, and this takes one round trip instead of three.
        Ok(self.writers.begin_with(AssertSqlSafe(begin)).await?)
    }

    /// A read transaction. It sees the database as of its first statement.
    async fn snapshot(&self) -> Result<DbTransaction> {
        Ok(self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
    }

    /// sqlx holds an advisory lock meanwhile, so that replicas migrate one after the other. If a migration fails, sqlx
    /// keeps the lock, so the connection that holds it does not return to the pool.
    async fn migrate(&self) -> Result<()> {
        let mut connection = self.writers.acquire().await?.detach();
        Self::MIGRATIONS.run_direct(None, &mut connection, false).await?;
        Ok(connection.close().await?)
    }

    async fn applied_migrations(&self) -> Result<Vec<AppliedMigration>> {
        let mut reader = self.reader().await?;
        let table = &Self::MIGRATIONS.table_name;
        let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(table.as_ref())
            .fetch_one(&mut *reader)
            .await?;
        if exists { Ok(reader.list_applied_migrations(table).await?) } else { Ok(Vec::new()) }
    }

    fn watch(&self) -> Box<dyn LogWatch> {
        Box::new(watch::PgWatch::new(self.listener.clone(), self.readers.clone()))
    }

    async fn close(&self) {
        self.listener.close().await;
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// Finds nothing: a server checks its pages itself (initdb --data-checksums, `pg_amcheck`), and always enforces foreign
/// keys.
async fn check_file(_connection: &mut DbConnection) -> Result<Vec<String>> {
    Ok(Vec::new())
}

/// Waits until no other transaction of any replica holds the collection's lock, and takes it. Returns the head
/// position; `None` if the collection does not exist.
///
/// Not FOR UPDATE: that would also block the inserts of decision records, whose foreign key points at the collection.
async fn lock_collection(connection: &mut DbConnection, uid: CollectionUid) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar("SELECT head_position FROM collections WHERE uid = $1 FOR NO KEY UPDATE")
        .bind(uid.0)
        .fetch_optional(connection)
        .await?)
}

/// Notifies the watches if the transaction commits.
///
/// Postgres serialises the commits of transactions that notify, in the whole server, so that all listeners see one
/// order. A turn notifies once per append.
async fn announce(connection: &mut DbConnection, notice: &LogNotice) -> Result<()> {
    sqlx::query("SELECT pg_notify('semblance_' || current_schema()::text::regnamespace::oid, $1)")
        .bind(watch::payload(notice))
        .execute(connection)
        .await?;
    Ok(())
}

/// Prevents the deletion of the collection until the transaction ends, without blocking turns. Returns whether the
/// collection exists.
async fn hold_collection(connection: &mut DbConnection, uid: CollectionUid) -> Result<bool> {
    let found: Option<i32> = sqlx::query_scalar("SELECT 1 FROM collections WHERE uid = $1 FOR KEY SHARE")
        .bind(uid.0)
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}
