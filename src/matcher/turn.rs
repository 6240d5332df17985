//! A collection's turn, as the use cases take it: in this process, then in the store, then caught up.
//!
//! The order is what makes answers true: whoever holds the turn has in the gallery all that anybody committed before,
//! and what it commits reaches the gallery before the next holder looks.

use std::{fmt, str::FromStr, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::{Context, Fault, Matcher, directory::Open, idempotency};
use domain::{Change, Collection, CollectionId, CollectionUid, Entry, EntryKind, Position};
use store::StoreError;

/// Entries read at once while catching up.
pub(super) const CATCH_UP_PAGE: u32 = 1000;

/// A place in a collection's log that a read can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyToken {
    uid: CollectionUid,
    position: Position,
}

impl ConsistencyToken {
    pub(super) fn at(uid: CollectionUid, position: Position) -> Self {
        Self { uid, position }
    }

    pub(super) fn uid(self) -> CollectionUid {
        self.uid
    }

    pub(super) fn position(self) -> Position {
        self.position
    }
}

impl fmt::Display for ConsistencyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(self.uid.0.as_bytes());
        bytes[16..].copy_from_slice(&self.position.0.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for ConsistencyToken {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let bad = || Fault::invalid("consistencyToken", "this is no token that a write answered");
        let bytes: [u8; 24] = URL_SAFE_NO_PAD.decode(text).ok().and_then(|b| b.try_into().ok()).ok_or_else(bad)?;
        let (uid, position) = bytes.split_at(16);
        Ok(Self {
            uid: CollectionUid(Uuid::from_slice(uid).map_err(|_| bad())?),
            position: Position(u64::from_be_bytes(position.try_into().map_err(|_| bad())?)),
        })
    }
}

/// The turn of one collection. Dropped without [`Turn::commit`], it leaves no trace.
pub(super) struct Turn {
    matcher: Matcher,
    held: Box<dyn store::Turn>,
    open: Open,
    appended: Vec<Entry>,
    /// Let go last: the next holder of this process finds the gallery caught up.
    _writer: OwnedMutexGuard<()>,
}

impl Matcher {
    /// Does `work` in the collection's turn and commits it, unless this very request was answered before.
    ///
    /// Who hangs up while waiting for the turn leaves the queue; once the turn is held, the write goes on to its end.
    pub(super) async fn change<T>(
        &self,
        context: &Context,
        collection: &CollectionId,
        work: impl for<'t> FnOnce(&'t mut Turn) -> BoxFuture<'t, Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let open = self.open(collection).await?;
        let taken = tokio::time::timeout_at(context.deadline.into(), self.take_turn(&open)).await;
        let mut turn = taken.map_err(|_| Fault::TooLate)??;
        if let Some(answer) = turn.answered(context).await?? {
            return Ok(answer);
        }
        let context = context.clone();
        self.detached(async move {
            let answer = work(&mut turn).await?;
            turn.keep_answer(&context, &answer).await?;
            turn.commit().await?;
            Ok(answer)
        })
        .await
    }

    /// Takes the turn of a collection and catches up with all that was committed before.
    pub(super) async fn take_turn(&self, open: &Open) -> Result<Turn, Fault> {
        let writer = Arc::clone(&open.writers).lock_owned().await;
        self.begin_turn(open, writer).await
    }

    /// The same, for who holds the lock among this process's writers already.
    pub(super) async fn begin_turn(&self, open: &Open, writer: OwnedMutexGuard<()>) -> Result<Turn, Fault> {
        let held = match self.store.take_turn(open.collection.uid).await {
            Err(StoreError::CollectionGone) => {
                self.close(open);
                return Err(Fault::NoCollection(open.collection.id.clone()));
            }
            held => held?,
        };
        let collection = Arc::new(held.collection().clone());
        self.directory.refresh(&collection);
        let open = Open { collection, ..open.clone() };
        let mut turn = Turn { matcher: self.clone(), held, open, appended: Vec::new(), _writer: writer };
        turn.catch_up().await?;
        Ok(turn)
    }
}

impl Open {
    /// A token for what the gallery holds now.
    pub(super) fn token(&self) -> ConsistencyToken {
        ConsistencyToken { uid: self.collection.uid, position: self.shelf.position() }
    }
}

impl Turn {
    /// The collection as it is in this turn.
    pub(super) fn open(&self) -> &Open {
        &self.open
    }

    pub(super) fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// The store's side of the turn, for reads and records.
    pub(super) fn store(&mut self) -> &mut dyn store::Turn {
        &mut *self.held
    }

    pub(super) async fn append(&mut self, changes: &[Change]) -> Result<(), Fault> {
        let entries = self.held.append(changes, self.matcher.clock.now()).await?;
        self.appended.extend(entries);
        Ok(())
    }

    /// Writes the collection's record anew.
    pub(super) async fn put_collection(&mut self, collection: Collection) -> Result<(), Fault> {
        self.held.put_collection(&collection).await?;
        self.open.collection = Arc::new(collection);
        Ok(())
    }

    /// A token for what will be there once this turn is committed.
    pub(super) fn token(&self) -> ConsistencyToken {
        ConsistencyToken { uid: self.open.collection.uid, position: self.held.head() }
    }

    /// Makes it durable, then visible to every search of this process.
    pub(super) async fn commit(self) -> Result<(), Fault> {
        self.held.commit().await?;
        self.matcher.directory.refresh(&self.open.collection);
        let forgets = self.appended.iter().any(|e| matches!(e.kind, EntryKind::Forget | EntryKind::Expire));
        self.open.apply(self.appended).await?;
        if forgets {
            self.matcher.scrub().await;
        }
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), Fault> {
        while self.open.shelf.position() < self.held.head() {
            let entries = self.held.entries_after(self.open.shelf.position(), CATCH_UP_PAGE).await?;
            if entries.is_empty() {
                return Err(Fault::internal("the log ends before its head"));
            }
            self.open.apply(entries).await?;
        }
        Ok(())
    }

    /// The answer that this request got before, if it is asked again; the inner fault is the request's own.
    pub(super) async fn answered<T: DeserializeOwned>(
        &mut self,
        context: &Context,
    ) -> Result<Result<Option<T>, Fault>, Fault> {
        let Some(key) = idempotency::key(context, Some(&self.open.collection.id)) else {
            return Ok(Ok(None));
        };
        let found = self.held.idempotency_record(&key, self.matcher.clock.now()).await?;
        Ok(idempotency::answer(context, found))
    }

    /// Keeps the answer, so that asking again gets the same.
    pub(super) async fn keep_answer<T: Serialize + Sync>(
        &mut self,
        context: &Context,
        answer: &T,
    ) -> Result<(), Fault> {
        let key = idempotency::key(context, Some(&self.open.collection.id));
        if let (Some(key), Some(record)) = (key, idempotency::record(context, answer, self.matcher.clock.now())?) {
            self.held.put_idempotency_record(&key, &record, self.matcher.clock.now()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_wire_and_others_are_refused() {
        let token = ConsistencyToken { uid: CollectionUid(Uuid::from_u128(77)), position: Position(300) };
        assert_eq!(token.to_string().parse::<ConsistencyToken>().expect("our own"), token);
        for bad in ["", "x", "AAAA", "====", &"A".repeat(33)] {
            assert!(bad.parse::<ConsistencyToken>().is_err(), "{bad}");
        }
    }
}
