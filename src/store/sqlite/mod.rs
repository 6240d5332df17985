//! The embedded database: one file, one writer, readers that do not wait for it.

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

use super::{LogNotice, LogWatch, Result, StoreError, StoreOptions};
use domain::CollectionUid;

#[path = "../sql/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each database; sql/mod.rs says why")]
mod sql;
#[cfg(test)]
mod tests;

pub(super) use sql::SqlStore;

type Database = Sqlite;
type DbConnection = sqlx::SqliteConnection;
type DbTransaction = sqlx::Transaction<'static, Sqlite>;

/// The connections to one database file.
///
/// One connection writes. Writers queue for it in this process, because waiters on SQLite's own lock poll. SQLite's
/// busy timeout covers writers in other processes.
#[derive(Debug)]
struct ConnectionPools {
    writer: SqlitePool,
    readers: SqlitePool,
    /// The folder of a `sqlite::memory:` database; it is removed with the store.
    _scratch: Option<TempDir>,
}

impl ConnectionPools {
    const KIND: &'static str = "sqlite";
    const MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

    async fn open(options: &StoreOptions) -> Result<Self> {
        let (file, scratch) = database_file(&options.url)?;
        // Deleted rows are overwritten, because they hold biometric data; by default SQLite leaves the bytes in the
        // file until it reuses the page.
        let file = file.foreign_keys(true).busy_timeout(options.acquire_timeout).pragma("secure_delete", "ON");
        let writer = pool(1, options.acquire_timeout)
            .connect_with(
                // The write-ahead log lets readers continue while a turn is open; FULL syncs it at every commit.
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

    /// Moves the write-ahead log into the database file and truncates it: until then it holds old versions of pages,
    /// including deleted rows. An open reader makes SQLite keep a part of it until the next call.
    async fn scrub(&self) -> Result<()> {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.writer).await?;
        Ok(())
    }

    /// Begins a write transaction. Immediate, because a transaction that begins as a reader fails instead of waiting
    /// for another process's writer.
    async fn begin(&self) -> Result<DbTransaction> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// A read transaction. It sees the database as of its first statement.
    async fn snapshot(&self) -> Result<DbTransaction> {
        Ok(self.readers.begin().await?)
    }

    /// All migrations in one immediate transaction, because sqlx takes no lock on SQLite.
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

    #[expect(clippy::unused_self, reason = "the other database needs a connection")]
    fn watch(&self) -> Box<dyn LogWatch> {
        Box::new(NoWatch)
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn pool(connections_max: u32, acquire_timeout: Duration) -> SqlitePoolOptions {
    // Connections to a file do not become stale, and each needs a new thread.
    SqlitePoolOptions::new()
        .max_connections(connections_max.max(1))
        .acquire_timeout(acquire_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// The file that the URL names. `sqlite::memory:` is a file too, in a temporary folder: SQLite's own in-memory
/// databases have no write-ahead log, so a reader would wait for every open turn.
fn database_file(url: &str) -> Result<(SqliteConnectOptions, Option<TempDir>)> {
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
    create_file(path).map_err(|error| {
        StoreError::BadUrl(format!("DATABASE_URL: the database file {} cannot be opened: {error}", path.display()))
    })?;
    Ok((file, None))
}

/// Creates the file and its folder if they are missing. On Unix only their owner may read them, because the database
/// holds biometric data. SQLite reads an empty file as an empty database and gives its other files the same
/// permissions.
fn create_file(path: &Path) -> std::io::Result<()> {
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

/// SQLite's own check of its file: pages, indexes, constraints, foreign keys.
async fn check_file(connection: &mut DbConnection) -> Result<Vec<String>> {
    let mut found: Vec<String> =
        sqlx::query_scalar("SELECT integrity_check FROM pragma_integrity_check").fetch_all(&mut *connection).await?;
    found.retain(|line| line != "ok");
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

/// Does nothing: other processes on the file are rare, and they poll.
async fn announce(_: &mut DbConnection, _: &LogNotice) -> Result<()> {
    Ok(())
}

/// Sends no notices: the one process that uses the file knows what it wrote.
#[derive(Debug)]
struct NoWatch;

#[async_trait]
impl LogWatch for NoWatch {
    async fn next(&mut self) -> LogNotice {
        std::future::pending().await
    }
}

/// The head position; `None` if the collection does not exist. The transaction began immediate, so it already holds the
/// lock of the whole database.
async fn lock_collection(connection: &mut DbConnection, uid: CollectionUid) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar("SELECT head_position FROM collections WHERE uid = $1")
        .bind(uid.0)
        .fetch_optional(connection)
        .await?)
}

/// Whether the collection exists. The writer holds the lock of the whole database.
async fn hold_collection(connection: &mut DbConnection, uid: CollectionUid) -> Result<bool> {
    Ok(lock_collection(connection, uid).await?.is_some())
}
