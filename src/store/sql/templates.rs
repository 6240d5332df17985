use async_trait::async_trait;
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use super::{
    Database, DbConnection,
    many::pieces,
    session::{CollectionAccess, Session},
};
use crate::{
    AcceptedTemplate, Page, Result, StoreError, Templates,
    rows::{
        AcceptedRow, F32LE_UNIT, StoredTemplateRow, TemplateRow, bigint, checksum, micros, origin_word, payload_bytes,
    },
};
use domain::{Assignment, CollectionUid, IdentityId, Position, StoredTemplate, Template, TemplateId};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, identity_id, modality, digest, dimension, parts, model, origin, quality, frames_used,
                    frames_dropped, spread, accepted_posterior, certificate, position, create_time
             FROM templates
             WHERE collection_uid = $1 ",
            $rest
        )
    };
}

/// The same with payloads.
macro_rules! select_stored {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.identity_id, t.modality, t.digest, t.dimension, t.parts, t.model, t.origin, t.quality,
                    t.frames_used, t.frames_dropped, t.spread, t.accepted_posterior, t.certificate, t.position,
                    t.create_time, p.format, p.key_id, p.bytes, p.crc32
             FROM templates AS t
             JOIN template_payloads AS p ON p.template_id = t.id
             WHERE t.collection_uid = $1 ",
            $rest
        )
    };
}

#[async_trait]
impl<A: CollectionAccess> Templates for Session<A> {
    async fn template(&mut self, id: TemplateId) -> Result<Option<Template>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let row: Option<TemplateRow> =
            sqlx::query_as(select!("AND id = $2")).bind(uid.0).bind(id.0).fetch_optional(&mut *step).await?;
        step.finish(row.map(TemplateRow::read).transpose()?).await
    }

    async fn templates_of(
        &mut self,
        identity: &IdentityId,
        after: Option<TemplateId>,
        limit: u32,
    ) -> Result<Page<Template>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let rows: Vec<TemplateRow> = sqlx::query_as(select!("AND identity_id = $2 AND id > $3 ORDER BY id LIMIT $4"))
            .bind(uid.0)
            .bind(identity.as_str())
            .bind(after.map_or(Uuid::nil(), |id| id.0)) // no id is nil, so every id follows it
            .bind(i64::from(limit))
            .fetch_all(&mut *step)
            .await?;
        step.finish(rows.into_iter().map(TemplateRow::read).collect::<Result<_>>()?).await
    }

    async fn stored_templates(&mut self, after: Position, limit: u32) -> Result<Page<StoredTemplate>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let rows = row_page(&mut step, uid, bigint(after.0), limit.into()).await?;
        step.finish(rows.into_iter().map(StoredTemplateRow::read).collect::<Result<_>>()?).await
    }

    async fn accepted_below(&mut self, posterior: f64) -> Result<Vec<AcceptedTemplate>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let rows: Vec<AcceptedRow> = sqlx::query_as(
            "SELECT id, identity_id, modality, digest, dimension, parts
             FROM templates
             WHERE collection_uid = $1 AND accepted_posterior < $2
             ORDER BY position",
        )
        .bind(uid.0)
        .bind(posterior)
        .fetch_all(&mut *step)
        .await?;
        step.finish(rows.into_iter().map(AcceptedRow::read).collect::<Result<_>>()?).await
    }
}

/// Rows after a position, in position order. `audit` reads them one by one, to report each row that cannot be read.
pub(super) async fn row_page(
    connection: &mut DbConnection,
    uid: CollectionUid,
    after: i64,
    limit: i64,
) -> Result<Vec<StoredTemplateRow>> {
    let rows = sqlx::query_as(select_stored!("AND t.position > $2 ORDER BY t.position LIMIT $3"));
    Ok(rows.bind(uid.0).bind(after).bind(limit).fetch_all(connection).await?)
}

/// Templates with their embeddings in a range of positions, in position order.
pub(super) async fn stored_between(
    connection: &mut DbConnection,
    uid: CollectionUid,
    after: Position,
    through: Position,
) -> Result<Vec<StoredTemplate>> {
    let rows: Vec<StoredTemplateRow> =
        sqlx::query_as(select_stored!("AND t.position > $2 AND t.position <= $3 ORDER BY t.position"))
            .bind(uid.0)
            .bind(bigint(after.0))
            .bind(bigint(through.0))
            .fetch_all(connection)
            .await?;
    rows.into_iter().map(StoredTemplateRow::read).collect()
}

/// Templates with their embeddings that log entries in a range of positions moved, and that still exist.
pub(super) async fn moved_between(
    connection: &mut DbConnection,
    uid: CollectionUid,
    after: Position,
    through: Position,
) -> Result<Vec<StoredTemplate>> {
    let rows: Vec<StoredTemplateRow> = sqlx::query_as(select_stored!(
        "AND t.id IN (
             SELECT template_id
             FROM log_entries
             WHERE collection_uid = $1 AND position > $2 AND position <= $3 AND kind = 'move'
         )"
    ))
    .bind(uid.0)
    .bind(bigint(after.0))
    .bind(bigint(through.0))
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(StoredTemplateRow::read).collect()
}

/// Makes another identity the owner of a template.
///
/// # Errors
/// [`StoreError::TemplateGone`], [`StoreError::IdentityGone`].
pub(super) async fn change_owner(
    connection: &mut DbConnection,
    uid: CollectionUid,
    id: TemplateId,
    [from, to]: [&IdentityId; 2],
) -> Result<()> {
    let moved =
        sqlx::query("UPDATE templates SET identity_id = $4 WHERE collection_uid = $1 AND identity_id = $3 AND id = $2")
            .bind(uid.0)
            .bind(id.0)
            .bind(from.as_str())
            .bind(to.as_str())
            .execute(connection)
            .await
            .map_err(|error| match error.as_database_error() {
                Some(database) if database.is_foreign_key_violation() => StoreError::IdentityGone,
                _ => error.into(),
            })?;
    if moved.rows_affected() == 0 { Err(StoreError::TemplateGone) } else { Ok(()) }
}

/// Inserts templates, each at its log position.
///
/// # Errors
/// [`StoreError::IdentityGone`].
pub(super) async fn admit(
    connection: &mut DbConnection,
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
    connection: &mut DbConnection,
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
        assert_eq!(template.space, stored.embedding.space(), "a template has the space of its embedding");
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
        Some(database) if database.is_foreign_key_violation() => StoreError::IdentityGone,
        _ => error.into(),
    })?;
    Ok(())
}

async fn insert_payloads(connection: &mut DbConnection, admitted: &[(&StoredTemplate, Position)]) -> Result<()> {
    let mut insert =
        QueryBuilder::<Database>::new("INSERT INTO template_payloads (template_id, format, bytes, crc32) ");
    insert.push_values(admitted, |mut row, (stored, _)| {
        let (id, bytes) = (stored.template.id, payload_bytes(&stored.embedding));
        let crc32 = i64::from(checksum(id.0, &bytes));
        row.push_bind(id.0).push_bind(F32LE_UNIT).push_bind(bytes).push_bind(crc32);
    });
    insert.build().execute(connection).await?;
    Ok(())
}

/// Deletes a template and its payload. Returns whether the identity had it.
pub(super) async fn delete(
    connection: &mut DbConnection,
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
