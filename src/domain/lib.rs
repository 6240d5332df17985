//! Values and rules that all packages share.
//!
//! Nothing here reads a clock, a file or a socket, starts a thread, or names tokio, tch, sqlx or tonic. Every value
//! that can be built is valid: an [`Embedding`] is finite and of unit length, an id contains only the characters it
//! may.

mod calibration;
mod clock;
mod collection;
mod decision;
mod device;
mod embedding;
mod encoded;
mod error_chain;
mod filter;
mod id;
mod identity;
mod labels;
mod log;
mod memory;
pub mod metric;
mod neighbourhood;
mod operation;
mod pose;
mod quality;
mod ranking;
mod regrouping;
mod report;
mod review;
mod sample;
mod space;
mod stored_calibration;

pub use calibration::{
    AtypicalDirection, MatedLogit, PackageCalibration, PackageCalibrationError, PosteriorTrials, Rehearsal,
    ReviewedSimilarities, SAME_IMAGE,
};
pub use clock::{Clock, IdSource, Timestamp};
pub use collection::{
    Collection, CollectionCounts, CollectionStats, PadMode, PadPolicy, Policy, PolicyError, Pooling, Revision,
    SpaceBinding, SpaceRole, UncertainRule,
};
pub use decision::{
    Candidate, DecisionKind, FusedEvidence, ModalityEvidence, OpenSetRule, OperatingPoint, Reason, ThresholdSource,
};
pub use device::{Device, UnknownDevice};
pub use embedding::{DIMENSION_MAX, Embedding, EmbeddingError, Similarity, similarity_by_parts};
pub use encoded::Encoded;
pub use error_chain::ErrorChain;
pub use filter::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX, Filter, FilterError};
pub use id::{
    CalibrationId, CollectionId, CollectionUid, DecisionId, ID_CHARS_MAX, IdError, IdentityId, OperationId,
    RegroupingId, ReviewCaseId, SpaceName, TemplateId,
};
pub use identity::{Assignment, Certificate, Identity, PROVISIONAL_TEMPLATES_MAX, Template, TemplateOrigin};
pub use labels::{LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX, Labels, LabelsError};
pub use log::{Change, Entry, EntryKind, Position, StoredTemplate};
pub use memory::{MemoryBudget, MemoryRefusal, MemoryShare};
pub use neighbourhood::{COHORT_MAX, GalleryStatistics, Neighbour, OwnCosines, Spread};
pub use operation::{
    Operation, OperationFailure, OperationKind, OperationOutcome, OperationProgress, OperationState, OperationSummary,
    SurveyFinding, TemplateOwner,
};
pub use pose::{JOINT_NAMES, PoseFile, PoseLayout, PoseOptions, WalkReport};
pub use quality::{Quality, QualityPolicy};
pub use ranking::{Ranking, Reranking};
pub use regrouping::{
    DismissedWith, HandedOver, Lineage, MERGE_SOURCES_MAX, OtherIdentity, Regrouping, RegroupingKind, RegroupingState,
    TemplateMove,
};
pub use report::{Face, Pad, PadVerdict, SampleReport, TrackReport};
pub use review::{
    CandidateEvidence, CaseSelection, ReviewCase, ReviewOutcome, ReviewPolicy, ReviewStage, ReviewState, ReviewTrial,
    Verdict,
};
pub use sample::{
    Alignment, FaceSelection, Frame, Geometry, ImageBytes, JOINTS, Joint, Landmarks, Picture, PixelBox, Prompt,
    PromptRole, Sample, SampleContent, Skeleton,
};
pub use space::{EmbeddingSpace, Modality, ModelDigest};
pub use stored_calibration::has_moved;
pub use stored_calibration::{
    GALLERY_MOVE_MAX, GalleryState, IntervalEstimate, QUALITY_DRIFT_MAX, StaleReason, StoredCalibration,
    ThresholdEstimate,
};
