//! How fit a sample is: measures that a user understands, and what a policy asks of them.

use serde::{Deserialize, Serialize};

use super::Reason;

/// What was measured on one sample. What does not apply to its modality, or could not be looked at, is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quality {
    /// 0 to 1: the product of what the measures are worth, each by itself. A sharp picture of the back of a head is worth
    /// nothing.
    pub score: f32,
    /// Face: how many pixels of the picture wide the aligned face is. Below the width of the encoder's input, the face
    /// was enlarged.
    pub face_px: Option<f32>,
    /// Person: the height of the crop in pixels.
    pub height_px: Option<f32>,
    /// Person: width over height of the crop.
    pub aspect: Option<f32>,
    /// Face, person: how much of the contrast changes from pixel to pixel, noise taken off; below 0.03 is blurred.
    pub sharpness: Option<f32>,
    /// Face, person: how much of the contrast is noise; below 0.03 is clean.
    pub noise: Option<f32>,
    /// Face, person: mean luminance of what is encoded, 0 (black) to 1 (white).
    pub brightness: Option<f32>,
    /// Face: turned to the side, in degrees; positive to the viewer's right. Estimated from five landmarks.
    pub yaw_degrees: Option<f32>,
    /// Face: turned up (positive) or down, in degrees. Estimated from five landmarks.
    pub pitch_degrees: Option<f32>,
    /// Face: leaning to the side in the picture plane, in degrees; alignment undoes it.
    pub roll_degrees: Option<f32>,
    /// Face: how sure the detector was, 0 to 1.
    pub detection_score: Option<f32>,
    /// Length of the encoder's answer before it is scaled to one. For some networks (AdaFace, MagFace) it tells quality.
    pub embedding_norm: Option<f32>,
    /// Gait: how many frames the walk has.
    pub frames: Option<u32>,
    /// Gait: the share of joints that the pose estimator saw.
    pub joints_seen: Option<f32>,
    /// Gait: the pose estimator's mean score of the joints.
    pub joint_confidence: Option<f32>,
}

/// What a collection asks of its samples. What is absent is not asked, and a measure that a sample does not have passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QualityPolicy {
    pub score_min: Option<f32>,
    pub face_px_min: Option<f32>,
    pub height_px_min: Option<f32>,
    pub sharpness_min: Option<f32>,
    pub noise_max: Option<f32>,
    pub brightness_min: Option<f32>,
    pub brightness_max: Option<f32>,
    /// To either side.
    pub yaw_degrees_max: Option<f32>,
    /// Up or down.
    pub pitch_degrees_max: Option<f32>,
    pub detection_score_min: Option<f32>,
    pub embedding_norm_min: Option<f32>,
    pub frames_min: Option<u32>,
    pub joints_seen_min: Option<f32>,
    pub joint_confidence_min: Option<f32>,
}

impl QualityPolicy {
    /// What is wrong with a sample; nothing when it may be used.
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
            (least(Some(quality.score), self.score_min), Reason::LowQuality),
        ];
        let mut failures: Vec<Reason> =
            checks.into_iter().filter(|(fails, _)| *fails).map(|(_, reason)| reason).collect();
        failures.dedup();
        failures
    }

    /// The numbers that are set, each with its name and the most that it may be; none may be negative.
    pub(super) fn numbers(&self) -> [(&'static str, Option<f32>, f32); 13] {
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
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_asks_nothing_refuses_nothing() {
        assert_eq!(QualityPolicy::default().failures(&Quality::default()), []);
    }

    #[test]
    fn each_demand_has_its_reason_and_absent_measures_pass() {
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
    fn a_measure_that_is_no_number_fails_nothing_silently() {
        // Comparisons with NaN are false: whoever measures must not answer NaN. The score is always there.
        let policy = QualityPolicy { score_min: Some(0.5), ..QualityPolicy::default() };
        assert_eq!(policy.failures(&Quality { score: 0.4, ..Quality::default() }), [Reason::LowQuality]);
    }
}
