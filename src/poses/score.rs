//! Scores and units of joints, as estimators write them.

use super::{Numbers, PoseError, form::Detection};

/// Heat maps overshoot 1 by some per cent; such scores are read as 1.
const OVERSHOOT_MAX: f32 = 1.5;
/// COCO's flag of a labelled joint that something hides.
const HIDDEN_FLAG: f32 = 1.0;
/// Coordinates as shares of the picture stay below this; a joint may lie outside.
const SHARE_MAX: f32 = 2.0;

/// What the third number of a joint means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// 0 to 1.
    Share,
    /// COCO's visibility: 0 not labelled, 1 hidden, 2 visible.
    Visibility,
}

impl Scale {
    /// # Errors
    /// [`PoseError::Score`] for scores of another scale, [`PoseError::NotFinite`].
    pub(super) fn of(detections: &[Detection]) -> Result<Self, PoseError> {
        let joints = || detections.iter().flat_map(|found| &found.joints);
        if joints().flatten().any(|number| number.is_infinite()) {
            return Err(PoseError::NotFinite);
        }
        let scores = || joints().map(|[_, _, score]| *score).filter(|score| !score.is_nan());
        let highest = scores().fold(0.0, f32::max);
        #[expect(clippy::float_cmp, reason = "flags are whole numbers")]
        if highest == 2.0 && scores().all(|score| [0.0, HIDDEN_FLAG, 2.0].contains(&score)) {
            return Ok(Self::Visibility);
        }
        if highest > OVERSHOOT_MAX { Err(PoseError::Score { found: format!("{highest:.1}") }) } else { Ok(Self::Share) }
    }

    pub(super) fn applied(self, [x, y, score]: Numbers) -> Numbers {
        match self {
            Self::Share => [x, y, score.min(1.0)],
            Self::Visibility => [x, y, score / 2.0],
        }
    }
}

/// Whether all seen joints have coordinates as shares of the picture.
pub(super) fn is_normalised(detections: &[Detection]) -> bool {
    let joints = detections.iter().flat_map(|found| &found.joints);
    let mut seen =
        joints.filter(|numbers| domain::Joint::as_written(**numbers).is_seen()).map(|[x, y, _]| [*x, *y]).peekable();
    seen.peek().is_some() && seen.all(|place| place.iter().all(|number| number.abs() < SHARE_MAX))
}
