//! Operations: long work on a whole collection. They are begun, polled, and kept for a while.
//!
//! The store has the operation before it begins, so any replica can report it. The worker writes a heartbeat every second and
//! learns from it whether the operation was cancelled. After 60 s without one, the next reader ends the operation as failed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::matcher::{
    collection::collection_handle::CollectionHandle,
    options::OperationOptions,
    replica::{Removal, Replica},
    request::context::Context,
    request::fault::Fault,
    turn::{Writes, collection_turn::CollectionTurn},
};
use domain::{
    Clock, CollectionId, CollectionUid, ErrorChain, IdSource, Operation, OperationFailure, OperationId, OperationKind,
    OperationOutcome, OperationProgress, OperationState, OperationSummary, SurveyFinding, TemplateId, TemplateOwner,
    Timestamp,
};
use store::{HeartbeatReply, Store};

/// Interval between two heartbeats of a worker.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A worker without a heartbeat for this time has stopped; long enough for a short database outage.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// The operations of all collections. Clones share all state.
#[derive(Debug, Clone)]
pub struct OperationUseCases {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    replica: Replica,
    writes: Writes,
    tasks: TaskTracker,
    /// Cancelled when the process stops.
    stop: CancellationToken,
    /// Held by a running survey: searches need the other cores.
    survey_lock: Arc<tokio::sync::Mutex<()>>,
    options: OperationOptions,
}

/// What operations are made of.
pub(crate) struct OperationParts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) writes: Writes,
    pub(crate) tasks: TaskTracker,
}

/// An operation with its findings.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationView {
    pub operation: Operation,
    /// Only of templates that still exist.
    pub findings: Vec<SurveyFinding<TemplateOwner>>,
}

/// The progress of a job, shared between threads.
#[derive(Debug, Default)]
pub(crate) struct JobProgress {
    done: AtomicU64,
    total: AtomicU64,
}

impl JobProgress {
    pub(crate) fn set(&self, progress: OperationProgress) {
        self.done.store(progress.done, Ordering::Relaxed);
        self.total.store(progress.total, Ordering::Relaxed);
    }

    fn progress(&self) -> OperationProgress {
        OperationProgress { done: self.done.load(Ordering::Relaxed), total: self.total.load(Ordering::Relaxed) }
    }
}

/// What a job receives: it reports its progress and ends when `stop` is cancelled.
#[derive(Debug, Clone)]
pub(crate) struct JobControl {
    pub(crate) progress: Arc<JobProgress>,
    pub(crate) stop: CancellationToken,
}

/// What a job found.
#[derive(Debug)]
pub(crate) struct JobFindings {
    pub(crate) summary: OperationSummary,
    pub(crate) findings: Vec<SurveyFinding<TemplateId>>,
}

/// Why a job has no findings.
#[derive(Debug)]
pub(crate) enum JobFailure {
    Stopped,
    Failed { failure: OperationFailure, message: String },
    Fault(Fault),
}

impl From<Fault> for JobFailure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(crate) type JobOutcome = Result<JobFindings, JobFailure>;

impl OperationUseCases {
    pub(crate) fn new(parts: OperationParts, options: OperationOptions) -> Self {
        let OperationParts { store, clock, ids, writes, tasks } = parts;
        let replica = writes.replica().clone();
        let (stop, survey_lock) = (CancellationToken::new(), Arc::default());
        Self { store, clock, ids, replica, writes, tasks, stop, survey_lock, options }
    }

    pub(crate) fn options(&self) -> &OperationOptions {
        &self.options
    }

    pub(crate) fn survey_lock(&self) -> &tokio::sync::Mutex<()> {
        &self.survey_lock
    }

    /// Begins an operation in the collection and runs its job in the background.
    ///
    /// # Errors
    /// [`Fault::TooManyOperations`].
    pub(crate) async fn begin<F: Future<Output = JobOutcome> + Send>(
        &self,
        context: &Context,
        handle: &CollectionHandle,
        kind: OperationKind,
        job: impl FnOnce(JobControl) -> F + Send + 'static,
    ) -> Result<Operation, Fault> {
        self.end_silent(handle.collection.uid).await?;
        let now = self.clock.now();
        let operation = Operation {
            id: OperationId(self.ids.fresh()),
            kind,
            state: OperationState::Running { cancelled: false },
            progress: OperationProgress::default(),
            create_time: now,
            update_time: now,
            expire_time: now.checked_add(self.options.kept).map_err(Fault::internal)?,
        };
        let (operations, context, handle) = (self.clone(), context.clone(), handle.clone());
        // Detached as one: an operation that the store has must also run.
        self.writes
            .detached(async move {
                let (id, running_max) = (operation.id, operations.options.running_max);
                let begun: Operation = operations
                    .writes
                    .change(&context, &handle.collection.id, move |turn| {
                        async move { begin_in_turn(turn, operation, running_max).await }.boxed()
                    })
                    .await?;
                // Another id belongs to an earlier answer of this request.
                if begun.id == id {
                    let worker = operations.clone();
                    operations.tasks.spawn(async move { worker.work(&handle, id, kind, job).await });
                }
                Ok(begun)
            })
            .await
    }

    /// # Errors
    /// [`Fault::NoOperation`].
    pub async fn operation(&self, collection: &CollectionId, id: OperationId) -> Result<OperationView, Fault> {
        let uid = self.replica.open(collection).await?.collection.uid;
        let operation = self.operation_of(uid, id).await?;
        let has_findings = matches!(operation.state, OperationState::Ended(OperationOutcome::Succeeded(_)));
        let findings =
            if has_findings { self.store.in_collection(uid).findings(id, self.clock.now()).await? } else { Vec::new() };
        Ok(OperationView { operation, findings })
    }

    /// Operations without their findings, oldest first; those after `after`.
    pub async fn operations(
        &self,
        collection: &CollectionId,
        after: Option<OperationId>,
        limit: u32,
    ) -> Result<Vec<Operation>, Fault> {
        let uid = self.replica.open(collection).await?.collection.uid;
        self.end_silent(uid).await?;
        Ok(self.store.in_collection(uid).operations(after, limit).await?)
    }

    /// Cancels an operation; its worker learns of it within a second.
    pub async fn cancel_operation(&self, collection: &CollectionId, id: OperationId) -> Result<Operation, Fault> {
        let uid = self.replica.open(collection).await?.collection.uid;
        self.operation_of(uid, id).await?;
        self.store.in_collection(uid).cancel_operation(id).await?;
        self.operation_of(uid, id).await
    }

    pub async fn delete_operation(&self, collection: &CollectionId, id: OperationId) -> Result<Removal, Fault> {
        let uid = self.replica.open(collection).await?.collection.uid;
        if !self.store.in_collection(uid).delete_operation(id).await? {
            return Err(Fault::NoOperation(id));
        }
        Ok(self.replica.scrub().await)
    }

    /// Stops all operations of this process, before it ends.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    async fn operation_of(&self, uid: CollectionUid, id: OperationId) -> Result<Operation, Fault> {
        let now = self.clock.now();
        let read = async || {
            Ok::<_, Fault>(self.store.in_collection(uid).operation(id).await?.filter(|read| read.expire_time > now))
        };
        let mut operation = read().await?;
        let is_silent = operation.as_ref().is_some_and(|operation| {
            matches!(operation.state, OperationState::Running { .. }) && operation.update_time < silent_since(now)
        });
        if is_silent {
            self.end_silent(uid).await?;
            operation = read().await?;
        }
        operation.ok_or(Fault::NoOperation(id))
    }

    /// Ends the operations whose workers have no recent heartbeat.
    async fn end_silent(&self, uid: CollectionUid) -> Result<(), Fault> {
        let outcome = failed(OperationFailure::ServerStopped, "the server of this operation is gone; begin it again");
        Ok(self.store.in_collection(uid).end_stale_operations(silent_since(self.clock.now()), &outcome).await?)
    }

    async fn work<F: Future<Output = JobOutcome> + Send>(
        &self,
        handle: &CollectionHandle,
        id: OperationId,
        kind: OperationKind,
        job: impl FnOnce(JobControl) -> F + Send,
    ) {
        let kind = kind.as_str();
        let gauge = metrics::gauge!(domain::metric::OPERATIONS_RUNNING, "kind" => kind);
        gauge.increment(1.0);
        let uid = handle.collection.uid;
        let control = JobControl { progress: Arc::default(), stop: self.stop.child_token() };
        let mut work = std::pin::pin!(job(control.clone()));
        let mut heartbeat = tokio::time::interval(HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reply = HeartbeatReply::Continue;
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                _ = heartbeat.tick(), if reply == HeartbeatReply::Continue => {
                    match self.store.in_collection(uid).heartbeat(id, control.progress.progress(), self.clock.now()).await {
                        Ok(HeartbeatReply::Continue) => {}
                        Ok(ended) => {
                            reply = ended;
                            control.stop.cancel();
                        }
                        // The job continues: the database may be back before the silence counts as a stop.
                        Err(error) => tracing::warn!(error = %ErrorChain(&error), "a heartbeat cannot be written"),
                    }
                }
            }
        };
        if outcome.is_ok() && reply == HeartbeatReply::Continue {
            // So that a finished operation shows full progress.
            let _ = self.store.in_collection(uid).heartbeat(id, control.progress.progress(), self.clock.now()).await;
        }
        gauge.decrement(1.0);
        let ended = match self.end(handle, id, outcome, reply).await {
            Ok(ended) => ended,
            Err(fault) => {
                tracing::error!(error = %ErrorChain(&fault), "the end of an operation could not be stored");
                "lost"
            }
        };
        metrics::counter!(domain::metric::OPERATIONS, "kind" => kind, "outcome" => ended).increment(1);
    }

    /// Stores the outcome of an operation. Returns its name for the metrics.
    async fn end(
        &self,
        handle: &CollectionHandle,
        id: OperationId,
        outcome: JobOutcome,
        reply: HeartbeatReply,
    ) -> Result<&'static str, Fault> {
        let (failure, message) = match outcome {
            Ok(found) => match self.finish(handle, id, found).await {
                // The collection was deleted meanwhile, and the operation with it.
                Err(Fault::NoCollection(_)) => return Ok("gone"),
                Err(fault) => {
                    tracing::error!(error = %ErrorChain(&fault), "the findings of an operation could not be stored");
                    (OperationFailure::Internal, "the findings could not be stored; begin it again".to_owned())
                }
                Ok(()) => return Ok("succeeded"),
            },
            Err(JobFailure::Stopped) if self.stop.is_cancelled() => {
                let message = "the server of this operation was stopped; begin it again".to_owned();
                (OperationFailure::ServerStopped, message)
            }
            Err(JobFailure::Stopped) if reply == HeartbeatReply::Gone => return Ok("gone"),
            Err(JobFailure::Stopped) => (OperationFailure::Cancelled, "it was cancelled".to_owned()),
            Err(JobFailure::Failed { failure, message }) => (failure, message),
            Err(JobFailure::Fault(fault)) => {
                tracing::error!(error = %ErrorChain(&fault), "an operation failed");
                (OperationFailure::Internal, "internal error; see the log of the server".to_owned())
            }
        };
        let outcome = failed(failure, &message);
        self.store.in_collection(handle.collection.uid).end_operation(id, &outcome, self.clock.now()).await?;
        Ok(failure.as_str())
    }

    /// Stores the findings in the turn of the collection: no template is removed between their check and the commit.
    async fn finish(&self, handle: &CollectionHandle, id: OperationId, found: JobFindings) -> Result<(), Fault> {
        let JobFindings { summary, findings } = found;
        let now = self.clock.now();
        let mut turn = self.writes.take_turn(handle).await?;
        turn.store().finish_operation(id, &OperationOutcome::Succeeded(summary), now, &findings).await?;
        turn.commit().await
    }
}

async fn begin_in_turn(turn: &mut CollectionTurn, operation: Operation, most: u64) -> Result<Operation, Fault> {
    let is_begun = turn.store().begin_operation(&operation, most).await?;
    if is_begun { Ok(operation) } else { Err(Fault::TooManyOperations(most)) }
}

fn failed(failure: OperationFailure, message: &str) -> OperationOutcome {
    OperationOutcome::Failed { failure, message: message.to_owned() }
}

fn silent_since(now: Timestamp) -> Timestamp {
    now.checked_sub(SILENCE_MAX).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
