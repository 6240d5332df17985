//! The log of a collection.

use async_trait::async_trait;

use super::Page;
use crate::Result;
use domain::{Entry, Position};

/// The log of one collection. [`Turn::append`](crate::Turn::append) writes it.
#[async_trait]
pub trait Log {
    /// Entries after a position, in order, each with the present state of its subject.
    async fn entries_after(&mut self, after: Position, limit: u32) -> Result<Page<Entry>>;
}
