//! Collections and the spaces that they know.

use sqlx::types::Json;

use super::Connection;
use crate::{
    Head, Result, StoreError,
    fault::corrupt,
    rows::{CollectionRow, HeadRow, bigint, micros, read_all, read_one, role_word},
};
use domain::{Collection, CollectionId, CollectionUid, Policy, Position, Revision, SpaceBinding};

pub(super) async fn by_id(connection: &mut Connection, id: &CollectionId) -> Result<Option<Collection>> {
    let rows: Vec<CollectionRow> = sqlx::query_as(
        "SELECT c.uid, c.id, c.display_name, c.policy, c.revision, c.create_time, c.update_time,
                s.name AS space_name, s.modality, s.digest, s.dimension, s.parts, s.role, s.external
         FROM collections AS c
         LEFT JOIN collection_spaces AS s ON s.collection_uid = c.uid
         WHERE c.id = $1
         ORDER BY s.ordinal",
    )
    .bind(id.as_str())
    .fetch_all(connection)
    .await?;
    Ok(CollectionRow::fold(rows)?.pop())
}

pub(super) async fn by_uid(connection: &mut Connection, uid: CollectionUid) -> Result<Option<Collection>> {
    let rows: Vec<CollectionRow> = sqlx::query_as(
        "SELECT c.uid, c.id, c.display_name, c.policy, c.revision, c.create_time, c.update_time,
                s.name AS space_name, s.modality, s.digest, s.dimension, s.parts, s.role, s.external
         FROM collections AS c
         LEFT JOIN collection_spaces AS s ON s.collection_uid = c.uid
         WHERE c.uid = $1
         ORDER BY s.ordinal",
    )
    .bind(uid.0)
    .fetch_all(connection)
    .await?;
    Ok(CollectionRow::fold(rows)?.pop())
}

pub(super) async fn page(
    connection: &mut Connection,
    after: Option<&CollectionId>,
    limit: u32,
) -> Result<Vec<Collection>> {
    let rows: Vec<CollectionRow> = sqlx::query_as(
        "SELECT c.uid, c.id, c.display_name, c.policy, c.revision, c.create_time, c.update_time,
                s.name AS space_name, s.modality, s.digest, s.dimension, s.parts, s.role, s.external
         FROM (
             SELECT uid, id, display_name, policy, revision, create_time, update_time
             FROM collections
             WHERE id > $1
             ORDER BY id
             LIMIT $2
         ) AS c
         LEFT JOIN collection_spaces AS s ON s.collection_uid = c.uid
         ORDER BY c.id, s.ordinal",
    )
    .bind(after.map_or("", CollectionId::as_str)) // an id is never empty, so all ids come after the empty text
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    CollectionRow::fold(rows)
}

pub(super) async fn heads(connection: &mut Connection) -> Result<Vec<Head>> {
    let rows: Vec<HeadRow> = sqlx::query_as("SELECT uid, id, revision, head_position FROM collections ORDER BY id")
        .fetch_all(connection)
        .await?;
    read_all(rows)
}

pub(super) async fn head(connection: &mut Connection, uid: CollectionUid) -> Result<Option<Head>> {
    let row: Option<HeadRow> =
        sqlx::query_as("SELECT uid, id, revision, head_position FROM collections WHERE uid = $1")
            .bind(uid.0)
            .fetch_optional(connection)
            .await?;
    read_one(row)
}

/// A head as the lock answers it.
pub(super) fn position(head: i64) -> Result<Position> {
    u64::try_from(head).map(Position).map_err(|_| corrupt("a negative position in a row of collections"))
}

pub(super) async fn set_head_position(
    connection: &mut Connection,
    uid: CollectionUid,
    position: Position,
) -> Result<()> {
    sqlx::query("UPDATE collections SET head_position = $2 WHERE uid = $1")
        .bind(uid.0)
        .bind(bigint(position.0))
        .execute(connection)
        .await?;
    Ok(())
}

/// # Errors
/// [`StoreError::CollectionExists`].
pub(super) async fn create(connection: &mut Connection, collection: &Collection) -> Result<()> {
    sqlx::query(
        "INSERT INTO collections (uid, id, display_name, policy, revision, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(collection.uid.0)
    .bind(collection.id.as_str())
    .bind(&collection.display_name)
    .bind(Json::<&Policy>(&collection.policy))
    .bind(bigint(collection.revision.0))
    .bind(micros(collection.create_time))
    .bind(micros(collection.update_time))
    .execute(&mut *connection)
    .await
    .map_err(|error| match error.as_database_error() {
        Some(said) if said.is_unique_violation() => StoreError::CollectionExists,
        _ => error.into(),
    })?;
    put_spaces(connection, collection).await
}

/// Writes the record if its revision is still `expected`.
///
/// # Errors
/// [`StoreError::RevisionMoved`], also when the collection is not there.
pub(super) async fn update(connection: &mut Connection, collection: &Collection, expected: Revision) -> Result<()> {
    let updated = sqlx::query(
        "UPDATE collections SET display_name = $3, policy = $4, revision = $5, update_time = $6
         WHERE uid = $1 AND revision = $2",
    )
    .bind(collection.uid.0)
    .bind(bigint(expected.0))
    .bind(&collection.display_name)
    .bind(Json::<&Policy>(&collection.policy))
    .bind(bigint(collection.revision.0))
    .bind(micros(collection.update_time))
    .execute(&mut *connection)
    .await?;
    if updated.rows_affected() == 0 {
        return Err(StoreError::RevisionMoved);
    }
    delete_spaces(connection, collection.uid).await?;
    put_spaces(connection, collection).await
}

/// All that belongs to the collection goes with it, because the schema says so.
pub(super) async fn delete(connection: &mut Connection, uid: CollectionUid) -> Result<()> {
    sqlx::query("DELETE FROM collections WHERE uid = $1").bind(uid.0).execute(connection).await?;
    Ok(())
}

async fn delete_spaces(connection: &mut Connection, uid: CollectionUid) -> Result<()> {
    sqlx::query("DELETE FROM collection_spaces WHERE collection_uid = $1").bind(uid.0).execute(connection).await?;
    Ok(())
}

async fn put_spaces(connection: &mut Connection, collection: &Collection) -> Result<()> {
    for (binding, ordinal) in collection.spaces.iter().zip(0..) {
        put_space(connection, collection.uid, binding, ordinal).await?;
    }
    Ok(())
}

async fn put_space(
    connection: &mut Connection,
    uid: CollectionUid,
    binding: &SpaceBinding,
    ordinal: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO collection_spaces
             (collection_uid, name, ordinal, modality, digest, dimension, parts, role, external)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(uid.0)
    .bind(binding.name.as_str())
    .bind(ordinal)
    .bind(binding.space.modality.as_str())
    .bind(binding.space.digest.0.as_slice())
    .bind(i64::from(binding.space.dimension))
    .bind(i64::from(binding.space.parts))
    .bind(role_word(binding.role))
    .bind(binding.external)
    .execute(connection)
    .await?;
    Ok(())
}
