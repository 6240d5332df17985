//! Answers of resolve, verify and search.

use serde::{Deserialize, Serialize};

use super::{CalibrationId, IdentityId, Modality, Similarity, SpaceName, TemplateId};

/// An identity in an answer, with its most similar template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub identity: IdentityId,
    pub template: TemplateId,
    pub similarity: Similarity,
    /// The fused evidence of a probe with several modalities. Template and similarity are then those of the modality
    /// with the most evidence for the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fused: Option<FusedEvidence>,
}

/// The evidence of several modalities that a probe is of an identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FusedEvidence {
    /// Natural logarithm of the likelihood ratio: all similarities given the identity, against given another person.
    pub log_likelihood_ratio: f64,
    /// The posterior probability of the identity at a prior of 0.5 that the probe is of an enrolled person.
    pub posterior: f64,
    /// The evidence of each modality, in the order of the probe. Modalities without a template of the identity are
    /// absent.
    pub evidence: Vec<ModalityEvidence>,
}

/// The evidence of one modality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModalityEvidence {
    pub modality: Modality,
    pub model: SpaceName,
    /// The identity's most similar template.
    pub template: TemplateId,
    pub similarity: Similarity,
    /// Natural logarithm of the likelihood ratio of the similarity, after discounting the template's age and before
    /// weighting.
    pub log_likelihood_ratio: f64,
}

/// The answer of open-set identification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// The probe is of the best candidate.
    Known,
    /// The probe is of no enrolled person.
    New,
    /// The similarities do not decide; a human should.
    Uncertain,
    /// The sample does not meet the policy.
    Rejected,
}

impl DecisionKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::New => "new",
            Self::Uncertain => "uncertain",
            Self::Rejected => "rejected",
        }
    }
}

/// A reason for an answer, or a caution about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No templates are enrolled in this space.
    EmptyGallery,
    /// The gallery is too small for trials of its own; the thresholds come from the measurements of the model package.
    PackageCalibration,
    /// Neither the gallery nor the package has non-mated similarities.
    NoCalibration,
    /// The gallery changed after the thresholds were computed: its size, the quality of its templates, its model or its
    /// pooling. An automatic calibration is recomputed; a pinned one waits for its operator.
    CalibrationStale,
    /// The expected number of errors among the trials at the target is below one: the threshold is extrapolated on the
    /// fitted tail.
    Extrapolated,
    /// The expected number of errors among the trials at the target is below three: even without an observed error the
    /// target does not hold with 95 % confidence (rule of three).
    Unsupported,
    /// The best similarity lies between the two thresholds.
    BetweenThresholds,
    /// The second candidate is about as similar as the best.
    SmallMargin,
    /// The sample shows a presentation attack (a print, a screen, a mask).
    PadFailed,
    /// The policy requires presentation-attack detection, and it was not possible: no whole photo, or no model.
    PadNotEvaluated,
    /// The face has fewer pixels than the policy requires.
    FaceTooSmall,
    /// The body has fewer pixels than the policy requires.
    BodyTooSmall,
    /// The sharpness is below the policy's minimum.
    Blurred,
    /// The noise is above the policy's maximum.
    TooNoisy,
    /// The brightness is below the policy's minimum.
    TooDark,
    /// The brightness is above the policy's maximum.
    TooBright,
    /// The yaw or pitch of the face exceeds the policy's maximum.
    TurnedAway,
    /// The detection score is below the policy's minimum.
    DetectionWeak,
    /// The norm of the embedding is below the policy's minimum.
    EmbeddingWeak,
    /// The walk has fewer frames than the policy requires.
    TooFewFrames,
    /// The share of joints seen, or their mean score, is below the policy's minimum.
    TooFewJoints,
    /// The quality score is below the policy's minimum.
    LowQuality,
    /// The sample is unlike those of the calibration: no error rate is known for it.
    OutsideCalibration,
    /// A human should decide, but the server's limit of undecided cases is reached: no case was opened.
    ReviewFull,
    /// The learnt posterior made the decision; thresholds had no part in it.
    LearntDecision,
    /// One modality by itself makes it ten to one or more that it is the best candidate, and another speaks as much
    /// against it. NEW is not said then.
    ModalityConflict,
    /// A modality without a calibration was ignored.
    ModalityUncalibrated,
    /// The answer was UNCERTAIN, and the verdicts on such answers show that at least 99 % of their best candidates are
    /// right.
    AutoAccepted,
    /// A human should decide, but the review budget is spent or reserved for less certain answers: no case was opened.
    ReviewShareSpent,
    /// The answer is about several sightings of the person, not about this one alone.
    SeveralSightings,
    /// The sightings together are similar enough to an identity, but not each of them points to it.
    SightingsDisagree,
}

impl Reason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EmptyGallery => "empty_gallery",
            Self::PackageCalibration => "package_calibration",
            Self::NoCalibration => "no_calibration",
            Self::CalibrationStale => "calibration_stale",
            Self::Extrapolated => "extrapolated",
            Self::Unsupported => "unsupported",
            Self::BetweenThresholds => "between_thresholds",
            Self::SmallMargin => "small_margin",
            Self::PadFailed => "pad_failed",
            Self::PadNotEvaluated => "pad_not_evaluated",
            Self::FaceTooSmall => "face_too_small",
            Self::BodyTooSmall => "body_too_small",
            Self::Blurred => "blurred",
            Self::TooNoisy => "too_noisy",
            Self::TooDark => "too_dark",
            Self::TooBright => "too_bright",
            Self::TurnedAway => "turned_away",
            Self::DetectionWeak => "detection_weak",
            Self::EmbeddingWeak => "embedding_weak",
            Self::TooFewFrames => "too_few_frames",
            Self::TooFewJoints => "too_few_joints",
            Self::LowQuality => "low_quality",
            Self::OutsideCalibration => "outside_calibration",
            Self::ReviewFull => "review_full",
            Self::LearntDecision => "learnt_decision",
            Self::ModalityConflict => "modality_conflict",
            Self::ModalityUncalibrated => "modality_uncalibrated",
            Self::AutoAccepted => "auto_accepted",
            Self::ReviewShareSpent => "review_share_spent",
            Self::SeveralSightings => "several_sightings",
            Self::SightingsDisagree => "sightings_disagree",
        }
    }
}

/// The rule of the open-set decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenSetRule {
    /// Compares the best similarity with thresholds from the calibration.
    Thresholds,
    /// Compares the posterior of a decider, which was trained on simulated galleries, with thresholds from a rehearsal of
    /// the gallery. Works with a handful of enrolled people.
    #[default]
    Posterior,
}

/// The trials that thresholds come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdSource {
    /// The gallery against itself.
    Rehearsal,
    /// People who are not enrolled against the gallery.
    Outsiders,
    /// The measurements of the model package.
    Package,
    /// There are no thresholds.
    None,
}

impl ThresholdSource {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rehearsal => "rehearsal",
            Self::Outsiders => "outsiders",
            Self::Package => "package",
            Self::None => "none",
        }
    }
}

/// The thresholds in use and their error rates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// The target FPIR at this gallery size.
    pub target_fpir: f64,
    /// The target share of mated probes that are NEW. `None` in records from before the target.
    #[serde(default)]
    pub target_duplicates: Option<f64>,
    /// The target FMR of a verification.
    pub target_fmr: f64,
    /// KNOWN at or above this similarity. `None` without a calibration, and if the posterior decides.
    pub threshold_known: Option<Similarity>,
    /// NEW below this similarity.
    pub threshold_new: Option<Similarity>,
    /// A verification matches at or above this similarity.
    pub threshold_verify: Option<Similarity>,
    /// KNOWN at or above this posterior, if no other candidate comes near. `None` if the similarity decides.
    #[serde(default)]
    pub posterior_known: Option<f64>,
    /// NEW below this posterior.
    #[serde(default)]
    pub posterior_new: Option<f64>,
    /// Several modalities: KNOWN at or above this log-likelihood ratio, if no other candidate comes near. The
    /// thresholds of similarity are then absent.
    #[serde(default)]
    pub evidence_known: Option<f64>,
    /// Several modalities: NEW below this log-likelihood ratio. `None` if the odds decide because trials are too few.
    #[serde(default)]
    pub evidence_new: Option<f64>,
    /// Several modalities: a verification matches at or above this log-likelihood ratio.
    #[serde(default)]
    pub evidence_verify: Option<f64>,
    /// The expected FNIR at the threshold for KNOWN: the share of mated probes that a resolve misses. `None` without mated
    /// trials.
    pub expected_fnir: Option<f64>,
    /// The expected share of UNCERTAIN answers to mated probes. `None` without mated trials.
    #[serde(default)]
    pub expected_uncertain_mated: Option<f64>,
    /// The expected share of UNCERTAIN answers to non-mated probes. `None` without trials.
    #[serde(default)]
    pub expected_uncertain_nonmated: Option<f64>,
    /// Upper bound of the FPIR at the threshold for KNOWN with 95 % confidence, from the trials and at this gallery size.
    /// `None` without a calibration.
    #[serde(default)]
    pub fpir_upper_bound: Option<f64>,
    /// Upper bound of the FMR at the threshold of verify with 95 % confidence. `None` without a calibration.
    #[serde(default)]
    pub fmr_upper_bound: Option<f64>,
    /// Number of impostor trials behind the threshold of verify.
    #[serde(default)]
    pub impostor_trials: u64,
    pub source: ThresholdSource,
    /// The pinned calibration; `None` for an automatic one.
    #[serde(default)]
    pub calibration: Option<CalibrationId>,
    /// Number of non-mated trials behind the thresholds.
    pub trials: u64,
    /// Number of identities in the searched gallery.
    pub gallery_identities: u64,
}
