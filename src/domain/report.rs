//! What was seen in a sample on the way to its embedding: the face, how fit it is, whether it is alive, what a track held.

use serde::{Deserialize, Serialize};

use super::{Landmarks, PixelBox, Quality};

/// What was seen in one sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SampleReport {
    /// Absent for embeddings that a client sent.
    pub quality: Option<Quality>,
    /// The face that was encoded, where a detector found it. Of a track: the face of its best frame.
    pub face: Option<Face>,
    pub pad: Pad,
    /// What a track was made of.
    pub track: Option<TrackReport>,
}

/// A face in a picture, in pixels of the picture as a viewer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Face {
    pub bounds: PixelBox,
    pub landmarks: Landmarks,
    /// How sure the detector is, 0 to 1.
    pub score: f32,
}

/// Presentation-attack detection (ISO/IEC 30107): a living person before the camera, or a picture of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pad {
    pub verdict: PadVerdict,
    /// How sure the model is of a bona fide presentation, 0 to 1; absent when nothing was evaluated.
    pub score: Option<f32>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadVerdict {
    /// Nobody looked. That is not a pass.
    #[default]
    NotEvaluated,
    BonaFide,
    Attack,
}

/// How frames became one embedding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrackReport {
    /// Frames that the embedding is made of.
    pub frames_used: u32,
    /// Frames that showed nobody, or showed them too poorly beside the others.
    pub frames_dropped: u32,
    /// Mean of one less the cosine between a used frame and the embedding: 0 when all frames agree.
    pub spread: f32,
}

impl Face {
    /// The middle of its box.
    #[must_use]
    pub fn centre(&self) -> [f32; 2] {
        let PixelBox { left, top, width, height } = self.bounds;
        [left + width / 2.0, top + height / 2.0]
    }

    #[must_use]
    pub fn area(&self) -> f32 {
        self.bounds.width * self.bounds.height
    }
}

impl Pad {
    /// A verdict on a score.
    #[must_use]
    pub fn of(score: f32, score_min: f32) -> Self {
        let verdict = if score >= score_min { PadVerdict::BonaFide } else { PadVerdict::Attack };
        Self { verdict, score: Some(score) }
    }
}
