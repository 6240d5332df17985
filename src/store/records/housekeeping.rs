//! Records of all collections that have expired.

use async_trait::async_trait;

use crate::Result;
use domain::{CollectionUid, IdentityId, Timestamp};

/// An identity whose expiry has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredIdentity {
    pub collection: CollectionUid,
    pub identity: IdentityId,
}

/// Finds and deletes what has expired, in all collections.
#[async_trait]
pub trait Housekeeping {
    /// Identities that have expired at `now`, the earliest expiry first. A turn of their collection removes them.
    async fn expired_identities(&self, now: Timestamp, limit: u32) -> Result<Vec<ExpiredIdentity>>;

    /// Deletes idempotency records that have expired at `now`. Returns how many.
    async fn sweep_idempotency_records(&self, now: Timestamp) -> Result<u64>;

    /// Deletes decisions made before an instant. Returns how many.
    async fn sweep_decisions(&self, before: Timestamp) -> Result<u64>;

    /// Deletes review cases that have expired at `now`, with their samples. Returns how many.
    async fn sweep_review_cases(&self, now: Timestamp) -> Result<u64>;

    /// Deletes operations that have expired at `now`, with their findings. Returns how many.
    async fn sweep_operations(&self, now: Timestamp) -> Result<u64>;
}
