//! Identities: who is enrolled, under which labels, until when.

use sqlx::{FromRow, QueryBuilder, types::Json};

use super::{Connection, Database, many::pieces};
use crate::{
    Result,
    rows::{ExpiredRow, IdentityRow, bigint, micros, read_all, read_one},
};
use domain::{CollectionUid, Identity, IdentityId, Labels, Position, Timestamp};

pub(super) async fn by_id(
    connection: &mut Connection,
    uid: CollectionUid,
    id: &IdentityId,
) -> Result<Option<Identity>> {
    let row: Option<IdentityRow> = sqlx::query_as(
        "SELECT id, labels, expire_time, revision, create_time, update_time
         FROM identities
         WHERE collection_uid = $1 AND id = $2",
    )
    .bind(uid.0)
    .bind(id.as_str())
    .fetch_optional(connection)
    .await?;
    read_one(row)
}

/// An identity beside the number of its templates.
#[derive(Debug, FromRow)]
struct EnrolledRow {
    #[sqlx(flatten)]
    identity: IdentityRow,
    templates: i64,
}

/// Those of the ids that are there, each with how many templates it has.
pub(super) async fn enrolled(
    connection: &mut Connection,
    uid: CollectionUid,
    ids: &[IdentityId],
) -> Result<Vec<(Identity, u64)>> {
    let mut enrolled = Vec::with_capacity(ids.len());
    for piece in pieces(ids) {
        let mut select = QueryBuilder::<Database>::new(
            "SELECT i.id, i.labels, i.expire_time, i.revision, i.create_time, i.update_time,
                    (SELECT count(*)
                     FROM templates AS t
                     WHERE t.collection_uid = i.collection_uid AND t.identity_id = i.id) AS templates
             FROM identities AS i
             WHERE i.collection_uid = ",
        );
        select.push_bind(uid.0).push(" AND i.id IN (");
        let mut listed = select.separated(", ");
        for id in piece {
            listed.push_bind(id.as_str());
        }
        select.push(")");
        let rows: Vec<EnrolledRow> = select.build_query_as().fetch_all(&mut *connection).await?;
        for row in rows {
            enrolled.push((Identity::try_from(row.identity)?, row.templates.unsigned_abs()));
        }
    }
    Ok(enrolled)
}

pub(super) async fn page(
    connection: &mut Connection,
    uid: CollectionUid,
    after: Option<&IdentityId>,
    limit: u32,
) -> Result<Vec<Identity>> {
    let rows: Vec<IdentityRow> = sqlx::query_as(
        "SELECT id, labels, expire_time, revision, create_time, update_time
         FROM identities
         WHERE collection_uid = $1 AND id > $2
         ORDER BY id
         LIMIT $3",
    )
    .bind(uid.0)
    .bind(after.map_or("", IdentityId::as_str)) // an id is never empty, so all ids come after the empty text
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    read_all(rows)
}

/// Those that entries of the log between two positions say were labelled, and that are still there.
pub(super) async fn labelled_between(
    connection: &mut Connection,
    uid: CollectionUid,
    after: Position,
    through: Position,
) -> Result<Vec<Identity>> {
    let rows: Vec<IdentityRow> = sqlx::query_as(
        "SELECT id, labels, expire_time, revision, create_time, update_time
         FROM identities
         WHERE collection_uid = $1 AND id IN (
             SELECT identity_id
             FROM log_entries
             WHERE collection_uid = $1 AND position > $2 AND position <= $3 AND kind = 'label'
         )",
    )
    .bind(uid.0)
    .bind(bigint(after.0))
    .bind(bigint(through.0))
    .fetch_all(connection)
    .await?;
    read_all(rows)
}

/// The longest expired first.
pub(super) async fn expired(
    connection: &mut Connection,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<(CollectionUid, IdentityId)>> {
    let rows: Vec<ExpiredRow> = sqlx::query_as(
        "SELECT collection_uid, id
         FROM identities
         WHERE expire_time <= $1
         ORDER BY expire_time, collection_uid, id
         LIMIT $2",
    )
    .bind(micros(now))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    read_all(rows)
}

/// Creates the identities or replaces their records. No two of them have one id.
pub(super) async fn put(connection: &mut Connection, uid: CollectionUid, identities: &[&Identity]) -> Result<()> {
    for piece in pieces(identities) {
        let mut insert = QueryBuilder::<Database>::new(
            "INSERT INTO identities (collection_uid, id, labels, expire_time, revision, create_time, update_time) ",
        );
        insert.push_values(piece, |mut row, identity| {
            row.push_bind(uid.0)
                .push_bind(identity.id.as_str())
                .push_bind(Json::<&Labels>(&identity.labels))
                .push_bind(identity.expire_time.map(micros))
                .push_bind(bigint(identity.revision.0))
                .push_bind(micros(identity.create_time))
                .push_bind(micros(identity.update_time));
        });
        insert.push(
            " ON CONFLICT (collection_uid, id) DO UPDATE SET
                 labels = excluded.labels,
                 expire_time = excluded.expire_time,
                 revision = excluded.revision,
                 create_time = excluded.create_time,
                 update_time = excluded.update_time",
        );
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Removes the identity, and with it its templates and their payloads; answers whether it was there.
pub(super) async fn delete(connection: &mut Connection, uid: CollectionUid, id: &IdentityId) -> Result<bool> {
    let deleted = sqlx::query("DELETE FROM identities WHERE collection_uid = $1 AND id = $2")
        .bind(uid.0)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected() > 0)
}
