//! The statements that find inconsistent rows, and those that restore derived values.
//!
//! Joins instead of correlated subqueries: neither database has an index of the log by identity, and each of these
//! scans a table once.

use sqlx::FromRow;
use uuid::Uuid;

use super::DbConnection;
use crate::{Result, rows::StoredTemplateRow};
use domain::{CollectionUid, TemplateId};

/// Maximum rows that one statement returns. An operator with a thousand findings of one kind restores a backup.
const FOUND_MAX: i64 = 1000;

/// A row that contradicts another.
#[derive(Debug, Default, FromRow)]
pub(super) struct InconsistentRow {
    #[sqlx(default)]
    pub(super) template: Option<Uuid>,
    #[sqlx(default)]
    pub(super) identity: Option<String>,
    #[sqlx(default)]
    pub(super) position: Option<i64>,
}

impl InconsistentRow {
    pub(super) fn of(row: &StoredTemplateRow) -> Self {
        Self {
            template: Some(row.id().0),
            identity: Some(row.identity_id().to_owned()),
            position: Some(row.position()),
        }
    }
}

/// A relation between two tables in which a row may lack its counterpart.
#[derive(Debug, Clone, Copy)]
pub(super) enum MissingCounterpart {
    IdentityWithoutEntry,
    TemplateWithoutEntry,
    OtherOwner,
    MoveWithoutEntry,
    EntryWithoutTemplate,
    TemplateWithoutIdentity,
    TemplateWithoutPayload,
    TemplateOfUnknownSpace,
}

impl MissingCounterpart {
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
                     AND e.template_id = t.id
                 WHERE t.collection_uid = $1 AND e.position IS NULL
                 ORDER BY t.position
                 LIMIT $2"
            }
            Self::OtherOwner => {
                "WITH placed AS MATERIALIZED (
                     SELECT template_id, max(position) AS position
                     FROM log_entries
                     WHERE collection_uid = $1 AND kind IN ('admit', 'move')
                     GROUP BY template_id
                 )
                 SELECT t.id AS template, t.identity_id AS identity, e.position
                 FROM placed
                 JOIN log_entries AS e ON e.collection_uid = $1 AND e.position = placed.position
                 JOIN templates AS t ON t.id = placed.template_id
                 WHERE t.collection_uid = $1 AND t.identity_id <> e.identity_id
                 ORDER BY e.position
                 LIMIT $2"
            }
            Self::MoveWithoutEntry => {
                "SELECT m.template_id AS template, m.to_id AS identity, r.position
                 FROM regroupings AS r
                 JOIN template_moves AS m ON m.regrouping_id = r.id
                 LEFT JOIN log_entries AS e
                     ON e.collection_uid = $1 AND e.position > r.position AND e.kind = 'move'
                     AND e.template_id = m.template_id AND e.identity_id = m.to_id
                 WHERE r.collection_uid = $1 AND e.position IS NULL
                 ORDER BY r.position
                 LIMIT $2"
            }
            Self::EntryWithoutTemplate => {
                "WITH gone AS MATERIALIZED (
                     SELECT identity_id, template_id, max(position) AS position
                     FROM log_entries
                     WHERE collection_uid = $1 AND kind IN ('forget', 'expire')
                     GROUP BY identity_id, template_id
                 ),
                 placed AS MATERIALIZED (
                     SELECT template_id, max(position) AS position
                     FROM log_entries
                     WHERE collection_uid = $1 AND kind IN ('admit', 'move')
                     GROUP BY template_id
                 )
                 SELECT e.template_id AS template, e.identity_id AS identity, e.position
                 FROM placed
                 JOIN log_entries AS e ON e.collection_uid = $1 AND e.position = placed.position
                 LEFT JOIN templates AS t ON t.id = e.template_id
                 LEFT JOIN gone AS whole
                     ON whole.identity_id = e.identity_id AND whole.template_id IS NULL AND whole.position > e.position
                 LEFT JOIN gone AS one ON one.template_id = e.template_id AND one.position > e.position
                 WHERE t.id IS NULL AND whole.position IS NULL AND one.position IS NULL
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

pub(super) async fn without_counterpart(
    connection: &mut DbConnection,
    uid: CollectionUid,
    missing: MissingCounterpart,
) -> Result<Vec<InconsistentRow>> {
    Ok(sqlx::query_as(missing.statement()).bind(uid.0).bind(FOUND_MAX).fetch_all(connection).await?)
}

/// They belong to no collection: without the template the collection is unknown.
pub(super) async fn payloads_without_template(connection: &mut DbConnection) -> Result<Vec<InconsistentRow>> {
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

pub(super) async fn collections(connection: &mut DbConnection) -> Result<Vec<(Uuid, String)>> {
    Ok(sqlx::query_as("SELECT uid, id FROM collections ORDER BY id").fetch_all(connection).await?)
}

/// The head position in the collection's record, and the position of the last log entry.
pub(super) async fn head_and_last(connection: &mut DbConnection, uid: CollectionUid) -> Result<(i64, i64)> {
    Ok(sqlx::query_as(
        "SELECT c.head_position, coalesce((SELECT max(position) FROM log_entries WHERE collection_uid = $1), 0)
         FROM collections AS c
         WHERE c.uid = $1",
    )
    .bind(uid.0)
    .fetch_one(connection)
    .await?)
}

/// Positions that do not follow the position before them, each with that position.
pub(super) async fn gaps(connection: &mut DbConnection, uid: CollectionUid) -> Result<Vec<(i64, i64)>> {
    Ok(sqlx::query_as(
        "SELECT position, before
         FROM (
             SELECT position, lag(position, 1, CAST(0 AS BIGINT)) OVER (ORDER BY position) AS before
             FROM log_entries
             WHERE collection_uid = $1
         ) AS ordered
         WHERE position <> before + 1
         ORDER BY position
         LIMIT $2",
    )
    .bind(uid.0)
    .bind(FOUND_MAX)
    .fetch_all(connection)
    .await?)
}

/// Ids and labels as text, so that an unreadable row does not hide the others.
pub(super) async fn identities(
    connection: &mut DbConnection,
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

/// Sets the head position to the last entry if it differs. Returns how many rows that changed.
pub(super) async fn restore_head(connection: &mut DbConnection, uid: CollectionUid) -> Result<u64> {
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

pub(super) async fn put_checksum(connection: &mut DbConnection, id: TemplateId, checksum: u32) -> Result<u64> {
    let put = sqlx::query("UPDATE template_payloads SET crc32 = $2 WHERE template_id = $1 AND crc32 IS NULL")
        .bind(id.0)
        .bind(i64::from(checksum))
        .execute(connection)
        .await?;
    Ok(put.rows_affected())
}
