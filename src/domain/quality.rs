//! Quality of samples: measurements, and the requirements of a policy.

use serde::{Deserialize, Serialize};

use super::Reason;

/// The quality measurements of one sample. A measurement that does not apply to the modality, or was not possible, is
/// `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quality {
    /// Overall score, 0 to 1: the product of the scores of the measurements, so that one bad measurement suffices for a
    /// low score.
    pub score: f32,
    /// Face: width of the aligned face, in pixels of the picture. Below the width of the encoder's input the face is
    /// upscaled.
    pub face_px: Option<f32>,
    /// Person: height of the crop, in pixels.
    pub height_px: Option<f32>,
    /// Person: width divided by height of the crop.
    pub aspect: Option<f32>,
    /// Face, person: share of the contrast between neighbouring pixels, without noise; below 0.03 is blurred.
    pub sharpness: Option<f32>,
    /// Face, person: share of noise in the contrast; below 0.03 is clean.
    pub noise: Option<f32>,
    /// Face, person: mean luminance of the encoder's input, 0 (black) to 1 (white).
    pub brightness: Option<f32>,
    /// Face: yaw in degrees, positive to the viewer's right; estimated from five landmarks.
    pub yaw_degrees: Option<f32>,
    /// Face: pitch in degrees, positive upwards; estimated from five landmarks.
    pub pitch_degrees: Option<f32>,
    /// Face: roll in degrees, in the picture plane; alignment removes it.
    pub roll_degrees: Option<f32>,
    /// Face: detection score, 0 to 1.
    pub detection_score: Option<f32>,
    /// Norm of the encoder's output before scaling. For some networks (AdaFace, MagFace) it measures quality.
    pub embedding_norm: Option<f32>,
    /// Gait: number of frames of the walk.
    pub frames: Option<u32>,
    /// Gait: share of joints that the pose estimator found, 0 to 1.
    pub joints_seen: Option<f32>,
    /// Gait: mean joint score of the pose estimator, 0 to 1.
    pub joint_confidence: Option<f32>,
    /// Resemblance to samples that the model cannot tell apart, such as squeezed faces, as a share of the limit of good
    /// samples: above 1 the calibration says nothing about the sample.
    pub atypicality: Option<f32>,
}

impl Quality {
    /// Atypicality below which the score is not lowered, and above which it is 0.
    const ATYPICALITY: [f32; 2] = [0.75, 1.25];

    /// With an atypicality, which lowers the score.
    #[must_use]
    pub fn with_atypicality(self, atypicality: Option<f32>) -> Self {
        let [free, nothing] = Self::ATYPICALITY;
        let share = atypicality.map_or(1.0, |atypicality| ((nothing - atypicality) / (nothing - free)).clamp(0.0, 1.0));
        Self { score: self.score * share, atypicality, ..self }
    }
}

/// Requirements on samples; the fields of [`Quality`] define the units. `None` is no requirement, and a sample without
/// the measurement passes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QualityPolicy {
    pub score_min: Option<f32>,
    pub face_px_min: Option<f32>,
    pub height_px_min: Option<f32>,
    pub sharpness_min: Option<f32>,
    pub noise_max: Option<f32>,
    pub brightness_min: Option<f32>,
    pub brightness_max: Option<f32>,
    /// Absolute value.
    pub yaw_degrees_max: Option<f32>,
    /// Absolute value.
    pub pitch_degrees_max: Option<f32>,
    pub detection_score_min: Option<f32>,
    pub embedding_norm_min: Option<f32>,
    pub frames_min: Option<u32>,
    pub joints_seen_min: Option<f32>,
    pub joint_confidence_min: Option<f32>,
    /// 1 by default: error rates are promised for samples like those of the calibration only.
    pub atypicality_max: Option<f32>,
}

impl Default for QualityPolicy {
    fn default() -> Self {
        Self {
            score_min: None,
            face_px_min: None,
            height_px_min: None,
            sharpness_min: None,
            noise_max: None,
            brightness_min: None,
            brightness_max: None,
            yaw_degrees_max: None,
            pitch_degrees_max: None,
            detection_score_min: None,
            embedding_norm_min: None,
            frames_min: None,
            joints_seen_min: None,
            joint_confidence_min: None,
            atypicality_max: Some(1.0),
        }
    }
}

impl QualityPolicy {
    /// The requirements that a sample fails; empty if it passes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "frames are counted in thousands")]
    pub fn failures(&self, quality: &Quality) -> Vec<Reason> {
        let least =
            |found: Option<f32>, asked: Option<f32>| found.zip(asked).is_some_and(|(found, asked)| found < asked);
        let most =
            |found: Option<f32>, asked: Option<f32>| found.zip(asked).is_some_and(|(found, asked)| found > asked);
        let size = |degrees: Option<f32>| degrees.map(f32::abs);
        let count = |frames: Option<u32>| frames.map(|frames| frames as f32);
        let checks = [
            (least(quality.face_px, self.face_px_min), Reason::FaceTooSmall),
            (least(quality.height_px, self.height_px_min), Reason::BodyTooSmall),
            (least(quality.sharpness, self.sharpness_min), Reason::Blurred),
            (most(quality.noise, self.noise_max), Reason::TooNoisy),
            (least(quality.brightness, self.brightness_min), Reason::TooDark),
            (most(quality.brightness, self.brightness_max), Reason::TooBright),
            (most(size(quality.yaw_degrees), self.yaw_degrees_max), Reason::TurnedAway),
            (most(size(quality.pitch_degrees), self.pitch_degrees_max), Reason::TurnedAway),
            (least(quality.detection_score, self.detection_score_min), Reason::DetectionWeak),
            (least(quality.embedding_norm, self.embedding_norm_min), Reason::EmbeddingWeak),
            (least(count(quality.frames), count(self.frames_min)), Reason::TooFewFrames),
            (least(quality.joints_seen, self.joints_seen_min), Reason::TooFewJoints),
            (least(quality.joint_confidence, self.joint_confidence_min), Reason::TooFewJoints),
            (most(quality.atypicality, self.atypicality_max), Reason::OutsideCalibration),
            (least(Some(quality.score), self.score_min), Reason::LowQuality),
        ];
        let mut failures: Vec<Reason> =
            checks.into_iter().filter(|(fails, _)| *fails).map(|(_, reason)| reason).collect();
        failures.dedup();
        failures
    }

    /// The requirements that are numbers, each with its field name and maximum; the minimum is 0.
    pub(super) fn numbers(&self) -> [(&'static str, Option<f32>, f32); 14] {
        const MANY: f32 = 1e6;
        [
            ("policy.quality.scoreMin", self.score_min, 1.0),
            ("policy.quality.facePxMin", self.face_px_min, MANY),
            ("policy.quality.heightPxMin", self.height_px_min, MANY),
            ("policy.quality.sharpnessMin", self.sharpness_min, MANY),
            ("policy.quality.noiseMax", self.noise_max, MANY),
            ("policy.quality.brightnessMin", self.brightness_min, 1.0),
            ("policy.quality.brightnessMax", self.brightness_max, 1.0),
            ("policy.quality.yawDegreesMax", self.yaw_degrees_max, 90.0),
            ("policy.quality.pitchDegreesMax", self.pitch_degrees_max, 90.0),
            ("policy.quality.detectionScoreMin", self.detection_score_min, 1.0),
            ("policy.quality.embeddingNormMin", self.embedding_norm_min, MANY),
            ("policy.quality.jointsSeenMin", self.joints_seen_min, 1.0),
            ("policy.quality.jointConfidenceMin", self.joint_confidence_min, 1.0),
            ("policy.quality.atypicalityMax", self.atypicality_max, MANY),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_without_requirements_refuses_nothing() {
        assert_eq!(QualityPolicy::default().failures(&Quality::default()), []);
    }

    #[test]
    fn each_requirement_has_its_reason_and_absent_measurements_pass() {
        let policy = QualityPolicy {
            face_px_min: Some(40.0),
            yaw_degrees_max: Some(30.0),
            pitch_degrees_max: Some(20.0),
            brightness_min: Some(0.2),
            brightness_max: Some(0.8),
            frames_min: Some(30),
            ..QualityPolicy::default()
        };
        let small_and_turned = Quality {
            face_px: Some(39.0),
            yaw_degrees: Some(-31.0),
            pitch_degrees: Some(-25.0),
            brightness: Some(0.1),
            ..Quality::default()
        };
        let reasons = [Reason::FaceTooSmall, Reason::TooDark, Reason::TurnedAway];
        assert_eq!(policy.failures(&small_and_turned), reasons);
        let bright =
            Quality { face_px: Some(40.0), yaw_degrees: Some(30.0), brightness: Some(0.81), ..Quality::default() };
        assert_eq!(policy.failures(&bright), [Reason::TooBright]);
        let short_walk = Quality { frames: Some(29), ..Quality::default() };
        assert_eq!(policy.failures(&short_walk), [Reason::TooFewFrames]);
    }

    #[test]
    fn a_sample_unlike_the_calibration_fails_by_default_and_has_a_lower_score() {
        let with = |atypicality| Quality { score: 0.8, ..Quality::default() }.with_atypicality(atypicality);
        let policy = QualityPolicy::default();
        assert_eq!((with(None).score, with(Some(0.7)).score, with(Some(1.3)).score), (0.8, 0.8, 0.0));
        assert_eq!(policy.failures(&with(Some(0.99))), []);
        assert_eq!(policy.failures(&with(Some(1.01))), [Reason::OutsideCalibration]);
        let open = QualityPolicy { atypicality_max: Some(1e6), ..policy };
        assert_eq!(open.failures(&with(Some(1.3))), []);
    }

    #[test]
    fn a_sample_with_a_low_score_fails() {
        let policy = QualityPolicy { score_min: Some(0.5), ..QualityPolicy::default() };
        assert_eq!(policy.failures(&Quality { score: 0.4, ..Quality::default() }), [Reason::LowQuality]);
    }
}
