//! What verdicts showed of the best candidates.

use sqlx::types::Json;

use super::Connection;
use crate::{Result, rows::bigint};
use domain::{CollectionUid, ReviewCaseId, ReviewTrial};

/// Keeps a trial as the collection's latest, and the latest `most` of all.
pub(super) async fn put(connection: &mut Connection, uid: CollectionUid, trial: &ReviewTrial, most: u64) -> Result<()> {
    let last: Option<i64> = sqlx::query_scalar("SELECT max(ordinal) FROM review_trials WHERE collection_uid = $1")
        .bind(uid.0)
        .fetch_one(&mut *connection)
        .await?;
    let ordinal = last.unwrap_or(0) + 1;
    sqlx::query("INSERT INTO review_trials (case_id, collection_uid, ordinal, body) VALUES ($1, $2, $3, $4)")
        .bind(trial.case.0)
        .bind(uid.0)
        .bind(ordinal)
        .bind(Json(trial))
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM review_trials WHERE collection_uid = $1 AND ordinal <= $2")
        .bind(uid.0)
        .bind(ordinal.saturating_sub(bigint(most)))
        .execute(connection)
        .await?;
    Ok(())
}

/// All of a collection, in order of their verdicts.
pub(super) async fn all(connection: &mut Connection, uid: CollectionUid) -> Result<Vec<ReviewTrial>> {
    let rows: Vec<(Json<ReviewTrial>,)> =
        sqlx::query_as("SELECT body FROM review_trials WHERE collection_uid = $1 ORDER BY ordinal")
            .bind(uid.0)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(Json(trial),)| trial).collect())
}

/// Takes back what a verdict showed.
pub(super) async fn delete(connection: &mut Connection, uid: CollectionUid, case: ReviewCaseId) -> Result<()> {
    sqlx::query("DELETE FROM review_trials WHERE collection_uid = $1 AND case_id = $2")
        .bind(uid.0)
        .bind(case.0)
        .execute(connection)
        .await?;
    Ok(())
}
