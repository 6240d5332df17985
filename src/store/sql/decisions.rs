//! What resolve saw and said.

use sqlx::types::Json;

use super::Connection;
use crate::{
    DecisionRecord, Result,
    rows::{DecisionRow, micros, read_one},
};
use domain::{CollectionUid, DecisionId, Timestamp};

pub(super) async fn by_id(
    connection: &mut Connection,
    uid: CollectionUid,
    id: DecisionId,
) -> Result<Option<DecisionRecord>> {
    let row: Option<DecisionRow> =
        sqlx::query_as("SELECT id, time, body FROM decisions WHERE collection_uid = $1 AND id = $2")
            .bind(uid.0)
            .bind(id.0)
            .fetch_optional(connection)
            .await?;
    read_one(row)
}

/// Removes the records from before an instant; answers how many.
pub(super) async fn sweep(connection: &mut Connection, before: Timestamp) -> Result<u64> {
    let swept = sqlx::query("DELETE FROM decisions WHERE time < $1").bind(micros(before)).execute(connection).await?;
    Ok(swept.rows_affected())
}

/// Keeping a record again changes nothing, so that who lost the answer may simply repeat.
pub(super) async fn keep(connection: &mut Connection, uid: CollectionUid, record: &DecisionRecord) -> Result<()> {
    sqlx::query(
        "INSERT INTO decisions (id, collection_uid, time, body) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
    )
    .bind(record.id.0)
    .bind(uid.0)
    .bind(micros(record.time))
    .bind(Json(&record.body))
    .execute(connection)
    .await?;
    Ok(())
}
