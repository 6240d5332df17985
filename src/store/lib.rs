//! The durable store: collections, identities, templates, their log and the records beside them, in PostgreSQL or in
//! embedded SQLite.
//!
//! Each kind of record has one trait in `records/`, and one contract suite runs on both databases. This module stores
//! bytes in order. It makes no decisions, runs no searches, and is not on the path of a search.
//!
//! All changes to the identities and templates of a collection happen in a [`Turn`]: a write transaction that holds the
//! collection's lock, against all replicas. Log positions are assigned inside it, so that they commit in order and
//! without gaps.

mod audit;
#[cfg(test)]
mod contract;
mod fault;
mod postgres;
mod records;
mod rows;
mod schema;
mod sqlite;
mod watch;
mod write_health;

use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use thiserror::Error;

pub use audit::{Audit, Audited, Finding, FindingKind, OwnedTemplate, Repairs};
pub use records::{
    AcceptedTemplate, Calibrations, CollectionHead, CollectionRecords, Collections, DecisionRecord, Decisions,
    EnrolledIdentity, ExpiredIdentity, HeartbeatReply, Housekeeping, IdempotencyKey, IdempotencyKeys,
    IdempotencyRecord, Identities, KeyedAnswer, Log, Operations, Page, Regroupings, ReviewCasePage, ReviewCases,
    ReviewTrials, Templates,
};
pub use watch::{LogNotice, LogWatch};

use domain::{Change, Collection, CollectionUid, Entry, Position, Timestamp};

/// The result of a method of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Errors of the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another collection has that id.
    #[error("a collection with this id already exists")]
    CollectionExists,
    /// The collection was deleted.
    #[error("the collection no longer exists")]
    CollectionGone,
    /// A change names an identity that does not exist.
    #[error("the identity no longer exists")]
    IdentityGone,
    /// A change names a template that the identity does not have.
    #[error("the identity does not have the template")]
    TemplateGone,
    /// Another writer changed the record after it was read.
    #[error("the record was changed since it was read")]
    RevisionMoved,
    /// The database cannot be reached in time. The request itself is sound.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row holds a value that this program does not write.
    #[error("the database holds an unreadable value: {0}")]
    Corrupt(String),
    /// The schema is older or newer than this program.
    #[error("{0}")]
    Schema(String),
    /// The database URL is invalid, or leads to a connection pooler that this program cannot use.
    #[error("{0}")]
    BadUrl(String),
    /// The database file is not where it was when this process opened it. Nothing is written until it is back.
    #[error("{0}")]
    FileMoved(String),
    /// The connection broke during COMMIT, and the database does not tell whether it committed.
    #[error("the database did not confirm the commit")]
    OutcomeUnknown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database refused the statement.
    #[error("the database refused the statement")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How to reach the database; `app` fills it from the configuration. Its `Debug` form hides the URL, which may contain
/// a password.
#[derive(Clone)]
pub struct StoreOptions {
    /// `sqlite:PATH`, `postgres://...`, or `sqlite::memory:` for a database in a temporary folder that is removed with
    /// the store.
    pub url: String,
    /// Where to listen for notices of other replicas. PostgreSQL only.
    pub listen: ListenAddress,
    /// Maximum number of open connections.
    pub connections_max: u32,
    /// How long to wait for a connection or a lock before the store reports itself unavailable.
    pub acquire_timeout: Duration,
    /// How long [`Store::migrate`] waits for another process that migrates.
    pub migrate_wait: Duration,
}

/// Where a store listens for notices of other replicas.
#[derive(Clone, Default)]
pub enum ListenAddress {
    /// At the database URL, if its sessions prove to belong to one client each.
    #[default]
    Database,
    /// At another URL of the same database: a direct one, where the database URL leads to a pooler.
    Url(String),
    /// Nowhere: the replica polls.
    Off,
}

impl StoreOptions {
    /// A few connections and short waits, for one process.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            listen: ListenAddress::Database,
            connections_max: 4,
            acquire_timeout: Duration::from_secs(5),
            migrate_wait: Duration::from_mins(1),
        }
    }
}

impl Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("connections_max", &self.connections_max)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("migrate_wait", &self.migrate_wait)
            .finish_non_exhaustive()
    }
}

/// Connects to the database that the URL names. Creates a missing SQLite file; does not change the schema.
///
/// # Errors
/// [`StoreError::BadUrl`], [`StoreError::Unavailable`], [`StoreError::Corrupt`].
pub async fn connect(options: &StoreOptions) -> Result<Arc<dyn Store>> {
    match options.url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => Ok(Arc::new(sqlite::SqlStore::connect(options).await?)),
        Some("postgres" | "postgresql") => Ok(Arc::new(postgres::SqlStore::connect(options).await?)),
        _ => Err(StoreError::BadUrl(
            "DATABASE_URL must start with sqlite: or postgres:, such as sqlite:data/semblance.db or \
             postgres://user:password@host/database"
                .to_owned(),
        )),
    }
}

/// What [`Store::scrub`] achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scrubbed {
    /// No deleted bytes are left in files that a client can clean.
    Done,
    /// A reader still needs old pages; a later call removes them.
    Pending,
}

/// Whether the URL names an embedded database whose file is missing or empty. Connecting would create it.
#[must_use]
pub fn is_missing(url: &str) -> bool {
    sqlite::file_of(url).is_some_and(|file| std::fs::metadata(file).map_or(true, |found| found.len() == 0))
}

/// A database. Its record traits cover all collections; [`Store::in_collection`] gives the records of one.
#[async_trait]
pub trait Store: Collections + Housekeeping + Audit + Send + Sync + Debug {
    /// A short name for logs and metrics: `sqlite` or `postgres`.
    fn kind(&self) -> &'static str;

    /// Brings the schema to this program's version. Several replicas may call it at once: one migrates, the others
    /// wait. Writes nothing and takes no lock when the schema is this program's already.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when another process migrates for too long.
    async fn migrate(&self) -> Result<()>;

    /// Whether no schema was ever made in it.
    async fn is_new(&self) -> Result<bool>;

    /// Checks that the schema is this program's.
    ///
    /// # Errors
    /// [`StoreError::Schema`], which tells the operator what to do.
    async fn check_schema(&self) -> Result<()>;

    /// Removes deleted bytes from the database's files where the database lets a client do so: SQLite empties its
    /// write-ahead log. PostgreSQL removes them by its own vacuum and checkpoints. Does not wait for readers.
    async fn scrub(&self) -> Result<Scrubbed>;

    /// Why writes do not work, if the last one failed for a reason that is not its own.
    fn write_outage(&self) -> Option<String>;

    /// After a write that failed, writes a few bytes to learn whether writes work again. Does nothing otherwise.
    ///
    /// # Errors
    /// The reason of the failure.
    async fn check_writes(&self) -> Result<()>;

    /// Checks that the database answers.
    async fn ping(&self) -> Result<()>;

    /// Waits for running statements and closes every connection.
    async fn close(&self);

    /// Watches what is committed from now on. One watch at a time.
    fn watch(&self) -> Box<dyn LogWatch>;

    /// The records of one collection. Each method takes a connection of its own, or a short transaction.
    fn in_collection(&self, uid: CollectionUid) -> Box<dyn CollectionRecords + '_>;

    /// The answers by idempotency key. Each method takes a connection of its own, or a short transaction.
    fn idempotency_keys(&self) -> Box<dyn IdempotencyKeys + Send + '_>;

    /// Stores decisions that changed nothing, in one transaction. Decisions of deleted collections are dropped.
    async fn put_decisions(&self, records: &[(CollectionUid, DecisionRecord)]) -> Result<()>;

    /// Takes the collection's turn: waits until no other writer, on any replica, holds it.
    ///
    /// # Errors
    /// [`StoreError::CollectionGone`], [`StoreError::Unavailable`].
    async fn take_turn(&self, uid: CollectionUid) -> Result<Box<dyn Turn>>;
}

/// A write transaction that holds a collection's lock. Dropped without [`Turn::commit`], it leaves no trace.
///
/// An error from any method rolls the turn back, and so does dropping a method's future before it completes; after that
/// every method returns [`StoreError::Refused`].
#[async_trait]
pub trait Turn: CollectionRecords + IdempotencyKeys + Debug {
    /// The position of the last entry, those of this turn included.
    fn head(&self) -> Position;

    /// The collection's record, with the changes of this turn.
    fn collection(&self) -> &Collection;

    /// Appends changes in order and returns their entries as a follower would read them.
    ///
    /// # Errors
    /// [`StoreError::IdentityGone`] when a change names an identity that does not exist; [`StoreError::TemplateGone`]
    /// when a move names a template that is not there. Forgetting a template that does not exist appends nothing.
    async fn append(&mut self, changes: &[Change], now: Timestamp) -> Result<Vec<Entry>>;

    /// Writes the collection's record; its revision must be the next one.
    ///
    /// # Errors
    /// [`StoreError::RevisionMoved`].
    async fn put_collection(&mut self, collection: &Collection) -> Result<()>;

    /// Commits the transaction. Once this returns, a power failure loses nothing of it. When the answer of the database
    /// is lost, the store asks again over another connection; an error other than [`StoreError::OutcomeUnknown`] says
    /// that nothing was committed.
    async fn commit(self: Box<Self>) -> Result<()>;
}
