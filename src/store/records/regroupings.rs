//! Regroupings of a collection: merges and splits of identities with their lineage.

use async_trait::async_trait;

use crate::Result;
use domain::{HandedOver, IdentityId, Regrouping, RegroupingId, Timestamp};

/// The regroupings of one collection. They are written in the turn of their log entries.
///
/// Erasures are part of [`Turn::append`](crate::Turn::append): with an identity go the regroupings that it holds, with a
/// template its moves, and with the last template of a regrouped identity the record of that identity.
#[async_trait]
pub trait Regroupings {
    async fn regrouping(&mut self, id: RegroupingId) -> Result<Option<Regrouping>>;

    /// The latest regrouping in force that an identity holds, or whose split made the identity.
    async fn latest_regrouping(&mut self, identity: &IdentityId) -> Result<Option<RegroupingId>>;

    /// The identity that another one was last merged into, if no revert or erasure removed that record.
    async fn merged_into(&mut self, identity: &IdentityId) -> Result<Option<IdentityId>>;

    /// Stores a regrouping with its lineage. Its holder and the moved templates exist.
    async fn put_regrouping(&mut self, regrouping: &Regrouping) -> Result<()>;

    /// Marks a regrouping as reverted and deletes its lineage.
    async fn mark_reverted(&mut self, id: RegroupingId, now: Timestamp) -> Result<()>;

    /// Makes `to` the holder of what `from` holds, so that the removal of `from` does not delete it: its regroupings,
    /// the review cases whose verdict named it, and its dismissed pairs.
    async fn hand_over(&mut self, from: &IdentityId, to: &IdentityId) -> Result<HandedOver>;

    /// Makes `to` the holder of those records again that `from` still holds.
    async fn hand_back(&mut self, records: &HandedOver, from: &IdentityId, to: &IdentityId) -> Result<()>;
}
