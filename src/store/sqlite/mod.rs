//! The embedded database: one file, one writer, readers that do not wait for it.

use std::{
    fs::{DirBuilder, OpenOptions},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Connection as _, Sqlite, Transaction,
    migrate::{AppliedMigration, Migrate, Migrator},
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};
use tempfile::TempDir;

use super::{
    LogNotice, LogWatch, Result, Scrubbed, StoreError, StoreOptions, schema, watch::NoWatch, write_health::WriteHealth,
};
use domain::CollectionUid;

#[path = "../sql/mod.rs"]
#[expect(clippy::duplicate_mod, reason = "compiled once for each database; sql/mod.rs says why")]
mod sql;
#[cfg(test)]
mod tests;

pub(super) use sql::SqlStore;

type Database = Sqlite;
type DbConnection = sqlx::SqliteConnection;

/// How long emptying the write-ahead log waits for readers, and all writes with it.
const SCRUB_WAIT: Duration = Duration::from_millis(20);

/// The connections to one database file.
///
/// One connection writes. Writers queue for it in this process, because waiters on SQLite's own lock poll. SQLite's
/// busy timeout covers writers in other processes.
#[derive(Debug)]
pub(crate) struct ConnectionPools {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Empties the write-ahead log. A connection of its own, because it waits less long than others for a lock.
    scrubber: SqlitePool,
    health: Arc<WriteHealth>,
    file: DatabaseFile,
    /// The folder of a `sqlite::memory:` database; it is removed with the store.
    _scratch: Option<TempDir>,
}

impl ConnectionPools {
    const KIND: &'static str = "sqlite";
    const MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

    async fn open(options: &StoreOptions) -> Result<Self> {
        let (file, scratch) = database_file(&options.url)?;
        let path = file.get_filename().to_path_buf();
        // Deleted rows are overwritten, because they hold biometric data; by default SQLite leaves the bytes in the
        // file until it reuses the page.
        let file = file.foreign_keys(true).busy_timeout(options.acquire_timeout).pragma("secure_delete", "ON");
        let writer = pool(1, options.acquire_timeout)
            .connect_with(
                // The write-ahead log lets readers continue while a turn is open; FULL syncs it at every commit.
                file.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full),
            )
            .await?;
        let scrubber = pool(1, options.acquire_timeout).connect_lazy_with(file.clone().busy_timeout(SCRUB_WAIT));
        let readers = pool(options.connections_max, options.acquire_timeout)
            .connect_with(file.pragma("query_only", "ON"))
            .await?;
        Ok(Self { writer, readers, scrubber, health: Arc::default(), file: DatabaseFile::at(path)?, _scratch: scratch })
    }

    async fn reader(&self) -> Result<PoolConnection<Sqlite>> {
        Ok(self.readers.acquire().await?)
    }

    /// Moves the write-ahead log into the database file and truncates it: until then it holds old versions of pages,
    /// including deleted rows. A reader of this or another process that began before keeps SQLite from doing so.
    async fn scrub(&self) -> Result<Scrubbed> {
        self.file.check()?;
        // No writer of this process in between: SQLite would wait for it as for a reader.
        let _writer = self.writer.acquire().await?;
        // One row: whether it was blocked, frames in the log, frames moved.
        let (is_blocked, _, _): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.scrubber).await?;
        Ok(if is_blocked == 0 { Scrubbed::Done } else { Scrubbed::Pending })
    }

    /// Begins a write transaction. Immediate, because a transaction that begins as a reader fails instead of waiting
    /// for another process's writer.
    async fn open_transaction(&self) -> Result<(Transaction<'static, Sqlite>, CommitWitness)> {
        self.file.check()?;
        Ok((self.writer.begin_with("BEGIN IMMEDIATE").await?, CommitWitness))
    }

    /// Writes the number that the file keeps for its applications, unchanged.
    async fn check_writes(&self) -> Result<()> {
        let mut transaction = self.begin().await?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
        sqlx::query(AssertSqlSafe(format!("PRAGMA user_version = {version}"))).execute(&mut *transaction).await?;
        transaction.commit().await
    }

    /// A read transaction. It sees the database as of its first statement.
    async fn snapshot(&self) -> Result<Transaction<'static, Sqlite>> {
        Ok(self.readers.begin().await?)
    }

    /// All migrations in one immediate transaction, because sqlx takes no lock on SQLite.
    async fn migrate(&self) -> Result<()> {
        if !schema::needs_migration(&Self::MIGRATIONS, &self.applied_migrations().await?)? {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        Self::MIGRATIONS.run_direct(None, &mut *transaction, false).await?;
        transaction.commit().await
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
        self.scrubber.close().await;
        self.writer.close().await;
    }
}

/// Learns the outcome of a commit whose answer is an error: SQLite's answer is the outcome.
#[derive(Debug)]
struct CommitWitness;

impl CommitWitness {
    #[expect(clippy::unused_async, reason = "the other database must ask")]
    async fn outcome(&self, error: sqlx::Error) -> Result<()> {
        Err(error.into())
    }
}

/// The file that the connections have open.
#[derive(Debug)]
struct DatabaseFile {
    path: PathBuf,
    #[cfg(unix)]
    identity: (u64, u64),
}

impl DatabaseFile {
    fn at(path: PathBuf) -> Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            identity: file_identity(&path)
                .ok_or_else(|| StoreError::FileMoved(format!("the database file {} is gone", path.display())))?,
            path,
        })
    }

    /// # Errors
    /// [`StoreError::FileMoved`] when the path names another file or none: SQLite would go on writing to the old one.
    #[cfg(unix)]
    fn check(&self) -> Result<()> {
        if file_identity(&self.path) == Some(self.identity) {
            return Ok(());
        }
        Err(StoreError::FileMoved(format!(
            "the database file {} was moved, removed or replaced under the running server; put it back, or restart the \
             server to use the file that is there now",
            self.path.display()
        )))
    }

    #[cfg(not(unix))]
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Device and inode.
#[cfg(unix)]
fn file_identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn pool(connections_max: u32, acquire_timeout: Duration) -> SqlitePoolOptions {
    // Connections to a file do not become stale, and each needs a new thread.
    SqlitePoolOptions::new()
        // SQLite ends a transaction by itself when the disk is full or fails. sqlx then counts a transaction that does
        // not exist, and refuses every later one on the connection.
        .after_release(|connection, _| {
            Box::pin(async move {
                connection.ping().await?; // the rollback of a dropped transaction comes first
                Ok(!connection.is_in_transaction())
            })
        })
        .max_connections(connections_max.max(1))
        .acquire_timeout(acquire_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// The file that the URL names; `None` if it names none, or a database in memory.
pub(super) fn file_of(url: &str) -> Option<PathBuf> {
    if !url.starts_with("sqlite:") || url.contains(":memory:") {
        return None;
    }
    let file = SqliteConnectOptions::from_str(url).ok()?;
    Some(file.get_filename().to_path_buf())
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
