//! A collection's turn: one transaction that holds the collection until it ends.

use async_trait::async_trait;

use super::{Transaction, collections, decisions, idempotency, identities, log, templates};
use crate::{
    domain::{
        Change, Collection, CollectionUid, Entry, EntryKind, Identity, IdentityId, Position, Template, TemplateId,
        Timestamp,
    },
    store::{DecisionRecord, IdempotencyKey, IdempotencyRecord, News, Page, Result, StoreError, Turn, rows::LogEntry},
};

/// The collection's lock is held by the transaction, from before the record and the head were read.
///
/// Each method takes the transaction out and puts it back when all went well. A method that fails, or whose caller
/// hangs up half way, therefore drops it: the turn is rolled back at once and cannot be committed in part. (Postgres
/// would answer the COMMIT of a failed transaction with a rollback that looks like success.)
#[derive(Debug)]
pub(super) struct SqlTurn {
    transaction: Option<Transaction>,
    collection: Collection,
    head: Position,
}

impl SqlTurn {
    /// # Errors
    /// [`StoreError::CollectionGone`].
    pub(super) async fn take(mut transaction: Transaction, uid: CollectionUid) -> Result<Self> {
        if !super::lock_collection(&mut transaction, uid).await? {
            return Err(StoreError::CollectionGone);
        }
        let collection = collections::by_uid(&mut transaction, uid).await?.ok_or(StoreError::CollectionGone)?;
        let head = collections::head(&mut transaction, uid).await?.ok_or(StoreError::CollectionGone)?;
        Ok(Self { transaction: Some(transaction), collection, head: head.position })
    }

    fn transaction(&mut self) -> Result<Transaction> {
        self.transaction
            .take()
            .ok_or_else(|| StoreError::Refused("the turn was rolled back when one of its steps failed".into()))
    }
}

#[async_trait]
impl Turn for SqlTurn {
    fn head(&self) -> Position {
        self.head
    }

    fn collection(&self) -> &Collection {
        &self.collection
    }

    async fn entries_after(&mut self, after: Position, limit: u32) -> Result<Page<Entry>> {
        let mut transaction = self.transaction()?;
        let entries = log::entries_after(&mut transaction, self.collection.uid, after, limit).await?;
        self.transaction = Some(transaction);
        Ok(entries)
    }

    async fn identity(&mut self, id: &IdentityId) -> Result<Option<Identity>> {
        let mut transaction = self.transaction()?;
        let identity = identities::by_id(&mut transaction, self.collection.uid, id).await?;
        self.transaction = Some(transaction);
        Ok(identity)
    }

    async fn template(&mut self, id: TemplateId) -> Result<Option<Template>> {
        let mut transaction = self.transaction()?;
        let template = templates::by_id(&mut transaction, self.collection.uid, id).await?;
        self.transaction = Some(transaction);
        Ok(template)
    }

    async fn template_count(&mut self, identity: &IdentityId) -> Result<u64> {
        let mut transaction = self.transaction()?;
        let count = templates::count_of_identity(&mut transaction, self.collection.uid, identity).await?;
        self.transaction = Some(transaction);
        Ok(count)
    }

    async fn append(&mut self, changes: &[Change], now: Timestamp) -> Result<Vec<Entry>> {
        let mut transaction = self.transaction()?;
        let uid = self.collection.uid;
        let mut head = self.head;
        for change in changes {
            if let Some(entry) = apply(&mut transaction, uid, change, (head.next(), now)).await? {
                log::append(&mut transaction, uid, &entry).await?;
                head = entry.position;
            }
        }
        if head > self.head {
            collections::set_head_position(&mut transaction, uid, head).await?;
            super::announce(&mut transaction, &News::Appended { uid, position: head }).await?;
        }
        // Read back rather than put together here: a later change of these may have removed the subject of an earlier.
        let entries = log::entries_after(&mut transaction, uid, self.head, u32::MAX).await?;
        self.head = head;
        self.transaction = Some(transaction);
        Ok(entries)
    }

    async fn put_collection(&mut self, collection: &Collection) -> Result<()> {
        let mut transaction = self.transaction()?;
        let expected = self.collection.revision;
        if collection.uid != self.collection.uid || collection.revision != expected.next() {
            return Err(StoreError::RevisionMoved);
        }
        collections::update(&mut transaction, collection, expected).await?;
        super::announce(&mut transaction, &News::Changed(collection.uid)).await?;
        self.collection = collection.clone();
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn idempotent(&mut self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<IdempotencyRecord>> {
        let mut transaction = self.transaction()?;
        let record = idempotency::by_key(&mut transaction, key, now).await?;
        self.transaction = Some(transaction);
        Ok(record)
    }

    async fn keep_idempotent(
        &mut self,
        key: &IdempotencyKey,
        record: &IdempotencyRecord,
        now: Timestamp,
    ) -> Result<()> {
        let mut transaction = self.transaction()?;
        idempotency::keep(&mut transaction, key, record, now).await?;
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn keep_decision(&mut self, record: &DecisionRecord) -> Result<()> {
        let mut transaction = self.transaction()?;
        decisions::keep(&mut transaction, self.collection.uid, record).await?;
        self.transaction = Some(transaction);
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        Ok(self.transaction()?.commit().await?)
    }
}

/// Applies one change and answers the entry that tells of it, for the log to keep at `position`; `None` when there was
/// nothing to change.
async fn apply(
    transaction: &mut Transaction,
    uid: CollectionUid,
    change: &Change,
    (position, time): (Position, Timestamp),
) -> Result<Option<LogEntry>> {
    let note = |kind, identity: &IdentityId, template| {
        Some(LogEntry { position, kind, identity: identity.clone(), template, time })
    };
    match change {
        Change::PutIdentity(identity) => {
            identities::put(transaction, uid, identity).await?;
            Ok(note(EntryKind::Label, &identity.id, None))
        }
        Change::Admit(stored) => {
            templates::admit(transaction, uid, stored, position).await?;
            Ok(note(EntryKind::Admit, &stored.template.identity, Some(stored.template.id)))
        }
        Change::ForgetTemplate { identity, template } => {
            if templates::delete(transaction, uid, identity, *template).await? {
                return Ok(note(EntryKind::Forget, identity, Some(*template)));
            }
            identities::by_id(transaction, uid, identity).await?.ok_or(StoreError::IdentityGone)?;
            Ok(None)
        }
        Change::ForgetIdentity(identity) => {
            remove_identity(transaction, uid, identity).await?;
            Ok(note(EntryKind::Forget, identity, None))
        }
        Change::ExpireIdentity(identity) => {
            remove_identity(transaction, uid, identity).await?;
            Ok(note(EntryKind::Expire, identity, None))
        }
    }
}

async fn remove_identity(transaction: &mut Transaction, uid: CollectionUid, identity: &IdentityId) -> Result<()> {
    if identities::delete(transaction, uid, identity).await? { Ok(()) } else { Err(StoreError::IdentityGone) }
}
