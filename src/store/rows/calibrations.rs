use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::{SpaceColumns, Table};
use crate::Result;
use domain::{
    CalibrationId, MatedLogit, Pooling, PosteriorTrials, Rehearsal, ReviewedSimilarities, Similarity, StoredCalibration,
};

const CALIBRATIONS: Table = Table("calibrations");
/// The decider limits its log-odds to 30.
const LOGIT_MAX: f32 = 31.0;

/// Similarities as 32-bit floats, little endian.
pub(crate) fn trial_bytes(trials: &[Similarity]) -> Vec<u8> {
    trials.iter().flat_map(|similarity| similarity.0.to_le_bytes()).collect()
}

/// Log-odds as 32-bit floats, little endian.
pub(crate) fn logit_bytes(logits: &[f32]) -> Vec<u8> {
    logits.iter().flat_map(|logit| logit.to_le_bytes()).collect()
}

/// Log-odds and margins in turns, as 32-bit floats, little endian.
pub(crate) fn mated_logit_bytes(trials: &[MatedLogit]) -> Vec<u8> {
    trials.iter().flat_map(|trial| [trial.logit, trial.margin]).flat_map(f32::to_le_bytes).collect()
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
    impostor_independent: Option<f64>,
    mated_best: Vec<u8>,
    outsiders: Vec<u8>,
    reviewed_right: Vec<u8>,
    reviewed_wrong: Vec<u8>,
    posterior_nonmated: Vec<u8>,
    posterior_mated: Vec<u8>,
    posterior_made_up: Vec<u8>,
    posterior_outsiders: Vec<u8>,
    create_time: i64,
}

impl CalibrationRow {
    pub(crate) fn read(self) -> Result<StoredCalibration> {
        let identities = CALIBRATIONS.count(self.identities)?;
        let impostor = trials("impostor", &self.impostor)?;
        // Older calibrations have one trial per probe.
        let independent = self.impostor_independent.unwrap_or((impostor.len() as u64).min(identities) as f64);
        Ok(StoredCalibration {
            id: CalibrationId(self.id),
            model: CALIBRATIONS.space_name(&self.model)?,
            space: CALIBRATIONS.space(&self.space)?,
            pooling: self.pooling.0,
            quality_mean: self.quality_mean,
            is_active: self.active,
            create_time: CALIBRATIONS.time(self.create_time)?,
            rehearsal: Rehearsal {
                identities,
                templates: CALIBRATIONS.count(self.templates)?,
                nonmated_best: trials("nonmated_best", &self.nonmated_best)?,
                impostor,
                impostor_independent: independent,
                mated_best: trials("mated_best", &self.mated_best)?,
                reviewed: ReviewedSimilarities {
                    right: trials("reviewed_right", &self.reviewed_right)?,
                    wrong: trials("reviewed_wrong", &self.reviewed_wrong)?,
                },
            },
            outsiders: trials("outsiders", &self.outsiders)?,
            posterior: PosteriorTrials {
                identities,
                nonmated: logits("posterior_nonmated", &self.posterior_nonmated)?,
                mated: mated_logits("posterior_mated", &self.posterior_mated)?,
                made_up: mated_logits("posterior_made_up", &self.posterior_made_up)?,
                outsiders: logits("posterior_outsiders", &self.posterior_outsiders)?,
            },
        })
    }
}

fn trials(column: &str, bytes: &[u8]) -> Result<Vec<Similarity>> {
    // The product of two unit vectors may exceed one by rounding.
    Ok(numbers(column, bytes, 1.01)?.into_iter().map(Similarity).collect())
}

fn logits(column: &str, bytes: &[u8]) -> Result<Vec<f32>> {
    numbers(column, bytes, LOGIT_MAX)
}

fn mated_logits(column: &str, bytes: &[u8]) -> Result<Vec<MatedLogit>> {
    let numbers = numbers(column, bytes, LOGIT_MAX)?;
    let (pairs, rest) = numbers.as_chunks();
    let trials = pairs.iter().map(|[logit, margin]| MatedLogit { logit: *logit, margin: *margin }).collect();
    if rest.is_empty() { Ok(trials) } else { Err(CALIBRATIONS.unreadable(column)) }
}

/// Numbers with an absolute value below `limit`.
fn numbers(column: &str, bytes: &[u8], limit: f32) -> Result<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks();
    let numbers: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
    let is_sound = rest.is_empty() && numbers.iter().all(|number| number.abs() < limit);
    if is_sound { Ok(numbers) } else { Err(CALIBRATIONS.unreadable(column)) }
}
