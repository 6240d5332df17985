//! Decisions of resolve.

use async_trait::async_trait;

use crate::Result;
use domain::{DecisionId, Timestamp};

/// The input and the answer of one resolve.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionRecord {
    pub id: DecisionId,
    pub time: Timestamp,
    /// As the matcher serialises it. It contains no embedding.
    pub body: serde_json::Value,
}

/// The decisions of one collection.
#[async_trait]
pub trait Decisions {
    async fn decision(&mut self, id: DecisionId) -> Result<Option<DecisionRecord>>;

    /// Stores a decision. A decision that is already stored stays as it is, so that a caller may repeat the call.
    async fn put_decision(&mut self, record: &DecisionRecord) -> Result<()>;
}
