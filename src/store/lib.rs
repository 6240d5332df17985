//! Who is enrolled, for good: collections, identities, the template log, in Postgres or in embedded SQLite.
//!
//! One trait, one contract suite, two databases. The room keeps bytes and order; it never decides who somebody is,
//! never searches, and is never on the path of a search.
//!
//! All that happens to the identities of a collection happens in its *turn*: a transaction that one writer at a time
//! holds, on any replica. Positions are assigned inside it, so they commit in order and without gaps.

mod audit;
#[cfg(test)]
mod contract;
mod fault;
mod payload;
mod postgres;
mod rows;
mod schema;
mod sqlite;

use std::{
    fmt::{self, Debug},
    sync::Arc,
};

use async_trait::async_trait;
use thiserror::Error;

pub use audit::{Audit, Audited, Finding, FindingKind, Repairs};

use domain::{
    CalibrationId, Change, Collection, CollectionId, CollectionUid, DecisionId, EmbeddingSpace, Encoded, Entry,
    Identity, IdentityId, KeptCalibration, Modality, Operation, OperationId, OperationOutcome, Owned, Position,
    Progress, ReviewCase, ReviewCaseId, ReviewStage, ReviewTrial, Revision, StoredTemplate, SurveyFinding, Template,
    TemplateId, Timestamp,
};

/// The result of asking the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What can go wrong in the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another collection has that id.
    #[error("a collection of this id exists already")]
    CollectionExists,
    /// The collection was deleted, perhaps just now.
    #[error("the collection is not there any more")]
    CollectionGone,
    /// The identity that a change names is not there.
    #[error("the identity is not there any more")]
    IdentityGone,
    /// The record was changed by somebody else since it was read.
    #[error("the record was changed since it was read")]
    RevisionMoved,
    /// The database cannot be reached, or not in time. Nothing is wrong with the request.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row does not say what this program would have written.
    #[error("the database holds something unreadable: {0}")]
    Corrupt(String),
    /// The schema is older or newer than this program.
    #[error("{0}")]
    Schema(String),
    /// The address of the database makes no sense.
    #[error("{0}")]
    BadUrl(String),
    /// Anything else the database said.
    #[error("the database refused")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How to reach the database; filled from the configuration. Its `Debug` form hides the URL, which may hold a password.
#[derive(Clone)]
pub struct StoreOptions {
    /// `sqlite:PATH`, `postgres://...`, or `sqlite::memory:` for a database in a temporary folder that goes with the
    /// store.
    pub url: String,
    /// The most connections held open.
    pub connections_max: u32,
    /// How long to wait for a connection before the store counts as unavailable.
    pub acquire_timeout: std::time::Duration,
}

impl Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("connections_max", &self.connections_max)
            .field("acquire_timeout", &self.acquire_timeout)
            .finish_non_exhaustive()
    }
}

/// Connects to the database that the URL names. Creates an embedded database that does not exist yet; changes no schema.
///
/// # Errors
/// When the URL names no database of a known kind, or the database cannot be reached.
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

/// Who asked for what under which key, so that asking again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    pub principal: String,
    pub method: &'static str,
    /// The collection's id; empty for methods above collections.
    pub collection: String,
    pub key: String,
}

/// What was answered then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// Of the request; another request under the same key is a mistake.
    pub body_hash: [u8; 32],
    /// The answer, as the matcher serialised it.
    pub answer: Vec<u8>,
    pub expire_time: Timestamp,
}

/// What resolve saw and said, kept so that it can be shown later.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionRecord {
    pub id: DecisionId,
    pub time: Timestamp,
    /// As the matcher serialised it; holds no numbers of an embedding.
    pub body: serde_json::Value,
}

/// What whoever works at an operation is told when it is heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Wanted,
    /// Somebody asked for its end.
    Cancelled,
    /// It was deleted, or ended by somebody who had not heard of it for too long.
    Gone,
}

/// Where a collection's log and record stand, for followers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub uid: CollectionUid,
    pub id: CollectionId,
    pub revision: Revision,
    pub position: Position,
}

/// What a [`Watch`] tells: where to look, not what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The collection's log reaches this position now.
    Appended { uid: CollectionUid, position: Position },
    /// The collection was made, changed or deleted.
    Changed(CollectionUid),
    /// Anything may have happened: whoever watches begins to hear only now, for the first time or again.
    Anything,
}

/// Hears what is committed to the database, by whatever replica, this one included. What it tells is a hint that comes
/// early: it may be lost, so whoever must not miss anything also asks for [`Store::heads`] from time to time.
#[async_trait]
pub trait Watch: Send + Debug {
    /// Waits for the next news, and mends its own line to the database where that breaks. Where nobody else writes, it
    /// waits forever.
    async fn next(&mut self) -> News;
}

/// One page of rows, in id or position order. The page is the last one when it is shorter than its limit.
pub type Page<T> = Vec<T>;

/// The store's door. Methods outside a turn read, or change what no log entry tells of.
#[async_trait]
pub trait Store: Audit + Send + Sync + Debug {
    /// A short name for logs and metrics: `sqlite` or `postgres`.
    fn kind(&self) -> &'static str;

    /// Brings the schema to this program's version. Safe to run at once from many replicas.
    async fn migrate(&self) -> Result<()>;

    /// Whether the schema is exactly this program's; the error says what to do.
    async fn check_schema(&self) -> Result<()>;

    /// Lets go of bytes that were deleted and still lie in files of the database's own, as far as it can be told to:
    /// SQLite empties its write-ahead log. In Postgres dead rows go with its vacuum, and old log with its checkpoints.
    async fn scrub(&self) -> Result<()>;

    /// Whether the database answers at all.
    async fn ping(&self) -> Result<()>;

    /// Waits for what is under way and closes every connection.
    async fn close(&self);

    /// Makes a collection, and keeps the answer with it when the request is to take effect once. Answers what was
    /// answered before under that key, if anything; then nothing was made.
    ///
    /// # Errors
    /// [`StoreError::CollectionExists`].
    async fn create_collection(
        &self,
        collection: &Collection,
        once: Option<(&IdempotencyKey, &IdempotencyRecord)>,
    ) -> Result<Option<IdempotencyRecord>>;

    async fn collection(&self, id: &CollectionId) -> Result<Option<Collection>>;

    /// Collections in id order, those after `after`.
    async fn collections(&self, after: Option<&CollectionId>, limit: u32) -> Result<Page<Collection>>;

    /// Writes the record (name, policy, spaces, revision, update time) if its revision is still `expected`.
    ///
    /// # Errors
    /// [`StoreError::RevisionMoved`], [`StoreError::CollectionGone`].
    async fn update_collection(&self, collection: &Collection, expected: Revision) -> Result<()>;

    /// Deletes the collection with all that it holds: identities, templates and their bytes, log, decisions,
    /// idempotency records. Its uid is never used again. Answers whether there was one.
    async fn delete_collection(&self, uid: CollectionUid) -> Result<bool>;

    /// The head of every collection.
    async fn heads(&self) -> Result<Vec<Head>>;

    /// The head of one collection; `None` when it was deleted.
    async fn head(&self, uid: CollectionUid) -> Result<Option<Head>>;

    /// Watches for what is written from now on. One watch at a time.
    fn watch(&self) -> Box<dyn Watch>;

    async fn identity(&self, uid: CollectionUid, id: &IdentityId) -> Result<Option<Identity>>;

    /// Identities in id order, those after `after`.
    async fn identities(&self, uid: CollectionUid, after: Option<&IdentityId>, limit: u32) -> Result<Page<Identity>>;

    /// Identities whose time has come.
    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<(CollectionUid, IdentityId)>>;

    /// The templates of an identity in id order, those after `after`, without their numbers.
    async fn templates_of(
        &self,
        uid: CollectionUid,
        identity: &IdentityId,
        after: Option<TemplateId>,
        limit: u32,
    ) -> Result<Page<Template>>;

    async fn template(&self, uid: CollectionUid, id: TemplateId) -> Result<Option<Template>>;

    /// All templates that a collection holds now, with their numbers, in position order, those after `after`.
    /// With [`Store::identities`] and [`Store::heads`] this is the fold of the log, read at once.
    async fn stored_templates(&self, uid: CollectionUid, after: Position, limit: u32) -> Result<Page<StoredTemplate>>;

    /// Log entries after a position, in order.
    async fn entries_after(&self, uid: CollectionUid, after: Position, limit: u32) -> Result<Page<Entry>>;

    /// Takes the collection's turn: waits until no other writer, on any replica, holds it.
    ///
    /// # Errors
    /// [`StoreError::CollectionGone`], [`StoreError::Unavailable`].
    async fn take_turn(&self, uid: CollectionUid) -> Result<Box<dyn Turn>>;

    /// An answer given earlier under this key, unless it has expired by `now`.
    async fn idempotent(&self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<IdempotencyRecord>>;

    /// Keeps an answer; for methods that take no turn. The first answer under a key stays until it has expired by
    /// `now`.
    async fn keep_idempotent(&self, key: &IdempotencyKey, record: &IdempotencyRecord, now: Timestamp) -> Result<()>;

    /// Removes idempotency records that have expired; answers how many.
    async fn sweep_idempotent(&self, now: Timestamp) -> Result<u64>;

    /// Removes decision records from before an instant; answers how many.
    async fn sweep_decisions(&self, before: Timestamp) -> Result<u64>;

    /// Keeps decision records that changed nothing. Those of collections that are gone are dropped.
    async fn keep_decisions(&self, records: &[(CollectionUid, DecisionRecord)]) -> Result<()>;

    async fn decision(&self, uid: CollectionUid, id: DecisionId) -> Result<Option<DecisionRecord>>;

    async fn calibration(&self, uid: CollectionUid, id: CalibrationId) -> Result<Option<KeptCalibration>>;

    /// Calibrations in id order, those after `after`.
    async fn calibrations(
        &self,
        uid: CollectionUid,
        after: Option<CalibrationId>,
        limit: u32,
    ) -> Result<Page<KeptCalibration>>;

    /// The calibrations in force, at most one for each modality.
    async fn active_calibrations(&self, uid: CollectionUid) -> Result<Vec<KeptCalibration>>;

    async fn review_case(&self, uid: CollectionUid, id: ReviewCaseId) -> Result<Option<ReviewCase>>;

    /// Review cases in the order in which they were opened, those after `after`: those of a stage, as it is at an
    /// instant, or all.
    async fn review_cases(
        &self,
        uid: CollectionUid,
        stage: (Option<ReviewStage>, Timestamp),
        after: Option<ReviewCaseId>,
        limit: u32,
    ) -> Result<Page<ReviewCase>>;

    /// Writes a case that is to be of the next revision; for changes that enroll nobody.
    ///
    /// # Errors
    /// [`StoreError::RevisionMoved`].
    async fn put_review_case(&self, uid: CollectionUid, case: &ReviewCase) -> Result<()>;

    /// Removes a case and its samples; answers whether there was one.
    async fn delete_review_case(&self, uid: CollectionUid, id: ReviewCaseId) -> Result<bool>;

    /// Removes the cases whose time has come, and their samples; answers how many.
    async fn sweep_review_cases(&self, now: Timestamp) -> Result<u64>;

    async fn operation(&self, uid: CollectionUid, id: OperationId) -> Result<Option<Operation>>;

    /// Operations in the order in which they began, those after `after`.
    async fn operations(&self, uid: CollectionUid, after: Option<OperationId>, limit: u32) -> Result<Page<Operation>>;

    /// What an operation found, in order, without those who have expired by `now`. What names a template goes with it.
    async fn findings(&self, id: OperationId, now: Timestamp) -> Result<Vec<SurveyFinding<Owned>>>;

    /// Notes that an operation is worked at and how far it is; answers whether it is still wanted.
    async fn hear_of_operation(
        &self,
        uid: CollectionUid,
        id: OperationId,
        heard: (Progress, Timestamp),
    ) -> Result<Heard>;

    /// Asks for the end of an operation; one that has ended stays as it is.
    async fn cancel_operation(&self, uid: CollectionUid, id: OperationId) -> Result<()>;

    /// Ends an operation, if it is running, without findings.
    async fn end_operation(
        &self,
        uid: CollectionUid,
        id: OperationId,
        ended: (&OperationOutcome, Timestamp),
    ) -> Result<()>;

    /// Ends those operations of a collection that were last heard of before an instant.
    async fn end_silent_operations(
        &self,
        uid: CollectionUid,
        before: Timestamp,
        outcome: &OperationOutcome,
    ) -> Result<()>;

    /// Removes an operation and what it found; answers whether there was one.
    async fn delete_operation(&self, uid: CollectionUid, id: OperationId) -> Result<bool>;

    /// Removes the operations whose time has come, and what they found; answers how many.
    async fn sweep_operations(&self, now: Timestamp) -> Result<u64>;

    /// What verdicts showed, in order.
    async fn review_trials(&self, uid: CollectionUid) -> Result<Vec<ReviewTrial>>;
}

/// A collection's turn. Dropped without [`Turn::commit`], it leaves no trace.
///
/// An error from any method rolls the turn back, and so does dropping a method's future before it has answered; after
/// that every method refuses.
#[async_trait]
pub trait Turn: Send + Debug {
    /// The position of the last entry, this turn's own included.
    fn head(&self) -> Position;

    /// The collection's record as it is in this turn.
    fn collection(&self) -> &Collection;

    /// Entries after a position, in order, this turn's own included.
    async fn entries_after(&mut self, after: Position, limit: u32) -> Result<Page<Entry>>;

    async fn identity(&mut self, id: &IdentityId) -> Result<Option<Identity>>;

    async fn template(&mut self, id: TemplateId) -> Result<Option<Template>>;

    /// Those of the identities that are there, in no order, each with how many templates it has.
    async fn enrolled(&mut self, ids: &[IdentityId]) -> Result<Vec<(Identity, u64)>>;

    /// Appends changes in order and answers their entries as a follower would read them.
    ///
    /// # Errors
    /// [`StoreError::IdentityGone`] when a change names an identity that is not there. Forgetting a template that is
    /// not there appends nothing.
    async fn append(&mut self, changes: &[Change], now: Timestamp) -> Result<Vec<Entry>>;

    /// Writes the collection's record (spaces above all); its revision must be the next one.
    ///
    /// # Errors
    /// [`StoreError::RevisionMoved`].
    async fn put_collection(&mut self, collection: &Collection) -> Result<()>;

    async fn idempotent(&mut self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<IdempotencyRecord>>;

    /// As [`Store::keep_idempotent`]; the answer is kept if the turn is.
    async fn keep_idempotent(&mut self, key: &IdempotencyKey, record: &IdempotencyRecord, now: Timestamp)
    -> Result<()>;

    async fn keep_decision(&mut self, record: &DecisionRecord) -> Result<()>;

    async fn calibration(&mut self, id: CalibrationId) -> Result<Option<KeptCalibration>>;

    /// Keeps a calibration, unless the collection has `most` of them already; answers whether it is kept.
    async fn put_calibration(&mut self, calibration: &KeptCalibration, most: u64) -> Result<bool>;

    /// Puts the calibration in force for its modality in place of any other, or none. Followers look again when the
    /// collection's record moves, so whoever changes what is in force also writes the record.
    async fn activate_calibration(&mut self, modality: Modality, id: Option<CalibrationId>) -> Result<()>;

    async fn delete_calibration(&mut self, id: CalibrationId) -> Result<()>;

    /// Keeps a new case with its samples.
    async fn open_review_case(&mut self, case: &ReviewCase, samples: &[Encoded]) -> Result<()>;

    async fn review_case(&mut self, id: ReviewCaseId) -> Result<Option<ReviewCase>>;

    /// The samples of a case, in order.
    async fn review_samples(&mut self, id: ReviewCaseId) -> Result<Vec<Encoded>>;

    /// How many cases wait for a verdict.
    async fn review_cases_undecided(&mut self) -> Result<u64>;

    /// As [`Store::put_review_case`]; the case is written if the turn is kept.
    async fn put_review_case(&mut self, case: &ReviewCase) -> Result<()>;

    /// Keeps a new operation, unless `most` of the collection's are running already; answers whether it is kept.
    async fn begin_operation(&mut self, operation: &Operation, most: u64) -> Result<bool>;

    /// Ends an operation, if it is running, with what it found, in order; what names a template that is not there any
    /// more is left out.
    async fn finish_operation(
        &mut self,
        id: OperationId,
        ended: (&OperationOutcome, Timestamp),
        findings: &[SurveyFinding<TemplateId>],
    ) -> Result<()>;

    /// Keeps what a verdict showed, and of all that the collection has the latest `most`.
    async fn put_review_trial(&mut self, trial: &ReviewTrial, most: u64) -> Result<()>;

    /// What verdicts showed, in order.
    async fn review_trials(&mut self) -> Result<Vec<ReviewTrial>>;

    /// Takes back what the verdict on a case showed, if it showed anything.
    async fn delete_review_trial(&mut self, case: ReviewCaseId) -> Result<()>;

    /// The templates that the self-paced policy accepted at a lower posterior, of whatever space, oldest first. Never one
    /// that is certified, or that a client enrolled.
    async fn accepted_below(&mut self, posterior: f64) -> Result<Vec<(EmbeddingSpace, IdentityId, TemplateId)>>;

    /// Makes it all durable: once this has answered, a power cut loses nothing of it.
    async fn commit(self: Box<Self>) -> Result<()>;
}
