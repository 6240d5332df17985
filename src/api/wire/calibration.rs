//! Calibrations in responses.

use super::{
    CalibrationName,
    answer::{modality, source},
    count,
    policy::pooling_to_wire,
    to_wire,
};
use crate::{
    api::proto,
    matcher::{CalibrationState, CalibrationView},
};
use domain::{CollectionId, IntervalEstimate, StaleReason, ThresholdEstimate};

pub(in crate::api) fn calibrated(of: &CollectionId, calibrated: &CalibrationView) -> proto::Calibration {
    use proto::calibration::{Moved as Wire, State};
    let kept = &calibrated.kept;
    let trials = &kept.rehearsal;
    let length = |trials: usize| count(trials as u64);
    let moved = |moved: &StaleReason| match moved {
        StaleReason::GallerySize => Wire::GallerySize,
        StaleReason::Model => Wire::Model,
        StaleReason::Quality => Wire::Quality,
        StaleReason::Pooling => Wire::Pooling,
    };
    proto::Calibration {
        name: CalibrationName { collection: of.clone(), calibration: kept.id }.to_string(),
        modality: modality(kept.space.modality),
        model: kept.model.to_string(),
        model_digest: kept.space.digest.to_string(),
        pooling: Some(pooling_to_wire(kept.pooling)),
        source: source(calibrated.source),
        trials: count(calibrated.trials),
        impostor_trials: length(trials.impostor.len()),
        mated_trials: length(trials.mated_best.len()),
        outsiders: length(kept.outsiders.len()),
        gallery_size: count(trials.identities),
        current_gallery_size: count(calibrated.gallery_identities),
        quality_mean: kept.quality_mean,
        state: match calibrated.state {
            CalibrationState::Active => State::Active,
            CalibrationState::Inactive => State::Inactive,
            CalibrationState::Stale => State::Stale,
        }
        .into(),
        moved: calibrated.moved.iter().map(|m| moved(m).into()).collect(),
        active: kept.is_active,
        create_time: Some(to_wire(kept.create_time)),
        levels: calibrated.levels.iter().map(level).collect(),
    }
}

fn level(level: &ThresholdEstimate) -> proto::calibration::Level {
    proto::calibration::Level {
        target_fpir: level.target_fpir,
        threshold: level.threshold.0,
        fpir: Some(estimate(level.fpir)),
        fmr: Some(estimate(level.fmr)),
        fnir: level.fnir.map(estimate),
        log_likelihood_ratio: level.llr.map(estimate),
        extrapolated: level.extrapolated,
        unsupported: level.unsupported,
    }
}

fn estimate(estimate: IntervalEstimate) -> proto::calibration::Estimate {
    proto::calibration::Estimate { value: estimate.value, lower: estimate.lower, upper: estimate.upper }
}
