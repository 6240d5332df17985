//! Samples as a client sends them: a picture, several of one subject, a skeleton sequence, or numbers of its own.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Modality, SpaceName};

/// How many joints a COCO skeleton has.
pub const JOINTS: usize = 17;

/// One sample. Its `Debug` form never shows what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub modality: Modality,
    pub content: SampleContent,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SampleContent {
    Image(Picture),
    /// Pictures of one subject in order of time: frames of a video, or crops. Of a walk: its silhouettes.
    Track(Vec<Picture>),
    Skeleton(Skeleton),
    Embedding {
        model: SpaceName,
        values: Vec<f32>,
    },
}

/// A picture, and where in it the subject is.
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

/// Where in the picture the subject is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Geometry {
    /// How a face is brought to the encoder's layout.
    pub alignment: Option<Alignment>,
    pub landmarks: Option<Landmarks>,
    /// The part of the picture to look at; all of it when absent.
    pub region: Option<PixelBox>,
    /// Which of several faces is meant; the largest when absent.
    pub selection: Option<FaceSelection>,
    /// Joints that say who of several bodies is meant, for encoders that take prompts.
    pub prompts: Vec<Prompt>,
}

/// Which of several faces in a picture is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FaceSelection {
    #[default]
    Largest,
    MostCentral,
    /// The picture must show one face and no other.
    ExactlyOne,
}

/// Joints of one body in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    pub joints: Vec<Joint>,
    pub role: PromptRole,
}

/// Whether the joints are the subject's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptRole {
    Subject,
    /// Somebody else's, who is in the picture too.
    Other,
}

/// How a face picture is brought to the encoder's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alignment {
    /// Find the face and its landmarks.
    Detect,
    /// By the five landmarks that the sample carries.
    Landmarks,
    /// The picture is aligned already; it is only resized.
    Aligned,
    /// A 250 x 250 picture of the deep-funneled LFW set, whose eyes, nose and mouth stand at known places.
    LfwFunneled,
}

/// Left eye, right eye, nose, left and right corner of the mouth, as the viewer sees them; (x, y) in pixels.
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

/// A joint in pixels with the pose estimator's score.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Joint {
    pub x: f32,
    pub y: f32,
    pub score: f32,
}
