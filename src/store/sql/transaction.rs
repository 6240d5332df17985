//! A write transaction that tells truly whether it committed, and tells [`WriteHealth`] what it ended with.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use sqlx::Transaction;

use super::{CommitWitness, ConnectionPools, Database, DbConnection};
use crate::{Result, StoreError, write_health::WriteHealth};

/// A write transaction. Dropped without [`WriteTransaction::commit`], it is rolled back.
#[derive(Debug)]
pub(crate) struct WriteTransaction {
    /// `None` once it is being committed.
    open: Option<Transaction<'static, Database>>,
    witness: CommitWitness,
    health: Arc<WriteHealth>,
    /// A method works on it: if it is dropped now, a statement failed or the caller gave up.
    is_in_step: bool,
}

impl ConnectionPools {
    /// Begins a write transaction.
    pub(crate) async fn begin(&self) -> Result<WriteTransaction> {
        let (open, witness) = self.open_transaction().await.inspect_err(|error| note(&self.health, error))?;
        let health = Arc::clone(&self.health);
        Ok(WriteTransaction { open: Some(open), witness, health, is_in_step: false })
    }
}

impl WriteTransaction {
    /// The same, in a step.
    pub(super) fn in_step(mut self) -> Self {
        self.is_in_step = true;
        self
    }

    pub(super) fn end_step(&mut self) {
        self.is_in_step = false;
    }

    /// # Errors
    /// Nothing was committed, unless it is [`StoreError::OutcomeUnknown`].
    pub(crate) async fn commit(mut self) -> Result<()> {
        let open = self.open.take().expect("only a commit takes it");
        let committed = match open.commit().await {
            Ok(()) => Ok(()),
            Err(error) => self.witness.outcome(error).await,
        };
        match &committed {
            Ok(()) => self.health.committed(),
            Err(error) => note(&self.health, error),
        }
        committed
    }
}

fn note(health: &WriteHealth, error: &StoreError) {
    match error {
        StoreError::Unavailable(_) | StoreError::FileMoved(_) | StoreError::OutcomeUnknown(_) => health.failed(error),
        StoreError::CollectionExists
        | StoreError::CollectionGone
        | StoreError::IdentityGone
        | StoreError::TemplateGone
        | StoreError::RevisionMoved
        | StoreError::Corrupt(_)
        | StoreError::Schema(_)
        | StoreError::BadUrl(_)
        | StoreError::Refused(_) => health.unfinished(),
    }
}

impl Drop for WriteTransaction {
    fn drop(&mut self) {
        if self.open.is_some() && self.is_in_step {
            self.health.unfinished();
        }
    }
}

impl Deref for WriteTransaction {
    type Target = DbConnection;

    fn deref(&self) -> &DbConnection {
        self.open.as_ref().expect("only a commit takes it")
    }
}

impl DerefMut for WriteTransaction {
    fn deref_mut(&mut self) -> &mut DbConnection {
        self.open.as_mut().expect("only a commit takes it")
    }
}
