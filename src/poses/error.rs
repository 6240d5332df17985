//! Why a pose file cannot be used.

use thiserror::Error;

/// Why a pose file cannot be used; what was found, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PoseError {
    #[error("the pose file is empty")]
    Empty,
    #[error("the pose file is not JSON at line {line}, column {column}")]
    NotJson { line: usize, column: usize },
    #[error("the pose file ends before its JSON does")]
    CutOff,
    #[error("the pose file has more than {limit} lists and objects")]
    TooLarge { limit: usize },
    #[error("the pose file has more than {limit} numbers")]
    TooManyNumbers { limit: usize },
    #[error(
        "this form of pose file is not known: {found}. Send a list of frames with \"keypoints\" (x, y, score of 17 joints \
         in COCO order), or a file of AlphaPose, COCO, MMPose, OpenPose, ultralytics or MediaPipe"
    )]
    UnknownForm { found: String },
    #[error(
        "frame {frame} has {found} numbers of joints, which is no known layout; send x, y and score of 17 joints in COCO \
         order (51 numbers), or say the layout"
    )]
    UnknownJoints { frame: usize, found: usize },
    #[error("frame {frame} has {found} joints, and the layout {layout} has {expected}")]
    OtherLayout { frame: usize, found: usize, layout: &'static str, expected: usize },
    #[error("the names of the joints lack {missing}, without which a walk has no step")]
    UnnamedJoint { missing: &'static str },
    #[error("frame {frame} has another layout of joints than the frames before it")]
    MixedLayouts { frame: usize },
    #[error("the scores of joints are 0 to 1, and one is {found}; divide them by their maximum")]
    Score { found: String },
    #[error("a joint is not finite")]
    NotFinite,
    #[error(
        "the coordinates lie between 0 and 1, as shares of the picture; say its width and height in pixels (pose.width and \
         pose.height)"
    )]
    Normalised,
    #[error("track {track:?} has two entries in frame {frame:?}; send one entry for each frame and track")]
    Twice { frame: String, track: String },
    #[error("there is no track {asked:?}; the file has {found}")]
    NoTrack { asked: String, found: String },
    #[error("the pose file shows nobody")]
    Nobody,
    #[error("the pose file has {found} frames of the walk, and at most {limit} are allowed")]
    TooManyFrames { found: usize, limit: usize },
}
