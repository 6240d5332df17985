//! Calibrations that are kept: the trials of one day, what they were made of, and when they have had their day.

use serde::{Deserialize, Serialize};

use super::{CalibrationId, EmbeddingSpace, Pooling, Rehearsal, Similarity, SpaceName, Timestamp};

/// How much the number of identities may move, as a share of what it was, before thresholds are made again.
pub const GALLERY_MOVE_MAX: f64 = 0.2;
/// How much the mean quality of the templates (0 to 1) may move before a calibration is of other pictures.
pub const QUALITY_DRIFT_MAX: f64 = 0.1;

/// A calibration of one embedding space of one collection, as the store keeps it: similarities of trials, and no numbers
/// of anybody.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptCalibration {
    pub id: CalibrationId,
    /// What the space is called.
    pub model: SpaceName,
    pub space: EmbeddingSpace,
    /// How templates spoke together in the trials.
    pub pooling: Pooling,
    /// The mean quality of the space's templates when the trials were made, 0 to 1; `None` where no template has one.
    pub quality_mean: Option<f64>,
    /// The operator pinned it: it is in force for its modality.
    pub is_active: bool,
    pub create_time: Timestamp,
    /// The gallery against itself.
    pub rehearsal: Rehearsal,
    /// The highest similarity that each person of a cohort who is not enrolled reached with anybody. May be empty.
    pub outsiders: Vec<Similarity>,
}

/// What a calibration is held against: the gallery as it is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// The space that is searched for the modality.
    pub space: Option<EmbeddingSpace>,
    /// How many identities the calibration's own space holds.
    pub identities: u64,
    /// The mean quality of its templates.
    pub quality_mean: Option<f64>,
    pub pooling: Pooling,
}

/// Why a calibration is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moved {
    /// The gallery has grown or shrunk by more than [`GALLERY_MOVE_MAX`].
    GallerySize,
    /// Another model's space is searched now.
    Model,
    /// The mean quality of the templates has moved by more than [`QUALITY_DRIFT_MAX`].
    Quality,
    /// The policy lets templates speak together in another way now.
    Pooling,
}

impl KeptCalibration {
    /// What has moved since the trials were made; empty while the calibration says what it promises.
    #[must_use]
    pub fn moved(&self, now: &Standing) -> Vec<Moved> {
        let before = self.rehearsal.identities;
        let drift = self.quality_mean.zip(now.quality_mean).map_or(0.0, |(then, now)| (then - now).abs());
        let all = [
            (Moved::GallerySize, has_moved(before, now.identities)),
            (Moved::Model, now.space != Some(self.space)),
            (Moved::Quality, drift > QUALITY_DRIFT_MAX),
            (Moved::Pooling, now.pooling != self.pooling),
        ];
        all.into_iter().filter_map(|(moved, has)| has.then_some(moved)).collect()
    }

    /// Whether its thresholds mean anything for similarities of that space, pooled in that way.
    #[must_use]
    pub fn fits(&self, space: EmbeddingSpace, pooling: Pooling) -> bool {
        self.space == space && self.pooling == pooling
    }
}

/// Whether a gallery has grown or shrunk so much that thresholds made for it are stale.
#[must_use]
pub fn has_moved(before: u64, now: u64) -> bool {
    now.abs_diff(before) as f64 > GALLERY_MOVE_MAX * before as f64
}

/// A number with the interval in which it lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub value: f64,
    pub lower: f64,
    pub upper: f64,
}

/// A similarity that could be a threshold, and the errors that it would make at the present gallery size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// The share of strangers for which the similarity was looked up.
    pub target_fpir: f64,
    pub threshold: Similarity,
    /// The share of impostors that reach it with the one person they claim to be.
    pub fmr: Estimate,
    /// The share of strangers that reach it with anybody.
    pub fpir: Estimate,
    /// The share of acquaintances that stay below it with themselves: FNIR and FNMR alike, for a search passes over nobody.
    /// `None` where genuine trials are too few.
    pub fnir: Option<Estimate>,
    /// ln(genuine / impostor) of a similarity that is just as high. `None` where trials of either kind are too few.
    pub llr: Option<Estimate>,
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
    fn a_calibration_has_had_its_day_when_what_it_was_made_of_has_moved() {
        let kept = KeptCalibration {
            id: CalibrationId(Uuid::nil()),
            model: SpaceName::new("mine").expect("valid"),
            space: space(1),
            pooling: Pooling::Best,
            quality_mean: Some(0.7),
            is_active: true,
            create_time: Timestamp::UNIX_EPOCH,
            rehearsal: Rehearsal { identities: 100, ..Rehearsal::default() },
            outsiders: Vec::new(),
        };
        let same = Standing { space: Some(space(1)), identities: 100, quality_mean: Some(0.7), pooling: Pooling::Best };
        for (now, moved) in [
            (same, vec![]),
            (Standing { identities: 120, ..same }, vec![]),
            (Standing { identities: 80, ..same }, vec![]),
            (Standing { identities: 121, ..same }, vec![Moved::GallerySize]),
            (Standing { identities: 79, ..same }, vec![Moved::GallerySize]),
            (Standing { quality_mean: Some(0.62), ..same }, vec![]),
            (Standing { quality_mean: Some(0.59), ..same }, vec![Moved::Quality]),
            (Standing { quality_mean: None, ..same }, vec![]),
            (Standing { space: Some(space(2)), ..same }, vec![Moved::Model]),
            (Standing { space: None, pooling: Pooling::ByQuality, ..same }, vec![Moved::Model, Moved::Pooling]),
        ] {
            assert_eq!(kept.moved(&now), moved, "{now:?}");
        }
        assert!(kept.fits(space(1), Pooling::Best));
        assert!(!kept.fits(space(2), Pooling::Best) && !kept.fits(space(1), Pooling::ByQuality));
    }
}
