//! Notices of what any replica commits.

use std::fmt::Debug;

use async_trait::async_trait;

use domain::{CollectionUid, Position};

/// Where to look for changes; a notice does not contain them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogNotice {
    /// The collection's log now reaches this position.
    Appended { uid: CollectionUid, position: Position },
    /// The collection was created, changed or deleted.
    Changed(CollectionUid),
    /// The watch has just connected, for the first time or again: notices before this one may be lost.
    Anything,
}

/// Never sends a notice: its process polls, or is the only one that writes.
#[derive(Debug)]
pub(crate) struct NoWatch;

#[async_trait]
impl LogWatch for NoWatch {
    async fn next(&mut self) -> LogNotice {
        std::future::pending().await
    }
}

/// Receives a notice of each commit of any replica, this one included. Notices arrive early and may be lost, so a
/// follower also reads [`Collections::heads`](super::Collections::heads) from time to time.
#[async_trait]
pub trait LogWatch: Send + Debug {
    /// Waits for the next notice, and reconnects when the connection breaks. A database with a single writing process
    /// never sends one.
    async fn next(&mut self) -> LogNotice;
}
