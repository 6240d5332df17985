//! PostgreSQL: many replicas share one database.

use std::{
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Postgres, Transaction,
    migrate::{AppliedMigration, Migrate, Migrator},
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgDatabaseError, PgPool, PgPoolOptions, PgSeverity},
};

use super::{
    ListenAddress, LogNotice, LogWatch, Result, Scrubbed, StoreError, StoreOptions, schema, watch::NoWatch,
    write_health::WriteHealth,
};
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

/// How long a transaction may hold its locks without a statement. Otherwise a replica that freezes or loses its network
/// inside a turn would block the others forever.
const IDLE_IN_TRANSACTION_MAX: Duration = Duration::from_mins(1);

/// The interval between two questions for the lock of the migrations, or for the outcome of a commit.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// Key of the advisory lock of the migrations.
const MIGRATION_LOCK: i64 = 0x5365_6d62_6c61_6e63;

/// The connections to one database.
///
/// Writers wait for each other's locks, and all of them may wait for one busy collection. Readers, and the health
/// check, have connections of their own.
#[derive(Debug)]
pub(crate) struct ConnectionPools {
    writers: PgPool,
    readers: PgPool,
    /// The connections of the watch; `None` when it is off.
    listener: Option<PgPool>,
    health: Arc<WriteHealth>,
    /// How long a transaction waits for another's lock.
    lock_timeout: Duration,
    migrate_wait: Duration,
}

impl ConnectionPools {
    const KIND: &'static str = "postgres";
    const MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

    async fn open(options: &StoreOptions) -> Result<Self> {
        let address = address(&options.url, "DATABASE_URL")?;
        let listen_address = match &options.listen {
            ListenAddress::Database => Some(address.clone()),
            ListenAddress::Url(url) => Some(self::address(url, "DATABASE_LISTEN_URL")?),
            ListenAddress::Off => None,
        };
        // The pool retries until its timeout and reports only the timeout; a single attempt reports the cause.
        let attempt = async {
            let mut connection = ConnectOptions::connect(&address).await?;
            // Prepared: some poolers give one session to several clients and lose what each prepared.
            sqlx::query("SELECT 1").execute(&mut connection).await?;
            connection.close().await
        };
        let attempt = tokio::time::timeout(options.acquire_timeout, attempt).await;
        attempt.map_err(|late| StoreError::Unavailable(late.into()))??;
        let writers_max = (options.connections_max / 2).max(1);
        let readers_max = options.connections_max.saturating_sub(writers_max).max(1);
        let pool = |connections_max| {
            PgPoolOptions::new().max_connections(connections_max).acquire_timeout(options.acquire_timeout)
        };
        Ok(Self {
            readers: pool(readers_max).connect_with(address.clone()).await?,
            // It may be silent for hours and must not count as idle. Three: one listens, one tests the sessions, and one
            // whose peer vanished may take long to fail.
            listener: listen_address
                .map(|address| pool(3).idle_timeout(None).max_lifetime(None).connect_lazy_with(address)),
            writers: pool(writers_max).connect_lazy_with(address),
            health: Arc::default(),
            lock_timeout: options.acquire_timeout,
            migrate_wait: options.migrate_wait,
        })
    }

    /// Does nothing: the server's autovacuum removes dead rows, and a vacuum from here would wait for other
    /// transactions.
    #[expect(clippy::unused_async, reason = "the other database has something to wait for")]
    async fn scrub(&self) -> Result<Scrubbed> {
        Ok(Scrubbed::Done)
    }

    async fn reader(&self) -> Result<PoolConnection<Postgres>> {
        Ok(self.readers.acquire().await?)
    }

    /// Begins a write transaction. Its limits are local to the transaction, so that they also hold behind a connection
    /// pooler, which gives one session to many clients. If another client of the session listens to the channel of the
    /// watch, sqlx takes the notice for the answer to COMMIT; UNLISTEN prevents the notice.
    async fn open_transaction(&self) -> Result<(Transaction<'static, Postgres>, CommitWitness)> {
        let begin = format!(
            "BEGIN; SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}; UNLISTEN *",
            self.lock_timeout.as_millis(),
            IDLE_IN_TRANSACTION_MAX.as_millis()
        );
        // The numbers are constants, and this takes one round trip instead of four.
        let mut transaction = self.writers.begin_with(AssertSqlSafe(begin)).await?;
        let id = sqlx::query_scalar("SELECT pg_current_xact_id()::text").fetch_one(&mut *transaction).await?;
        Ok((transaction, CommitWitness { id, readers: self.readers.clone(), wait: self.lock_timeout }))
    }

    /// Deletes nothing, which a read-only database refuses all the same.
    async fn check_writes(&self) -> Result<()> {
        let mut transaction = self.begin().await?;
        sqlx::query("DELETE FROM idempotency_keys WHERE false").execute(&mut *transaction).await?;
        transaction.commit().await
    }

    /// A read transaction. It sees the database as of its first statement.
    async fn snapshot(&self) -> Result<Transaction<'static, Postgres>> {
        Ok(self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
    }

    /// All migrations in one transaction that holds an advisory lock. sqlx's own lock belongs to the session: behind a
    /// pooler it may be released in another session than it was taken, and then nobody gets it again.
    async fn migrate(&self) -> Result<()> {
        if !schema::needs_migration(&Self::MIGRATIONS, &self.applied_migrations().await?)? {
            return Ok(());
        }
        let mut transaction = self.writers.begin().await?;
        self.wait_for_migration_lock(&mut transaction).await?;
        let mut migrations = Self::MIGRATIONS;
        migrations.set_locking(false);
        migrations.run_direct(None, &mut *transaction, false).await?;
        Ok(transaction.commit().await?)
    }

    async fn wait_for_migration_lock(&self, transaction: &mut DbConnection) -> Result<()> {
        let began = Instant::now();
        let mut has_told = false;
        loop {
            let is_ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
                .bind(MIGRATION_LOCK)
                .fetch_one(&mut *transaction)
                .await?;
            if is_ours {
                return Ok(());
            }
            let holders: Option<String> = sqlx::query_scalar(
                "SELECT string_agg(pid::text, ', ') FROM pg_locks
                 WHERE locktype = 'advisory' AND granted AND objsubid = 1
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND ((classid::bigint << 32) | objid::bigint) = $1",
            )
            .bind(MIGRATION_LOCK)
            .fetch_one(&mut *transaction)
            .await?;
            let holders = holders.unwrap_or_else(|| "unknown".to_owned());
            if began.elapsed() >= self.migrate_wait {
                return Err(StoreError::Unavailable(
                    format!(
                        "another process has been migrating it for {} s (PostgreSQL backend {holders}); wait for it, or end \
                         that backend with pg_terminate_backend",
                        self.migrate_wait.as_secs()
                    )
                    .into(),
                ));
            }
            if !std::mem::replace(&mut has_told, true) {
                let seconds_max = self.migrate_wait.as_secs();
                tracing::info!(backend = holders, seconds_max, "another process migrates the database; waiting for it");
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
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
        match &self.listener {
            Some(listener) => Box::new(watch::PgWatch::new(listener.clone(), self.readers.clone())),
            None => Box::new(NoWatch),
        }
    }

    async fn close(&self) {
        if let Some(listener) = &self.listener {
            listener.close().await;
        }
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// The parsed URL of a setting. `extra_float_digits` is left out: poolers refuse it, and sqlx reads floats in binary.
fn address(url: &str, setting: &str) -> Result<PgConnectOptions> {
    let address = PgConnectOptions::from_str(url)
        .map_err(|error| StoreError::BadUrl(format!("{setting} names no PostgreSQL database: {error}")))?;
    Ok(address.application_name("semblance").extra_float_digits(None))
}

/// Learns the outcome of a commit whose answer was lost.
#[derive(Debug)]
struct CommitWitness {
    /// The id of the transaction, an `xid8`.
    id: String,
    readers: PgPool,
    wait: Duration,
}

impl CommitWitness {
    /// Asks the database over another connection, until the transaction has ended or the wait is over.
    async fn outcome(&self, error: sqlx::Error) -> Result<()> {
        if is_certain(&error) {
            return Err(error.into());
        }
        let until = Instant::now() + self.wait;
        loop {
            let status: Option<String> = sqlx::query_scalar("SELECT pg_xact_status($1::text::xid8)")
                .bind(&self.id)
                .fetch_one(&self.readers)
                .await
                .ok()
                .flatten();
            match status.as_deref() {
                Some("committed") => {
                    tracing::warn!(%error, "the answer to a COMMIT was lost; the database says that it committed");
                    return Ok(());
                }
                Some("aborted") => return Err(StoreError::Unavailable(error.into())),
                // In progress, or the database does not answer.
                Some(_) | None if Instant::now() < until => tokio::time::sleep(ASK_INTERVAL).await,
                Some(_) | None => return Err(StoreError::OutcomeUnknown(error.into())),
            }
        }
    }
}

/// Whether an error of COMMIT says that nothing was committed: the database itself refused, and kept the connection.
fn is_certain(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .is_some_and(|error| error.severity() == PgSeverity::Error)
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
