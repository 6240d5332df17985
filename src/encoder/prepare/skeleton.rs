//! Prepares walks: COCO-17 joints over time, scaled to one body height, centred, with a fixed number of frames.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{NetworkInput, PreparedSample, PreprocessingError, SampleLimits, body, quality, unseen};
use domain::{Frame, JOINTS, Joint, Skeleton};

/// Maximum number of frames of a network's input.
pub(super) const INPUT_FRAMES_MAX: usize = 1024;
/// Minimum number of frames of a walk. Fewer show no step: the measure of quality is zero up to four (`GAIT_FRAMES`).
const FRAMES_MIN: usize = 5;
/// Minimum body height in pixels: below, the grid of pixels hides the step.
const BODY_HEIGHT_MIN_PX: f32 = 8.0;
/// Heat maps overshoot 1 by some per cent.
const SCORE_MAX: f32 = 1.5;
/// Maximum coordinate in pixels: beyond any picture, and safe from overflow.
const COORDINATE_MAX: f32 = 1e6;

/// Left and right hip in COCO order.
const HIPS: [usize; 2] = [11, 12];

/// How a walk becomes a network's input `[frames, 17, 3]` (x, y, score).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkeletonPreprocessing {
    /// A longer walk is cut to its middle, a shorter one is repeated.
    pub frames: usize,
    /// Body height after scaling, from the highest to the lowest joint, median over the frames.
    pub body_height_px: f32,
    pub centre: Centre,
}

/// The origin of the scaled coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Centre {
    /// The midpoint of the hips, per frame.
    ///
    /// GaitGraph on PsyMo (same view, gallery of normal walks, every entry of a file as a frame) has a rank-1 of 46.5 %; with one origin for the whole
    /// walk 31.5 to 32.3 %, with raw pixels 28.8 %.
    Hips,
}

/// Why a skeleton sequence cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SkeletonError {
    #[error("the skeleton sequence has {found} frames, and a walk has at least {FRAMES_MIN}")]
    TooFewFrames { found: usize },
    #[error("the skeleton sequence has {found} frames, and at most {limit} are allowed")]
    TooManyFrames { found: usize, limit: usize },
    #[error("frame {frame} has a joint that is not finite or beyond {COORDINATE_MAX} pixels")]
    BadJoint { frame: usize },
    #[error("the joints of the skeleton sequence are all at one point, or none was seen")]
    NoBody,
    #[error(
        "the {joint} is seen in {seen} of {frames} frames; a walk needs hips, knees and ankles in at least a quarter of \
         them"
    )]
    UnseenJoint { joint: &'static str, seen: usize, frames: usize },
    #[error("frame {frame} has a joint with a score above 1; scores are 0 to 1")]
    Score { frame: usize },
    #[error(
        "the body is {height} pixels tall, and a walk needs {BODY_HEIGHT_MIN_PX}; coordinates are pixels, so multiply \
         metres or shares of the picture"
    )]
    TooSmall { height: String },
    #[error("ankles lie above the hips; y grows downwards in a picture, so send the height of the picture minus y")]
    UpsideDown,
    #[error(
        "the joints do not lie like a body in COCO order (nose, eyes, ears, shoulders, elbows, wrists, hips, knees, \
         ankles; left before right){hint}"
    )]
    OtherOrder { hint: &'static str },
    #[error("the {frames} frames show one pose; a walk moves")]
    Still { frames: usize },
}

impl SkeletonPreprocessing {
    pub(super) fn check(&self) -> Result<(), PreprocessingError> {
        let height = 1.0..=COORDINATE_MAX;
        if (1..=INPUT_FRAMES_MAX).contains(&self.frames) && height.contains(&self.body_height_px) {
            Ok(())
        } else {
            Err(PreprocessingError::Skeleton)
        }
    }

    pub(super) fn shape(&self) -> [usize; 3] {
        [self.frames, JOINTS, 3]
    }

    pub(super) fn prepare(&self, skeleton: &Skeleton, limits: &SampleLimits) -> Result<PreparedSample, SkeletonError> {
        check_frames(&skeleton.frames, limits)?;
        let filled = unseen::filled(middle(&skeleton.frames, self.frames))?;
        let height = body_height(&filled)?;
        body::check(&filled, height)?;
        let frames = window(&filled, self.frames);
        let scale = self.body_height_px / height;
        let place = |frame: &Frame| {
            let [x, y] = match self.centre {
                Centre::Hips => hips(frame),
            };
            frame.joints.map(|joint| [(joint.x - x) * scale, (joint.y - y) * scale, joint.score])
        };
        let view = frames.iter().flat_map(place).flatten().collect();
        let quality = quality::of_walk(&skeleton.frames);
        Ok(PreparedSample { prepared: NetworkInput { views: vec![view] }, quality, walk: skeleton.report.clone() })
    }
}

fn check_frames(frames: &[Frame], limits: &SampleLimits) -> Result<(), SkeletonError> {
    if frames.len() < FRAMES_MIN {
        return Err(SkeletonError::TooFewFrames { found: frames.len() });
    }
    if frames.len() > limits.skeleton_frames_max {
        return Err(SkeletonError::TooManyFrames { found: frames.len(), limit: limits.skeleton_frames_max });
    }
    // Comparisons with NaN are false, so NaN is refused too.
    let sound = |joint: &Joint| [joint.x, joint.y, joint.score].iter().all(|number| number.abs() <= COORDINATE_MAX);
    if let Some(frame) = frames.iter().position(|frame| !frame.joints.iter().all(sound)) {
        return Err(SkeletonError::BadJoint { frame });
    }
    match frames.iter().position(|frame| frame.joints.iter().any(|joint| joint.score > SCORE_MAX)) {
        None => Ok(()),
        Some(frame) => Err(SkeletonError::Score { frame }),
    }
}

/// `length` frames from the middle; shorter walks are repeated.
pub(super) fn window(frames: &[Frame], length: usize) -> Vec<Frame> {
    middle(frames, length).iter().cycle().take(length).copied().collect()
}

/// At most `length` frames from the middle.
fn middle(frames: &[Frame], length: usize) -> &[Frame] {
    let start = frames.len().saturating_sub(length) / 2;
    &frames[start..frames.len().min(start + length)]
}

fn hips(frame: &Frame) -> [f32; 2] {
    let [left, right] = HIPS.map(|hip| frame.joints[hip]);
    [f32::midpoint(left.x, right.x), f32::midpoint(left.y, right.y)]
}

/// The distance from the highest to the lowest joint, median over the frames: robust to single frames with a wrong
/// joint or a partly visible person.
fn body_height(frames: &[Frame]) -> Result<f32, SkeletonError> {
    let extent = |frame: &Frame| {
        let (high, low) =
            frame.joints.iter().fold((f32::MAX, f32::MIN), |(high, low), joint| (high.min(joint.y), low.max(joint.y)));
        low - high
    };
    let mut extents: Vec<f32> = frames.iter().map(extent).collect();
    let middle = extents.len() / 2;
    let height = *extents.select_nth_unstable_by(middle, f32::total_cmp).1;
    if height <= 0.0 {
        return Err(SkeletonError::NoBody);
    }
    if height < BODY_HEIGHT_MIN_PX {
        Err(SkeletonError::TooSmall { height: format!("{height:.1}") })
    } else {
        Ok(height)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOW: SkeletonPreprocessing =
        SkeletonPreprocessing { frames: 60, body_height_px: 110.0, centre: Centre::Hips };

    /// A walk whose frame `n` is `n` pixels further right, with score `(n + 1) / 10,000`; its joints are 5 pixels apart
    /// vertically, and the ankles swing.
    fn walk(frames: u16) -> Vec<Frame> {
        let joint = |frame: u16, joint: usize| Joint {
            x: f32::from(frame) + if joint > 14 { f32::from(frame % 7) } else { 0.0 },
            y: 5.0 * joint as f32,
            score: f32::from(frame + 1) / 1e4,
        };
        (0..frames).map(|frame| Frame { joints: std::array::from_fn(|number| joint(frame, number)) }).collect()
    }

    fn prepared(frames: Vec<Frame>) -> Result<Vec<f32>, SkeletonError> {
        HOW.prepare(&frames.into(), &SampleLimits::default()).map(|ready| ready.prepared.views[0].clone())
    }

    /// The number of each frame, from the score that [`walk`] gives it.
    fn frame_numbers(view: &[f32]) -> Vec<f32> {
        view.chunks_exact(JOINTS * 3).map(|frame| (frame[2] * 1e4).round() - 1.0).collect()
    }

    #[test]
    fn a_long_walk_is_cut_to_its_middle() {
        let numbers = frame_numbers(&prepared(walk(101)).expect("a walk"));
        assert_eq!(numbers, (20_u8..80).map(f32::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_short_walk_is_repeated() {
        let numbers = frame_numbers(&prepared(walk(25)).expect("a walk"));
        assert_eq!(numbers, (0_u8..60).map(|frame| f32::from(frame % 25)).collect::<Vec<_>>());
    }

    #[test]
    fn every_frame_is_centred_and_scaled() {
        let view = prepared(walk(60)).expect("a walk");
        for frame in view.chunks_exact(JOINTS * 3) {
            let height = frame[16 * 3 + 1] - frame[1];
            let hips = f32::midpoint(frame[11 * 3 + 1], frame[12 * 3 + 1]);
            assert!((height - 110.0).abs() < 1e-3 && hips.abs() < 1e-3 && frame[0].abs() < 1e-3);
        }
    }

    #[test]
    fn a_stray_joint_does_not_change_the_scale() {
        let mut frames = walk(60);
        frames[30].joints[0].y = -90_000.0;
        let view = prepared(frames).expect("a walk");
        assert!((view[16 * 3 + 1] - view[1] - 110.0).abs() < 1e-3);
    }

    #[test]
    fn invalid_walks_are_refused() {
        for found in [0, 1, 4] {
            assert_eq!(prepared(walk(found)), Err(SkeletonError::TooFewFrames { found: found.into() }));
        }
        assert!(prepared(walk(5)).is_ok());
        assert_eq!(prepared(walk(3601)), Err(SkeletonError::TooManyFrames { found: 3601, limit: 3600 }));
        for bad in [f32::NAN, f32::INFINITY, -2e6] {
            let mut frames = walk(5);
            frames[2].joints[9].x = bad;
            assert_eq!(prepared(frames), Err(SkeletonError::BadJoint { frame: 2 }));
        }
        let point = Frame { joints: [Joint { x: 3.0, y: 4.0, score: 1.0 }; JOINTS] };
        assert_eq!(prepared(vec![point; 8]), Err(SkeletonError::NoBody));
    }

    proptest! {
        #[test]
        fn accepted_walks_give_finite_numbers(
            joints in prop::collection::vec((-1e6_f32..1e6, -1e6_f32..1e6, 0.0_f32..1.0), JOINTS * 5..JOINTS * 8),
        ) {
            let frames = joints.as_chunks::<JOINTS>().0.iter();
            let frames: Vec<Frame> =
                frames.map(|joints| Frame { joints: joints.map(|(x, y, score)| Joint { x, y, score }) }).collect();
            if let Ok(view) = prepared(frames) {
                prop_assert_eq!(view.len(), 60 * JOINTS * 3);
                prop_assert!(view.iter().all(|number| number.is_finite()));
            }
        }
    }
}
