//! The embedded database: one file, one writer, readers that never wait for it.

use std::{
    fs::{DirBuilder, OpenOptions},
    path::Path,
    str::FromStr,
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{
    Sqlite,
    migrate::{AppliedMigration, Migrate, Migrator},
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};
use tempfile::TempDir;

use super::{News, Result, StoreError, StoreOptions, Watch};
use domain::CollectionUid;

#[path = "../sql/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each database; sql/mod.rs says why")]
mod sql;
#[cfg(test)]
mod tests;

pub(super) use sql::SqlStore;

type Database = Sqlite;
type Connection = sqlx::SqliteConnection;
type Transaction = sqlx::Transaction<'static, Sqlite>;

/// The connections to one database file.
///
/// There is one that writes, and whoever wants to write waits for it here, in order, rather than for SQLite's lock, on
/// which waiters poll. Other processes' writers are waited for by SQLite's busy timeout.
#[derive(Debug)]
struct Pools {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Where a database lives that nobody gave a file; it goes with the store.
    _scratch: Option<TempDir>,
}

impl Pools {
    const KIND: &'static str = "sqlite";
    const MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

    async fn open(options: &StoreOptions) -> Result<Self> {
        let (file, scratch) = place(&options.url)?;
        // Deleted rows are overwritten, because what is erased here are people's bodies; by default SQLite leaves the
        // bytes in the file until the page is used again.
        let file = file.foreign_keys(true).busy_timeout(options.acquire_timeout).pragma("secure_delete", "ON");
        let writer = pool(1, options.acquire_timeout)
            .connect_with(
                // The write-ahead log lets readers go on while a turn is open; FULL syncs it at every commit.
                file.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full),
            )
            .await?;
        let readers = pool(options.connections_max, options.acquire_timeout)
            .connect_with(file.pragma("query_only", "ON"))
            .await?;
        Ok(Self { writer, readers, _scratch: scratch })
    }

    async fn reader(&self) -> Result<PoolConnection<Sqlite>> {
        Ok(self.readers.acquire().await?)
    }

    /// Moves the write-ahead log into the database file and cuts it to nothing: until then it holds old versions of
    /// pages, deleted rows among them. A reader that is under way leaves some of it for the next time.
    async fn scrub(&self) -> Result<()> {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.writer).await?;
        Ok(())
    }

    /// Begins what may write. Immediate: a transaction that began as a reader could not wait for another process's
    /// writer, but would fail.
    async fn begin(&self) -> Result<Transaction> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// A transaction that reads, and sees the database as it was at its first statement for as long as it lasts.
    async fn snapshot(&self) -> Result<Transaction> {
        Ok(self.readers.begin().await?)
    }

    /// All in one immediate transaction, because sqlx takes no lock of its own here.
    async fn migrate(&self) -> Result<()> {
        let mut transaction = self.begin().await?;
        Self::MIGRATIONS.run_direct(None, &mut *transaction, false).await?;
        Ok(transaction.commit().await?)
    }

    async fn applied_migrations(&self) -> Result<Vec<AppliedMigration>> {
        let mut reader = self.reader().await?;
        let table = &Self::MIGRATIONS.table_name;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = $1)")
            .bind(table.as_ref())
            .fetch_one(&mut *reader)
            .await?;
        if exists { Ok(reader.list_applied_migrations(table).await?) } else { Ok(Vec::new()) }
    }

    #[expect(clippy::unused_self, reason = "the other database watches over a connection")]
    fn watch(&self) -> Box<dyn Watch> {
        Box::new(Silence)
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn pool(connections_max: u32, acquire_timeout: Duration) -> SqlitePoolOptions {
    // Connections to a file do not grow stale, and each costs a thread to start.
    SqlitePoolOptions::new()
        .max_connections(connections_max.max(1))
        .acquire_timeout(acquire_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// The file that the URL names. `sqlite::memory:` is a file as well, in a folder that goes with the store: what SQLite
/// itself keeps in memory has no write-ahead log, so that a reader would wait for every open turn.
fn place(url: &str) -> Result<(SqliteConnectOptions, Option<TempDir>)> {
    if matches!(url, "sqlite::memory:" | "sqlite://:memory:") {
        let scratch = tempfile::tempdir().map_err(|error| StoreError::Unavailable(error.into()))?;
        let file = SqliteConnectOptions::new().filename(scratch.path().join("semblance.db"));
        return Ok((file.create_if_missing(true), Some(scratch)));
    }
    let file = SqliteConnectOptions::from_str(url)
        .map_err(|error| StoreError::BadUrl(format!("DATABASE_URL names no SQLite file: {error}")))?;
    let path = file.get_filename();
    if path.as_os_str().is_empty() {
        return Err(StoreError::BadUrl("DATABASE_URL names no SQLite file after sqlite:".to_owned()));
    }
    make_file(path).map_err(|error| {
        StoreError::BadUrl(format!("DATABASE_URL: the database file {} cannot be opened: {error}", path.display()))
    })?;
    Ok((file, None))
}

/// Makes the file and its folder where they are missing, for the owner alone where the system knows owners: the database
/// holds people's bodies. SQLite takes an empty file for an empty database and gives its other files the same owner.
fn make_file(path: &Path) -> std::io::Result<()> {
    let mut folder = DirBuilder::new();
    let mut file = OpenOptions::new();
    #[cfg(unix)]
    {
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        folder.recursive(true).create(parent)?;
    }
    file.create(true).append(true).open(path).map(drop)
}

/// What the database says of its own file: pages, indexes, constraints, and rows that belong to nothing.
async fn check_file(connection: &mut Connection) -> Result<Vec<String>> {
    let mut found: Vec<String> =
        sqlx::query_scalar("SELECT integrity_check FROM pragma_integrity_check").fetch_all(&mut *connection).await?;
    found.retain(|said| said != "ok");
    let orphans: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT \"table\", \"parent\", count(*) FROM pragma_foreign_key_check() GROUP BY \"table\", \"parent\"",
    )
    .fetch_all(connection)
    .await?;
    found.extend(
        orphans.into_iter().map(|(table, parent, rows)| format!("{rows} rows of {table} belong to no {parent}")),
    );
    Ok(found)
}

/// Nobody to tell: other processes on the file are rare, and follow by asking.
async fn announce(_: &mut Connection, _: &News) -> Result<()> {
    Ok(())
}

/// Hears nothing: the one process that uses the file knows what it wrote.
#[derive(Debug)]
struct Silence;

#[async_trait]
impl Watch for Silence {
    async fn next(&mut self) -> News {
        std::future::pending().await
    }
}

/// The collection's head if it is there. The transaction began immediate, so it holds all collections already.
async fn lock_collection(connection: &mut Connection, uid: CollectionUid) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar("SELECT head_position FROM collections WHERE uid = $1")
        .bind(uid.0)
        .fetch_optional(connection)
        .await?)
}

/// Whether it is there: here a writer holds everything or nothing.
async fn hold_collection(connection: &mut Connection, uid: CollectionUid) -> Result<bool> {
    Ok(lock_collection(connection, uid).await?.is_some())
}
