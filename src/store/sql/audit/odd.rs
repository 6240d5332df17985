//! The statements that find what should not be, and those that make anew what follows from the rest.
//!
//! Joins and not correlated subqueries: neither database has an index of the log by identity, and each of these is one
//! walk over a table.

use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::Connection;
use crate::{
    Result, StoreError,
    payload::StoredTemplateRow,
    rows::{IdentityRow, bigint},
};
use domain::{CollectionUid, Identity, Labels, Position, StoredTemplate, TemplateId};

/// The most rows that one statement answers: who has a thousand faults of a kind restores a backup.
const FOUND_MAX: i64 = 1000;

/// A row that is not as it should be.
#[derive(Debug, Default, FromRow)]
pub(super) struct Odd {
    #[sqlx(default)]
    pub(super) template: Option<Uuid>,
    #[sqlx(default)]
    pub(super) identity: Option<String>,
    #[sqlx(default)]
    pub(super) position: Option<i64>,
}

/// Where to look for rows that should stand beside another and do not.
#[derive(Debug, Clone, Copy)]
pub(super) enum Where {
    IdentityWithoutEntry,
    TemplateWithoutEntry,
    EntryWithoutTemplate,
    TemplateWithoutIdentity,
    TemplateWithoutPayload,
    TemplateOfUnknownSpace,
}

impl Where {
    fn statement(self) -> &'static str {
        match self {
            Self::IdentityWithoutEntry => {
                "WITH labelled AS MATERIALIZED (
                     SELECT DISTINCT identity_id FROM log_entries WHERE collection_uid = $1 AND kind = 'label'
                 )
                 SELECT i.id AS identity
                 FROM identities AS i
                 LEFT JOIN labelled AS l ON l.identity_id = i.id
                 WHERE i.collection_uid = $1 AND l.identity_id IS NULL
                 ORDER BY i.id
                 LIMIT $2"
            }
            Self::TemplateWithoutEntry => {
                "SELECT t.id AS template, t.identity_id AS identity, t.position
                 FROM templates AS t
                 LEFT JOIN log_entries AS e
                     ON e.collection_uid = t.collection_uid AND e.position = t.position AND e.kind = 'admit'
                     AND e.template_id = t.id AND e.identity_id = t.identity_id
                 WHERE t.collection_uid = $1 AND e.position IS NULL
                 ORDER BY t.position
                 LIMIT $2"
            }
            Self::EntryWithoutTemplate => {
                "WITH gone AS MATERIALIZED (
                     SELECT identity_id, template_id, max(position) AS position
                     FROM log_entries
                     WHERE collection_uid = $1 AND kind IN ('forget', 'expire')
                     GROUP BY identity_id, template_id
                 )
                 SELECT e.template_id AS template, e.identity_id AS identity, e.position
                 FROM log_entries AS e
                 LEFT JOIN templates AS t ON t.id = e.template_id
                 LEFT JOIN gone AS whole
                     ON whole.identity_id = e.identity_id AND whole.template_id IS NULL AND whole.position > e.position
                 LEFT JOIN gone AS one ON one.template_id = e.template_id AND one.position > e.position
                 WHERE e.collection_uid = $1 AND e.kind = 'admit' AND t.id IS NULL AND whole.position IS NULL
                     AND one.position IS NULL
                 ORDER BY e.position
                 LIMIT $2"
            }
            Self::TemplateWithoutIdentity => {
                "SELECT t.id AS template, t.identity_id AS identity, t.position
                 FROM templates AS t
                 LEFT JOIN identities AS i ON i.collection_uid = t.collection_uid AND i.id = t.identity_id
                 WHERE t.collection_uid = $1 AND i.id IS NULL
                 ORDER BY t.position
                 LIMIT $2"
            }
            Self::TemplateWithoutPayload => {
                "SELECT t.id AS template, t.identity_id AS identity, t.position
                 FROM templates AS t
                 LEFT JOIN template_payloads AS p ON p.template_id = t.id
                 WHERE t.collection_uid = $1 AND p.template_id IS NULL
                 ORDER BY t.position
                 LIMIT $2"
            }
            Self::TemplateOfUnknownSpace => {
                "SELECT t.id AS template, t.identity_id AS identity, t.position
                 FROM templates AS t
                 LEFT JOIN collection_spaces AS s
                     ON s.collection_uid = t.collection_uid AND s.modality = t.modality AND s.digest = t.digest
                     AND s.dimension = t.dimension AND s.parts = t.parts
                 WHERE t.collection_uid = $1 AND s.name IS NULL
                 ORDER BY t.position
                 LIMIT $2"
            }
        }
    }
}

pub(super) async fn odd(connection: &mut Connection, uid: CollectionUid, place: Where) -> Result<Vec<Odd>> {
    Ok(sqlx::query_as(place.statement()).bind(uid.0).bind(FOUND_MAX).fetch_all(connection).await?)
}

/// Of no collection: whose they were cannot be told any more.
pub(super) async fn payloads_without_template(connection: &mut Connection) -> Result<Vec<Odd>> {
    Ok(sqlx::query_as(
        "SELECT p.template_id AS template
         FROM template_payloads AS p
         LEFT JOIN templates AS t ON t.id = p.template_id
         WHERE t.id IS NULL
         ORDER BY p.template_id
         LIMIT $1",
    )
    .bind(FOUND_MAX)
    .fetch_all(connection)
    .await?)
}

pub(super) async fn collections(connection: &mut Connection) -> Result<Vec<(Uuid, String)>> {
    Ok(sqlx::query_as("SELECT uid, id FROM collections ORDER BY id").fetch_all(connection).await?)
}

/// What the collection says the last position is, and what it is.
pub(super) async fn head_and_last(connection: &mut Connection, uid: CollectionUid) -> Result<(i64, i64)> {
    Ok(sqlx::query_as(
        "SELECT c.head_position, coalesce((SELECT max(position) FROM log_entries WHERE collection_uid = $1), 0)
         FROM collections AS c
         WHERE c.uid = $1",
    )
    .bind(uid.0)
    .fetch_one(connection)
    .await?)
}

/// Positions whose predecessor is not the one before, each with the one that is.
pub(super) async fn gaps(connection: &mut Connection, uid: CollectionUid) -> Result<Vec<(i64, i64)>> {
    Ok(sqlx::query_as(
        "SELECT position, before
         FROM (
             SELECT position, lag(position, 1, CAST(0 AS BIGINT)) OVER (ORDER BY position) AS before
             FROM log_entries
             WHERE collection_uid = $1
         ) AS walked
         WHERE position <> before + 1
         ORDER BY position
         LIMIT $2",
    )
    .bind(uid.0)
    .bind(FOUND_MAX)
    .fetch_all(connection)
    .await?)
}

/// Ids and labels as text, so that one that cannot be read does not hide the others.
pub(super) async fn identities(
    connection: &mut Connection,
    uid: CollectionUid,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, String)>> {
    Ok(sqlx::query_as(
        "SELECT id, CAST(labels AS TEXT)
         FROM identities
         WHERE collection_uid = $1 AND id > $2
         ORDER BY id
         LIMIT $3",
    )
    .bind(uid.0)
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?)
}

/// A template with its numbers beside the labels of whose it is.
#[derive(Debug, FromRow)]
pub(super) struct OwnedRow {
    #[sqlx(flatten)]
    stored: StoredTemplateRow,
    labels: Json<Labels>,
    expire_time: Option<i64>,
    revision: i64,
    identity_create_time: i64,
    update_time: i64,
}

impl TryFrom<OwnedRow> for (StoredTemplate, Identity) {
    type Error = StoreError;

    fn try_from(row: OwnedRow) -> Result<Self> {
        let OwnedRow { stored, labels, expire_time, revision, identity_create_time, update_time } = row;
        let identity = IdentityRow {
            id: stored.identity().to_owned(),
            labels,
            expire_time,
            revision,
            create_time: identity_create_time,
            update_time,
        };
        Ok((StoredTemplate::try_from(stored)?, Identity::try_from(identity)?))
    }
}

pub(super) async fn owned_page(
    connection: &mut Connection,
    uid: CollectionUid,
    after: Position,
    limit: u32,
) -> Result<Vec<OwnedRow>> {
    Ok(sqlx::query_as(
        "SELECT t.id, t.identity_id, t.modality, t.digest, t.dimension, t.parts, t.model, t.origin, t.quality,
                t.frames_used, t.frames_dropped, t.spread, t.accepted_posterior, t.certificate, t.position, t.create_time,
                p.format, p.key_id, p.bytes, p.crc32,
                i.labels, i.expire_time, i.revision, i.create_time AS identity_create_time, i.update_time
         FROM templates AS t
         JOIN template_payloads AS p ON p.template_id = t.id
         JOIN identities AS i ON i.collection_uid = t.collection_uid AND i.id = t.identity_id
         WHERE t.collection_uid = $1 AND t.position > $2
         ORDER BY t.position
         LIMIT $3",
    )
    .bind(uid.0)
    .bind(bigint(after.0))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?)
}

/// Sets the head to the last entry where it stands elsewhere; answers how many collections that were.
pub(super) async fn restore_head(connection: &mut Connection, uid: CollectionUid) -> Result<u64> {
    let restored = sqlx::query(
        "UPDATE collections
         SET head_position = coalesce((SELECT max(position) FROM log_entries WHERE collection_uid = $1), 0)
         WHERE uid = $1
             AND head_position <> coalesce((SELECT max(position) FROM log_entries WHERE collection_uid = $1), 0)",
    )
    .bind(uid.0)
    .execute(connection)
    .await?;
    Ok(restored.rows_affected())
}

pub(super) async fn put_checksum(connection: &mut Connection, id: TemplateId, checksum: u32) -> Result<u64> {
    let put = sqlx::query("UPDATE template_payloads SET crc32 = $2 WHERE template_id = $1 AND crc32 IS NULL")
        .bind(id.0)
        .bind(i64::from(checksum))
        .execute(connection)
        .await?;
    Ok(put.rows_affected())
}
