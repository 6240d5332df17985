use async_trait::async_trait;
use sqlx::types::Json;

use super::session::{CollectionAccess, Session};
use crate::{Result, ReviewTrials, rows::bigint};
use domain::{ReviewCaseId, ReviewTrial};

#[async_trait]
impl<A: CollectionAccess> ReviewTrials for Session<A> {
    async fn review_trials(&mut self) -> Result<Vec<ReviewTrial>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let trials: Vec<Json<ReviewTrial>> =
            sqlx::query_scalar("SELECT body FROM review_trials WHERE collection_uid = $1 ORDER BY ordinal")
                .bind(uid.0)
                .fetch_all(&mut *step)
                .await?;
        step.finish(trials.into_iter().map(|trial| trial.0).collect()).await
    }

    async fn put_review_trial(&mut self, trial: &ReviewTrial, trials_max: u64) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write_locked().await?;
        let last: Option<i64> = sqlx::query_scalar("SELECT max(ordinal) FROM review_trials WHERE collection_uid = $1")
            .bind(uid.0)
            .fetch_one(&mut *step)
            .await?;
        let ordinal = last.unwrap_or(0) + 1;
        sqlx::query("INSERT INTO review_trials (case_id, collection_uid, ordinal, body) VALUES ($1, $2, $3, $4)")
            .bind(trial.case.0)
            .bind(uid.0)
            .bind(ordinal)
            .bind(Json(trial))
            .execute(&mut *step)
            .await?;
        sqlx::query("DELETE FROM review_trials WHERE collection_uid = $1 AND ordinal <= $2")
            .bind(uid.0)
            .bind(ordinal.saturating_sub(bigint(trials_max)))
            .execute(&mut *step)
            .await?;
        step.finish(()).await
    }

    async fn delete_review_trial(&mut self, case: ReviewCaseId) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        sqlx::query("DELETE FROM review_trials WHERE collection_uid = $1 AND case_id = $2")
            .bind(uid.0)
            .bind(case.0)
            .execute(&mut *step)
            .await?;
        step.finish(()).await
    }
}
