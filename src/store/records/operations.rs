//! Operations of a collection, and their findings.

use async_trait::async_trait;

use super::Page;
use crate::Result;
use domain::{
    IdentityId, Operation, OperationId, OperationOutcome, OperationProgress, SurveyFinding, TemplateId, TemplateOwner,
    Timestamp,
};

/// What a worker learns from its heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatReply {
    Continue,
    /// A client cancelled the operation.
    Cancelled,
    /// The operation was deleted, or ended because its heartbeats were missing.
    Gone,
}

/// The operations of one collection.
#[async_trait]
pub trait Operations {
    async fn operation(&mut self, id: OperationId) -> Result<Option<Operation>>;

    /// Operations after `after`, in the order in which they began.
    async fn operations(&mut self, after: Option<OperationId>, limit: u32) -> Result<Page<Operation>>;

    /// The findings of an operation, in order, except those that name an identity that has expired at `now`. Erasing a
    /// template erases the findings that name it. A pair shows the present identities of its templates, and whether
    /// these are dismissed.
    async fn findings(&mut self, id: OperationId, now: Timestamp) -> Result<Vec<SurveyFinding<TemplateOwner>>>;

    /// Whether an operation found this pair, by the present identities of its templates.
    async fn finds_pair(&mut self, id: OperationId, identities: [&IdentityId; 2]) -> Result<bool>;

    /// Stores a new operation unless `running_max` of the collection's are running. Returns whether it is stored. Takes
    /// the collection's lock.
    async fn begin_operation(&mut self, operation: &Operation, running_max: u64) -> Result<bool>;

    /// Records the progress of a running operation.
    async fn heartbeat(
        &mut self,
        id: OperationId,
        progress: OperationProgress,
        now: Timestamp,
    ) -> Result<HeartbeatReply>;

    /// Marks an operation as cancelled if it is running.
    async fn cancel_operation(&mut self, id: OperationId) -> Result<()>;

    /// Ends an operation without findings if it is running.
    async fn end_operation(&mut self, id: OperationId, outcome: &OperationOutcome, now: Timestamp) -> Result<()>;

    /// Ends an operation with its findings, in order, if it is running. Findings that name a template that no longer
    /// exists are left out. Takes the collection's lock.
    async fn finish_operation(
        &mut self,
        id: OperationId,
        outcome: &OperationOutcome,
        now: Timestamp,
        findings: &[SurveyFinding<TemplateId>],
    ) -> Result<()>;

    /// Ends the running operations whose last heartbeat is before an instant.
    async fn end_stale_operations(&mut self, before: Timestamp, outcome: &OperationOutcome) -> Result<()>;

    /// Marks two identities as two people, for all operations. They exist.
    async fn dismiss_pair(&mut self, identities: [&IdentityId; 2]) -> Result<()>;

    /// Takes a dismissal back. Returns whether there was one.
    async fn restore_pair(&mut self, identities: [&IdentityId; 2]) -> Result<bool>;

    /// Deletes an operation and its findings. Returns whether it existed.
    async fn delete_operation(&mut self, id: OperationId) -> Result<bool>;
}
