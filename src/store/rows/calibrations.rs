use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::{SpaceColumns, Table};
use crate::Result;
use domain::{CalibrationId, Pooling, Rehearsal, ReviewedSimilarities, Similarity, StoredCalibration};

const CALIBRATIONS: Table = Table("calibrations");

/// Similarities as 32-bit floats, little endian.
pub(crate) fn trial_bytes(trials: &[Similarity]) -> Vec<u8> {
    trials.iter().flat_map(|similarity| similarity.0.to_le_bytes()).collect()
}

#[derive(Debug, FromRow)]
pub(crate) struct CalibrationRow {
    id: Uuid,
    model: String,
    #[sqlx(flatten)]
    space: SpaceColumns,
    pooling: Json<Pooling>,
    quality_mean: Option<f64>,
    active: bool,
    identities: i64,
    templates: i64,
    nonmated_best: Vec<u8>,
    impostor: Vec<u8>,
    mated_best: Vec<u8>,
    outsiders: Vec<u8>,
    reviewed_right: Vec<u8>,
    reviewed_wrong: Vec<u8>,
    create_time: i64,
}

impl CalibrationRow {
    pub(crate) fn read(self) -> Result<StoredCalibration> {
        Ok(StoredCalibration {
            id: CalibrationId(self.id),
            model: CALIBRATIONS.space_name(&self.model)?,
            space: CALIBRATIONS.space(&self.space)?,
            pooling: self.pooling.0,
            quality_mean: self.quality_mean,
            is_active: self.active,
            create_time: CALIBRATIONS.time(self.create_time)?,
            rehearsal: Rehearsal {
                identities: CALIBRATIONS.count(self.identities)?,
                templates: CALIBRATIONS.count(self.templates)?,
                nonmated_best: trials("nonmated_best", &self.nonmated_best)?,
                impostor: trials("impostor", &self.impostor)?,
                mated_best: trials("mated_best", &self.mated_best)?,
                reviewed: ReviewedSimilarities {
                    right: trials("reviewed_right", &self.reviewed_right)?,
                    wrong: trials("reviewed_wrong", &self.reviewed_wrong)?,
                },
            },
            outsiders: trials("outsiders", &self.outsiders)?,
        })
    }
}

fn trials(column: &str, bytes: &[u8]) -> Result<Vec<Similarity>> {
    let (numbers, rest) = bytes.as_chunks();
    let trials: Vec<Similarity> = numbers.iter().map(|number| Similarity(f32::from_le_bytes(*number))).collect();
    // The product of two unit vectors may exceed one by rounding.
    let is_sound = rest.is_empty() && trials.iter().all(|trial| trial.0.abs() < 1.01);
    if is_sound { Ok(trials) } else { Err(CALIBRATIONS.unreadable(column)) }
}
