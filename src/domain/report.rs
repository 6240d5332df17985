//! Measurements of a sample during encoding: face, quality, presentation-attack detection, track.

use serde::{Deserialize, Serialize};

use super::{Landmarks, PixelBox, Quality, WalkReport};

/// The measurements of one sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SampleReport {
    /// `None` for embeddings that a client sent.
    pub quality: Option<Quality>,
    /// The encoded face, if a detector found it. For a track: the face of its best frame.
    pub face: Option<Face>,
    pub pad: Pad,
    /// The frames of a track.
    pub track: Option<TrackReport>,
    /// What was read from a pose file.
    pub walk: Option<WalkReport>,
}

/// A face in a picture, in pixels of the upright picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Face {
    pub bounds: PixelBox,
    pub landmarks: Landmarks,
    /// Detection score, 0 to 1.
    pub score: f32,
}

/// The result of presentation-attack detection (ISO/IEC 30107).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pad {
    pub verdict: PadVerdict,
    /// Score of a bona fide presentation, 0 to 1; `None` if nothing was evaluated.
    pub score: Option<f32>,
}

/// The verdict of presentation-attack detection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadVerdict {
    /// Not evaluated. This is not a pass.
    #[default]
    NotEvaluated,
    BonaFide,
    Attack,
}

/// How the frames of a track became one embedding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrackReport {
    /// Number of frames in the embedding.
    pub frames_used: u32,
    /// Number of frames without a subject, or of too low quality beside the others.
    pub frames_dropped: u32,
    /// Mean of one minus the cosine of a used frame and the embedding: 0 if all frames agree.
    pub spread: f32,
}

impl Face {
    /// Centre of the bounding box, (x, y) in pixels.
    #[must_use]
    pub fn centre(&self) -> [f32; 2] {
        let PixelBox { left, top, width, height } = self.bounds;
        [left + width / 2.0, top + height / 2.0]
    }

    /// Area of the bounding box, in square pixels.
    #[must_use]
    pub fn area(&self) -> f32 {
        self.bounds.width * self.bounds.height
    }
}

impl Pad {
    /// The verdict on a score: bona fide at or above `score_min`.
    #[must_use]
    pub fn of(score: f32, score_min: f32) -> Self {
        let verdict = if score >= score_min { PadVerdict::BonaFide } else { PadVerdict::Attack };
        Self { verdict, score: Some(score) }
    }
}
