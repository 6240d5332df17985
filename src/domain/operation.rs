//! Long-running operations on a whole collection: a client starts one and polls for its result.

use serde::{Deserialize, Serialize};

use super::{
    CalibrationId, IdentityId, OperationId, Reason, Similarity, SpaceName, TemplateId, ThresholdSource, Timestamp,
};

/// An operation, its progress and its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub id: OperationId,
    pub kind: OperationKind,
    pub state: OperationState,
    pub progress: OperationProgress,
    pub create_time: Timestamp,
    /// The time of the worker's last heartbeat.
    pub update_time: Timestamp,
    /// From this instant the operation and its findings no longer exist.
    pub expire_time: Timestamp,
}

/// The kinds of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Finds pairs of identities that are probably one person.
    FindDuplicates,
    /// Groups templates by similarity, independent of their identities.
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

/// The state of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    Running {
        /// A client cancelled it; the worker has not stopped yet.
        cancelled: bool,
    },
    Ended(OperationOutcome),
}

/// The final result of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationOutcome {
    Failed {
        failure: OperationFailure,
        /// What the client can do, in a sentence.
        message: String,
    },
    Succeeded(OperationSummary),
}

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationFailure {
    /// A client cancelled it.
    Cancelled,
    /// Its server stopped, or its heartbeats were missing.
    ServerStopped,
    /// The space has no calibration, and the client gave no threshold.
    NoCalibration,
    /// More findings than the server stores.
    TooMuchFound,
    /// An error of the server.
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

/// Progress of an operation, in pairs of templates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationProgress {
    pub done: u64,
    /// 0 while unknown.
    pub total: u64,
}

/// What was compared, and at which threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationSummary {
    /// The name of the space.
    pub model: SpaceName,
    /// Number of identities whose templates were compared.
    pub identities: u64,
    pub templates: u64,
    /// The threshold: pairs at or above this similarity are findings.
    pub level: Similarity,
    /// Expected number of false pairs at that threshold. `None` without a calibration.
    pub false_pairs: Option<f64>,
    /// Cautions about the threshold.
    pub reasons: Vec<Reason>,
    pub source: ThresholdSource,
    /// The pinned calibration; `None` for an automatic one.
    pub calibration: Option<CalibrationId>,
    /// Grouping: number of templates that are alone and whose identity is in no group. They are not among the findings.
    pub alone: u64,
}

/// A finding. `T` names a template: by its id, or with its present identity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SurveyFinding<T> {
    /// Two identities that are probably one person, with their most similar two templates.
    Pair {
        templates: [T; 2],
        similarity: Similarity,
        /// Natural logarithm of the likelihood ratio of the similarity, genuine against impostor; `None` if trials are
        /// too few.
        llr: Option<f64>,
        /// The cosine of both templates is at least [`SAME_IMAGE`](super::SAME_IMAGE), as that of one image is.
        same_image: bool,
        /// Somebody dismissed the pair. It is read with the findings, and not stored with them.
        dismissed: bool,
    },
    /// A template in a group.
    Member { group: u32, template: T },
}

/// A template and its present identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateOwner {
    pub template: TemplateId,
    pub identity: IdentityId,
}
