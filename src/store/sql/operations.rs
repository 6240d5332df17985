//! Operations and what they found.

use std::collections::HashSet;

use sqlx::{FromRow, QueryBuilder, types::Json};
use uuid::Uuid;

use super::{Connection, Database, many::pieces};
use crate::{
    Heard, Page, Result, StoreError,
    fault::corrupt,
    rows::{bigint, micros, read_all, read_one},
};
use domain::{
    CollectionUid, IdentityId, Operation, OperationId, OperationKind, OperationOutcome, OperationState, Owned,
    Progress, Similarity, SurveyFinding, TemplateId, Timestamp,
};

#[derive(Debug, FromRow)]
struct OperationRow {
    id: Uuid,
    kind: String,
    cancelled: bool,
    outcome: Option<Json<OperationOutcome>>,
    done: i64,
    total: i64,
    create_time: i64,
    update_time: i64,
    expire_time: i64,
}

impl TryFrom<OperationRow> for Operation {
    type Error = StoreError;

    fn try_from(row: OperationRow) -> Result<Self> {
        let time = |micros| {
            Timestamp::from_microsecond(micros).map_err(|_| corrupt("a row of operations has a time that is none"))
        };
        let kind = OperationKind::ALL.into_iter().find(|known| known.as_str() == row.kind);
        Ok(Self {
            id: OperationId(row.id),
            kind: kind.ok_or_else(|| corrupt("a row of operations has a kind that is unknown"))?,
            state: match row.outcome {
                Some(Json(outcome)) => OperationState::Ended(outcome),
                None => OperationState::Running { cancelled: row.cancelled },
            },
            progress: Progress { done: row.done.unsigned_abs(), total: row.total.unsigned_abs() },
            create_time: time(row.create_time)?,
            update_time: time(row.update_time)?,
            expire_time: time(row.expire_time)?,
        })
    }
}

pub(super) async fn by_id(
    connection: &mut Connection,
    uid: CollectionUid,
    id: OperationId,
) -> Result<Option<Operation>> {
    let row: Option<OperationRow> = sqlx::query_as(
        "SELECT id, kind, cancelled, outcome, done, total, create_time, update_time, expire_time
         FROM operations
         WHERE collection_uid = $1 AND id = $2",
    )
    .bind(uid.0)
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    read_one(row)
}

/// In id order, which is that of their beginning.
pub(super) async fn page(
    connection: &mut Connection,
    uid: CollectionUid,
    after: Option<OperationId>,
    limit: u32,
) -> Result<Page<Operation>> {
    let rows: Vec<OperationRow> = sqlx::query_as(
        "SELECT id, kind, cancelled, outcome, done, total, create_time, update_time, expire_time
         FROM operations
         WHERE collection_uid = $1 AND id > $2
         ORDER BY id
         LIMIT $3",
    )
    .bind(uid.0)
    .bind(after.map_or(Uuid::nil(), |id| id.0)) // no id is nil, so all ids come after it
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    read_all(rows)
}

/// How many are running.
pub(super) async fn running(connection: &mut Connection, uid: CollectionUid) -> Result<u64> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM operations WHERE collection_uid = $1 AND running")
        .bind(uid.0)
        .fetch_one(connection)
        .await?;
    Ok(count.unsigned_abs())
}

pub(super) async fn put(connection: &mut Connection, uid: CollectionUid, operation: &Operation) -> Result<()> {
    let (outcome, cancelled) = match &operation.state {
        OperationState::Running { cancelled } => (None, *cancelled),
        OperationState::Ended(outcome) => (Some(Json(outcome)), false),
    };
    sqlx::query(
        "INSERT INTO operations
             (id, collection_uid, kind, running, cancelled, outcome, done, total, create_time, update_time, expire_time)
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
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes how far a running operation is, and answers whether it is still wanted.
pub(super) async fn hear(
    connection: &mut Connection,
    uid: CollectionUid,
    id: OperationId,
    (progress, now): (Progress, Timestamp),
) -> Result<Heard> {
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
    .fetch_optional(connection)
    .await?;
    Ok(match cancelled {
        Some(false) => Heard::Wanted,
        Some(true) => Heard::Cancelled,
        None => Heard::Gone,
    })
}

/// Asks for the end of an operation. One that has ended stays as it is.
pub(super) async fn cancel(connection: &mut Connection, uid: CollectionUid, id: OperationId) -> Result<()> {
    sqlx::query("UPDATE operations SET cancelled = TRUE WHERE collection_uid = $1 AND id = $2 AND running")
        .bind(uid.0)
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends a running operation; answers whether it was one.
pub(super) async fn end(
    connection: &mut Connection,
    uid: CollectionUid,
    id: OperationId,
    (outcome, now): (&OperationOutcome, Timestamp),
) -> Result<bool> {
    let ended = sqlx::query(
        "UPDATE operations SET running = FALSE, outcome = $3, update_time = $4
         WHERE collection_uid = $1 AND id = $2 AND running",
    )
    .bind(uid.0)
    .bind(id.0)
    .bind(Json(outcome))
    .bind(micros(now))
    .execute(connection)
    .await?;
    Ok(ended.rows_affected() > 0)
}

/// Ends those of a collection that were last heard of before an instant.
pub(super) async fn end_silent(
    connection: &mut Connection,
    uid: CollectionUid,
    before: Timestamp,
    outcome: &OperationOutcome,
) -> Result<()> {
    sqlx::query(
        "UPDATE operations SET running = FALSE, outcome = $3
         WHERE collection_uid = $1 AND running AND update_time < $2",
    )
    .bind(uid.0)
    .bind(micros(before))
    .bind(Json(outcome))
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes an operation and what it found; answers whether there was one.
pub(super) async fn delete(connection: &mut Connection, uid: CollectionUid, id: OperationId) -> Result<bool> {
    let deleted = sqlx::query("DELETE FROM operations WHERE collection_uid = $1 AND id = $2")
        .bind(uid.0)
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected() > 0)
}

/// Removes those whose time has come; answers how many.
pub(super) async fn sweep(connection: &mut Connection, now: Timestamp) -> Result<u64> {
    let swept =
        sqlx::query("DELETE FROM operations WHERE expire_time <= $1").bind(micros(now)).execute(connection).await?;
    Ok(swept.rows_affected())
}

/// Keeps what was found, in order, without what names a template that is not there any more.
pub(super) async fn put_findings(
    connection: &mut Connection,
    uid: CollectionUid,
    id: OperationId,
    findings: &[SurveyFinding<TemplateId>],
) -> Result<()> {
    let named: HashSet<TemplateId> = findings.iter().flat_map(templates_of).collect();
    let there = there(connection, uid, &named.into_iter().collect::<Vec<_>>()).await?;
    let kept: Vec<(i64, &SurveyFinding<TemplateId>)> =
        (0..).zip(findings).filter(|(_, finding)| templates_of(finding).all(|t| there.contains(&t))).collect();
    for piece in pieces(&kept) {
        let mut insert = QueryBuilder::<Database>::new(
            "INSERT INTO operation_findings
                 (operation_id, ordinal, template_id, other_template_id, group_number, similarity, llr, same_image) ",
        );
        insert.push_values(piece, |mut row, (ordinal, finding)| {
            row.push_bind(id.0).push_bind(*ordinal);
            match finding {
                SurveyFinding::Pair { templates: [one, other], similarity, llr, same_image } => row
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

/// Those of the templates that the collection holds.
async fn there(
    connection: &mut Connection,
    uid: CollectionUid,
    templates: &[TemplateId],
) -> Result<HashSet<TemplateId>> {
    let mut there = HashSet::with_capacity(templates.len());
    for piece in pieces(templates) {
        let mut select = QueryBuilder::<Database>::new("SELECT id FROM templates WHERE collection_uid = ");
        select.push_bind(uid.0).push(" AND id IN (");
        let mut listed = select.separated(", ");
        for template in piece {
            listed.push_bind(template.0);
        }
        select.push(")");
        let ids: Vec<Uuid> = select.build_query_scalar().fetch_all(&mut *connection).await?;
        there.extend(ids.into_iter().map(TemplateId));
    }
    Ok(there)
}

#[derive(Debug, FromRow)]
struct FindingRow {
    template_id: Uuid,
    identity_id: String,
    other_template_id: Option<Uuid>,
    other_identity_id: Option<String>,
    group_number: Option<i64>,
    similarity: Option<f64>,
    llr: Option<f64>,
    same_image: bool,
}

impl TryFrom<FindingRow> for SurveyFinding<Owned> {
    type Error = StoreError;

    fn try_from(row: FindingRow) -> Result<Self> {
        let unreadable = || corrupt("a row of operation_findings is not what was written");
        let owned = |template, identity: &str| {
            let identity = IdentityId::new(identity).map_err(|_| unreadable())?;
            Ok::<_, StoreError>(Owned { template: TemplateId(template), identity })
        };
        let template = owned(row.template_id, &row.identity_id)?;
        match (row.other_template_id, row.other_identity_id, row.similarity, row.group_number) {
            (Some(other), Some(identity), Some(similarity), None) => {
                #[expect(clippy::cast_possible_truncation, reason = "written from single precision")]
                let similarity = Similarity(similarity as f32);
                let templates = [template, owned(other, &identity)?];
                Ok(Self::Pair { templates, similarity, llr: row.llr, same_image: row.same_image })
            }
            (None, None, None, Some(group)) => {
                Ok(Self::Member { group: u32::try_from(group).map_err(|_| unreadable())?, template })
            }
            _ => Err(unreadable()),
        }
    }
}

/// What was found, of those who are there at an instant, in order.
pub(super) async fn findings(
    connection: &mut Connection,
    id: OperationId,
    now: Timestamp,
) -> Result<Vec<SurveyFinding<Owned>>> {
    let rows: Vec<FindingRow> = sqlx::query_as(
        "SELECT f.template_id, t.identity_id, f.other_template_id, o.identity_id AS other_identity_id,
                f.group_number, f.similarity, f.llr, f.same_image
         FROM operation_findings AS f
         JOIN templates AS t ON t.id = f.template_id
         JOIN identities AS ti ON ti.collection_uid = t.collection_uid AND ti.id = t.identity_id
         LEFT JOIN templates AS o ON o.id = f.other_template_id
         LEFT JOIN identities AS oi ON oi.collection_uid = o.collection_uid AND oi.id = o.identity_id
         WHERE f.operation_id = $1
           AND (ti.expire_time IS NULL OR ti.expire_time > $2) AND (oi.expire_time IS NULL OR oi.expire_time > $2)
         ORDER BY f.ordinal",
    )
    .bind(id.0)
    .bind(micros(now))
    .fetch_all(connection)
    .await?;
    read_all(rows)
}
