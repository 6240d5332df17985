//! Work that takes longer than a request: looks at everybody in a collection, which somebody asks for and comes back to.

use serde::{Deserialize, Serialize};

use super::{
    CalibrationId, IdentityId, OperationId, Reason, Similarity, SpaceName, TemplateId, ThresholdSource, Timestamp,
};

/// A piece of work, where it stands, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub id: OperationId,
    pub kind: OperationKind,
    pub state: OperationState,
    pub progress: Progress,
    pub create_time: Timestamp,
    /// When its server was last heard of.
    pub update_time: Timestamp,
    /// From then on it is gone, with what it found.
    pub expire_time: Timestamp,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Finds identities that look like one person.
    FindDuplicates,
    /// Groups templates by how alike they are, whatever names they bear.
    ClusterTemplates,
}

impl OperationKind {
    pub const ALL: [Self; 2] = [Self::FindDuplicates, Self::ClusterTemplates];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FindDuplicates => "find_duplicates",
            Self::ClusterTemplates => "cluster_templates",
        }
    }
}

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    Running {
        /// Somebody asked for its end; its server has not seen that yet.
        cancelled: bool,
    },
    Ended(OperationOutcome),
}

/// How it ended. It never changes again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationOutcome {
    Failed {
        failure: OperationFailure,
        /// What to do, in a sentence.
        message: String,
    },
    Succeeded(OperationSummary),
}

/// Why it found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationFailure {
    /// Somebody asked for its end.
    Cancelled,
    /// Its server stopped, or has not been heard of for too long.
    ServerStopped,
    /// Nothing says how alike strangers are, and no level was given.
    NoCalibration,
    /// More was found than a server keeps.
    TooMuchFound,
    Internal,
}

impl OperationFailure {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::ServerStopped => "server_stopped",
            Self::NoCalibration => "no_calibration",
            Self::TooMuchFound => "too_much_found",
            Self::Internal => "internal",
        }
    }
}

/// How far it has come, in pairs of templates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    /// 0 until it is known.
    pub total: u64,
}

/// What was looked at, and by which level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationSummary {
    /// What the space is called.
    pub model: SpaceName,
    /// Whose templates were compared.
    pub identities: u64,
    pub templates: u64,
    /// From this similarity on two were taken for one.
    pub level: Similarity,
    /// How many pairs of strangers are to be expected at that level. `None` where nobody knows how alike strangers are.
    pub false_pairs: Option<f64>,
    /// How far the calibration carries the level.
    pub reasons: Vec<Reason>,
    pub source: ThresholdSource,
    /// The calibration that was pinned; `None` for one that is made automatically.
    pub calibration: Option<CalibrationId>,
    /// Of groups: templates that are alone and whose identity is in no other group. They are not among the findings.
    pub alone: u64,
}

/// One thing that was found. `T` names a template: by its id alone, or with the identity that it belongs to now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SurveyFinding<T> {
    /// Two identities that look like one person, and the two of their templates that are most alike.
    Pair {
        templates: [T; 2],
        similarity: Similarity,
        /// What the similarity is worth as evidence, ln(genuine / impostor); `None` where trials are too few.
        llr: Option<f64>,
        /// Both templates were made from one image.
        same_image: bool,
    },
    /// A template of a group.
    Member { group: u32, template: T },
}

/// A template and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    pub template: TemplateId,
    pub identity: IdentityId,
}
