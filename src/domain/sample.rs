//! Samples as a client sends them: bytes of a picture, a skeleton sequence, or numbers of its own.

use std::fmt;

use bytes::Bytes;

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
    Image { bytes: ImageBytes, geometry: Geometry },
    Skeleton(Skeleton),
    Embedding { model: SpaceName, values: Vec<f32> },
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
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Geometry {
    /// How a face is brought to the encoder's layout.
    pub alignment: Option<Alignment>,
    pub landmarks: Option<Landmarks>,
    /// The part of the picture to look at; all of it when absent.
    pub region: Option<PixelBox>,
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Landmarks(pub [[f32; 2]; 5]);

/// Left, top, width, height, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
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
