//! Stored calibrations: trials of a gallery, and the conditions under which they become stale.

use serde::{Deserialize, Serialize};

use super::{CalibrationId, EmbeddingSpace, Pooling, PosteriorTrials, Rehearsal, Similarity, SpaceName, Timestamp};

/// Maximum change of the number of identities, as a share of the old number, before thresholds are recomputed.
pub const GALLERY_MOVE_MAX: f64 = 0.2;
/// Maximum change of the mean quality of the templates (0 to 1) before a calibration is stale.
pub const QUALITY_DRIFT_MAX: f64 = 0.1;

/// A calibration of one embedding space of one collection: the similarities of trials. It contains no embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCalibration {
    pub id: CalibrationId,
    /// The name of the space.
    pub model: SpaceName,
    pub space: EmbeddingSpace,
    /// The pooling in the trials.
    pub pooling: Pooling,
    /// The mean quality of the space's templates at the time of the trials, 0 to 1; `None` if no template has one.
    pub quality_mean: Option<f64>,
    /// The operator pinned it: it is the active calibration of its modality.
    pub is_active: bool,
    pub create_time: Timestamp,
    /// Trials of the gallery against itself.
    pub rehearsal: Rehearsal,
    /// The highest similarity to any identity, for each person of a cohort that is not enrolled. May be empty.
    pub outsiders: Vec<Similarity>,
    /// Trials of the open-set decider. May be empty.
    pub posterior: PosteriorTrials,
}

/// The present state of the gallery that a calibration is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GalleryState {
    /// The active space of the modality.
    pub space: Option<EmbeddingSpace>,
    /// Number of identities in the calibration's space.
    pub identities: u64,
    /// The mean quality of that space's templates, 0 to 1.
    pub quality_mean: Option<f64>,
    pub pooling: Pooling,
}

/// Why a calibration is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StaleReason {
    /// The gallery has grown or shrunk by more than [`GALLERY_MOVE_MAX`].
    GallerySize,
    /// The active space is of another model.
    Model,
    /// The mean quality of the templates has changed by more than [`QUALITY_DRIFT_MAX`].
    Quality,
    /// The policy has another pooling.
    Pooling,
}

impl StoredCalibration {
    /// What has changed since the trials; empty while the calibration is valid.
    #[must_use]
    pub fn stale_reasons(&self, now: &GalleryState) -> Vec<StaleReason> {
        let before = self.rehearsal.identities;
        let drift = self.quality_mean.zip(now.quality_mean).map_or(0.0, |(then, now)| (then - now).abs());
        let all = [
            (StaleReason::GallerySize, has_moved(before, now.identities)),
            (StaleReason::Model, now.space != Some(self.space)),
            (StaleReason::Quality, drift > QUALITY_DRIFT_MAX),
            (StaleReason::Pooling, now.pooling != self.pooling),
        ];
        all.into_iter().filter_map(|(moved, has)| has.then_some(moved)).collect()
    }

    /// Whether its thresholds apply to similarities of that space with that pooling.
    #[must_use]
    pub fn fits(&self, space: EmbeddingSpace, pooling: Pooling) -> bool {
        self.space == space && self.pooling == pooling
    }
}

/// Whether the number of identities has changed by more than [`GALLERY_MOVE_MAX`].
#[must_use]
pub fn has_moved(before: u64, now: u64) -> bool {
    now.abs_diff(before) as f64 > GALLERY_MOVE_MAX * before as f64
}

/// A number with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IntervalEstimate {
    pub value: f64,
    pub lower: f64,
    pub upper: f64,
}

/// A possible threshold and its error rates at the present gallery size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThresholdEstimate {
    /// The FPIR that the threshold was computed for.
    pub target_fpir: f64,
    pub threshold: Similarity,
    /// FMR: the share of impostors whose similarity to the claimed identity reaches the threshold.
    pub fmr: IntervalEstimate,
    /// FPIR: the share of non-mated probes whose similarity to any identity reaches the threshold.
    pub fpir: IntervalEstimate,
    /// FNIR, and also FNMR, because an exact search misses no identity: the share of mated probes below the threshold.
    /// `None` if mated trials are too few.
    pub fnir: Option<IntervalEstimate>,
    /// Natural logarithm of the likelihood ratio, genuine against impostor, at this similarity. `None` if trials of
    /// either kind are too few.
    pub llr: Option<IntervalEstimate>,
    /// As [`super::Reason::Extrapolated`].
    pub extrapolated: bool,
    /// As [`super::Reason::Unsupported`].
    pub unsupported: bool,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{Modality, ModelDigest};

    fn space(digest: u8) -> EmbeddingSpace {
        EmbeddingSpace::whole(Modality::Face, ModelDigest([digest; 32]), 4)
    }

    #[test]
    fn a_calibration_is_stale_when_its_gallery_has_changed() {
        let stored = StoredCalibration {
            id: CalibrationId(Uuid::nil()),
            model: SpaceName::new("mine").expect("valid"),
            space: space(1),
            pooling: Pooling::Best,
            quality_mean: Some(0.7),
            is_active: true,
            create_time: Timestamp::UNIX_EPOCH,
            rehearsal: Rehearsal { identities: 100, ..Rehearsal::default() },
            outsiders: Vec::new(),
            posterior: PosteriorTrials::default(),
        };
        let same =
            GalleryState { space: Some(space(1)), identities: 100, quality_mean: Some(0.7), pooling: Pooling::Best };
        for (now, moved) in [
            (same, vec![]),
            (GalleryState { identities: 120, ..same }, vec![]),
            (GalleryState { identities: 80, ..same }, vec![]),
            (GalleryState { identities: 121, ..same }, vec![StaleReason::GallerySize]),
            (GalleryState { identities: 79, ..same }, vec![StaleReason::GallerySize]),
            (GalleryState { quality_mean: Some(0.62), ..same }, vec![]),
            (GalleryState { quality_mean: Some(0.59), ..same }, vec![StaleReason::Quality]),
            (GalleryState { quality_mean: None, ..same }, vec![]),
            (GalleryState { space: Some(space(2)), ..same }, vec![StaleReason::Model]),
            (
                GalleryState { space: None, pooling: Pooling::ByQuality, ..same },
                vec![StaleReason::Model, StaleReason::Pooling],
            ),
        ] {
            assert_eq!(stored.stale_reasons(&now), moved, "{now:?}");
        }
        assert!(stored.fits(space(1), Pooling::Best));
        assert!(!stored.fits(space(2), Pooling::Best) && !stored.fits(space(1), Pooling::ByQuality));
    }
}
