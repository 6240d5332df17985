//! Postgres: many replicas, one truth.

use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Postgres,
    migrate::{AppliedMigration, Migrate, Migrator},
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};

use super::{News, Result, StoreError, StoreOptions, Watch};
use domain::CollectionUid;

#[path = "../sql/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each database; sql/mod.rs says why")]
mod sql;
#[cfg(test)]
mod tests;
mod watch;

pub(super) use sql::SqlStore;

type Database = Postgres;
type Connection = sqlx::PgConnection;
type Transaction = sqlx::Transaction<'static, Postgres>;

/// How long a transaction may hold its locks without saying anything. A replica that froze or was cut off inside a turn
/// would hold up the others for good.
const IDLE_IN_TRANSACTION_MAX: Duration = Duration::from_mins(1);

/// The connections to one database.
///
/// Those that write wait for each other's locks and may all be waiting for one busy collection. Readers, the health
/// check among them, have their own.
#[derive(Debug)]
struct Pools {
    writers: PgPool,
    readers: PgPool,
    /// The connection that listens, as long as somebody watches.
    listener: PgPool,
    /// How long a transaction waits for somebody else's lock.
    lock_timeout: Duration,
}

impl Pools {
    const KIND: &'static str = "postgres";
    const MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

    async fn open(options: &StoreOptions) -> Result<Self> {
        let address = PgConnectOptions::from_str(&options.url)
            .map_err(|error| StoreError::BadUrl(format!("DATABASE_URL names no PostgreSQL database: {error}")))?
            .application_name("semblance");
        // The pool tries again until its time is up and then says only that; one attempt says what is wrong.
        let attempt = tokio::time::timeout(options.acquire_timeout, ConnectOptions::connect(&address)).await;
        attempt.map_err(|late| StoreError::Unavailable(late.into()))??.close().await?;
        let writers_max = (options.connections_max / 2).max(1);
        let readers_max = options.connections_max.saturating_sub(writers_max).max(1);
        let pool = |connections_max| {
            PgPoolOptions::new().max_connections(connections_max).acquire_timeout(options.acquire_timeout)
        };
        Ok(Self {
            readers: pool(readers_max).connect_with(address.clone()).await?,
            // Nothing is asked over it for hours, and it must not be taken for idle. Two, because one whose other end
            // went without a word may take long to give up.
            listener: pool(2).idle_timeout(None).max_lifetime(None).connect_lazy_with(address.clone()),
            writers: pool(writers_max).connect_lazy_with(address),
            lock_timeout: options.acquire_timeout,
        })
    }

    /// The server's autovacuum removes dead rows; it needs no telling, and a vacuum of ours would wait for others.
    #[expect(clippy::unused_async, reason = "the other database has something to wait for")]
    async fn scrub(&self) -> Result<()> {
        Ok(())
    }

    async fn reader(&self) -> Result<PoolConnection<Postgres>> {
        Ok(self.readers.acquire().await?)
    }

    /// Begins what may write. The limits are of this transaction alone, so that they hold behind a connection pooler
    /// too, which hands the same session to others.
    async fn begin(&self) -> Result<Transaction> {
        let begin = format!(
            "BEGIN; SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}",
            self.lock_timeout.as_millis(),
            IDLE_IN_TRANSACTION_MAX.as_millis()
        );
        // Numbers of ours, and one way to the server and back instead of three.
        Ok(self.writers.begin_with(AssertSqlSafe(begin)).await?)
    }

    /// A transaction that reads, and sees the database as it was at its first statement for as long as it lasts.
    async fn snapshot(&self) -> Result<Transaction> {
        Ok(self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
    }

    /// sqlx holds an advisory lock meanwhile, so that replicas migrate one after the other. It does not let go of the
    /// lock when a migration fails, so the connection that holds it is not given back to the pool.
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

    fn watch(&self) -> Box<dyn Watch> {
        Box::new(watch::PgWatch::new(self.listener.clone(), self.readers.clone()))
    }

    async fn close(&self) {
        self.listener.close().await;
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// Nothing: a server checks its pages itself (initdb --data-checksums, `pg_amcheck`), and its foreign keys cannot be left
/// open.
async fn check_file(_connection: &mut Connection) -> Result<Vec<String>> {
    Ok(Vec::new())
}

/// Waits until no other transaction on any replica has locked the collection, and locks it; answers its head if it is
/// there.
///
/// Not FOR UPDATE, which would also hold up the foreign keys that decision records point at the collection with.
async fn lock_collection(connection: &mut Connection, uid: CollectionUid) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar("SELECT head_position FROM collections WHERE uid = $1 FOR NO KEY UPDATE")
        .bind(uid.0)
        .fetch_optional(connection)
        .await?)
}

/// Tells whoever watches once the transaction has committed, and nobody if it has not.
///
/// Postgres commits transactions that tell one after the other, in the whole server: it is the price of an order that all
/// listeners agree on. A turn tells once, whatever it appends.
async fn announce(connection: &mut Connection, news: &News) -> Result<()> {
    sqlx::query("SELECT pg_notify('semblance_' || current_schema()::text::regnamespace::oid, $1)")
        .bind(watch::payload(news))
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps the collection from being deleted until the transaction ends, and holds up nobody else's turn; answers whether
/// it is there.
async fn hold_collection(connection: &mut Connection, uid: CollectionUid) -> Result<bool> {
    let found: Option<i32> = sqlx::query_scalar("SELECT 1 FROM collections WHERE uid = $1 FOR KEY SHARE")
        .bind(uid.0)
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}
