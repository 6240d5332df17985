//! Pose files: what a client says about one, and what was read from it.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::JOINTS;

/// The names of the joints in COCO order.
pub const JOINT_NAMES: [&str; JOINTS] = [
    "nose",
    "left eye",
    "right eye",
    "left ear",
    "right ear",
    "left shoulder",
    "right shoulder",
    "left elbow",
    "right elbow",
    "left wrist",
    "right wrist",
    "left hip",
    "right hip",
    "left knee",
    "right knee",
    "left ankle",
    "right ankle",
];

/// A walk as a pose estimator wrote it. Its `Debug` form never shows its content.
#[derive(Clone, PartialEq, Eq)]
pub struct PoseFile {
    pub bytes: Bytes,
    pub options: PoseOptions,
}

impl fmt::Debug for PoseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a pose file of {} bytes", self.bytes.len())
    }
}

/// What a client says about a pose file; what is not said follows from its form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoseOptions {
    pub layout: Option<PoseLayout>,
    /// Size of the picture in pixels, for coordinates as shares of it.
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// The person to take among several; the largest if `None`.
    pub track: Option<String>,
}

/// The joints of a pose estimator and their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoseLayout {
    Coco17,
    Openpose18,
    /// `BODY_25`.
    Openpose25,
    Halpe26,
    Halpe136,
    Wholebody133,
    Mediapipe33,
    /// Human3.6M.
    H36m17,
    /// The file names its joints.
    Named,
}

impl PoseLayout {
    pub const ALL: [Self; 9] = [
        Self::Coco17,
        Self::Openpose18,
        Self::Openpose25,
        Self::Halpe26,
        Self::Halpe136,
        Self::Wholebody133,
        Self::Mediapipe33,
        Self::H36m17,
        Self::Named,
    ];

    /// Number of joints; `None` for [`Self::Named`].
    #[must_use]
    pub fn joints(self) -> Option<usize> {
        match self {
            Self::Coco17 | Self::H36m17 => Some(JOINTS),
            Self::Openpose18 => Some(18),
            Self::Openpose25 => Some(25),
            Self::Halpe26 => Some(26),
            Self::Halpe136 => Some(136),
            Self::Wholebody133 => Some(133),
            Self::Mediapipe33 => Some(33),
            Self::Named => None,
        }
    }

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Coco17 => "coco_17",
            Self::Openpose18 => "openpose_18",
            Self::Openpose25 => "openpose_25",
            Self::Halpe26 => "halpe_26",
            Self::Halpe136 => "halpe_136",
            Self::Wholebody133 => "wholebody_133",
            Self::Mediapipe33 => "mediapipe_33",
            Self::H36m17 => "h36m_17",
            Self::Named => "named",
        }
    }
}

/// What was read from a pose file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkReport {
    pub layout: PoseLayout,
    /// The person that was taken; `None` when the file shows one and names no track.
    pub track: Option<String>,
    /// Number of people in the file.
    pub tracks: u32,
    /// Frames that show nobody.
    pub frames_empty: u32,
}
