//! Identities and the templates they own.

use serde::{Deserialize, Serialize};

use super::{
    EmbeddingSpace, IdentityId, Labels, Position, ReviewCaseId, Revision, SpaceName, TemplateId, Timestamp, TrackReport,
};

/// A subject's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub id: IdentityId,
    pub labels: Labels,
    /// From then on the identity is nobody: no search finds it, and a sweep removes it.
    pub expire_time: Option<Timestamp>,
    pub revision: Revision,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

impl Identity {
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expire_time.is_some_and(|at| at <= now)
    }
}

/// What is known of a stored template beside its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    pub id: TemplateId,
    pub identity: IdentityId,
    pub space: EmbeddingSpace,
    /// What the space was called when the template was enrolled.
    pub model: SpaceName,
    pub origin: TemplateOrigin,
    /// Who said whose it is.
    #[serde(default)]
    pub assignment: Assignment,
    /// The quality score of the sample, 0 to 1; absent for embeddings that a client sent.
    #[serde(default)]
    pub quality: Option<f32>,
    /// What the template was pooled from, where that was a track.
    #[serde(default)]
    pub track: Option<TrackReport>,
    /// Where in the collection's log the template was admitted.
    pub position: Position,
    pub create_time: Timestamp,
}

/// Where the numbers came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateOrigin {
    /// An encoder here made them from a sample.
    Sample,
    /// A client sent them.
    Embedding,
}

/// Who said whose a template is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// The client that enrolled it, or a resolve that found nobody like it.
    #[default]
    Enrolled,
    /// The self-paced policy, after a resolve that could not tell, at this posterior. Taken back when verdicts show that such
    /// answers are wrong too often.
    Accepted { posterior: f64 },
    /// A reviewer. No policy moves it or takes it away; only whoever deletes it, or reopens its case, does.
    Certified(Certificate),
}

/// A human's word for whose a template is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// As the verdict names them.
    pub reviewer: String,
    /// Who sent the verdict, as the access layer found out.
    pub principal: String,
    /// The case that was decided.
    pub case: ReviewCaseId,
    pub time: Timestamp,
}
