//! Templates, and beside them their numbers.

use uuid::Uuid;

use super::Connection;
use crate::{
    domain::{CollectionUid, Embedding, IdentityId, Position, StoredTemplate, Template, TemplateId},
    store::{
        Result, StoreError,
        payload::checksum,
        rows::{
            F32LE_UNIT, StoredTemplateRow, TemplateRow, bigint, micros, origin_word, payload_bytes, read_all, read_one,
        },
    },
};

pub(super) async fn by_id(connection: &mut Connection, uid: CollectionUid, id: TemplateId) -> Result<Option<Template>> {
    let row: Option<TemplateRow> = sqlx::query_as(
        "SELECT id, identity_id, modality, digest, dimension, parts, model, origin, quality, frames_used, frames_dropped,
                spread, position, create_time
         FROM templates
         WHERE collection_uid = $1 AND id = $2",
    )
    .bind(uid.0)
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    read_one(row)
}

/// Where a page of an identity's templates begins and ends.
#[derive(Debug)]
pub(super) struct TemplatePage {
    pub(super) after: Option<TemplateId>,
    pub(super) limit: u32,
}

pub(super) async fn of_identity(
    connection: &mut Connection,
    uid: CollectionUid,
    identity: &IdentityId,
    page: TemplatePage,
) -> Result<Vec<Template>> {
    let rows: Vec<TemplateRow> = sqlx::query_as(
        "SELECT id, identity_id, modality, digest, dimension, parts, model, origin, quality, frames_used, frames_dropped,
                spread, position, create_time
         FROM templates
         WHERE collection_uid = $1 AND identity_id = $2 AND id > $3
         ORDER BY id
         LIMIT $4",
    )
    .bind(uid.0)
    .bind(identity.as_str())
    .bind(page.after.map_or(Uuid::nil(), |id| id.0)) // nobody makes the nil id, so all ids come after it
    .bind(i64::from(page.limit))
    .fetch_all(connection)
    .await?;
    read_all(rows)
}

pub(super) async fn count_of_identity(
    connection: &mut Connection,
    uid: CollectionUid,
    identity: &IdentityId,
) -> Result<u64> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM templates WHERE collection_uid = $1 AND identity_id = $2")
            .bind(uid.0)
            .bind(identity.as_str())
            .fetch_one(connection)
            .await?;
    Ok(count.unsigned_abs())
}

/// Templates with their numbers, in position order.
pub(super) async fn stored_page(
    connection: &mut Connection,
    uid: CollectionUid,
    after: Position,
    limit: u32,
) -> Result<Vec<StoredTemplate>> {
    let rows: Vec<StoredTemplateRow> = sqlx::query_as(
        "SELECT t.id, t.identity_id, t.modality, t.digest, t.dimension, t.parts, t.model, t.origin, t.quality,
                t.frames_used, t.frames_dropped, t.spread, t.position, t.create_time, p.format, p.key_id, p.bytes, p.crc32
         FROM templates AS t
         JOIN template_payloads AS p ON p.template_id = t.id
         WHERE t.collection_uid = $1 AND t.position > $2
         ORDER BY t.position
         LIMIT $3",
    )
    .bind(uid.0)
    .bind(bigint(after.0))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    read_all(rows)
}

/// Templates with their numbers that stand between two positions of the log, in position order.
pub(super) async fn stored_between(
    connection: &mut Connection,
    uid: CollectionUid,
    after: Position,
    through: Position,
) -> Result<Vec<StoredTemplate>> {
    let rows: Vec<StoredTemplateRow> = sqlx::query_as(
        "SELECT t.id, t.identity_id, t.modality, t.digest, t.dimension, t.parts, t.model, t.origin, t.quality,
                t.frames_used, t.frames_dropped, t.spread, t.position, t.create_time, p.format, p.key_id, p.bytes, p.crc32
         FROM templates AS t
         JOIN template_payloads AS p ON p.template_id = t.id
         WHERE t.collection_uid = $1 AND t.position > $2 AND t.position <= $3
         ORDER BY t.position",
    )
    .bind(uid.0)
    .bind(bigint(after.0))
    .bind(bigint(through.0))
    .fetch_all(connection)
    .await?;
    read_all(rows)
}

/// Adds a template at a position of the log.
///
/// # Errors
/// [`StoreError::IdentityGone`].
pub(super) async fn admit(
    connection: &mut Connection,
    uid: CollectionUid,
    stored: &StoredTemplate,
    position: Position,
) -> Result<()> {
    let StoredTemplate { template, embedding } = stored;
    assert_eq!(template.space, embedding.space(), "a template is bound to the space of its numbers");
    insert(connection, uid, template, position).await?;
    insert_payload(connection, template.id, embedding).await
}

async fn insert(
    connection: &mut Connection,
    uid: CollectionUid,
    template: &Template,
    position: Position,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO templates
             (id, collection_uid, identity_id, modality, digest, dimension, parts, model, origin, quality, frames_used,
              frames_dropped, spread, position, create_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(template.id.0)
    .bind(uid.0)
    .bind(template.identity.as_str())
    .bind(template.space.modality.as_str())
    .bind(template.space.digest.0.as_slice())
    .bind(i64::from(template.space.dimension))
    .bind(i64::from(template.space.parts))
    .bind(template.model.as_str())
    .bind(origin_word(template.origin))
    .bind(template.quality.map(f64::from))
    .bind(template.track.map(|track| i64::from(track.frames_used)))
    .bind(template.track.map(|track| i64::from(track.frames_dropped)))
    .bind(template.track.map(|track| f64::from(track.spread)))
    .bind(bigint(position.0))
    .bind(micros(template.create_time))
    .execute(connection)
    .await
    .map_err(|error| match error.as_database_error() {
        Some(said) if said.is_foreign_key_violation() => StoreError::IdentityGone,
        _ => error.into(),
    })?;
    Ok(())
}

async fn insert_payload(connection: &mut Connection, id: TemplateId, embedding: &Embedding) -> Result<()> {
    let bytes = payload_bytes(embedding);
    let checksum = checksum(id, &bytes);
    sqlx::query("INSERT INTO template_payloads (template_id, format, bytes, crc32) VALUES ($1, $2, $3, $4)")
        .bind(id.0)
        .bind(F32LE_UNIT)
        .bind(bytes)
        .bind(i64::from(checksum))
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes the template and its payload; answers whether the identity had it.
pub(super) async fn delete(
    connection: &mut Connection,
    uid: CollectionUid,
    identity: &IdentityId,
    id: TemplateId,
) -> Result<bool> {
    let deleted = sqlx::query("DELETE FROM templates WHERE collection_uid = $1 AND identity_id = $2 AND id = $3")
        .bind(uid.0)
        .bind(identity.as_str())
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected() > 0)
}
