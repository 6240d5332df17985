//! Walks: COCO-17 joints over time, scaled to one body height and brought to a fixed number of frames.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Limits, Prepared, PreprocessingError};
use crate::domain::{Frame, JOINTS, Joint, Skeleton};

/// The most frames that a network's input has.
pub(super) const INPUT_FRAMES_MAX: usize = 1024;
/// A body of this height or less has no shape.
const BODY_HEIGHT_MIN_PX: f32 = 1e-3;

/// How a walk becomes a network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkeletonPreprocessing {
    /// A longer walk gives its middle, a shorter one is gone through again.
    pub frames: usize,
    /// How tall a body is made, from its highest joint to its lowest.
    pub body_height_px: f32,
    /// Where the middle of the body is brought to: the middle of the pictures that the model was trained on.
    pub centre: [f32; 2],
}

/// Why a walk can not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SkeletonError {
    #[error("the skeleton sequence has no frames")]
    Empty,
    #[error("the skeleton sequence has {found} frames, at most {limit} are taken")]
    TooManyFrames { found: usize, limit: usize },
    #[error("frame {frame} has a joint that is not finite")]
    NotFinite { frame: usize },
    #[error("the joints of the skeleton sequence all lie in one place")]
    NoBody,
    #[error("this is not a JSON list of frames with \"keypoints\": {0}")]
    Json(String),
    #[error("frame {frame} has {found} keypoint numbers, a COCO skeleton has {} (x, y, score of {JOINTS} joints)", JOINTS * 3)]
    WrongKeypoints { frame: usize, found: usize },
}

impl SkeletonPreprocessing {
    pub(super) fn check(&self) -> Result<(), PreprocessingError> {
        let numbers = [self.body_height_px, self.centre[0], self.centre[1]];
        let sensible = |number: &f32| number.is_finite() && *number > 0.0;
        if (1..=INPUT_FRAMES_MAX).contains(&self.frames) && numbers.iter().all(sensible) {
            Ok(())
        } else {
            Err(PreprocessingError::Skeleton)
        }
    }

    pub(super) fn shape(&self) -> [usize; 3] {
        [self.frames, JOINTS, 3]
    }

    pub(super) fn prepare(&self, skeleton: &Skeleton, limits: &Limits) -> Result<Prepared, SkeletonError> {
        check_frames(&skeleton.frames, limits)?;
        let frames = window(&skeleton.frames, self.frames);
        let body = Body::of(&frames)?;
        let scale = self.body_height_px / body.height;
        let place = |joint: &Joint| {
            let [x, y] = [joint.x - body.centre[0], joint.y - body.centre[1]];
            [x * scale + self.centre[0], y * scale + self.centre[1], joint.score]
        };
        let view = frames.iter().flat_map(|frame| frame.joints.iter().flat_map(place)).collect();
        Ok(Prepared { views: vec![view] })
    }
}

/// Reads a walk as PsyMo and other sets keep it: a list of frames, each an object with `keypoints`, 51 numbers that are
/// x, y, score of the joints in COCO order. Other members of a frame are passed over.
pub fn parse_json(bytes: &[u8], limits: &Limits) -> Result<Skeleton, SkeletonError> {
    #[derive(Deserialize)]
    struct Written {
        keypoints: Vec<f32>,
    }
    let written: Vec<Written> =
        serde_json::from_slice(bytes).map_err(|error| SkeletonError::Json(error.to_string()))?;
    let frames = written.iter().enumerate().map(|(at, frame)| {
        let (joints, rest) = frame.keypoints.as_chunks::<3>();
        let wrong = SkeletonError::WrongKeypoints { frame: at, found: frame.keypoints.len() };
        let joints: &[[f32; 3]; JOINTS] = joints.as_array().filter(|_| rest.is_empty()).ok_or(wrong)?;
        Ok(Frame { joints: joints.map(|[x, y, score]| Joint { x, y, score }) })
    });
    let frames = frames.collect::<Result<Vec<_>, _>>()?;
    check_frames(&frames, limits)?;
    Ok(Skeleton { frames })
}

fn check_frames(frames: &[Frame], limits: &Limits) -> Result<(), SkeletonError> {
    if frames.is_empty() {
        return Err(SkeletonError::Empty);
    }
    if frames.len() > limits.skeleton_frames_max {
        return Err(SkeletonError::TooManyFrames { found: frames.len(), limit: limits.skeleton_frames_max });
    }
    let finite = |joint: &Joint| joint.x.is_finite() && joint.y.is_finite() && joint.score.is_finite();
    match frames.iter().position(|frame| !frame.joints.iter().all(finite)) {
        None => Ok(()),
        Some(frame) => Err(SkeletonError::NotFinite { frame }),
    }
}

/// `length` frames from the middle, going through them again where there are fewer.
fn window(frames: &[Frame], length: usize) -> Vec<Frame> {
    let start = frames.len().saturating_sub(length) / 2;
    frames[start..].iter().cycle().take(length).copied().collect()
}

/// How tall a body is and where its middle is, by the median over its frames: single frames with a joint gone astray do
/// not move it.
struct Body {
    height: f32,
    centre: [f32; 2],
}

impl Body {
    fn of(frames: &[Frame]) -> Result<Self, SkeletonError> {
        let extents = |axis: fn(&Joint) -> f32| {
            frames.iter().map(move |frame| {
                let places = frame.joints.iter().map(axis);
                places.fold((f32::MAX, f32::MIN), |(low, high), place| (low.min(place), high.max(place)))
            })
        };
        let middle = |(low, high): (f32, f32)| low + (high - low) / 2.0;
        let height = median(extents(|joint| joint.y).map(|(low, high)| high - low).collect());
        if height < BODY_HEIGHT_MIN_PX {
            return Err(SkeletonError::NoBody);
        }
        let centre = [extents(|joint| joint.x), extents(|joint| joint.y)];
        Ok(Self { height, centre: centre.map(|extents| median(extents.map(middle).collect())) })
    }
}

fn median(mut numbers: Vec<f32>) -> f32 {
    let middle = numbers.len() / 2;
    *numbers.select_nth_unstable_by(middle, f32::total_cmp).1
}
