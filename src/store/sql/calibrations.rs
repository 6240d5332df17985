use async_trait::async_trait;
use sqlx::types::Json;

use super::session::{CollectionAccess, Session};
use crate::{
    Calibrations, Page, Result,
    rows::{CalibrationRow, bigint, logit_bytes, mated_logit_bytes, micros, trial_bytes},
};
use domain::{CalibrationId, Modality, Pooling, StoredCalibration};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, model, modality, digest, dimension, parts, pooling, quality_mean, active, identities, templates,
                    nonmated_best, impostor, impostor_independent, mated_best, outsiders, reviewed_right,
                    reviewed_wrong, posterior_nonmated, posterior_mated, posterior_made_up, posterior_outsiders, create_time
             FROM calibrations
             WHERE collection_uid = $1 ",
            $rest
        )
    };
}

#[async_trait]
impl<A: CollectionAccess> Calibrations for Session<A> {
    async fn calibration(&mut self, id: CalibrationId) -> Result<Option<StoredCalibration>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let row: Option<CalibrationRow> =
            sqlx::query_as(select!("AND id = $2")).bind(uid.0).bind(id.0).fetch_optional(&mut *step).await?;
        step.finish(row.map(CalibrationRow::read).transpose()?).await
    }

    async fn calibrations(&mut self, after: Option<CalibrationId>, limit: u32) -> Result<Page<StoredCalibration>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let rows: Vec<CalibrationRow> = sqlx::query_as(select!("AND id > $2 ORDER BY id LIMIT $3"))
            .bind(uid.0)
            .bind(after.map_or(uuid::Uuid::nil(), |id| id.0)) // no id is nil, so every id follows it
            .bind(i64::from(limit))
            .fetch_all(&mut *step)
            .await?;
        step.finish(rows.into_iter().map(CalibrationRow::read).collect::<Result<_>>()?).await
    }

    async fn active_calibrations(&mut self) -> Result<Vec<StoredCalibration>> {
        let uid = self.0.uid();
        let mut step = self.0.read().await?;
        let rows: Vec<CalibrationRow> =
            sqlx::query_as(select!("AND active ORDER BY id")).bind(uid.0).fetch_all(&mut *step).await?;
        step.finish(rows.into_iter().map(CalibrationRow::read).collect::<Result<_>>()?).await
    }

    async fn put_calibration(&mut self, calibration: &StoredCalibration, calibrations_max: u64) -> Result<bool> {
        let uid = self.0.uid();
        let mut step = self.0.write_locked().await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM calibrations WHERE collection_uid = $1")
            .bind(uid.0)
            .fetch_one(&mut *step)
            .await?;
        if count.unsigned_abs() >= calibrations_max {
            return step.finish(false).await;
        }
        sqlx::query(
            "INSERT INTO calibrations
                 (id, collection_uid, model, modality, digest, dimension, parts, pooling, quality_mean, active,
                  identities, templates, nonmated_best, impostor, impostor_independent, mated_best, outsiders,
                  reviewed_right, reviewed_wrong, posterior_nonmated, posterior_mated, posterior_made_up, posterior_outsiders,
                  create_time)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                     $23, $24)",
        )
        .bind(calibration.id.0)
        .bind(uid.0)
        .bind(calibration.model.as_str())
        .bind(calibration.space.modality.as_str())
        .bind(calibration.space.digest.0.as_slice())
        .bind(i64::from(calibration.space.dimension))
        .bind(i64::from(calibration.space.parts))
        .bind(Json::<&Pooling>(&calibration.pooling))
        .bind(calibration.quality_mean)
        .bind(calibration.is_active)
        .bind(bigint(calibration.rehearsal.identities))
        .bind(bigint(calibration.rehearsal.templates))
        .bind(trial_bytes(&calibration.rehearsal.nonmated_best))
        .bind(trial_bytes(&calibration.rehearsal.impostor))
        .bind(calibration.rehearsal.impostor_independent)
        .bind(trial_bytes(&calibration.rehearsal.mated_best))
        .bind(trial_bytes(&calibration.outsiders))
        .bind(trial_bytes(&calibration.rehearsal.reviewed.right))
        .bind(trial_bytes(&calibration.rehearsal.reviewed.wrong))
        .bind(logit_bytes(&calibration.posterior.nonmated))
        .bind(mated_logit_bytes(&calibration.posterior.mated))
        .bind(mated_logit_bytes(&calibration.posterior.made_up))
        .bind(logit_bytes(&calibration.posterior.outsiders))
        .bind(micros(calibration.create_time))
        .execute(&mut *step)
        .await?;
        step.finish(true).await
    }

    async fn activate_calibration(&mut self, modality: Modality, id: Option<CalibrationId>) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write_locked().await?;
        // Deactivate first: the unique index refuses a second active row even for a moment.
        sqlx::query("UPDATE calibrations SET active = FALSE WHERE collection_uid = $1 AND modality = $2 AND active")
            .bind(uid.0)
            .bind(modality.as_str())
            .execute(&mut *step)
            .await?;
        if let Some(id) = id {
            sqlx::query("UPDATE calibrations SET active = TRUE WHERE collection_uid = $1 AND id = $2")
                .bind(uid.0)
                .bind(id.0)
                .execute(&mut *step)
                .await?;
        }
        step.finish(()).await
    }

    async fn delete_calibration(&mut self, id: CalibrationId) -> Result<()> {
        let uid = self.0.uid();
        let mut step = self.0.write().await?;
        sqlx::query("DELETE FROM calibrations WHERE collection_uid = $1 AND id = $2")
            .bind(uid.0)
            .bind(id.0)
            .execute(&mut *step)
            .await?;
        step.finish(()).await
    }
}
