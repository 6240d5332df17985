//! Prepares a sample: from the client's bytes to the input of a network.
//!
//! A model package's [`Preprocessing`] describes the steps. All functions are pure: no network, no file, no clock.
//! Limits are checked before the work they limit, and no error reveals sample content.

mod align;
mod body;
mod colour;
mod decode;
mod decoding_cost;
mod jpeg_scan;
pub mod liveness;
mod photo;
mod picture;
mod picture_kind;
mod prompts;
mod quality;
mod silhouette;
mod skeleton;
mod unseen;

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::{
    align::AlignError,
    decode::PictureError,
    photo::{Photo, Turn},
    picture::{ColourOrder, ImagePreprocessing, PixelScale, Resize},
    silhouette::{SilhouetteError, SilhouettePreprocessing},
    skeleton::{Centre, SkeletonError, SkeletonPreprocessing},
};
use domain::{Face, Picture, Quality, SampleContent, WalkReport};
use poses::PoseError;

/// How samples become a network's input. It is part of `model.toml` and of the model's digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Preprocessing {
    Image(ImagePreprocessing),
    Skeleton(SkeletonPreprocessing),
    Silhouette(SilhouettePreprocessing),
}

/// Maximum sample sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleLimits {
    pub image_bytes_max: usize,
    pub image_pixels_max: u64,
    pub skeleton_frames_max: usize,
    /// Maximum number of pictures in a track.
    pub track_frames_max: usize,
    /// Maximum side of the detector's picture in pixels; larger photos are downscaled for detection.
    pub detect_side_px_max: u32,
}

impl Default for SampleLimits {
    /// A large phone camera's photo; two minutes of walking at 30 frames per second; ten seconds of video.
    fn default() -> Self {
        Self {
            image_bytes_max: 16 << 20,
            image_pixels_max: 50_000_000,
            skeleton_frames_max: 3_600,
            track_frames_max: 300,
            detect_side_px_max: 1280,
        }
    }
}

/// The memory that pictures take while one of them is decoded, and once it is: in bytes, from their headers.
pub fn decoding_memory(pictures: &[Picture], limits: &SampleLimits) -> [usize; 2] {
    let of = |picture: &Picture| decode::decoding_memory(&picture.bytes.0, limits);
    pictures.iter().map(of).max().unwrap_or_default()
}

/// The pictures of a sample.
pub fn pictures(content: &SampleContent) -> &[Picture] {
    match content {
        SampleContent::Image(picture) => std::slice::from_ref(picture),
        SampleContent::Track(pictures) => pictures,
        SampleContent::Skeleton(_) | SampleContent::Poses(_) | SampleContent::Embedding { .. } => &[],
    }
}

/// The input of a network, one per view of the sample.
///
/// There is one view, or with mirroring two: the sample and its mirror image. The embedding of several views is the
/// direction of the sum of their outputs. Its `Debug` form hides the values, which show the sample.
#[derive(Clone, PartialEq)]
pub struct NetworkInput {
    /// One row-major array per view, of the shape [`Preprocessing::shape`].
    pub views: Vec<Vec<f32>>,
}

impl fmt::Debug for NetworkInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} views", self.views.len())
    }
}

/// A prepared sample and its quality.
#[derive(Debug, Clone, PartialEq)]
pub struct PreparedSample {
    pub prepared: NetworkInput,
    pub quality: Quality,
    /// What was read from a pose file.
    pub walk: Option<WalkReport>,
}

/// Why a sample cannot be prepared.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrepareError {
    #[error("this model takes {expected}, and the sample is {found}")]
    WrongKind { expected: &'static str, found: &'static str },
    #[error("this model takes no keypoint prompts; omit them")]
    NoPrompts,
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error(transparent)]
    Align(#[from] AlignError),
    #[error(transparent)]
    Skeleton(#[from] SkeletonError),
    #[error(transparent)]
    Poses(#[from] PoseError),
    #[error(transparent)]
    Silhouette(#[from] SilhouetteError),
}

/// Why a package's preprocessing is invalid.
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
    #[error(
        "silhouettes have 1 to {} frames of 8 to {} pixels a side",
        skeleton::INPUT_FRAMES_MAX,
        silhouette::SIDE_MAX
    )]
    Silhouette,
}

impl Preprocessing {
    /// # Errors
    /// When a value is out of range; packages are checked when they are loaded.
    pub fn check(&self) -> Result<(), PreprocessingError> {
        match self {
            Self::Image(image) => image.check(),
            Self::Skeleton(skeleton) => skeleton.check(),
            Self::Silhouette(silhouette) => silhouette.check(),
        }
    }

    /// The shape of one view: `[channels, height, width]`, `[frames, joints, channels]` or `[frames, height, width]`.
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::Image(image) => image.shape(),
            Self::Skeleton(skeleton) => skeleton.shape(),
            Self::Silhouette(silhouette) => silhouette.shape(),
        }
    }

    fn takes(&self) -> &'static str {
        match self {
            Self::Image(_) => "an image",
            Self::Skeleton(_) => "a skeleton sequence",
            Self::Silhouette(_) => "a track of silhouettes",
        }
    }

    /// Whether it aligns faces to a template, so that face detection applies.
    pub fn aligns(&self) -> bool {
        matches!(self, Self::Image(image) if image.aligns())
    }
}

/// Prepares a detected face of a photo.
///
/// # Errors
///
/// See [`PrepareError`].
pub fn prepare_face(how: &Preprocessing, photo: &Photo, face: &Face) -> Result<PreparedSample, PrepareError> {
    match how {
        Preprocessing::Image(how) => how.prepare_face(&photo.picture, face),
        Preprocessing::Skeleton(_) | Preprocessing::Silhouette(_) => {
            Err(PrepareError::WrongKind { expected: how.takes(), found: "a face" })
        }
    }
}

/// Like [`prepare`], for a network with keypoint prompts: `keypoint_channels` heat maps follow the picture's channels.
pub(super) fn prepare_prompted(
    how: &Preprocessing,
    keypoint_channels: usize,
    content: &SampleContent,
    limits: &SampleLimits,
) -> Result<PreparedSample, PrepareError> {
    match (how, content) {
        (Preprocessing::Image(how), SampleContent::Image(picture)) => {
            if keypoint_channels == 0 && !picture.geometry.prompts.is_empty() {
                return Err(PrepareError::NoPrompts);
            }
            how.prepare_prompted(picture, keypoint_channels, limits)
        }
        (how, content) => prepare(how, content, limits),
    }
}

/// Prepares a sample.
///
/// # Errors
///
/// See [`PrepareError`].
pub fn prepare(
    how: &Preprocessing,
    content: &SampleContent,
    limits: &SampleLimits,
) -> Result<PreparedSample, PrepareError> {
    match (how, content) {
        (Preprocessing::Image(how), SampleContent::Image(Picture { bytes, geometry })) => {
            how.prepare(&bytes.0, geometry, limits)
        }
        (Preprocessing::Silhouette(how), SampleContent::Track(pictures)) => how.prepare(pictures, limits),
        (Preprocessing::Skeleton(how), SampleContent::Skeleton(skeleton)) => Ok(how.prepare(skeleton, limits)?),
        (Preprocessing::Skeleton(how), SampleContent::Poses(file)) => {
            Ok(how.prepare(&poses::read(&file.bytes, &file.options, limits.skeleton_frames_max)?, limits)?)
        }
        (how, content) => Err(PrepareError::WrongKind { expected: how.takes(), found: kind(content) }),
    }
}

fn kind(content: &SampleContent) -> &'static str {
    match content {
        SampleContent::Image(_) => "an image",
        SampleContent::Track(_) => "a track of pictures",
        SampleContent::Skeleton(_) | SampleContent::Poses(_) => "a skeleton sequence",
        SampleContent::Embedding { .. } => "an embedding",
    }
}

#[cfg(test)]
mod tests;
