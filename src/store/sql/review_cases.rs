use async_trait::async_trait;
use sqlx::types::Json;
use uuid::Uuid;

use super::session::{CollectionAccess, Session};
use crate::{
    Page, Result, ReviewCasePage, ReviewCases, StoreError,
    rows::{F32LE_UNIT, SampleDescription, SampleRow, bigint, checksum, micros, payload_bytes},
};
use domain::{Encoded, IdentityId, ReviewCase, ReviewCaseId, ReviewStage, ReviewState};

/// The columns that repeat parts of a case's body, for statements to select by.
struct Columns<'c> {
    state: &'static str,
    lease_until: Option<i64>,
    identity: Option<&'c str>,
}

impl<'c> Columns<'c> {
    fn of(case: &'c ReviewCase) -> Self {
        match &case.state {
            ReviewState::Open => Self { state: "open", lease_until: None, identity: None },
            ReviewState::Claimed { until, .. } => {
                Self { state: "claimed", lease_until: Some(micros(*until)), identity: None }
            }
            ReviewState::Decided(outcome) => Self {
                state: "decided",
                lease_until: None,
                identity: outcome.identity.as_ref().map(IdentityId::as_str),
            },
        }
    }
}

#[async_trait]
impl<A: CollectionAccess> ReviewCases for Session<A> {
    async fn review_case(&mut self, id: ReviewCaseId) -> Result<Option<ReviewCase>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let case: Option<Json<ReviewCase>> =
            sqlx::query_scalar("SELECT body FROM review_cases WHERE collection_uid = $1 AND id = $2")
                .bind(uid.0)
                .bind(id.0)
                .fetch_optional(&mut *step)
                .await?;
        step.finish(case.map(|case| case.0)).await
    }

    async fn review_cases(&mut self, page: ReviewCasePage) -> Result<Page<ReviewCase>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        // Ids begin with the time, so id order is the order of opening.
        let cases: Vec<Json<ReviewCase>> = sqlx::query_scalar(
            "SELECT body FROM review_cases
             WHERE collection_uid = $1 AND id > $2
               AND ($3 = '' OR $3 = CASE WHEN state = 'claimed' AND lease_until <= $4 THEN 'open' ELSE state END)
             ORDER BY id LIMIT $5",
        )
        .bind(uid.0)
        .bind(page.after.map_or(Uuid::nil(), |id| id.0)) // no id is nil, so every id follows it
        .bind(page.stage.map_or("", ReviewStage::as_str))
        .bind(micros(page.now))
        .bind(i64::from(page.limit))
        .fetch_all(&mut *step)
        .await?;
        step.finish(cases.into_iter().map(|case| case.0).collect()).await
    }

    async fn count_undecided_review_cases(&mut self) -> Result<u64> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM review_cases WHERE collection_uid = $1 AND state <> 'decided'")
                .bind(uid.0)
                .fetch_one(&mut *step)
                .await?;
        step.finish(count.unsigned_abs()).await
    }

    async fn undecided_cases_naming(&mut self, identity: &IdentityId) -> Result<Vec<ReviewCase>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        // An id may hold the wildcard `_`, so the pattern finds too many; the filter below decides.
        let cases: Vec<Json<ReviewCase>> = sqlx::query_scalar(
            "SELECT body FROM review_cases
             WHERE collection_uid = $1 AND state <> 'decided' AND CAST(body AS TEXT) LIKE $2
             ORDER BY id",
        )
        .bind(uid.0)
        .bind(format!("%\"{identity}\"%"))
        .fetch_all(&mut *step)
        .await?;
        let names = |case: &ReviewCase| case.candidates.iter().any(|candidate| candidate.identity == *identity);
        step.finish(cases.into_iter().map(|case| case.0).filter(names).collect()).await
    }

    async fn review_samples(&mut self, id: ReviewCaseId) -> Result<Vec<Encoded>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let rows: Vec<SampleRow> = sqlx::query_as(
            "SELECT s.about, s.format, s.key_id, s.bytes, s.crc32
             FROM review_samples AS s
             JOIN review_cases AS c ON c.id = s.case_id
             WHERE c.collection_uid = $1 AND s.case_id = $2
             ORDER BY s.ordinal",
        )
        .bind(uid.0)
        .bind(id.0)
        .fetch_all(&mut *step)
        .await?;
        step.finish(rows.into_iter().map(|row| row.read(id)).collect::<Result<_>>()?).await
    }

    async fn open_review_case(&mut self, case: &ReviewCase, samples: &[Encoded]) -> Result<()> {
        let (uid, Columns { state, lease_until, identity }) = (self.0.uid(), Columns::of(case));
        let mut step = self.0.write().await?;
        sqlx::query(
            "INSERT INTO review_cases
                 (id, collection_uid, state, lease_until, identity_id, revision, expire_time, body)
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
        .execute(&mut *step)
        .await?;
        for (sample, ordinal) in samples.iter().zip(0_i64..) {
            let bytes = payload_bytes(&sample.embedding);
            let crc32 = i64::from(checksum(case.id.0, &bytes));
            sqlx::query(
                "INSERT INTO review_samples (case_id, ordinal, about, format, bytes, crc32)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(case.id.0)
            .bind(ordinal)
            .bind(Json(SampleDescription::from(sample)))
            .bind(F32LE_UNIT)
            .bind(bytes)
            .bind(crc32)
            .execute(&mut *step)
            .await?;
        }
        step.finish(()).await
    }

    async fn put_review_case(&mut self, case: &ReviewCase) -> Result<()> {
        let (uid, Columns { state, lease_until, identity }) = (self.0.uid(), Columns::of(case));
        let mut step = self.0.write().await?;
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
        .execute(&mut *step)
        .await?;
        if put.rows_affected() == 0 {
            return Err(StoreError::RevisionMoved);
        }
        step.finish(()).await
    }

    async fn delete_review_case(&mut self, id: ReviewCaseId) -> Result<bool> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        let deleted = sqlx::query("DELETE FROM review_cases WHERE collection_uid = $1 AND id = $2")
            .bind(uid.0)
            .bind(id.0)
            .execute(&mut *step)
            .await?;
        step.finish(deleted.rows_affected() > 0).await
    }
}
