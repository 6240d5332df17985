//! Templates, and beside them their numbers.

use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use super::{Connection, Database, many::pieces};
use crate::{
    Result, StoreError,
    payload::checksum,
    rows::{
        AcceptedRow, F32LE_UNIT, StoredTemplateRow, TemplateRow, bigint, micros, origin_word, payload_bytes, read_all,
        read_one,
    },
};
use domain::{Assignment, CollectionUid, EmbeddingSpace, IdentityId, Position, StoredTemplate, Template, TemplateId};

pub(super) async fn by_id(connection: &mut Connection, uid: CollectionUid, id: TemplateId) -> Result<Option<Template>> {
    let row: Option<TemplateRow> = sqlx::query_as(
        "SELECT id, identity_id, modality, digest, dimension, parts, model, origin, quality, frames_used, frames_dropped,
                spread, accepted_posterior, certificate, position, create_time
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
                spread, accepted_posterior, certificate, position, create_time
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

/// Templates with their numbers, in position order.
pub(super) async fn stored_page(
    connection: &mut Connection,
    uid: CollectionUid,
    after: Position,
    limit: u32,
) -> Result<Vec<StoredTemplate>> {
    read_all(unread_page(connection, uid, bigint(after.0), limit.into()).await?)
}

/// The same as rows, for whoever wants to know what is wrong with those that cannot be read.
pub(super) async fn unread_page(
    connection: &mut Connection,
    uid: CollectionUid,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredTemplateRow>> {
    let rows = sqlx::query_as(
        "SELECT t.id, t.identity_id, t.modality, t.digest, t.dimension, t.parts, t.model, t.origin, t.quality,
                t.frames_used, t.frames_dropped, t.spread, t.accepted_posterior, t.certificate, t.position, t.create_time,
                p.format, p.key_id, p.bytes, p.crc32
         FROM templates AS t
         JOIN template_payloads AS p ON p.template_id = t.id
         WHERE t.collection_uid = $1 AND t.position > $2
         ORDER BY t.position
         LIMIT $3",
    );
    Ok(rows.bind(uid.0).bind(after).bind(limit).fetch_all(connection).await?)
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
                t.frames_used, t.frames_dropped, t.spread, t.accepted_posterior, t.certificate, t.position, t.create_time,
                p.format, p.key_id, p.bytes, p.crc32
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

/// Those that the self-paced policy accepted at a posterior below this one, with whose they are, oldest first.
pub(super) async fn accepted_below(
    connection: &mut Connection,
    uid: CollectionUid,
    posterior: f64,
) -> Result<Vec<(EmbeddingSpace, IdentityId, TemplateId)>> {
    let rows: Vec<AcceptedRow> = sqlx::query_as(
        "SELECT id, identity_id, modality, digest, dimension, parts
         FROM templates
         WHERE collection_uid = $1 AND accepted_posterior < $2
         ORDER BY position",
    )
    .bind(uid.0)
    .bind(posterior)
    .fetch_all(connection)
    .await?;
    read_all(rows)
}

/// Adds templates, each at its position of the log.
///
/// # Errors
/// [`StoreError::IdentityGone`].
pub(super) async fn admit(
    connection: &mut Connection,
    uid: CollectionUid,
    admitted: &[(&StoredTemplate, Position)],
) -> Result<()> {
    for piece in pieces(admitted) {
        insert(connection, uid, piece).await?;
        insert_payloads(connection, piece).await?;
    }
    Ok(())
}

async fn insert(
    connection: &mut Connection,
    uid: CollectionUid,
    admitted: &[(&StoredTemplate, Position)],
) -> Result<()> {
    let mut insert = QueryBuilder::<Database>::new(
        "INSERT INTO templates
             (id, collection_uid, identity_id, modality, digest, dimension, parts, model, origin, quality, frames_used,
              frames_dropped, spread, accepted_posterior, certificate, position, create_time) ",
    );
    insert.push_values(admitted, |mut row, (stored, position)| {
        let template = &stored.template;
        assert_eq!(template.space, stored.embedding.space(), "a template is bound to the space of its numbers");
        let (accepted, certificate) = match &template.assignment {
            Assignment::Enrolled => (None, None),
            Assignment::Accepted { posterior } => (Some(*posterior), None),
            Assignment::Certified(certificate) => (None, Some(Json(certificate.clone()))),
        };
        row.push_bind(template.id.0)
            .push_bind(uid.0)
            .push_bind(template.identity.as_str())
            .push_bind(template.space.modality.as_str())
            .push_bind(template.space.digest.0.to_vec())
            .push_bind(i64::from(template.space.dimension))
            .push_bind(i64::from(template.space.parts))
            .push_bind(template.model.as_str())
            .push_bind(origin_word(template.origin))
            .push_bind(template.quality.map(f64::from))
            .push_bind(template.track.map(|track| i64::from(track.frames_used)))
            .push_bind(template.track.map(|track| i64::from(track.frames_dropped)))
            .push_bind(template.track.map(|track| f64::from(track.spread)))
            .push_bind(accepted)
            .push_bind(certificate)
            .push_bind(bigint(position.0))
            .push_bind(micros(template.create_time));
    });
    insert.build().execute(connection).await.map_err(|error| match error.as_database_error() {
        Some(said) if said.is_foreign_key_violation() => StoreError::IdentityGone,
        _ => error.into(),
    })?;
    Ok(())
}

async fn insert_payloads(connection: &mut Connection, admitted: &[(&StoredTemplate, Position)]) -> Result<()> {
    let mut insert =
        QueryBuilder::<Database>::new("INSERT INTO template_payloads (template_id, format, bytes, crc32) ");
    insert.push_values(admitted, |mut row, (stored, _)| {
        let (id, bytes) = (stored.template.id, payload_bytes(&stored.embedding));
        let crc32 = i64::from(checksum(id, &bytes));
        row.push_bind(id.0).push_bind(F32LE_UNIT).push_bind(bytes).push_bind(crc32);
    });
    insert.build().execute(connection).await?;
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
