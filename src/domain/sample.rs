//! Samples as a client sends them: a picture, several pictures of one subject, a skeleton sequence, or an embedding.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Modality, PoseFile, SpaceName, WalkReport};

/// Number of joints of a COCO skeleton.
pub const JOINTS: usize = 17;

/// A sample. Its `Debug` form never shows its content.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub modality: Modality,
    pub content: SampleContent,
}

/// The content of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleContent {
    Image(Picture),
    /// Pictures of one subject in temporal order: video frames or crops; for gait, silhouettes.
    Track(Vec<Picture>),
    Skeleton(Skeleton),
    /// A skeleton as a pose estimator wrote it.
    Poses(PoseFile),
    Embedding {
        model: SpaceName,
        values: Vec<f32>,
    },
}

/// A picture, and the place of the subject in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub bytes: ImageBytes,
    pub geometry: Geometry,
}

/// An encoded picture: JPEG, PNG, WebP or PGM.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageBytes(pub Bytes);

impl fmt::Debug for ImageBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// The place of the subject in a picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Geometry {
    /// How the face is aligned; by detection if `None`.
    pub alignment: Option<Alignment>,
    pub landmarks: Option<Landmarks>,
    /// The part of the picture to use; the whole picture if `None`.
    pub region: Option<PixelBox>,
    /// Which of several faces to use; the largest if `None`.
    pub selection: Option<FaceSelection>,
    /// Joints of the subject and of others, for encoders that take prompts.
    pub prompts: Vec<Prompt>,
}

/// Which of several faces in a picture to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FaceSelection {
    #[default]
    Largest,
    MostCentral,
    /// The picture must show exactly one face.
    ExactlyOne,
}

/// Joints of one body in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    pub joints: Vec<Joint>,
    pub role: PromptRole,
}

/// Whose joints a prompt holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptRole {
    Subject,
    /// Another person in the picture.
    Other,
}

/// How a face is aligned to the encoder's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alignment {
    /// Detect the face and its landmarks.
    Detect,
    /// Use the five landmarks of the sample.
    Landmarks,
    /// The picture is aligned; it is only resized.
    Aligned,
    /// A 250 x 250 picture of the deep-funneled LFW set, whose landmarks are at known places.
    LfwFunneled,
}

/// Left eye, right eye, nose, left and right corner of the mouth, from the viewer's side; (x, y) in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Landmarks(pub [[f32; 2]; 5]);

/// Left, top, width, height, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PixelBox {
    pub left: f32,
    pub top: f32,
    pub width: f32,
    pub height: f32,
}

/// COCO-17 joints over time.
#[derive(Clone, PartialEq)]
pub struct Skeleton {
    pub frames: Vec<Frame>,
    /// What was read from a pose file; `None` for joints that a client sent by themselves.
    pub report: Option<WalkReport>,
}

impl From<Vec<Frame>> for Skeleton {
    fn from(frames: Vec<Frame>) -> Self {
        Self { frames, report: None }
    }
}

impl fmt::Debug for Skeleton {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames", self.frames.len())
    }
}

/// The joints of one frame, in COCO order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    pub joints: [Joint; JOINTS],
}

/// A joint: position in pixels, and the score of the pose estimator, above 0 to 1.
///
/// A joint that the estimator did not see has score 0 and no position; see [`Joint::UNSEEN`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Joint {
    pub x: f32,
    pub y: f32,
    pub score: f32,
}

impl Joint {
    pub const UNSEEN: Self = Self { x: 0.0, y: 0.0, score: 0.0 };

    #[must_use]
    pub fn is_seen(&self) -> bool {
        self.score > 0.0
    }

    /// A joint as pose estimators write it. They write a joint that they did not see with score 0 or below, with
    /// numbers that are not a number (sleap, movement), or at (0, 0) or (-1, -1) with any score (OpenPose, AlphaPose,
    /// ultralytics).
    #[must_use]
    #[expect(clippy::float_cmp, reason = "estimators write exactly these numbers")]
    pub fn as_written([x, y, score]: [f32; 3]) -> Self {
        let is_nowhere = [x, y] == [0.0; 2] || [x, y] == [-1.0; 2] || [x, y, score].iter().any(|n| n.is_nan());
        if is_nowhere || score <= 0.0 { Self::UNSEEN } else { Self { x, y, score } }
    }
}
