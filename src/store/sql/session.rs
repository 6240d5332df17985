//! Sessions: how the methods of the record traits reach the database.
//!
//! A [`Session`] implements the record traits. Outside a turn each method takes a connection or a short transaction
//! from the pools. In a turn all methods run in the turn's transaction. Both hand a method a [`Step`], so that each
//! statement is written once.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;

use super::{ConnectionPools, Database, DbConnection, WriteTransaction, lock_collection};
use crate::{Result, StoreError};
use domain::{Collection, CollectionUid, Position};

/// Implements the record traits through `A`.
#[derive(Debug)]
pub(super) struct Session<A>(pub(super) A);

/// The database access of one method. The method runs its statements on it and then calls [`Step::finish`]. Dropped
/// before that, because a statement failed or the caller gave up, a step undoes its writes; in a turn it rolls the turn
/// back.
pub(super) enum Step<'s> {
    Read(PoolConnection<Database>),
    Write(WriteTransaction),
    /// In a turn: its transaction, and the place that it returns to.
    Turn(WriteTransaction, &'s mut Option<WriteTransaction>),
}

impl Step<'_> {
    /// Commits a transaction of the step's own, or returns the turn's transaction to the turn. Passes `value` on.
    pub(super) async fn finish<T>(self, value: T) -> Result<T> {
        match self {
            Self::Read(_) => {}
            Self::Write(transaction) => transaction.commit().await?,
            Self::Turn(mut transaction, turn) => {
                transaction.end_step();
                *turn = Some(transaction);
            }
        }
        Ok(value)
    }
}

impl Deref for Step<'_> {
    type Target = DbConnection;

    fn deref(&self) -> &DbConnection {
        match self {
            Self::Read(connection) => connection,
            Self::Write(transaction) | Self::Turn(transaction, _) => transaction,
        }
    }
}

impl DerefMut for Step<'_> {
    fn deref_mut(&mut self) -> &mut DbConnection {
        match self {
            Self::Read(connection) => connection,
            Self::Write(transaction) | Self::Turn(transaction, _) => transaction,
        }
    }
}

impl ConnectionPools {
    pub(super) async fn read_step(&self) -> Result<Step<'static>> {
        Ok(Step::Read(self.reader().await?))
    }

    pub(super) async fn write_step(&self) -> Result<Step<'static>> {
        Ok(Step::Write(self.begin().await?.in_step()))
    }
}

/// Where a session's steps come from.
pub(super) trait Access: Send {
    /// A step that reads.
    fn read(&mut self) -> impl Future<Output = Result<Step<'_>>> + Send;

    /// A step that may write.
    fn write(&mut self) -> impl Future<Output = Result<Step<'_>>> + Send;
}

/// The same, to the records of one collection.
pub(super) trait CollectionAccess: Access {
    fn uid(&self) -> CollectionUid;

    /// A step that may write, and holds the collection's lock.
    fn write_locked(&mut self) -> impl Future<Output = Result<Step<'_>>> + Send;
}

impl Access for &ConnectionPools {
    async fn read(&mut self) -> Result<Step<'_>> {
        self.read_step().await
    }

    async fn write(&mut self) -> Result<Step<'_>> {
        self.write_step().await
    }
}

/// Access to one collection outside a turn.
#[derive(Debug)]
pub(super) struct OutsideTurn<'p> {
    pub(super) pools: &'p ConnectionPools,
    pub(super) uid: CollectionUid,
}

impl Access for OutsideTurn<'_> {
    async fn read(&mut self) -> Result<Step<'_>> {
        self.pools.read_step().await
    }

    async fn write(&mut self) -> Result<Step<'_>> {
        self.pools.write_step().await
    }
}

impl CollectionAccess for OutsideTurn<'_> {
    fn uid(&self) -> CollectionUid {
        self.uid
    }

    async fn write_locked(&mut self) -> Result<Step<'_>> {
        let mut step = self.pools.write_step().await?;
        lock_collection(&mut step, self.uid).await?.ok_or(StoreError::CollectionGone)?;
        Ok(step)
    }
}

/// Access in a turn, whose transaction has held the collection's lock since before it read the record and the head.
#[derive(Debug)]
pub(super) struct InTurn {
    /// `None` while a step holds it, and after a step that did not finish. A failed transaction must not be committed:
    /// Postgres answers its COMMIT with a rollback that looks like success.
    pub(super) transaction: Option<WriteTransaction>,
    pub(super) collection: Collection,
    pub(super) head: Position,
}

impl InTurn {
    pub(super) fn take_transaction(&mut self) -> Result<WriteTransaction> {
        self.transaction
            .take()
            .ok_or_else(|| StoreError::Refused("the turn was rolled back because an earlier step failed".into()))
    }

    fn step(&mut self) -> Result<Step<'_>> {
        Ok(Step::Turn(self.take_transaction()?.in_step(), &mut self.transaction))
    }
}

impl Access for InTurn {
    async fn read(&mut self) -> Result<Step<'_>> {
        self.step()
    }

    async fn write(&mut self) -> Result<Step<'_>> {
        self.step()
    }
}

impl CollectionAccess for InTurn {
    fn uid(&self) -> CollectionUid {
        self.collection.uid
    }

    async fn write_locked(&mut self) -> Result<Step<'_>> {
        self.step()
    }
}
