//! Answers kept under the keys that clients gave with their requests.

use super::Connection;
use crate::{
    IdempotencyKey, IdempotencyRecord, Result,
    rows::{IdempotencyRow, micros, read_one},
};
use domain::{CollectionUid, Timestamp};

/// The answer under the key, unless it has expired by `now`.
pub(super) async fn by_key(
    connection: &mut Connection,
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
    read_one(row)
}

/// The first answer under a key stays until it expires; one that has expired by `now` but was not swept gives way.
/// Answers whether this one is kept.
pub(super) async fn keep(
    connection: &mut Connection,
    key: &IdempotencyKey,
    record: &IdempotencyRecord,
    now: Timestamp,
) -> Result<bool> {
    let kept = sqlx::query(
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
    Ok(kept.rows_affected() > 0)
}

/// Removes what has expired by `now`; answers how many.
pub(super) async fn sweep(connection: &mut Connection, now: Timestamp) -> Result<u64> {
    let swept = sqlx::query("DELETE FROM idempotency_keys WHERE expire_time <= $1")
        .bind(micros(now))
        .execute(connection)
        .await?;
    Ok(swept.rows_affected())
}

/// Removes the answers of a collection that is about to be deleted.
pub(super) async fn delete_of_collection(connection: &mut Connection, uid: CollectionUid) -> Result<()> {
    sqlx::query("DELETE FROM idempotency_keys WHERE collection = (SELECT id FROM collections WHERE uid = $1)")
        .bind(uid.0)
        .execute(connection)
        .await?;
    Ok(())
}
