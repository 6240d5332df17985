//! Answers stored under the keys that clients send with their requests.

use async_trait::async_trait;

use crate::Result;
use domain::Timestamp;

/// A request that is to take effect once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    pub principal: String,
    pub method: &'static str,
    /// The collection's id; empty for methods above collections.
    pub collection: String,
    pub key: String,
}

/// The answer to that request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// SHA-256 of the request. A different request under the same key is an error of the client.
    pub body_hash: [u8; 32],
    /// The answer, as the matcher serialises it.
    pub answer: Vec<u8>,
    pub expire_time: Timestamp,
}

/// Answers by idempotency key, of all collections.
#[async_trait]
pub trait IdempotencyKeys {
    /// The answer under a key; `None` if there is none or it has expired at `now`.
    async fn idempotency_record(&mut self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<IdempotencyRecord>>;

    /// Stores an answer. The first answer under a key stays until it has expired at `now`.
    async fn put_idempotency_record(
        &mut self,
        key: &IdempotencyKey,
        record: &IdempotencyRecord,
        now: Timestamp,
    ) -> Result<()>;
}
