use async_trait::async_trait;
use sqlx::types::Json;

use super::{DbConnection, SqlStore, announce, idempotency, lock_collection};
use crate::{
    CollectionHead, Collections, IdempotencyRecord, KeyedAnswer, LogNotice, Page, Result, StoreError,
    rows::{CollectionRow, HeadRow, bigint, micros, role_word},
};
use domain::{Collection, CollectionId, CollectionUid, Policy, Position, Revision, SpaceBinding};

macro_rules! select {
    ($from:literal, $rest:literal) => {
        concat!(
            "SELECT c.uid, c.id, c.display_name, c.policy, c.revision, c.create_time, c.update_time,
                    s.name AS space_name, s.modality, s.digest, s.dimension, s.parts, s.role, s.external
             FROM ",
            $from,
            " AS c LEFT JOIN collection_spaces AS s ON s.collection_uid = c.uid ",
            $rest
        )
    };
}

#[async_trait]
impl Collections for SqlStore {
    async fn create_collection(
        &self,
        collection: &Collection,
        answer: Option<KeyedAnswer<'_>>,
    ) -> Result<Option<IdempotencyRecord>> {
        let mut step = self.pools.write_step().await?;
        if let Some(KeyedAnswer { key, record }) = answer {
            // The key first: of several requests at once one gets it, and the others wait here until that one commits.
            let now = collection.create_time;
            if !idempotency::put(&mut step, key, record, now).await? {
                return idempotency::by_key(&mut step, key, now).await;
            }
        }
        insert(&mut step, collection).await?;
        announce(&mut step, &LogNotice::Changed(collection.uid)).await?;
        step.finish(None).await
    }

    async fn collection(&self, id: &CollectionId) -> Result<Option<Collection>> {
        let mut step = self.pools.read_step().await?;
        let rows: Vec<CollectionRow> = sqlx::query_as(select!("collections", "WHERE c.id = $1 ORDER BY s.ordinal"))
            .bind(id.as_str())
            .fetch_all(&mut *step)
            .await?;
        step.finish(CollectionRow::fold(rows)?.pop()).await
    }

    async fn collections(&self, after: Option<&CollectionId>, limit: u32) -> Result<Page<Collection>> {
        let mut step = self.pools.read_step().await?;
        let rows: Vec<CollectionRow> = sqlx::query_as(select!(
            "(SELECT uid, id, display_name, policy, revision, create_time, update_time
              FROM collections
              WHERE id > $1
              ORDER BY id
              LIMIT $2)",
            "ORDER BY c.id, s.ordinal"
        ))
        .bind(after.map_or("", CollectionId::as_str)) // no id is empty, so every id follows the empty text
        .bind(i64::from(limit))
        .fetch_all(&mut *step)
        .await?;
        step.finish(CollectionRow::fold(rows)?).await
    }

    async fn update_collection(&self, collection: &Collection, expected: Revision) -> Result<()> {
        let mut step = self.pools.write_step().await?;
        if lock_collection(&mut step, collection.uid).await?.is_none() {
            return Err(StoreError::CollectionGone);
        }
        update(&mut step, collection, expected).await?;
        announce(&mut step, &LogNotice::Changed(collection.uid)).await?;
        step.finish(()).await
    }

    async fn delete_collection(&self, uid: CollectionUid) -> Result<bool> {
        let mut step = self.pools.write_step().await?;
        // Lock first: an open turn may still store answers, and they must be deleted with the rest.
        if lock_collection(&mut step, uid).await?.is_none() {
            return Ok(false);
        }
        idempotency::delete_of_collection(&mut step, uid).await?;
        // The schema cascades to everything that belongs to the collection.
        sqlx::query("DELETE FROM collections WHERE uid = $1").bind(uid.0).execute(&mut *step).await?;
        announce(&mut step, &LogNotice::Changed(uid)).await?;
        step.finish(true).await
    }

    async fn heads(&self) -> Result<Vec<CollectionHead>> {
        let mut step = self.pools.read_step().await?;
        let rows: Vec<HeadRow> = sqlx::query_as("SELECT uid, id, revision, head_position FROM collections ORDER BY id")
            .fetch_all(&mut *step)
            .await?;
        step.finish(rows.into_iter().map(HeadRow::read).collect::<Result<_>>()?).await
    }

    async fn head(&self, uid: CollectionUid) -> Result<Option<CollectionHead>> {
        let mut step = self.pools.read_step().await?;
        let row: Option<HeadRow> =
            sqlx::query_as("SELECT uid, id, revision, head_position FROM collections WHERE uid = $1")
                .bind(uid.0)
                .fetch_optional(&mut *step)
                .await?;
        step.finish(row.map(HeadRow::read).transpose()?).await
    }
}

pub(super) async fn by_uid(connection: &mut DbConnection, uid: CollectionUid) -> Result<Option<Collection>> {
    let rows: Vec<CollectionRow> = sqlx::query_as(select!("collections", "WHERE c.uid = $1 ORDER BY s.ordinal"))
        .bind(uid.0)
        .fetch_all(connection)
        .await?;
    Ok(CollectionRow::fold(rows)?.pop())
}

pub(super) async fn set_head_position(
    connection: &mut DbConnection,
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
async fn insert(connection: &mut DbConnection, collection: &Collection) -> Result<()> {
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
        Some(database) if database.is_unique_violation() => StoreError::CollectionExists,
        _ => error.into(),
    })?;
    put_spaces(connection, collection).await
}

/// Writes the record if its stored revision is `expected`.
///
/// # Errors
/// [`StoreError::RevisionMoved`], also if the collection does not exist.
pub(super) async fn update(connection: &mut DbConnection, collection: &Collection, expected: Revision) -> Result<()> {
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

async fn delete_spaces(connection: &mut DbConnection, uid: CollectionUid) -> Result<()> {
    sqlx::query("DELETE FROM collection_spaces WHERE collection_uid = $1").bind(uid.0).execute(connection).await?;
    Ok(())
}

async fn put_spaces(connection: &mut DbConnection, collection: &Collection) -> Result<()> {
    for (binding, ordinal) in collection.spaces.iter().zip(0..) {
        put_space(connection, collection.uid, binding, ordinal).await?;
    }
    Ok(())
}

async fn put_space(
    connection: &mut DbConnection,
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
