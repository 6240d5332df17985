//! Collections: their record, and how far their log reaches.

use async_trait::async_trait;

use super::{IdempotencyKey, IdempotencyRecord, Page};
use crate::Result;
use domain::{Collection, CollectionId, CollectionUid, Position, Revision};

/// An answer to store under the key of its request.
#[derive(Debug, Clone, Copy)]
pub struct KeyedAnswer<'a> {
    pub key: &'a IdempotencyKey,
    pub record: &'a IdempotencyRecord,
}

/// The last revision and the last log position of a collection, for followers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionHead {
    pub uid: CollectionUid,
    pub id: CollectionId,
    pub revision: Revision,
    pub position: Position,
}

/// The records of collections.
#[async_trait]
pub trait Collections {
    /// Creates a collection. With `answer`, stores the answer in the same transaction. If an unexpired answer is
    /// already stored under that key, creates nothing and returns that answer.
    ///
    /// # Errors
    /// [`CollectionExists`](crate::StoreError::CollectionExists).
    async fn create_collection(
        &self,
        collection: &Collection,
        answer: Option<KeyedAnswer<'_>>,
    ) -> Result<Option<IdempotencyRecord>>;

    async fn collection(&self, id: &CollectionId) -> Result<Option<Collection>>;

    /// Collections after `after`, in id order.
    async fn collections(&self, after: Option<&CollectionId>, limit: u32) -> Result<Page<Collection>>;

    /// Writes the record (name, policy, spaces, revision, update time) if its stored revision is `expected`.
    ///
    /// # Errors
    /// [`RevisionMoved`](crate::StoreError::RevisionMoved), [`CollectionGone`](crate::StoreError::CollectionGone).
    async fn update_collection(&self, collection: &Collection, expected: Revision) -> Result<()>;

    /// Deletes the collection with its identities, templates, log, calibrations, review cases, operations, decisions
    /// and idempotency records. Its uid is never used again. Returns whether it existed.
    async fn delete_collection(&self, uid: CollectionUid) -> Result<bool>;

    /// The heads of all collections.
    async fn heads(&self) -> Result<Vec<CollectionHead>>;

    /// The head of one collection; `None` if it was deleted.
    async fn head(&self, uid: CollectionUid) -> Result<Option<CollectionHead>>;
}
