//! A collection's turn: one transaction that holds the collection's lock until it ends.

use async_trait::async_trait;

use super::{
    WriteTransaction, announce,
    append::{self, LogTail},
    collections, lock_collection,
    session::{Access, InTurn, Session},
};
use crate::{LogNotice, Result, StoreError, Turn, rows::HeadRow};
use domain::{Change, Collection, CollectionUid, Entry, Position, Timestamp};

/// # Errors
/// [`StoreError::CollectionGone`].
pub(super) async fn take(transaction: WriteTransaction, uid: CollectionUid) -> Result<Session<InTurn>> {
    let mut transaction = transaction.in_step();
    let head = lock_collection(&mut transaction, uid).await?.ok_or(StoreError::CollectionGone)?;
    let collection = collections::by_uid(&mut transaction, uid).await?.ok_or(StoreError::CollectionGone)?;
    transaction.end_step();
    Ok(Session(InTurn { transaction: Some(transaction), collection, head: HeadRow::position(head)? }))
}

#[async_trait]
impl Turn for Session<InTurn> {
    fn head(&self) -> Position {
        self.0.head
    }

    fn collection(&self) -> &Collection {
        &self.0.collection
    }

    async fn append(&mut self, changes: &[Change], now: Timestamp) -> Result<Vec<Entry>> {
        let (uid, tail) = (self.0.collection.uid, LogTail { head: self.0.head, now });
        let mut step = self.0.write().await?;
        let entries = append::append(&mut step, uid, changes, tail).await?;
        let last = entries.last().map(|last| last.position);
        if let Some(position) = last {
            collections::set_head_position(&mut step, uid, position).await?;
            announce(&mut step, &LogNotice::Appended { uid, position }).await?;
        }
        let entries = step.finish(entries).await?;
        self.0.head = last.unwrap_or(self.0.head);
        Ok(entries)
    }

    async fn put_collection(&mut self, collection: &Collection) -> Result<()> {
        let (uid, expected) = (self.0.collection.uid, self.0.collection.revision);
        let mut step = self.0.write().await?;
        if collection.uid != uid || collection.revision != expected.next() {
            return Err(StoreError::RevisionMoved);
        }
        collections::update(&mut step, collection, expected).await?;
        announce(&mut step, &LogNotice::Changed(uid)).await?;
        step.finish(()).await?;
        self.0.collection = collection.clone();
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        self.0.take_transaction()?.commit().await
    }
}
