//! Review cases: what resolve could not tell, kept until a human has looked.

use serde::{Deserialize, Serialize};

use super::{
    Candidate, DecisionId, EmbeddingSpace, IdentityId, Labels, Modality, OperatingPoint, Pooling, Reason, ReviewCaseId,
    Revision, SampleReport, Similarity, SpaceName, TemplateId, Timestamp,
};

/// When cases are opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewPolicy {
    /// Never: UNCERTAIN is an answer, and nothing of the sample is kept.
    #[default]
    Off,
    /// A resolve with `ENROLL_IF_NEW` that answers UNCERTAIN opens a case.
    Uncertain,
    /// Such a resolve is settled as verdicts have shown that it may be, or opens a case while there is room in the share of
    /// questions, or does neither.
    SelfPaced,
}

/// A question to a human: is this one of the candidates, or somebody new?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewCase {
    pub id: ReviewCaseId,
    /// The answer of resolve that opened it.
    pub decision: DecisionId,
    pub reasons: Vec<Reason>,
    /// The most similar first.
    pub candidates: Vec<Candidate>,
    pub operating_point: OperatingPoint,
    /// What was known of the best candidate. Absent where there was none, and of cases from before this was kept.
    #[serde(default)]
    pub doubt: Option<Doubt>,
    pub modality: Modality,
    pub model: SpaceName,
    /// For the identity, should it be new.
    pub labels: Labels,
    /// What was seen in each sample, in order.
    pub samples: Vec<SampleReport>,
    pub state: ReviewState,
    pub revision: Revision,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    /// From then on the case and its samples are gone.
    pub expire_time: Timestamp,
}

/// What was known of the best candidate when the question was asked. It tells of neither a person nor a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Doubt {
    /// Of the probe.
    pub space: EmbeddingSpace,
    /// How templates spoke together in the similarity.
    pub pooling: Pooling,
    pub similarity: Similarity,
    /// How far the runner-up was behind.
    pub margin: Option<f32>,
    pub posterior: Option<f64>,
    pub selection: Selection,
}

/// What made a doubtful resolve a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Its similarity alone, or chance beside it.
    Blind,
    /// Its posterior had a part in it. Given the similarity, such trials are not as others are: those picked near even odds
    /// are right half the time, whatever their similarity.
    ByPosterior,
}

/// A doubt and what a verdict said of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewTrial {
    /// The case that was decided; it may be gone.
    pub case: ReviewCaseId,
    pub doubt: Doubt,
    /// The best candidate was the person.
    pub was_right: bool,
    /// Of the verdict.
    pub time: Timestamp,
}

/// Where a case stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewState {
    /// Nobody has looked.
    Open,
    /// Somebody looks at it; open again once the lease has run out.
    Claimed {
        reviewer: String,
        until: Timestamp,
    },
    Decided(Outcome),
}

/// What a case may be asked for by.
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

/// What a human said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is this person.
    SameAs(IdentityId),
    /// It is nobody who was enrolled; the id for the identity that is made, where one was chosen.
    New(Option<IdentityId>),
    /// The sample is of no use.
    Discard,
}

/// A verdict and what followed from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub verdict: Verdict,
    /// Whom the samples belong to now; nobody's when they were discarded.
    pub identity: Option<IdentityId>,
    /// The verdict made the identity.
    pub made: bool,
    /// The samples' templates, where they were enrolled.
    pub templates: Vec<TemplateId>,
    pub reviewer: String,
    pub time: Timestamp,
}

impl ReviewCase {
    /// Where the case stands at an instant: a lease that has run out holds nothing.
    #[must_use]
    pub fn stage(&self, now: Timestamp) -> ReviewStage {
        match &self.state {
            ReviewState::Claimed { until, .. } if *until > now => ReviewStage::Claimed,
            ReviewState::Open | ReviewState::Claimed { .. } => ReviewStage::Open,
            ReviewState::Decided(_) => ReviewStage::Decided,
        }
    }

    /// Who else than this reviewer holds it.
    #[must_use]
    pub fn held_by_another(&self, reviewer: &str, now: Timestamp) -> bool {
        matches!(&self.state, ReviewState::Claimed { reviewer: holder, until } if *until > now && holder != reviewer)
    }

    /// The next revision of the case, in another state.
    #[must_use]
    pub fn moved(self, state: ReviewState, now: Timestamp) -> Self {
        Self { state, revision: self.revision.next(), update_time: now, ..self }
    }

    /// Whether the best candidate is the person, by a verdict; `None` where the verdict does not say, or there was none.
    #[must_use]
    pub fn was_right(&self, verdict: &Verdict) -> Option<bool> {
        let best = self.candidates.first()?;
        match verdict {
            Verdict::SameAs(id) => Some(best.identity == *id),
            Verdict::New(_) => Some(false),
            Verdict::Discard => None,
        }
    }

    /// Whose the samples are by a verdict.
    #[must_use]
    pub fn identity(&self) -> Option<&IdentityId> {
        match &self.state {
            ReviewState::Decided(outcome) => outcome.identity.as_ref(),
            ReviewState::Open | ReviewState::Claimed { .. } => None,
        }
    }
}
