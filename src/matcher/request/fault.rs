//! The faults of the use cases, and their kinds.

use std::time::Duration;

use thiserror::Error;

use domain::{
    CalibrationId, CollectionId, DecisionId, EmbeddingError, FilterError, IdError, IdentityId, LabelsError, Modality,
    OperationId, PolicyError, Reason, RegroupingId, ReviewCaseId, SpaceName, TemplateId,
};
use encoder::{EncoderError, Overloaded};
use gallery::GalleryError;
use store::StoreError;

/// Why a use case has no answer. The displayed text is safe for the caller: it contains names of the request, never data of
/// others.
#[derive(Debug, Error)]
pub enum Fault {
    #[error("{field}: {problem}")]
    Invalid { field: String, problem: String },
    #[error("there is no collection {0}")]
    NoCollection(CollectionId),
    #[error("there is no identity {0} in this collection")]
    NoIdentity(IdentityId),
    #[error("there is no template {0} of this identity")]
    NoTemplate(TemplateId),
    #[error("there is no decision {0} in this collection; old records are removed")]
    NoDecision(DecisionId),
    #[error("there is no review case {0} in this collection; old cases are removed")]
    NoReviewCase(ReviewCaseId),
    #[error("another reviewer holds review case {0}; wait until the lease ends")]
    CaseHeld(ReviewCaseId),
    #[error("review case {0} is decided; reopen it to change the verdict")]
    CaseDecided(ReviewCaseId),
    #[error("review case {0} is not decided, so it cannot be reopened")]
    CaseUndecided(ReviewCaseId),
    #[error("there is no model {0}; GET /v1/models lists the loaded models")]
    NoModel(SpaceName),
    #[error("there is no calibration {0} of this collection")]
    NoCalibration(CalibrationId),
    #[error("there is no operation {0} in this collection; old operations are removed")]
    NoOperation(OperationId),
    #[error("there is no identity {identity} in this collection: it was merged into {into}")]
    IdentityMerged { identity: IdentityId, into: IdentityId },
    #[error("identity {0} has expired")]
    IdentityExpired(IdentityId),
    #[error("there is no merge or split {0} in this collection; its record goes with its identity")]
    NoRegrouping(RegroupingId),
    #[error("identity {0} has no merge or split that can be reverted")]
    NothingToRevert(IdentityId),
    #[error("the merge or split {0} is already reverted")]
    AlreadyReverted(RegroupingId),
    #[error("{kind} {id} cannot be reverted as a whole: {}", .problems.join("; "))]
    RevertBlocked { kind: &'static str, id: RegroupingId, problems: Vec<String> },
    #[error("a split leaves at least one template with identity {0}; name fewer templates")]
    SplitLeavesNothing(IdentityId),
    #[error(
        "identity {identity} would have {templates} templates, and {limit} are the maximum of this server; delete some first"
    )]
    WouldBeTooMany { identity: IdentityId, templates: u64, limit: u64 },
    #[error(
        "operation {operation} found no pair of {} and {}; one may be merged or erased since", identities[0], identities[1]
    )]
    NoFinding { operation: OperationId, identities: [IdentityId; 2] },
    #[error("collection {0} already exists")]
    CollectionExists(CollectionId),
    #[error("identity {0} already exists; enroll adds templates to it")]
    IdentityExists(IdentityId),
    #[error("identity {0} is provisional: update it with provisional = false, or merge it into an enrolled identity")]
    IdentityProvisional(IdentityId),
    #[error("the record has changed since it was read and has another etag; read it again")]
    EtagMoved,
    #[error("this request id belongs to another request; choose a new one")]
    RequestIdReused,
    #[error(
        "no {0} model is loaded, so a {0} sample cannot be encoded; install one with `semblance models pull`, or send embeddings"
    )]
    NoEncoder(Modality),
    #[error(
        "the {modality} gallery of this collection needs the model {model}, and no loaded model has its digest; install that package again, or send its embeddings"
    )]
    EncoderGone { modality: Modality, model: SpaceName },
    #[error(
        "the {modality} gallery of this collection holds embeddings of {model}; send embeddings of that space, not samples"
    )]
    ExternalSpace { modality: Modality, model: SpaceName },
    #[error(
        "the {modality} gallery of this collection is searched in the space {active}; this embedding is of {given}, and the two do not compare"
    )]
    OtherSpace { modality: Modality, active: SpaceName, given: SpaceName },
    #[error("the space {0} is unknown here: it is neither a loaded model nor declared by the collection")]
    UnknownSpace(SpaceName),
    #[error("this collection has another space named {0}; embeddings of the two do not compare")]
    SpaceNameTaken(SpaceName),
    #[error("identity {identity} has {limit} templates, the maximum of this server; delete some first")]
    TooManyTemplates { identity: IdentityId, limit: u64 },
    #[error("this collection has {0} calibrations, the maximum of this server; delete some first")]
    TooManyCalibrations(u64),
    #[error(
        "the gallery of {model} makes {trials} trials and {needed} are needed; enroll more, or send {needed} outsiders, and \
         until then automatic calibrations apply"
    )]
    TooFewTrials { model: SpaceName, trials: usize, needed: usize },
    #[error("this collection has no {0} templates, so there is nothing to calibrate")]
    NothingToCalibrate(Modality),
    #[error(
        "no modality of the probe is calibrated yet, so their evidence cannot be fused; enroll more, or send samples of one \
         modality"
    )]
    NothingToWeigh,
    #[error("this collection has no {0} templates, so there is nothing to compare")]
    NothingToCompare(Modality),
    #[error(
        "the {0} gallery of this collection has no calibration: it has too few templates, and its model package has no \
         measurements; send minSimilarity"
    )]
    NoLevel(Modality),
    #[error("{0} operations of this collection are running, the maximum of this server; wait for one, or cancel one")]
    TooManyOperations(u64),
    #[error("the gallery is full: it has {0} templates, the maximum of this server")]
    GalleryFull(u64),
    #[error("this server has not received that write yet; try again in a moment")]
    NotCaughtUp,
    #[error("{problem}")]
    UnusableSample {
        /// A stable code for programs.
        code: &'static str,
        problem: String,
    },
    #[error("the collection's policy refuses samples[{sample}]: {}", codes(reasons))]
    Refused { sample: usize, reasons: Vec<Reason> },
    #[error("the server is busy; try again later")]
    Busy { retry_after: Duration },
    #[error("the deadline of the request passed before the answer")]
    TooLate,
    #[error("the server is stopping; try another replica, or this one in a moment")]
    ShuttingDown,
    #[error("the database is not available; searches work, writes must wait")]
    StoreUnavailable(#[source] StoreError),
    #[error(
        "the database did not confirm this write, so it may be stored or not; read the record, or repeat the request: with \
         the same request id it is written once"
    )]
    OutcomeUnknown(#[source] StoreError),
    #[error("internal error; see the log of the server")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The code of an unusable sample without a more specific code.
const UNUSABLE: &str = "UNUSABLE_SAMPLE";

/// The kind of a fault. `api` maps each kind to a gRPC and an HTTP status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The request is invalid, whatever the state of the server.
    InvalidArgument,
    /// A picture, gait sequence or embedding that cannot be used.
    UnusableSample,
    NotFound,
    AlreadyExists,
    /// The request is valid, but not in the present state.
    FailedPrecondition,
    /// A concurrent change came first; read again and retry.
    Aborted,
    /// Busy: retry after a while.
    ResourceExhausted,
    DeadlineExceeded,
    Unavailable,
    Internal,
}

impl FaultKind {
    pub const ALL: [Self; 10] = [
        Self::InvalidArgument,
        Self::UnusableSample,
        Self::NotFound,
        Self::AlreadyExists,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::ResourceExhausted,
        Self::DeadlineExceeded,
        Self::Unavailable,
        Self::Internal,
    ];
}

impl Fault {
    #[expect(clippy::needless_pass_by_value, reason = "an error or a sentence, as it comes")]
    pub fn invalid(field: impl Into<String>, problem: impl ToString) -> Self {
        Self::Invalid { field: field.into(), problem: problem.to_string() }
    }

    pub fn unusable(code: &'static str, problem: &impl ToString) -> Self {
        Self::UnusableSample { code, problem: problem.to_string() }
    }

    /// The same fault with the index of the sample.
    pub(crate) fn of_sample(self, at: usize) -> Self {
        match self {
            Self::UnusableSample { code, problem } => {
                Self::UnusableSample { code, problem: format!("samples[{at}]: {problem}") }
            }
            fault => fault,
        }
    }

    /// A full queue; a retry after one second may succeed.
    #[must_use]
    pub fn busy() -> Self {
        Self::Busy { retry_after: Duration::from_secs(1) }
    }

    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(source.into())
    }

    #[must_use]
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::Invalid { .. } | Self::UnknownSpace(_) => FaultKind::InvalidArgument,
            Self::UnusableSample { .. } | Self::Refused { .. } => FaultKind::UnusableSample,
            Self::NoCollection(_)
            | Self::NoIdentity(_)
            | Self::NoTemplate(_)
            | Self::NoDecision(_)
            | Self::NoReviewCase(_)
            | Self::NoModel(_)
            | Self::NoCalibration(_)
            | Self::NoOperation(_)
            | Self::IdentityMerged { .. }
            | Self::IdentityExpired(_)
            | Self::NoFinding { .. }
            | Self::NoRegrouping(_) => FaultKind::NotFound,
            Self::CollectionExists(_) | Self::IdentityExists(_) | Self::RequestIdReused => FaultKind::AlreadyExists,
            Self::NoEncoder(_)
            | Self::EncoderGone { .. }
            | Self::ExternalSpace { .. }
            | Self::OtherSpace { .. }
            | Self::SpaceNameTaken(_)
            | Self::IdentityProvisional(_)
            | Self::TooManyTemplates { .. }
            | Self::TooManyCalibrations(_)
            | Self::TooFewTrials { .. }
            | Self::NothingToWeigh
            | Self::NothingToCalibrate(_)
            | Self::NothingToCompare(_)
            | Self::NoLevel(_)
            | Self::GalleryFull(_)
            | Self::CaseDecided(_)
            | Self::CaseUndecided(_)
            | Self::NothingToRevert(_)
            | Self::AlreadyReverted(_)
            | Self::RevertBlocked { .. }
            | Self::SplitLeavesNothing(_)
            | Self::WouldBeTooMany { .. }
            | Self::NotCaughtUp => FaultKind::FailedPrecondition,
            Self::EtagMoved | Self::CaseHeld(_) => FaultKind::Aborted,
            Self::Busy { .. } | Self::TooManyOperations(_) => FaultKind::ResourceExhausted,
            Self::TooLate => FaultKind::DeadlineExceeded,
            Self::ShuttingDown | Self::StoreUnavailable(_) | Self::OutcomeUnknown(_) => FaultKind::Unavailable,
            Self::Internal(_) => FaultKind::Internal,
        }
    }

    /// A stable code for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "INVALID_ARGUMENT",
            Self::UnknownSpace(_) => "UNKNOWN_SPACE",
            Self::UnusableSample { code, .. } => code,
            Self::Refused { reasons, .. } if reasons.contains(&Reason::PadFailed) => "PAD_FAILED",
            Self::Refused { reasons, .. } if reasons.contains(&Reason::PadNotEvaluated) => "PAD_NOT_EVALUATED",
            Self::Refused { .. } => "LOW_QUALITY",
            Self::NoCollection(_) => "COLLECTION_NOT_FOUND",
            Self::NoIdentity(_) => "IDENTITY_NOT_FOUND",
            Self::NoTemplate(_) => "TEMPLATE_NOT_FOUND",
            Self::NoDecision(_) => "DECISION_NOT_FOUND",
            Self::NoReviewCase(_) => "REVIEW_CASE_NOT_FOUND",
            Self::CaseHeld(_) => "REVIEW_CASE_HELD",
            Self::CaseDecided(_) => "REVIEW_CASE_DECIDED",
            Self::CaseUndecided(_) => "REVIEW_CASE_UNDECIDED",
            Self::NoModel(_) => "MODEL_NOT_FOUND",
            Self::NoCalibration(_) => "CALIBRATION_NOT_FOUND",
            Self::NoOperation(_) => "OPERATION_NOT_FOUND",
            Self::NothingToCompare(_) => "EMPTY_GALLERY",
            Self::NoLevel(_) => "NO_CALIBRATION",
            Self::TooManyOperations(_) => "TOO_MANY_OPERATIONS",
            Self::IdentityMerged { .. } => "IDENTITY_MERGED",
            Self::IdentityExpired(_) => "IDENTITY_EXPIRED",
            Self::NoFinding { .. } => "FINDING_NOT_FOUND",
            Self::NoRegrouping(_) => "REGROUPING_NOT_FOUND",
            Self::NothingToRevert(_) => "NOTHING_TO_REVERT",
            Self::AlreadyReverted(_) => "ALREADY_REVERTED",
            Self::RevertBlocked { .. } => "REVERT_BLOCKED",
            Self::SplitLeavesNothing(_) => "SPLIT_LEAVES_NOTHING",
            Self::CollectionExists(_) | Self::IdentityExists(_) => "ALREADY_EXISTS",
            Self::IdentityProvisional(_) => "IDENTITY_PROVISIONAL",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::EtagMoved => "ETAG_MOVED",
            Self::NoEncoder(_) => "NO_MODEL",
            Self::EncoderGone { .. } => "MODEL_GONE",
            Self::ExternalSpace { .. } | Self::OtherSpace { .. } | Self::SpaceNameTaken(_) => "OTHER_EMBEDDING_SPACE",
            Self::TooManyTemplates { .. } | Self::WouldBeTooMany { .. } => "TOO_MANY_TEMPLATES",
            Self::TooManyCalibrations(_) => "TOO_MANY_CALIBRATIONS",
            Self::TooFewTrials { .. } | Self::NothingToCalibrate(_) | Self::NothingToWeigh => "TOO_FEW_TRIALS",
            Self::GalleryFull(_) => "GALLERY_FULL",
            Self::NotCaughtUp => "NOT_CAUGHT_UP",
            Self::Busy { .. } => "BUSY",
            Self::TooLate => "DEADLINE_EXCEEDED",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::StoreUnavailable(_) => "STORE_UNAVAILABLE",
            Self::OutcomeUnknown(_) => "OUTCOME_UNKNOWN",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// How long to wait before a retry; `None` when a retry does not help.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => Some(*retry_after),
            Self::ShuttingDown | Self::NotCaughtUp => Some(Duration::from_secs(1)),
            Self::StoreUnavailable(_) | Self::OutcomeUnknown(_) | Self::TooManyOperations(_) => {
                Some(Duration::from_secs(5))
            }
            Self::Invalid { .. }
            | Self::UnknownSpace(_)
            | Self::UnusableSample { .. }
            | Self::Refused { .. }
            | Self::NoCollection(_)
            | Self::NoIdentity(_)
            | Self::NoTemplate(_)
            | Self::NoDecision(_)
            | Self::NoReviewCase(_)
            | Self::CaseHeld(_)
            | Self::CaseDecided(_)
            | Self::CaseUndecided(_)
            | Self::NoModel(_)
            | Self::CollectionExists(_)
            | Self::IdentityExists(_)
            | Self::IdentityProvisional(_)
            | Self::RequestIdReused
            | Self::EtagMoved
            | Self::NoEncoder(_)
            | Self::EncoderGone { .. }
            | Self::ExternalSpace { .. }
            | Self::OtherSpace { .. }
            | Self::SpaceNameTaken(_)
            | Self::TooManyTemplates { .. }
            | Self::NoCalibration(_)
            | Self::NoOperation(_)
            | Self::IdentityMerged { .. }
            | Self::IdentityExpired(_)
            | Self::NoFinding { .. }
            | Self::NoRegrouping(_)
            | Self::NothingToRevert(_)
            | Self::AlreadyReverted(_)
            | Self::RevertBlocked { .. }
            | Self::SplitLeavesNothing(_)
            | Self::WouldBeTooMany { .. }
            | Self::NothingToCompare(_)
            | Self::NoLevel(_)
            | Self::TooManyCalibrations(_)
            | Self::TooFewTrials { .. }
            | Self::NothingToCalibrate(_)
            | Self::NothingToWeigh
            | Self::GalleryFull(_)
            | Self::TooLate
            | Self::Internal(_) => None,
        }
    }

    /// The field of the request that is at fault, if any.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        if let Self::Invalid { field, .. } = self { Some(field) } else { None }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::FileMoved(_) => Self::StoreUnavailable(error),
            StoreError::OutcomeUnknown(_) => Self::OutcomeUnknown(error),
            StoreError::RevisionMoved => Self::EtagMoved,
            StoreError::CollectionExists
            | StoreError::CollectionGone
            | StoreError::IdentityGone
            | StoreError::TemplateGone
            | StoreError::Corrupt(_)
            | StoreError::Schema(_)
            | StoreError::BadUrl(_)
            | StoreError::Refused(_) => Self::internal(error),
        }
    }
}

impl From<GalleryError> for Fault {
    fn from(error: GalleryError) -> Self {
        match error {
            GalleryError::Full { templates_max, .. } => Self::GalleryFull(templates_max),
            GalleryError::Gap { .. } => Self::internal(error),
        }
    }
}

impl From<Overloaded> for Fault {
    fn from(Overloaded { retry_after }: Overloaded) -> Self {
        Self::Busy { retry_after }
    }
}

impl From<EncoderError> for Fault {
    fn from(error: EncoderError) -> Self {
        match error {
            EncoderError::BadSample(problem) => Self::unusable(problem.code(), &problem),
            EncoderError::QueueFull { retry_after, .. } => Self::Busy { retry_after },
            EncoderError::DeadlinePassed => Self::TooLate,
            EncoderError::ShuttingDown => Self::ShuttingDown,
            EncoderError::ModelFailed { .. }
            | EncoderError::PreparationPanicked
            | EncoderError::Package { .. }
            | EncoderError::ModelsFolder(_)
            | EncoderError::Placement(_)
            | EncoderError::Unbuildable { .. }
            | EncoderError::BuildPanicked { .. }
            | EncoderError::NoThread { .. } => Self::internal(error),
        }
    }
}

impl From<EmbeddingError> for Fault {
    fn from(error: EmbeddingError) -> Self {
        Self::unusable(UNUSABLE, &error)
    }
}

fn codes(reasons: &[Reason]) -> String {
    reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ")
}

macro_rules! invalid_from {
    ($($error:ty => $field:literal),* $(,)?) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::invalid($field, error)
            }
        }
    )*};
}

invalid_from! {
    IdError => "name",
    LabelsError => "labels",
    FilterError => "filter",
}

impl From<PolicyError> for Fault {
    fn from(error: PolicyError) -> Self {
        Self::invalid(error.field, &error)
    }
}
