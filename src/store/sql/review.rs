//! What resolve could not tell, and its samples.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::Connection;
use crate::{
    Page, Result, StoreError,
    fault::corrupt,
    payload::{checksum_of, unsealed},
    rows::{F32LE_UNIT, bigint, micros, payload_bytes},
};
use domain::{
    CollectionUid, Embedding, EmbeddingSpace, Encoded, IdentityId, ReviewCase, ReviewCaseId, ReviewStage, ReviewState,
    SampleReport, SpaceName, TemplateOrigin, Timestamp,
};

/// Of a row: the body is the case, and the other columns repeat what statements look for.
fn columns(case: &ReviewCase) -> (&'static str, Option<i64>, Option<&str>) {
    match &case.state {
        ReviewState::Open => ("open", None, None),
        ReviewState::Claimed { until, .. } => ("claimed", Some(micros(*until)), None),
        ReviewState::Decided(outcome) => ("decided", None, outcome.identity.as_ref().map(IdentityId::as_str)),
    }
}

/// What is known of a sample beside its numbers.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    space: EmbeddingSpace,
    model: SpaceName,
    origin: TemplateOrigin,
    external: bool,
    report: SampleReport,
}

pub(super) async fn open(
    connection: &mut Connection,
    uid: CollectionUid,
    case: &ReviewCase,
    samples: &[Encoded],
) -> Result<()> {
    let (state, lease_until, identity) = columns(case);
    sqlx::query(
        "INSERT INTO review_cases (id, collection_uid, state, lease_until, identity_id, revision, expire_time, body)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(case.id.0)
    .bind(uid.0)
    .bind(state)
    .bind(lease_until)
    .bind(identity)
    .bind(bigint(case.revision.0))
    .bind(micros(case.expire_time))
    .bind(Json(case))
    .execute(&mut *connection)
    .await?;
    for (sample, ordinal) in samples.iter().zip(0_i64..) {
        let about = About {
            space: sample.embedding.space(),
            model: sample.model.clone(),
            origin: sample.origin,
            external: sample.external,
            report: sample.report.clone(),
        };
        let bytes = payload_bytes(&sample.embedding);
        let crc32 = i64::from(checksum_of(case.id.0, &bytes));
        sqlx::query(
            "INSERT INTO review_samples (case_id, ordinal, about, format, bytes, crc32) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(case.id.0)
        .bind(ordinal)
        .bind(Json(about))
        .bind(F32LE_UNIT)
        .bind(bytes)
        .bind(crc32)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Writes a case if it is still of the revision before.
///
/// # Errors
/// [`StoreError::RevisionMoved`] when somebody else changed it, or it is gone.
pub(super) async fn put(connection: &mut Connection, uid: CollectionUid, case: &ReviewCase) -> Result<()> {
    let (state, lease_until, identity) = columns(case);
    let put = sqlx::query(
        "UPDATE review_cases
         SET state = $1, lease_until = $2, identity_id = $3, revision = $4, body = $5
         WHERE collection_uid = $6 AND id = $7 AND revision = $8",
    )
    .bind(state)
    .bind(lease_until)
    .bind(identity)
    .bind(bigint(case.revision.0))
    .bind(Json(case))
    .bind(uid.0)
    .bind(case.id.0)
    .bind(bigint(case.revision.0.saturating_sub(1)))
    .execute(connection)
    .await?;
    if put.rows_affected() == 0 { Err(StoreError::RevisionMoved) } else { Ok(()) }
}

pub(super) async fn by_id(
    connection: &mut Connection,
    uid: CollectionUid,
    id: ReviewCaseId,
) -> Result<Option<ReviewCase>> {
    let row: Option<(Json<ReviewCase>,)> =
        sqlx::query_as("SELECT body FROM review_cases WHERE collection_uid = $1 AND id = $2")
            .bind(uid.0)
            .bind(id.0)
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(case,)| case.0))
}

/// Which cases a page is of, and where it begins and ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct CasePage {
    pub(super) stage: Option<ReviewStage>,
    pub(super) now: Timestamp,
    pub(super) after: Option<ReviewCaseId>,
    pub(super) limit: u32,
}

/// In id order, which is the order in which they were opened.
pub(super) async fn page(connection: &mut Connection, uid: CollectionUid, page: CasePage) -> Result<Page<ReviewCase>> {
    let rows: Vec<(Json<ReviewCase>,)> = sqlx::query_as(
        "SELECT body FROM review_cases
         WHERE collection_uid = $1 AND id > $2
           AND ($3 = '' OR $3 = CASE WHEN state = 'claimed' AND lease_until <= $4 THEN 'open' ELSE state END)
         ORDER BY id LIMIT $5",
    )
    .bind(uid.0)
    .bind(page.after.map_or(Uuid::nil(), |id| id.0))
    .bind(page.stage.map_or("", ReviewStage::as_str))
    .bind(micros(page.now))
    .bind(i64::from(page.limit))
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(case,)| case.0).collect())
}

/// How many cases wait for a verdict.
pub(super) async fn undecided(connection: &mut Connection, uid: CollectionUid) -> Result<u64> {
    let (count,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM review_cases WHERE collection_uid = $1 AND state <> 'decided'")
            .bind(uid.0)
            .fetch_one(connection)
            .await?;
    u64::try_from(count).map_err(|_| corrupt("a count below nothing".to_owned()))
}

#[derive(FromRow)]
struct SampleRow {
    about: Json<About>,
    format: String,
    key_id: Option<String>,
    bytes: Vec<u8>,
    crc32: i64,
}

/// The samples of a case, in order.
pub(super) async fn samples(connection: &mut Connection, id: ReviewCaseId) -> Result<Vec<Encoded>> {
    let rows: Vec<SampleRow> = sqlx::query_as(
        "SELECT about, format, key_id, bytes, crc32 FROM review_samples WHERE case_id = $1 ORDER BY ordinal",
    )
    .bind(id.0)
    .fetch_all(connection)
    .await?;
    let sample = |row: SampleRow| {
        let About { space, model, origin, external, report } = row.about.0;
        let whole = i64::from(checksum_of(id.0, &row.bytes)) == row.crc32;
        let embedding: Option<Embedding> =
            (whole && row.key_id.is_none() && row.format == F32LE_UNIT).then(|| unsealed(space, &row.bytes)).flatten();
        let embedding =
            embedding.ok_or_else(|| corrupt(format!("a sample of review case {id} is not what was written")))?;
        Ok(Encoded { embedding, model, origin, external, report })
    };
    rows.into_iter().map(sample).collect()
}

/// Removes a case and its samples; answers whether there was one.
pub(super) async fn delete(connection: &mut Connection, uid: CollectionUid, id: ReviewCaseId) -> Result<bool> {
    let deleted = sqlx::query("DELETE FROM review_cases WHERE collection_uid = $1 AND id = $2")
        .bind(uid.0)
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected() > 0)
}

/// Removes the cases whose time has come; answers how many.
pub(super) async fn sweep(connection: &mut Connection, now: Timestamp) -> Result<u64> {
    let swept =
        sqlx::query("DELETE FROM review_cases WHERE expire_time <= $1").bind(micros(now)).execute(connection).await?;
    Ok(swept.rows_affected())
}
