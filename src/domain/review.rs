//! Review cases: UNCERTAIN answers of resolve, stored until a reviewer decides.

use serde::{Deserialize, Serialize};

use super::{
    Candidate, DecisionId, EmbeddingSpace, IdentityId, Labels, Modality, OperatingPoint, Pooling, Reason, ReviewCaseId,
    Revision, SampleReport, Similarity, SpaceName, TemplateId, Timestamp,
};

/// When a resolve opens a case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewPolicy {
    /// Never: UNCERTAIN is only an answer, and the sample is not stored.
    #[default]
    Off,
    /// A resolve with `ENROLL_IF_NEW` that answers UNCERTAIN opens a case.
    Uncertain,
    /// Such a resolve accepts its best candidate if the verdicts so far allow it, or opens a case while the review
    /// budget allows it, or does neither.
    SelfPaced,
}

/// A question to a reviewer: is the probe of one of the candidates, or of a person who is not enrolled?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewCase {
    pub id: ReviewCaseId,
    /// The decision of the resolve that opened it.
    pub decision: DecisionId,
    pub reasons: Vec<Reason>,
    /// In order of similarity, highest first.
    pub candidates: Vec<Candidate>,
    pub operating_point: OperatingPoint,
    /// The evidence for the best candidate. `None` without a candidate, and for cases stored before this field existed.
    #[serde(default)]
    pub doubt: Option<CandidateEvidence>,
    pub modality: Modality,
    pub model: SpaceName,
    /// Labels for the identity if the verdict creates one.
    pub labels: Labels,
    /// The measurements of each sample, in order.
    pub samples: Vec<SampleReport>,
    pub state: ReviewState,
    pub revision: Revision,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    /// From this instant the case and its samples no longer exist.
    pub expire_time: Timestamp,
}

/// The evidence for the best candidate when the case was opened. It identifies neither a person nor a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CandidateEvidence {
    /// The space of the probe.
    pub space: EmbeddingSpace,
    /// The pooling of the similarity.
    pub pooling: Pooling,
    pub similarity: Similarity,
    /// Similarity of the best candidate minus that of the second; `None` without a second.
    pub margin: Option<f32>,
    /// The posterior of the best candidate, 0 to 1.
    pub posterior: Option<f64>,
    pub selection: CaseSelection,
}

/// Why a case was opened for an UNCERTAIN answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseSelection {
    /// By the similarity alone, or at random.
    Blind,
    /// The posterior had a part in it. Such trials are biased given the similarity: those chosen near even odds are
    /// right half the time, whatever their similarity.
    ByPosterior,
}

/// The evidence of a case, and its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewTrial {
    /// The decided case; it may have been deleted.
    pub case: ReviewCaseId,
    pub doubt: CandidateEvidence,
    /// The probe was of the best candidate.
    pub was_right: bool,
    /// The time of the verdict.
    pub time: Timestamp,
}

/// The state of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewState {
    /// Waits for a reviewer.
    Open,
    /// A reviewer holds it; open again after the lease.
    Claimed {
        reviewer: String,
        until: Timestamp,
    },
    Decided(ReviewOutcome),
}

/// The stages by which cases are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewStage {
    Open,
    Claimed,
    Decided,
}

impl ReviewStage {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Claimed => "claimed",
            Self::Decided => "decided",
        }
    }
}

/// A reviewer's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The probe is of this identity.
    SameAs(IdentityId),
    /// The probe is of a person who is not enrolled; with the id for the new identity, if the reviewer chose one.
    New(Option<IdentityId>),
    /// The sample is unusable.
    Discard,
}

/// A verdict and its effects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewOutcome {
    pub verdict: Verdict,
    /// The identity of the samples; `None` if they were discarded.
    pub identity: Option<IdentityId>,
    /// The verdict created the identity.
    pub made: bool,
    /// The templates of the samples, if they were enrolled.
    pub templates: Vec<TemplateId>,
    pub reviewer: String,
    pub time: Timestamp,
}

impl ReviewCase {
    /// The stage at an instant: an expired lease no longer counts.
    #[must_use]
    pub fn stage(&self, now: Timestamp) -> ReviewStage {
        match &self.state {
            ReviewState::Claimed { until, .. } if *until > now => ReviewStage::Claimed,
            ReviewState::Open | ReviewState::Claimed { .. } => ReviewStage::Open,
            ReviewState::Decided(_) => ReviewStage::Decided,
        }
    }

    /// Whether another reviewer holds it at `now`.
    #[must_use]
    pub fn held_by_another(&self, reviewer: &str, now: Timestamp) -> bool {
        matches!(&self.state, ReviewState::Claimed { reviewer: holder, until } if *until > now && holder != reviewer)
    }

    /// The next revision of the case, in a new state.
    #[must_use]
    pub fn with_state(self, state: ReviewState, now: Timestamp) -> Self {
        Self { state, revision: self.revision.next(), update_time: now, ..self }
    }

    /// Whether a verdict confirms the best candidate; `None` if there is no candidate or the samples were discarded.
    #[must_use]
    pub fn was_right(&self, verdict: &Verdict) -> Option<bool> {
        let best = self.candidates.first()?;
        match verdict {
            Verdict::SameAs(id) => Some(best.identity == *id),
            Verdict::New(_) => Some(false),
            Verdict::Discard => None,
        }
    }

    /// The identity that the verdict assigned the samples to.
    #[must_use]
    pub fn identity(&self) -> Option<&IdentityId> {
        match &self.state {
            ReviewState::Decided(outcome) => outcome.identity.as_ref(),
            ReviewState::Open | ReviewState::Claimed { .. } => None,
        }
    }
}
