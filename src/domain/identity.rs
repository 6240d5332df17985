//! Identities and the templates they own.

use serde::{Deserialize, Serialize};

use super::{
    EmbeddingSpace, IdentityId, Labels, Position, ReviewCaseId, Revision, SpaceName, TemplateId, Timestamp, TrackReport,
};

/// Default maximum of the templates that a provisional identity keeps.
pub const PROVISIONAL_TEMPLATES_MAX: u64 = 16;

/// The record of an enrolled person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub id: IdentityId,
    pub labels: Labels,
    /// From this instant no search finds the identity, and a sweep removes it.
    pub expire_time: Option<Timestamp>,
    /// The identity stands for sightings of a person that no answer has decided yet. Searches do not find it, and no
    /// promised rate counts it.
    #[serde(default)]
    pub provisional: bool,
    pub revision: Revision,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
}

impl Identity {
    /// Whether the identity has expired at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expire_time.is_some_and(|at| at <= now)
    }
}

/// A template without its embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    pub id: TemplateId,
    pub identity: IdentityId,
    pub space: EmbeddingSpace,
    /// The name of the space when the template was enrolled.
    pub model: SpaceName,
    pub origin: TemplateOrigin,
    /// The authority that assigned the template to the identity.
    #[serde(default)]
    pub assignment: Assignment,
    /// The quality score of the sample, 0 to 1; `None` for embeddings that a client sent.
    #[serde(default)]
    pub quality: Option<f32>,
    /// The track that the template was pooled from, if any.
    #[serde(default)]
    pub track: Option<TrackReport>,
    /// The log position of the entry that admitted the template.
    pub position: Position,
    pub create_time: Timestamp,
}

/// The origin of an embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateOrigin {
    /// An encoder of the server computed it from a sample.
    Sample,
    /// A client sent it.
    Embedding,
}

/// The authority that assigned a template to its identity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// The client that enrolled it, or a resolve that answered NEW.
    #[default]
    Enrolled,
    /// The self-paced policy, after an UNCERTAIN answer at this posterior (0 to 1). Removed when verdicts show that
    /// such answers are wrong too often.
    Accepted { posterior: f64 },
    /// A reviewer. No policy removes it; only its deletion, or reopening its case, does.
    Certified(Certificate),
}

/// A reviewer's assignment of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The reviewer's name in the verdict.
    pub reviewer: String,
    /// The authenticated sender of the verdict.
    pub principal: String,
    /// The decided case.
    pub case: ReviewCaseId,
    pub time: Timestamp,
}
