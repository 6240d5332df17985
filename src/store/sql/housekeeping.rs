use async_trait::async_trait;

use super::SqlStore;
use crate::{
    ExpiredIdentity, Housekeeping, Result,
    rows::{ExpiredRow, micros},
};
use domain::Timestamp;

#[async_trait]
impl Housekeeping for SqlStore {
    async fn expired_identities(&self, now: Timestamp, limit: u32) -> Result<Vec<ExpiredIdentity>> {
        let mut step = self.pools.read_step().await?;
        let rows: Vec<ExpiredRow> = sqlx::query_as(
            "SELECT collection_uid, id
             FROM identities
             WHERE expire_time <= $1
             ORDER BY expire_time, collection_uid, id
             LIMIT $2",
        )
        .bind(micros(now))
        .bind(i64::from(limit))
        .fetch_all(&mut *step)
        .await?;
        step.finish(rows.into_iter().map(ExpiredRow::read).collect::<Result<_>>()?).await
    }

    async fn sweep_idempotency_records(&self, now: Timestamp) -> Result<u64> {
        self.sweep("DELETE FROM idempotency_keys WHERE expire_time <= $1", now).await
    }

    async fn sweep_decisions(&self, before: Timestamp) -> Result<u64> {
        self.sweep("DELETE FROM decisions WHERE time < $1", before).await
    }

    async fn sweep_review_cases(&self, now: Timestamp) -> Result<u64> {
        self.sweep("DELETE FROM review_cases WHERE expire_time <= $1", now).await
    }

    async fn sweep_operations(&self, now: Timestamp) -> Result<u64> {
        self.sweep("DELETE FROM operations WHERE expire_time <= $1", now).await
    }
}

impl SqlStore {
    /// Deletes rows by an instant. Returns how many.
    async fn sweep(&self, delete: &'static str, at: Timestamp) -> Result<u64> {
        let mut step = self.pools.write_step().await?;
        let deleted = sqlx::query(delete).bind(micros(at)).execute(&mut *step).await?.rows_affected();
        step.finish(deleted).await
    }
}
