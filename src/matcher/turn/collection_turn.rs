//! The turn of a collection: its lock in this process, then in the store, then all earlier entries applied.
//!
//! This order makes answers true: the holder of the turn has all earlier commits in its gallery, and its own commit
//! reaches the gallery before the next holder of this process searches.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OwnedMutexGuard;
use tracing::{Instrument, Span, debug_span};

use super::{Writes, idempotency};
use crate::matcher::{
    collection::collection_handle::CollectionHandle, replica::LOG_PAGE, request::consistency_token::ConsistencyToken,
    request::context::Context, request::fault::Fault,
};
use domain::{Change, Collection, Entry, EntryKind, Timestamp};
use uuid::Uuid;

/// The turn of one collection. Dropped before [`CollectionTurn::commit`], it changes nothing.
pub(crate) struct CollectionTurn {
    writes: Writes,
    held: Box<dyn store::Turn>,
    handle: CollectionHandle,
    appended: Vec<Entry>,
    /// From the wait for the turn to its end.
    span: Span,
    /// Released last, when the gallery has the entries of this turn.
    _writer: OwnedMutexGuard<()>,
}

impl CollectionTurn {
    /// Applies the entries that others appended before this turn.
    pub(super) async fn begin(
        writes: Writes,
        held: Box<dyn store::Turn>,
        handle: CollectionHandle,
        writer: OwnedMutexGuard<()>,
    ) -> Result<Self, Fault> {
        let mut turn = Self { writes, held, handle, appended: Vec::new(), span: Span::current(), _writer: writer };
        turn.catch_up().await?;
        Ok(turn)
    }

    /// The collection as of this turn.
    pub(crate) fn handle(&self) -> &CollectionHandle {
        &self.handle
    }

    pub(super) fn writes(&self) -> &Writes {
        &self.writes
    }

    /// The store's side of the turn, for reads and records.
    pub(crate) fn store(&mut self) -> &mut dyn store::Turn {
        &mut *self.held
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.writes.clock.now()
    }

    pub(crate) fn fresh_id(&self) -> Uuid {
        self.writes.ids.fresh()
    }

    pub(crate) async fn append(&mut self, changes: &[Change]) -> Result<(), Fault> {
        let entries = self.held.append(changes, self.now()).await?;
        self.appended.extend(entries);
        Ok(())
    }

    /// Writes the record of the collection.
    pub(crate) async fn put_collection(&mut self, collection: Collection) -> Result<(), Fault> {
        self.held.put_collection(&collection).await?;
        self.handle.collection = Arc::new(collection);
        Ok(())
    }

    /// Writes the record with a new revision, so that every replica reads its active calibrations again.
    pub(crate) async fn touch_collection(&mut self) -> Result<(), Fault> {
        let mut collection = (*self.handle.collection).clone();
        collection.revision = collection.revision.next();
        collection.update_time = self.now();
        self.put_collection(collection).await
    }

    /// A token for the state after the commit of this turn.
    pub(crate) fn token(&self) -> ConsistencyToken {
        ConsistencyToken::at(self.handle.collection.uid, self.held.head())
    }

    /// Makes the changes durable, then visible to every search of this process.
    pub(crate) async fn commit(self) -> Result<(), Fault> {
        let span = debug_span!(parent: &self.span, "commit", entries = self.appended.len());
        self.held.commit().instrument(span).await?;
        self.writes.replica.directory().refresh(&self.handle.collection);
        let forgets = self.appended.iter().any(|e| matches!(e.kind, EntryKind::Forget | EntryKind::Expire));
        self.handle.apply(self.appended).await?;
        if forgets {
            self.writes.replica.scrub().await;
        }
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), Fault> {
        while self.handle.position() < self.held.head() {
            let entries = self.held.entries_after(self.handle.position(), LOG_PAGE).await?;
            if entries.is_empty() {
                return Err(Fault::internal("the log ends before its head"));
            }
            self.handle.apply(entries).await?;
        }
        Ok(())
    }

    /// The earlier answer of this request, if it is a repetition. The inner fault belongs to the request, the outer one to
    /// the turn.
    pub(crate) async fn answered<T: DeserializeOwned>(
        &mut self,
        context: &Context,
    ) -> Result<Result<Option<T>, Fault>, Fault> {
        let Some(key) = idempotency::key(context, Some(&self.handle.collection.id)) else {
            return Ok(Ok(None));
        };
        let found = self.held.idempotency_record(&key, self.now()).await?;
        Ok(idempotency::answer(context, found))
    }

    /// Keeps the answer for repetitions of this request.
    pub(crate) async fn keep_answer<T: Serialize + Sync>(
        &mut self,
        context: &Context,
        answer: &T,
    ) -> Result<(), Fault> {
        let now = self.now();
        let key = idempotency::key(context, Some(&self.handle.collection.id));
        if let (Some(key), Some(record)) = (key, idempotency::record(context, answer, now)?) {
            self.held.put_idempotency_record(&key, &record, now).await?;
        }
        Ok(())
    }
}
