//! What resolve, verify and search answer.

use serde::{Deserialize, Serialize};

use super::{CalibrationId, IdentityId, Modality, Similarity, SpaceName, TemplateId};

/// One identity of an answer, by its most similar template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub identity: IdentityId,
    pub template: TemplateId,
    pub similarity: Similarity,
    /// What the modalities of a probe say together, where it has several; then template and similarity are those of the
    /// modality that speaks most for the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fused: Option<Fused>,
}

/// The evidence of several modalities that a probe is of one identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fused {
    /// ln of how much likelier all of it is of the identity than of somebody else.
    pub log_likelihood_ratio: f64,
    /// How likely the probe is of the identity, where one probe of two is of somebody who is enrolled.
    pub posterior: f64,
    /// What each modality says, in the order of the probe's. One that the identity has no template of says nothing.
    pub evidence: Vec<ModalityEvidence>,
}

/// What one modality says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModalityEvidence {
    pub modality: Modality,
    pub model: SpaceName,
    /// The identity's most similar template.
    pub template: TemplateId,
    pub similarity: Similarity,
    /// ln of how much likelier the similarity is of the identity than of somebody else, after its age was allowed for and
    /// before it was weighted.
    pub log_likelihood_ratio: f64,
}

/// The open-set answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// The best candidate is the person.
    Known,
    /// Nobody here matches.
    New,
    /// The numbers do not tell; a human should look.
    Uncertain,
    /// The sample is unfit to decide from.
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

/// Why an answer is what it is, or what to keep in mind with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nobody is enrolled in this space yet.
    EmptyGallery,
    /// The gallery is too small to rehearse; the thresholds come from the model package's own measurements.
    PackageCalibration,
    /// Neither the gallery nor the package knows how similar strangers are.
    NoCalibration,
    /// The gallery has moved since the thresholds were made: its size, the quality of its templates, its model or its
    /// pooling. An automatic calibration is being made anew; a pinned one waits for its operator.
    CalibrationStale,
    /// Less than one error is to be expected among the trials at the target: its threshold lies beyond what was seen, on
    /// the fitted tail.
    Extrapolated,
    /// Less than three errors are to be expected among the trials at the target: even if none had been seen, nobody could
    /// be 95 % sure that the promise holds.
    Unsupported,
    /// The best similarity lies between the two thresholds.
    BetweenThresholds,
    /// The runner-up is about as similar as the best.
    SmallMargin,
    /// The sample shows a presentation attack: a print, a screen, a mask.
    PadFailed,
    /// The policy asks for a living person, and nobody could look: no whole photo, or no model for it.
    PadNotEvaluated,
    /// The face has fewer pixels than the policy asks for.
    FaceTooSmall,
    /// The body has fewer pixels than the policy asks for.
    BodyTooSmall,
    Blurred,
    TooNoisy,
    TooDark,
    TooBright,
    /// The face is turned to the side, up or down by more than the policy allows.
    TurnedAway,
    /// The detector was less sure than the policy asks for.
    DetectionWeak,
    /// The encoder's answer is shorter than the policy asks for.
    EmbeddingWeak,
    TooFewFrames,
    /// The pose estimator saw too few joints, or saw them too poorly.
    TooFewJoints,
    /// The quality score is below what the policy asks for.
    LowQuality,
    /// A human should look, and as many cases wait as the server allows: none was opened.
    ReviewFull,
    /// The policy leaves the decision to the learnt posterior; thresholds had no part in it.
    LearntDecision,
    /// One modality by itself makes it ten to one or more that it is the best candidate, and another speaks as much against it.
    /// NEW is not said then.
    ModalityConflict,
    /// Nothing is known yet of what the similarities of a modality are worth, so it was left out.
    ModalityUncalibrated,
    /// The numbers did not tell, and verdicts on answers like this one show that at least 99 % of them are right.
    AutoAccepted,
    /// A human should look, and the share of questions is spent or kept for answers of which less is known: none was asked.
    ReviewShareSpent,
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
            Self::ReviewFull => "review_full",
            Self::LearntDecision => "learnt_decision",
            Self::ModalityConflict => "modality_conflict",
            Self::ModalityUncalibrated => "modality_uncalibrated",
            Self::AutoAccepted => "auto_accepted",
            Self::ReviewShareSpent => "review_share_spent",
        }
    }
}

/// What decides whether a probe is of somebody who is enrolled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenSetRule {
    /// The best similarity, held against thresholds that follow from the calibration.
    #[default]
    Thresholds,
    /// The posterior that was learnt from simulated galleries: works from a handful of people on, and its promise has been
    /// measured on few real sets.
    Posterior,
}

/// Where thresholds came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdSource {
    /// The gallery rehearsed itself.
    Rehearsal,
    /// People who are not enrolled were tried against it.
    Outsiders,
    /// The model package's measurements.
    Package,
    /// There are none.
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

/// The thresholds in force and the errors they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// The share of strangers that may come back as somebody, at this gallery size.
    pub target_fpir: f64,
    /// The share of impostors that a verification may accept.
    pub target_fmr: f64,
    /// At or above: KNOWN. `None` when there is no calibration.
    pub threshold_known: Option<Similarity>,
    /// Below: NEW.
    pub threshold_new: Option<Similarity>,
    /// At or above: a verification matches.
    pub threshold_verify: Option<Similarity>,
    /// Of several modalities: KNOWN where the log-likelihood ratio reaches this and nobody else's comes near. Then there are
    /// no thresholds of similarity.
    #[serde(default)]
    pub evidence_known: Option<f64>,
    /// Of several modalities: NEW below this. `None` where the odds decide, because too few were tried.
    #[serde(default)]
    pub evidence_new: Option<f64>,
    /// Of several modalities: a verification matches where the log-likelihood ratio reaches this.
    #[serde(default)]
    pub evidence_verify: Option<f64>,
    /// The share of enrolled people that a resolve at `threshold_known` misses, where genuine pairs are known.
    pub expected_fnir: Option<f64>,
    /// With 95 % confidence at most this share of strangers reaches `threshold_known`, by what the trials show and at this
    /// gallery size. `None` when there is no calibration.
    #[serde(default)]
    pub fpir_upper_bound: Option<f64>,
    pub source: ThresholdSource,
    /// The calibration that was pinned; `None` for one that is made automatically.
    #[serde(default)]
    pub calibration: Option<CalibrationId>,
    /// How many non-mated trials the thresholds rest on.
    pub trials: u64,
    /// How many identities the searched gallery holds.
    pub gallery_identities: u64,
}
