//! Calibrations: trials and which of them are in force.

use sqlx::types::Json;

use super::Connection;
use crate::{
    Result,
    rows::{CalibrationRow, bigint, micros, read_all, read_one, trial_bytes},
};
use domain::{CalibrationId, CollectionUid, KeptCalibration, Modality, Pooling};

pub(super) async fn by_id(
    connection: &mut Connection,
    uid: CollectionUid,
    id: CalibrationId,
) -> Result<Option<KeptCalibration>> {
    let row: Option<CalibrationRow> = sqlx::query_as(
        "SELECT id, model, modality, digest, dimension, parts, pooling, quality_mean, active, identities, templates,
                nonmated_best, impostor, mated_best, outsiders, reviewed_right, reviewed_wrong, create_time
         FROM calibrations
         WHERE collection_uid = $1 AND id = $2",
    )
    .bind(uid.0)
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    read_one(row)
}

pub(super) async fn page(
    connection: &mut Connection,
    uid: CollectionUid,
    after: Option<CalibrationId>,
    limit: u32,
) -> Result<Vec<KeptCalibration>> {
    let rows: Vec<CalibrationRow> = sqlx::query_as(
        "SELECT id, model, modality, digest, dimension, parts, pooling, quality_mean, active, identities, templates,
                nonmated_best, impostor, mated_best, outsiders, reviewed_right, reviewed_wrong, create_time
         FROM calibrations
         WHERE collection_uid = $1 AND id > $2
         ORDER BY id
         LIMIT $3",
    )
    .bind(uid.0)
    .bind(after.map_or(uuid::Uuid::nil(), |id| id.0)) // no id is nil, so all ids come after it
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    read_all(rows)
}

/// Those in force: at most one for each modality.
pub(super) async fn active(connection: &mut Connection, uid: CollectionUid) -> Result<Vec<KeptCalibration>> {
    let rows: Vec<CalibrationRow> = sqlx::query_as(
        "SELECT id, model, modality, digest, dimension, parts, pooling, quality_mean, active, identities, templates,
                nonmated_best, impostor, mated_best, outsiders, reviewed_right, reviewed_wrong, create_time
         FROM calibrations
         WHERE collection_uid = $1 AND active
         ORDER BY id",
    )
    .bind(uid.0)
    .fetch_all(connection)
    .await?;
    read_all(rows)
}

pub(super) async fn count(connection: &mut Connection, uid: CollectionUid) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM calibrations WHERE collection_uid = $1")
        .bind(uid.0)
        .fetch_one(connection)
        .await?)
}

pub(super) async fn put(connection: &mut Connection, uid: CollectionUid, kept: &KeptCalibration) -> Result<()> {
    sqlx::query(
        "INSERT INTO calibrations
             (id, collection_uid, model, modality, digest, dimension, parts, pooling, quality_mean, active, identities,
              templates, nonmated_best, impostor, mated_best, outsiders, reviewed_right, reviewed_wrong, create_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    )
    .bind(kept.id.0)
    .bind(uid.0)
    .bind(kept.model.as_str())
    .bind(kept.space.modality.as_str())
    .bind(kept.space.digest.0.as_slice())
    .bind(i64::from(kept.space.dimension))
    .bind(i64::from(kept.space.parts))
    .bind(Json::<&Pooling>(&kept.pooling))
    .bind(kept.quality_mean)
    .bind(kept.is_active)
    .bind(bigint(kept.rehearsal.identities))
    .bind(bigint(kept.rehearsal.templates))
    .bind(trial_bytes(&kept.rehearsal.nonmated_best))
    .bind(trial_bytes(&kept.rehearsal.impostor))
    .bind(trial_bytes(&kept.rehearsal.mated_best))
    .bind(trial_bytes(&kept.outsiders))
    .bind(trial_bytes(&kept.rehearsal.reviewed.right))
    .bind(trial_bytes(&kept.rehearsal.reviewed.wrong))
    .bind(micros(kept.create_time))
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn deactivate_all(connection: &mut Connection, uid: CollectionUid, modality: Modality) -> Result<()> {
    sqlx::query("UPDATE calibrations SET active = FALSE WHERE collection_uid = $1 AND modality = $2 AND active")
        .bind(uid.0)
        .bind(modality.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn activate(connection: &mut Connection, uid: CollectionUid, id: CalibrationId) -> Result<()> {
    sqlx::query("UPDATE calibrations SET active = TRUE WHERE collection_uid = $1 AND id = $2")
        .bind(uid.0)
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn delete(connection: &mut Connection, uid: CollectionUid, id: CalibrationId) -> Result<()> {
    sqlx::query("DELETE FROM calibrations WHERE collection_uid = $1 AND id = $2")
        .bind(uid.0)
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(())
}
