use async_trait::async_trait;

use super::{
    DbConnection,
    session::{Access, Session},
};
use crate::{
    IdempotencyKey, IdempotencyKeys, IdempotencyRecord, Result,
    rows::{IdempotencyRow, micros},
};
use domain::{CollectionUid, Timestamp};

#[async_trait]
impl<A: Access> IdempotencyKeys for Session<A> {
    async fn idempotency_record(&mut self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<IdempotencyRecord>> {
        let mut step = self.0.read().await?;
        let record = by_key(&mut step, key, now).await?;
        step.finish(record).await
    }

    async fn put_idempotency_record(
        &mut self,
        key: &IdempotencyKey,
        record: &IdempotencyRecord,
        now: Timestamp,
    ) -> Result<()> {
        let mut step = self.0.write().await?;
        put(&mut step, key, record, now).await?;
        step.finish(()).await
    }
}

/// The answer under the key, unless it has expired at `now`.
pub(super) async fn by_key(
    connection: &mut DbConnection,
    key: &IdempotencyKey,
    now: Timestamp,
) -> Result<Option<IdempotencyRecord>> {
    let row: Option<IdempotencyRow> = sqlx::query_as(
        "SELECT body_hash, answer, expire_time
         FROM idempotency_keys
         WHERE principal = $1 AND method = $2 AND collection = $3 AND key = $4 AND expire_time > $5",
    )
    .bind(&key.principal)
    .bind(key.method)
    .bind(&key.collection)
    .bind(&key.key)
    .bind(micros(now))
    .fetch_optional(connection)
    .await?;
    row.map(IdempotencyRow::read).transpose()
}

/// Stores an answer unless there is one that has not expired at `now`. Returns whether it is stored.
pub(super) async fn put(
    connection: &mut DbConnection,
    key: &IdempotencyKey,
    record: &IdempotencyRecord,
    now: Timestamp,
) -> Result<bool> {
    let put = sqlx::query(
        "INSERT INTO idempotency_keys (principal, method, collection, key, body_hash, answer, expire_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (principal, method, collection, key) DO UPDATE SET
             body_hash = excluded.body_hash,
             answer = excluded.answer,
             expire_time = excluded.expire_time
         WHERE idempotency_keys.expire_time <= $8",
    )
    .bind(&key.principal)
    .bind(key.method)
    .bind(&key.collection)
    .bind(&key.key)
    .bind(record.body_hash.as_slice())
    .bind(&record.answer)
    .bind(micros(record.expire_time))
    .bind(micros(now))
    .execute(connection)
    .await?;
    Ok(put.rows_affected() > 0)
}

/// Deletes the answers of a collection that is about to be deleted.
pub(super) async fn delete_of_collection(connection: &mut DbConnection, uid: CollectionUid) -> Result<()> {
    sqlx::query("DELETE FROM idempotency_keys WHERE collection = (SELECT id FROM collections WHERE uid = $1)")
        .bind(uid.0)
        .execute(connection)
        .await?;
    Ok(())
}
