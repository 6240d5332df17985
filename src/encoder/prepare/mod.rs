//! From a sample as a client sent it to the numbers that a network takes.
//!
//! A model package's [`Preprocessing`] says how. Everything here is a pure function of its inputs: no network, no file,
//! no clock. Limits hold before the work that they limit, and no error tells what a sample shows.

mod align;
mod decode;
pub mod liveness;
mod picture;
pub mod skeleton;

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::{
    align::AlignError,
    decode::PictureError,
    picture::{ColourOrder, ImagePreprocessing, PixelScale, Resize},
    skeleton::{Centre, SkeletonError, SkeletonPreprocessing},
};
use crate::domain::SampleContent;

/// How samples become a network's input: a part of `model.toml`, and of the model's digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Preprocessing {
    Image(ImagePreprocessing),
    Skeleton(SkeletonPreprocessing),
}

/// How large a sample may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub image_bytes_max: usize,
    pub image_pixels_max: u64,
    pub skeleton_frames_max: usize,
}

impl Default for Limits {
    /// A photo of a large phone camera; two minutes of walking at 30 frames a second.
    fn default() -> Self {
        Self { image_bytes_max: 16 << 20, image_pixels_max: 50_000_000, skeleton_frames_max: 3_600 }
    }
}

/// A network's input, once for each view of the sample.
///
/// There is one view, or with mirroring two: the sample, then its mirror image. The embedding of several views is the
/// direction of the sum of their outputs. Its `Debug` form never shows the numbers, which show the sample.
#[derive(Clone, PartialEq)]
pub struct Prepared {
    /// Row-major numbers of the shape that [`Preprocessing::shape`] tells.
    pub views: Vec<Vec<f32>>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} views", self.views.len())
    }
}

/// Why a sample can not be prepared.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrepareError {
    #[error("this model takes {expected}, and the sample is {found}")]
    WrongKind { expected: &'static str, found: &'static str },
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error(transparent)]
    Align(#[from] AlignError),
    #[error(transparent)]
    Skeleton(#[from] SkeletonError),
}

/// Why a package's preprocessing makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PreprocessingError {
    #[error("width and height must be 1 to {}", picture::INPUT_SIDE_MAX)]
    Sides,
    #[error("mean must be finite, std finite and above zero")]
    Normalisation,
    #[error("the alignment template must be five different points within the input")]
    Template,
    #[error("frames must be 1 to {}, body_height_px 1 or more", skeleton::INPUT_FRAMES_MAX)]
    Skeleton,
}

impl Preprocessing {
    /// # Errors
    /// When a number makes no sense; packages are checked so when they are loaded.
    pub fn check(&self) -> Result<(), PreprocessingError> {
        match self {
            Self::Image(image) => image.check(),
            Self::Skeleton(skeleton) => skeleton.check(),
        }
    }

    /// The shape of one view: channels, height, width, or frames, joints, channels.
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::Image(image) => image.shape(),
            Self::Skeleton(skeleton) => skeleton.shape(),
        }
    }

    fn takes(&self) -> &'static str {
        match self {
            Self::Image(_) => "an image",
            Self::Skeleton(_) => "a skeleton sequence",
        }
    }
}

/// Makes a network's input of a sample.
pub fn prepare(how: &Preprocessing, content: &SampleContent, limits: &Limits) -> Result<Prepared, PrepareError> {
    match (how, content) {
        (Preprocessing::Image(how), SampleContent::Image { bytes, geometry }) => {
            how.prepare(&bytes.0, geometry, limits)
        }
        (Preprocessing::Skeleton(how), SampleContent::Skeleton(skeleton)) => Ok(how.prepare(skeleton, limits)?),
        (how, content) => Err(PrepareError::WrongKind { expected: how.takes(), found: kind(content) }),
    }
}

fn kind(content: &SampleContent) -> &'static str {
    match content {
        SampleContent::Image { .. } => "an image",
        SampleContent::Skeleton(_) => "a skeleton sequence",
        SampleContent::Embedding { .. } => "an embedding",
    }
}

#[cfg(test)]
mod tests;
