//! Errors of a sample.

use thiserror::Error;

use super::prepare::{AlignError, PrepareError};
use domain::{Modality, SpaceName};

/// Why a sample cannot be encoded; the message is for the client.
#[derive(Debug, Error)]
pub enum SampleError {
    #[error("{model} encodes {expected} samples, and this is a {found} sample")]
    OtherModality { model: SpaceName, expected: Modality, found: Modality },
    #[error(transparent)]
    Unfit(#[from] PrepareError),
    #[error("the model finds no features in this sample; send one that shows the subject")]
    Featureless,
    #[error(
        "no face was found in the picture, upright or turned; send one that shows it larger and upright, or an aligned crop with \
         alignment \"aligned\""
    )]
    NoFace,
    #[error("the face is cut by the picture's border; send a picture that shows the whole face")]
    FaceCut,
    #[error("the picture shows {found} faces, and exactly one was requested; send a box around the right one")]
    AmbiguousFace { found: usize },
    #[error(
        "the picture shows {found} faces, and at most {limit} are encoded at once; set a face selection, or send parts of it by box"
    )]
    TooManyFaces { found: usize, limit: usize },
    #[error("the track has no frames")]
    EmptyTrack,
    #[error("the track has {found} frames, and at most {limit} are allowed; send a shorter one, or every other frame")]
    TooManyFrames { found: usize, limit: usize },
    #[error("frame {frame} of the track: {problem}")]
    Frame { frame: usize, problem: Box<SampleError> },
    #[error("none of the {frames} frames of the track shows the subject well enough")]
    NoFrame { frames: usize },
}

impl SampleError {
    /// A stable code for clients.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoFace | Self::NoFrame { .. } => "NO_FACE",
            Self::FaceCut => "FACE_CUT",
            Self::AmbiguousFace { .. } => "AMBIGUOUS_FACE",
            Self::TooManyFaces { .. } => "TOO_MANY_FACES",
            Self::Frame { problem, .. } => problem.code(),
            Self::OtherModality { .. }
            | Self::Unfit(_)
            | Self::Featureless
            | Self::EmptyTrack
            | Self::TooManyFrames { .. } => "UNUSABLE_SAMPLE",
        }
    }

    /// Whether a track may skip such a frame: a valid picture with no usable subject.
    pub(super) fn is_a_poor_frame(&self) -> bool {
        match self {
            Self::NoFace | Self::FaceCut | Self::Featureless | Self::AmbiguousFace { .. } => true,
            Self::Unfit(PrepareError::Align(problem)) => {
                matches!(problem, AlignError::LandmarksUnlikeAFace | AlignError::LandmarksDegenerate)
            }
            Self::Unfit(_)
            | Self::OtherModality { .. }
            | Self::TooManyFaces { .. }
            | Self::EmptyTrack
            | Self::TooManyFrames { .. }
            | Self::Frame { .. }
            | Self::NoFrame { .. } => false,
        }
    }
}
