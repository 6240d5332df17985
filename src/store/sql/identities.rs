use async_trait::async_trait;
use sqlx::{QueryBuilder, types::Json};

use super::{
    Database, DbConnection,
    many::pieces,
    session::{CollectionAccess, Session},
};
use crate::{
    EnrolledIdentity, Identities, Page, Result,
    rows::{EnrolledRow, IdentityRow, bigint, micros},
};
use domain::{CollectionUid, Identity, IdentityId, Labels, Position};

#[async_trait]
impl<A: CollectionAccess> Identities for Session<A> {
    async fn identity(&mut self, id: &IdentityId) -> Result<Option<Identity>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let identity = by_id(&mut step, uid, id).await?;
        step.finish(identity).await
    }

    async fn identities(&mut self, after: Option<&IdentityId>, limit: u32) -> Result<Page<Identity>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let rows: Vec<IdentityRow> = sqlx::query_as(
            "SELECT id, labels, expire_time, provisional, revision, create_time, update_time
             FROM identities
             WHERE collection_uid = $1 AND id > $2
             ORDER BY id
             LIMIT $3",
        )
        .bind(uid.0)
        .bind(after.map_or("", IdentityId::as_str)) // no id is empty, so every id follows the empty text
        .bind(i64::from(limit))
        .fetch_all(&mut *step)
        .await?;
        step.finish(rows.into_iter().map(IdentityRow::read).collect::<Result<_>>()?).await
    }

    async fn enrolled_identities(&mut self, ids: &[IdentityId]) -> Result<Vec<EnrolledIdentity>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let mut enrolled = Vec::with_capacity(ids.len());
        for piece in pieces(ids) {
            let mut select = QueryBuilder::<Database>::new(
                "SELECT i.id, i.labels, i.expire_time, i.provisional, i.revision, i.create_time, i.update_time,
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
            let rows: Vec<EnrolledRow> = select.build_query_as().fetch_all(&mut *step).await?;
            for row in rows {
                enrolled.push(row.read()?);
            }
        }
        step.finish(enrolled).await
    }
}

pub(super) async fn by_id(
    connection: &mut DbConnection,
    uid: CollectionUid,
    id: &IdentityId,
) -> Result<Option<Identity>> {
    let row: Option<IdentityRow> = sqlx::query_as(
        "SELECT id, labels, expire_time, provisional, revision, create_time, update_time
         FROM identities
         WHERE collection_uid = $1 AND id = $2",
    )
    .bind(uid.0)
    .bind(id.as_str())
    .fetch_optional(connection)
    .await?;
    row.map(IdentityRow::read).transpose()
}

/// Identities that log entries in a range of positions labelled, and that still exist.
pub(super) async fn labelled_between(
    connection: &mut DbConnection,
    uid: CollectionUid,
    after: Position,
    through: Position,
) -> Result<Vec<Identity>> {
    let rows: Vec<IdentityRow> = sqlx::query_as(
        "SELECT id, labels, expire_time, provisional, revision, create_time, update_time
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
    rows.into_iter().map(IdentityRow::read).collect()
}

/// Creates identities or replaces their records. No two of them have the same id.
pub(super) async fn put(connection: &mut DbConnection, uid: CollectionUid, identities: &[&Identity]) -> Result<()> {
    for piece in pieces(identities) {
        let mut insert = QueryBuilder::<Database>::new(
            "INSERT INTO identities (collection_uid, id, labels, expire_time, provisional, revision, create_time, update_time) ",
        );
        insert.push_values(piece, |mut row, identity| {
            row.push_bind(uid.0)
                .push_bind(identity.id.as_str())
                .push_bind(Json::<&Labels>(&identity.labels))
                .push_bind(identity.expire_time.map(micros))
                .push_bind(identity.provisional)
                .push_bind(bigint(identity.revision.0))
                .push_bind(micros(identity.create_time))
                .push_bind(micros(identity.update_time));
        });
        insert.push(
            " ON CONFLICT (collection_uid, id) DO UPDATE SET
                 labels = excluded.labels,
                 expire_time = excluded.expire_time,
                 provisional = excluded.provisional,
                 revision = excluded.revision,
                 create_time = excluded.create_time,
                 update_time = excluded.update_time",
        );
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Deletes an identity with its templates and their payloads. Returns whether it existed.
pub(super) async fn delete(connection: &mut DbConnection, uid: CollectionUid, id: &IdentityId) -> Result<bool> {
    let deleted = sqlx::query("DELETE FROM identities WHERE collection_uid = $1 AND id = $2")
        .bind(uid.0)
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected() > 0)
}
