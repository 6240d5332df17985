use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use super::{
    Database, DbConnection,
    many::pieces,
    session::{CollectionAccess, Session},
};
use crate::{
    HeartbeatReply, Operations, Page, Result,
    rows::{FindingRow, OperationRow, bigint, micros},
};
use domain::{
    CollectionUid, IdentityId, Operation, OperationId, OperationOutcome, OperationProgress, OperationState,
    SurveyFinding, TemplateId, TemplateOwner, Timestamp,
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, cancelled, outcome, done, total, create_time, update_time, expire_time
             FROM operations
             WHERE collection_uid = $1 ",
            $rest
        )
    };
}

#[async_trait]
impl<A: CollectionAccess> Operations for Session<A> {
    async fn operation(&mut self, id: OperationId) -> Result<Option<Operation>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let row: Option<OperationRow> =
            sqlx::query_as(select!("AND id = $2")).bind(uid.0).bind(id.0).fetch_optional(&mut *step).await?;
        step.finish(row.map(OperationRow::read).transpose()?).await
    }

    async fn operations(&mut self, after: Option<OperationId>, limit: u32) -> Result<Page<Operation>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        // Ids begin with the time, so id order is the order of beginning.
        let rows: Vec<OperationRow> = sqlx::query_as(select!("AND id > $2 ORDER BY id LIMIT $3"))
            .bind(uid.0)
            .bind(after.map_or(Uuid::nil(), |id| id.0)) // no id is nil, so every id follows it
            .bind(i64::from(limit))
            .fetch_all(&mut *step)
            .await?;
        step.finish(rows.into_iter().map(OperationRow::read).collect::<Result<_>>()?).await
    }

    async fn findings(&mut self, id: OperationId, now: Timestamp) -> Result<Vec<SurveyFinding<TemplateOwner>>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let rows: Vec<FindingRow> = sqlx::query_as(
            "SELECT f.template_id, t.identity_id, f.other_template_id, o.identity_id AS other_identity_id,
                    f.group_number, f.similarity, f.llr, f.same_image, d.one_id IS NOT NULL AS dismissed
             FROM operation_findings AS f
             JOIN templates AS t ON t.id = f.template_id
             JOIN identities AS ti ON ti.collection_uid = t.collection_uid AND ti.id = t.identity_id
             LEFT JOIN templates AS o ON o.id = f.other_template_id
             LEFT JOIN identities AS oi ON oi.collection_uid = o.collection_uid AND oi.id = o.identity_id
             LEFT JOIN dismissed_pairs AS d
                 ON d.collection_uid = t.collection_uid
                 AND d.one_id = CASE WHEN t.identity_id < o.identity_id THEN t.identity_id ELSE o.identity_id END
                 AND d.other_id = CASE WHEN t.identity_id < o.identity_id THEN o.identity_id ELSE t.identity_id END
             WHERE f.operation_id = $1 AND t.collection_uid = $3
               AND (ti.expire_time IS NULL OR ti.expire_time > $2) AND (oi.expire_time IS NULL OR oi.expire_time > $2)
             ORDER BY f.ordinal",
        )
        .bind(id.0)
        .bind(micros(now))
        .bind(uid.0)
        .fetch_all(&mut *step)
        .await?;
        step.finish(rows.into_iter().map(FindingRow::read).collect::<Result<_>>()?).await
    }

    async fn finds_pair(&mut self, id: OperationId, [one, other]: [&IdentityId; 2]) -> Result<bool> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT f.ordinal
             FROM operation_findings AS f
             JOIN templates AS t ON t.id = f.template_id
             JOIN templates AS o ON o.id = f.other_template_id
             WHERE f.operation_id = $1 AND t.collection_uid = $2
               AND ((t.identity_id = $3 AND o.identity_id = $4) OR (t.identity_id = $4 AND o.identity_id = $3))
             LIMIT 1",
        )
        .bind(id.0)
        .bind(uid.0)
        .bind(one.as_str())
        .bind(other.as_str())
        .fetch_optional(&mut *step)
        .await?;
        step.finish(found.is_some()).await
    }

    async fn begin_operation(&mut self, operation: &Operation, running_max: u64) -> Result<bool> {
        let uid = self.0.uid();
        let mut step = self.0.write_locked().await?;
        let running: i64 = sqlx::query_scalar("SELECT count(*) FROM operations WHERE collection_uid = $1 AND running")
            .bind(uid.0)
            .fetch_one(&mut *step)
            .await?;
        if running.unsigned_abs() >= running_max {
            return step.finish(false).await;
        }
        let (outcome, cancelled) = match &operation.state {
            OperationState::Running { cancelled } => (None, *cancelled),
            OperationState::Ended(outcome) => (Some(Json(outcome)), false),
        };
        sqlx::query(
            "INSERT INTO operations
                 (id, collection_uid, kind, running, cancelled, outcome, done, total, create_time, update_time,
                  expire_time)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(operation.id.0)
        .bind(uid.0)
        .bind(operation.kind.as_str())
        .bind(outcome.is_none())
        .bind(cancelled)
        .bind(outcome)
        .bind(bigint(operation.progress.done))
        .bind(bigint(operation.progress.total))
        .bind(micros(operation.create_time))
        .bind(micros(operation.update_time))
        .bind(micros(operation.expire_time))
        .execute(&mut *step)
        .await?;
        step.finish(true).await
    }

    async fn heartbeat(
        &mut self,
        id: OperationId,
        progress: OperationProgress,
        now: Timestamp,
    ) -> Result<HeartbeatReply> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        let cancelled: Option<bool> = sqlx::query_scalar(
            "UPDATE operations SET done = $3, total = $4, update_time = $5
             WHERE collection_uid = $1 AND id = $2 AND running
             RETURNING cancelled",
        )
        .bind(uid.0)
        .bind(id.0)
        .bind(bigint(progress.done))
        .bind(bigint(progress.total))
        .bind(micros(now))
        .fetch_optional(&mut *step)
        .await?;
        let reply = match cancelled {
            Some(false) => HeartbeatReply::Continue,
            Some(true) => HeartbeatReply::Cancelled,
            None => HeartbeatReply::Gone,
        };
        step.finish(reply).await
    }

    async fn cancel_operation(&mut self, id: OperationId) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        sqlx::query("UPDATE operations SET cancelled = TRUE WHERE collection_uid = $1 AND id = $2 AND running")
            .bind(uid.0)
            .bind(id.0)
            .execute(&mut *step)
            .await?;
        step.finish(()).await
    }

    async fn end_operation(&mut self, id: OperationId, outcome: &OperationOutcome, now: Timestamp) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        end(&mut step, uid, id, End { outcome, now }).await?;
        step.finish(()).await
    }

    async fn finish_operation(
        &mut self,
        id: OperationId,
        outcome: &OperationOutcome,
        now: Timestamp,
        findings: &[SurveyFinding<TemplateId>],
    ) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write_locked().await?;
        if end(&mut step, uid, id, End { outcome, now }).await? {
            put_findings(&mut step, uid, id, findings).await?;
        }
        step.finish(()).await
    }

    async fn end_stale_operations(&mut self, before: Timestamp, outcome: &OperationOutcome) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        sqlx::query(
            "UPDATE operations SET running = FALSE, outcome = $3
             WHERE collection_uid = $1 AND running AND update_time < $2",
        )
        .bind(uid.0)
        .bind(micros(before))
        .bind(Json(outcome))
        .execute(&mut *step)
        .await?;
        step.finish(()).await
    }

    async fn dismiss_pair(&mut self, identities: [&IdentityId; 2]) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        dismiss(&mut step, uid, identities).await?;
        step.finish(()).await
    }

    async fn restore_pair(&mut self, identities: [&IdentityId; 2]) -> Result<bool> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        let restored = restore(&mut step, uid, identities).await?;
        step.finish(restored).await
    }

    async fn delete_operation(&mut self, id: OperationId) -> Result<bool> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        let deleted = sqlx::query("DELETE FROM operations WHERE collection_uid = $1 AND id = $2")
            .bind(uid.0)
            .bind(id.0)
            .execute(&mut *step)
            .await?;
        step.finish(deleted.rows_affected() > 0).await
    }
}

/// Stores a dismissed pair. Returns whether it is a new one.
pub(super) async fn dismiss(
    connection: &mut DbConnection,
    uid: CollectionUid,
    identities: [&IdentityId; 2],
) -> Result<bool> {
    let [one, other] = in_order(identities);
    let dismissed = sqlx::query(
        "INSERT INTO dismissed_pairs (collection_uid, one_id, other_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(uid.0)
    .bind(one.as_str())
    .bind(other.as_str())
    .execute(connection)
    .await?;
    Ok(dismissed.rows_affected() > 0)
}

/// Deletes a dismissed pair. Returns whether there was one.
pub(super) async fn restore(
    connection: &mut DbConnection,
    uid: CollectionUid,
    identities: [&IdentityId; 2],
) -> Result<bool> {
    let [one, other] = in_order(identities);
    let restored =
        sqlx::query("DELETE FROM dismissed_pairs WHERE collection_uid = $1 AND one_id = $2 AND other_id = $3")
            .bind(uid.0)
            .bind(one.as_str())
            .bind(other.as_str())
            .execute(connection)
            .await?;
    Ok(restored.rows_affected() > 0)
}

fn in_order([one, other]: [&IdentityId; 2]) -> [&IdentityId; 2] {
    if one < other { [one, other] } else { [other, one] }
}

/// Ends a running operation. Returns whether it was running.
async fn end(connection: &mut DbConnection, uid: CollectionUid, id: OperationId, end: End<'_>) -> Result<bool> {
    let ended = sqlx::query(
        "UPDATE operations SET running = FALSE, outcome = $3, update_time = $4
         WHERE collection_uid = $1 AND id = $2 AND running",
    )
    .bind(uid.0)
    .bind(id.0)
    .bind(Json(end.outcome))
    .bind(micros(end.now))
    .execute(connection)
    .await?;
    Ok(ended.rows_affected() > 0)
}

/// How and when an operation ends.
struct End<'o> {
    outcome: &'o OperationOutcome,
    now: Timestamp,
}

/// Stores findings in order, except those that name a template that no longer exists.
async fn put_findings(
    connection: &mut DbConnection,
    uid: CollectionUid,
    id: OperationId,
    findings: &[SurveyFinding<TemplateId>],
) -> Result<()> {
    let named: HashSet<TemplateId> = findings.iter().flat_map(templates_of).collect();
    let existing = existing(connection, uid, &named.into_iter().collect::<Vec<_>>()).await?;
    let numbered: Vec<(i64, &SurveyFinding<TemplateId>)> =
        (0..).zip(findings).filter(|(_, finding)| templates_of(finding).all(|t| existing.contains(&t))).collect();
    for piece in pieces(&numbered) {
        let mut insert = QueryBuilder::<Database>::new(
            "INSERT INTO operation_findings
                 (operation_id, ordinal, template_id, other_template_id, group_number, similarity, llr, same_image) ",
        );
        insert.push_values(piece, |mut row, (ordinal, finding)| {
            row.push_bind(id.0).push_bind(*ordinal);
            match finding {
                SurveyFinding::Pair { templates: [one, other], similarity, llr, same_image, .. } => row
                    .push_bind(one.0)
                    .push_bind(Some(other.0))
                    .push_bind(None::<i64>)
                    .push_bind(Some(f64::from(similarity.0)))
                    .push_bind(*llr)
                    .push_bind(*same_image),
                SurveyFinding::Member { group, template } => row
                    .push_bind(template.0)
                    .push_bind(None::<Uuid>)
                    .push_bind(Some(i64::from(*group)))
                    .push_bind(None::<f64>)
                    .push_bind(None::<f64>)
                    .push_bind(false),
            };
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

fn templates_of(finding: &SurveyFinding<TemplateId>) -> impl Iterator<Item = TemplateId> + use<> {
    let (one, other) = match finding {
        SurveyFinding::Pair { templates: [one, other], .. } => (*one, Some(*other)),
        SurveyFinding::Member { template, .. } => (*template, None),
    };
    std::iter::once(one).chain(other)
}

/// The templates among these that the collection holds.
async fn existing(
    connection: &mut DbConnection,
    uid: CollectionUid,
    templates: &[TemplateId],
) -> Result<HashSet<TemplateId>> {
    let mut existing = HashSet::with_capacity(templates.len());
    for piece in pieces(templates) {
        let mut select = QueryBuilder::<Database>::new("SELECT id FROM templates WHERE collection_uid = ");
        select.push_bind(uid.0).push(" AND id IN (");
        let mut listed = select.separated(", ");
        for template in piece {
            listed.push_bind(template.0);
        }
        select.push(")");
        let ids: Vec<Uuid> = select.build_query_scalar().fetch_all(&mut *connection).await?;
        existing.extend(ids.into_iter().map(TemplateId));
    }
    Ok(existing)
}
