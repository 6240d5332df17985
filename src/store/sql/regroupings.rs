use async_trait::async_trait;
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    DbConnection, identities, operations,
    session::{CollectionAccess, Session},
};
use crate::{
    Regroupings, Result, StoreError,
    rows::{LineageRecords, OtherBody, OtherRow, RegroupingRow, TemplateMoveRow, bigint, micros},
};
use domain::{
    CollectionUid, DismissedWith, HandedOver, IdentityId, Lineage, Regrouping, RegroupingId, RegroupingState,
    ReviewCaseId, TemplateId, Timestamp,
};

#[async_trait]
impl<A: CollectionAccess> Regroupings for Session<A> {
    async fn regrouping(&mut self, id: RegroupingId) -> Result<Option<Regrouping>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let row: Option<RegroupingRow> = sqlx::query_as(
            "SELECT id, identity_id, holder_id, kind, position, time, revert_time, body
             FROM regroupings
             WHERE collection_uid = $1 AND id = $2",
        )
        .bind(uid.0)
        .bind(id.0)
        .fetch_optional(&mut *step)
        .await?;
        let regrouping = match row {
            Some(row) => Some(row.read(others(&mut step, id).await?, moves(&mut step, id).await?)?),
            None => None,
        };
        step.finish(regrouping).await
    }

    async fn latest_regrouping(&mut self, identity: &IdentityId) -> Result<Option<RegroupingId>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let id: Option<Uuid> = sqlx::query_scalar(
            "SELECT r.id
             FROM regroupings AS r
             WHERE r.collection_uid = $1 AND r.revert_time IS NULL
               AND (r.holder_id = $2
                    OR (r.kind = 'split' AND EXISTS (
                        SELECT 1 FROM regrouped_identities AS o
                        WHERE o.regrouping_id = r.id AND o.identity_id = $2)))
             ORDER BY r.position DESC
             LIMIT 1",
        )
        .bind(uid.0)
        .bind(identity.as_str())
        .fetch_optional(&mut *step)
        .await?;
        step.finish(id.map(RegroupingId)).await
    }

    async fn merged_into(&mut self, identity: &IdentityId) -> Result<Option<IdentityId>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let holder: Option<String> = sqlx::query_scalar(
            "SELECT r.holder_id
             FROM regrouped_identities AS o
             JOIN regroupings AS r ON r.id = o.regrouping_id
             WHERE o.collection_uid = $1 AND o.identity_id = $2 AND r.kind = 'merge'
             ORDER BY r.position DESC
             LIMIT 1",
        )
        .bind(uid.0)
        .bind(identity.as_str())
        .fetch_optional(&mut *step)
        .await?;
        let unreadable = |_| StoreError::Corrupt("the identity's id in a row of regroupings".to_owned());
        step.finish(holder.map(|id| IdentityId::new(&id).map_err(unreadable)).transpose()?).await
    }

    async fn put_regrouping(&mut self, regrouping: &Regrouping) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        let (revert_time, lineage) = match &regrouping.state {
            RegroupingState::InForce(lineage) => (None, Some(lineage.as_ref())),
            RegroupingState::Reverted(time) => (Some(micros(*time)), None),
        };
        let body = lineage.map(|Lineage { before, after, others_then, .. }| {
            Json(LineageRecords { before: before.clone(), after: after.clone(), others_then: *others_then })
        });
        sqlx::query(
            "INSERT INTO regroupings
                 (id, collection_uid, identity_id, holder_id, kind, position, time, revert_time, body)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(regrouping.id.0)
        .bind(uid.0)
        .bind(regrouping.identity.as_str())
        .bind(regrouping.holder.as_str())
        .bind(regrouping.kind.as_str())
        .bind(bigint(regrouping.position.0))
        .bind(micros(regrouping.time))
        .bind(revert_time)
        .bind(body)
        .execute(&mut *step)
        .await?;
        if let Some(lineage) = lineage {
            put_lineage(&mut step, uid, regrouping.id, lineage).await?;
        }
        step.finish(()).await
    }

    async fn mark_reverted(&mut self, id: RegroupingId, now: Timestamp) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        sqlx::query("UPDATE regroupings SET revert_time = $3, body = NULL WHERE collection_uid = $1 AND id = $2")
            .bind(uid.0)
            .bind(id.0)
            .bind(micros(now))
            .execute(&mut *step)
            .await?;
        for delete in [
            "DELETE FROM regrouped_identities WHERE regrouping_id = $1",
            "DELETE FROM template_moves WHERE regrouping_id = $1",
        ] {
            sqlx::query(delete).bind(id.0).execute(&mut *step).await?;
        }
        step.finish(()).await
    }

    async fn hand_over(&mut self, from: &IdentityId, to: &IdentityId) -> Result<HandedOver> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        let regroupings: Vec<Uuid> = sqlx::query_scalar(
            "SELECT id FROM regroupings WHERE collection_uid = $1 AND holder_id = $2 ORDER BY position",
        )
        .bind(uid.0)
        .bind(from.as_str())
        .fetch_all(&mut *step)
        .await?;
        let cases: Vec<Uuid> = sqlx::query_scalar(
            "SELECT id FROM review_cases WHERE collection_uid = $1 AND identity_id = $2 ORDER BY id",
        )
        .bind(uid.0)
        .bind(from.as_str())
        .fetch_all(&mut *step)
        .await?;
        let records = HandedOver {
            regroupings: regroupings.into_iter().map(RegroupingId).collect(),
            cases: cases.into_iter().map(ReviewCaseId).collect(),
            dismissed: dismiss_beside(&mut step, uid, [from, to]).await?,
        };
        give(&mut step, uid, &records, [from, to]).await?;
        step.finish(records).await
    }

    async fn hand_back(&mut self, records: &HandedOver, from: &IdentityId, to: &IdentityId) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        give(&mut step, uid, records, [from, to]).await?;
        for DismissedWith { identity, added } in &records.dismissed {
            if *added {
                operations::restore(&mut step, uid, [identity, from]).await?;
            }
            // One that was erased or merged since is in no pair.
            if identities::by_id(&mut step, uid, identity).await?.is_some() {
                operations::dismiss(&mut step, uid, [identity, to]).await?;
            }
        }
        step.finish(()).await
    }
}

async fn others(connection: &mut DbConnection, id: RegroupingId) -> Result<Vec<OtherRow>> {
    Ok(sqlx::query_as("SELECT templates, body FROM regrouped_identities WHERE regrouping_id = $1 ORDER BY ordinal")
        .bind(id.0)
        .fetch_all(connection)
        .await?)
}

async fn moves(connection: &mut DbConnection, id: RegroupingId) -> Result<Vec<TemplateMoveRow>> {
    Ok(sqlx::query_as(
        "SELECT template_id, from_id, to_id FROM template_moves WHERE regrouping_id = $1 ORDER BY ordinal",
    )
    .bind(id.0)
    .fetch_all(connection)
    .await?)
}

async fn put_lineage(
    connection: &mut DbConnection,
    uid: CollectionUid,
    id: RegroupingId,
    lineage: &Lineage,
) -> Result<()> {
    for (other, ordinal) in lineage.others.iter().zip(0_i64..) {
        let body = OtherBody { record: other.record.clone(), handed_over: other.handed_over.clone() };
        sqlx::query(
            "INSERT INTO regrouped_identities (regrouping_id, ordinal, collection_uid, identity_id, templates, body)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id.0)
        .bind(ordinal)
        .bind(uid.0)
        .bind(other.record.id.as_str())
        .bind(bigint(other.templates))
        .bind(Json(body))
        .execute(&mut *connection)
        .await?;
    }
    for (one, ordinal) in lineage.moves.iter().zip(0_i64..) {
        sqlx::query(
            "INSERT INTO template_moves (regrouping_id, ordinal, template_id, from_id, to_id)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id.0)
        .bind(ordinal)
        .bind(one.template.0)
        .bind(one.from.as_str())
        .bind(one.to.as_str())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Dismisses `to` beside every identity that `from` is dismissed beside: who is another person than one is another than the
/// other. Returns these identities. The pairs of `from` go with it.
async fn dismiss_beside(
    connection: &mut DbConnection,
    uid: CollectionUid,
    [from, to]: [&IdentityId; 2],
) -> Result<Vec<DismissedWith>> {
    let beside: Vec<String> = sqlx::query_scalar(
        "SELECT CASE WHEN one_id = $2 THEN other_id ELSE one_id END
         FROM dismissed_pairs
         WHERE collection_uid = $1 AND (one_id = $2 OR other_id = $2)
         ORDER BY one_id, other_id",
    )
    .bind(uid.0)
    .bind(from.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let mut dismissed = Vec::with_capacity(beside.len());
    for id in beside {
        let unreadable = |_| StoreError::Corrupt("the identity's id in a row of dismissed_pairs".to_owned());
        let identity = IdentityId::new(&id).map_err(unreadable)?;
        let added = identity != *to && operations::dismiss(connection, uid, [&identity, to]).await?;
        dismissed.push(DismissedWith { identity, added });
    }
    Ok(dismissed)
}

/// Makes `to` the holder of records that `from` holds. A case that was reopened meanwhile may name another identity.
async fn give(
    connection: &mut DbConnection,
    uid: CollectionUid,
    records: &HandedOver,
    [from, to]: [&IdentityId; 2],
) -> Result<()> {
    const REGROUPING: &str =
        "UPDATE regroupings SET holder_id = $4 WHERE collection_uid = $1 AND id = $2 AND holder_id = $3";
    const CASE: &str =
        "UPDATE review_cases SET identity_id = $4 WHERE collection_uid = $1 AND id = $2 AND identity_id = $3";
    let regroupings = records.regroupings.iter().map(|id| (REGROUPING, id.0));
    for (update, id) in regroupings.chain(records.cases.iter().map(|id| (CASE, id.0))) {
        sqlx::query(update)
            .bind(uid.0)
            .bind(id)
            .bind(from.as_str())
            .bind(to.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The regroupings that moved a template, or one of the templates of an identity. Read them before an erasure.
pub(super) async fn moving(
    connection: &mut DbConnection,
    uid: CollectionUid,
    identity: &IdentityId,
    template: Option<TemplateId>,
) -> Result<Vec<RegroupingId>> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT m.regrouping_id
         FROM templates AS t
         JOIN template_moves AS m ON m.template_id = t.id
         WHERE t.collection_uid = $1 AND t.identity_id = $2 AND t.id = coalesce($3, t.id)",
    )
    .bind(uid.0)
    .bind(identity.as_str())
    .bind(template.map(|id| id.0))
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(RegroupingId).collect())
}

/// Deletes the records of identities on the other side whose last moved template is erased.
pub(super) async fn erase_records_without_templates(connection: &mut DbConnection, ids: &[RegroupingId]) -> Result<()> {
    for id in ids {
        sqlx::query(
            "DELETE FROM regrouped_identities
             WHERE regrouping_id = $1 AND templates > 0 AND NOT EXISTS (
                 SELECT 1 FROM template_moves AS m
                 WHERE m.regrouping_id = $1
                   AND (m.from_id = regrouped_identities.identity_id OR m.to_id = regrouped_identities.identity_id))",
        )
        .bind(id.0)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
