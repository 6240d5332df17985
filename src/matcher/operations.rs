//! Operations: looks at everybody in a collection, which are begun, asked about, and kept for a while.
//!
//! The store knows of an operation from before it begins, so that any replica answers about it. The server that works at it
//! is heard of every second, and hears then whether it is still wanted; one that is not heard of for a minute has stopped,
//! and whoever looks next ends its operations in its place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::{
    Context, Fault, Matcher,
    directory::Open,
    replay::Chain,
    survey::{Halt, SurveyDraft},
    turn::Turn,
};
use domain::{
    CollectionId, CollectionUid, Operation, OperationFailure, OperationId, OperationOutcome, OperationState,
    OperationSummary, Owned, Progress, SpaceBinding, SurveyFinding, TemplateId, Timestamp,
};
use store::Heard;

/// How often whoever works at an operation is heard of.
const HEARD_EVERY: Duration = Duration::from_secs(1);
/// After so long without a word its server has stopped: long enough for a database that is away for a while.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// What all operations of this process share.
#[derive(Debug, Default)]
pub(super) struct Operations {
    /// The process is about to end.
    stop: CancellationToken,
    /// Held by whoever looks at everybody: searches need the other cores.
    pub(super) alone: tokio::sync::Mutex<()>,
}

/// An operation and what it found.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownOperation {
    pub operation: Operation,
    /// Of those who are still there.
    pub findings: Vec<SurveyFinding<Owned>>,
}

/// How far an operation is, for those who look at it from another thread.
#[derive(Debug, Default)]
pub(super) struct Course {
    done: AtomicU64,
    total: AtomicU64,
}

impl Course {
    pub(super) fn set(&self, progress: Progress) {
        self.done.store(progress.done, Ordering::Relaxed);
        self.total.store(progress.total, Ordering::Relaxed);
    }

    fn progress(&self) -> Progress {
        Progress { done: self.done.load(Ordering::Relaxed), total: self.total.load(Ordering::Relaxed) }
    }
}

/// What came of the work.
pub(super) type Worked = Result<(OperationSummary, Vec<SurveyFinding<TemplateId>>), Halt>;

impl Matcher {
    /// Begins a look at everybody. It goes on whether or not the caller waits.
    ///
    /// # Errors
    /// [`Fault::NothingToCompare`], [`Fault::NoLevel`], [`Fault::TooManyOperations`].
    pub async fn begin_survey(&self, context: &Context, draft: SurveyDraft) -> Result<Operation, Fault> {
        let open = self.open(&draft.collection).await?;
        let space = self.surveyed_space(&open, &draft).await?;
        self.end_silent(open.collection.uid).await?;
        let now = self.clock.now();
        let operation = Operation {
            id: OperationId(self.ids.fresh()),
            kind: draft.kind,
            state: OperationState::Running { cancelled: false },
            progress: Progress::default(),
            create_time: now,
            update_time: now,
            expire_time: now.checked_add(self.options.operations_kept).map_err(Fault::internal)?,
        };
        let (matcher, context) = (self.clone(), context.clone());
        // As one: an operation that is kept is also worked at.
        self.detached(async move {
            let id = operation.id;
            let begun: Operation = matcher
                .change(&context, &draft.collection, move |turn| turn.begin_operation(operation).boxed())
                .await?;
            // Another id is that of an answer that was given before.
            if begun.id == id {
                let worker = matcher.clone();
                matcher.tasks.spawn(async move { worker.work_at(&open, id, space, draft).await });
            }
            Ok(begun)
        })
        .await
    }

    /// An operation with what it found.
    pub async fn operation(&self, collection: &CollectionId, id: OperationId) -> Result<ShownOperation, Fault> {
        let uid = self.open(collection).await?.collection.uid;
        let operation = self.operation_of(uid, id).await?;
        let has_findings = matches!(operation.state, OperationState::Ended(OperationOutcome::Succeeded(_)));
        let findings = if has_findings { self.store.findings(id, self.clock.now()).await? } else { Vec::new() };
        Ok(ShownOperation { operation, findings })
    }

    /// Operations in the order in which they began, those after `after`, without what they found.
    pub async fn operations(
        &self,
        collection: &CollectionId,
        after: Option<OperationId>,
        limit: u32,
    ) -> Result<Vec<Operation>, Fault> {
        let uid = self.open(collection).await?.collection.uid;
        self.end_silent(uid).await?;
        Ok(self.store.operations(uid, after, limit).await?)
    }

    /// Asks for the end of an operation; its server hears of it within a second.
    pub async fn cancel_operation(&self, collection: &CollectionId, id: OperationId) -> Result<Operation, Fault> {
        let uid = self.open(collection).await?.collection.uid;
        self.operation_of(uid, id).await?;
        self.store.cancel_operation(uid, id).await?;
        self.operation_of(uid, id).await
    }

    pub async fn delete_operation(&self, collection: &CollectionId, id: OperationId) -> Result<(), Fault> {
        let uid = self.open(collection).await?.collection.uid;
        if !self.store.delete_operation(uid, id).await? {
            return Err(Fault::NoOperation(id));
        }
        self.scrub().await;
        Ok(())
    }

    /// Tells all operations of this process to end, because it does.
    pub(super) fn stop_operations(&self) {
        self.operations.stop.cancel();
    }

    async fn operation_of(&self, uid: CollectionUid, id: OperationId) -> Result<Operation, Fault> {
        let now = self.clock.now();
        let read = async || Ok::<_, Fault>(self.store.operation(uid, id).await?.filter(|read| read.expire_time > now));
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

    /// Ends the operations of servers that have not been heard of for too long.
    async fn end_silent(&self, uid: CollectionUid) -> Result<(), Fault> {
        let outcome = failed(OperationFailure::ServerStopped, "the server that worked at it is gone; begin it again");
        Ok(self.store.end_silent_operations(uid, silent_since(self.clock.now()), &outcome).await?)
    }

    async fn work_at(&self, open: &Open, id: OperationId, space: SpaceBinding, draft: SurveyDraft) {
        let kind = draft.kind.as_str();
        let gauge = metrics::gauge!(domain::metric::OPERATIONS_RUNNING, "kind" => kind);
        gauge.increment(1.0);
        let uid = open.collection.uid;
        let (course, stop) = (Arc::new(Course::default()), self.operations.stop.child_token());
        let mut work = std::pin::pin!(self.survey(open, (space, draft), &course, &stop));
        let mut beat = tokio::time::interval(HEARD_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = Heard::Wanted;
        let worked = loop {
            tokio::select! {
                worked = &mut work => break worked,
                _ = beat.tick(), if heard == Heard::Wanted => {
                    match self.store.hear_of_operation(uid, id, (course.progress(), self.clock.now())).await {
                        Ok(Heard::Wanted) => {}
                        Ok(unwanted) => {
                            heard = unwanted;
                            stop.cancel();
                        }
                        // It goes on: the database may be back before anybody takes its silence for an end.
                        Err(error) => tracing::warn!(error = %Chain(&error), "an operation cannot be told of"),
                    }
                }
            }
        };
        if worked.is_ok() && heard == Heard::Wanted {
            // So that what has ended is also shown as all the way.
            let _ = self.store.hear_of_operation(uid, id, (course.progress(), self.clock.now())).await;
        }
        gauge.decrement(1.0);
        let outcome = match self.end(open, id, worked, heard).await {
            Ok(outcome) => outcome,
            Err(fault) => {
                tracing::error!(error = %Chain(&fault), "the end of an operation is not kept");
                "lost"
            }
        };
        metrics::counter!(domain::metric::OPERATIONS, "kind" => kind, "outcome" => outcome).increment(1);
    }

    /// Keeps how an operation ended, and answers it in a word.
    async fn end(&self, open: &Open, id: OperationId, worked: Worked, heard: Heard) -> Result<&'static str, Fault> {
        let (failure, message) = match worked {
            Ok((summary, findings)) => match self.finish_operation(open, id, summary, findings).await {
                // Deleted meanwhile, and the operation with it.
                Err(Fault::NoCollection(_)) => return Ok("gone"),
                Err(fault) => {
                    tracing::error!(error = %Chain(&fault), "what an operation found is not kept");
                    (OperationFailure::Internal, "what was found could not be kept; begin it again".to_owned())
                }
                Ok(()) => return Ok("succeeded"),
            },
            Err(Halt::Stopped) if self.operations.stop.is_cancelled() => {
                let message = "the server that worked at it was stopped; begin it again".to_owned();
                (OperationFailure::ServerStopped, message)
            }
            Err(Halt::Stopped) if heard == Heard::Gone => return Ok("gone"),
            Err(Halt::Stopped) => (OperationFailure::Cancelled, "it was cancelled".to_owned()),
            Err(Halt::Failed { failure, message }) => (failure, message),
            Err(Halt::Fault(fault)) => {
                tracing::error!(error = %Chain(&fault), "an operation failed");
                (OperationFailure::Internal, "something went wrong in the server; its log says what".to_owned())
            }
        };
        let outcome = failed(failure, &message);
        self.store.end_operation(open.collection.uid, id, (&outcome, self.clock.now())).await?;
        Ok(failure.as_str())
    }

    /// In the collection's turn: nobody is erased between the look at who is there and the commit.
    async fn finish_operation(
        &self,
        open: &Open,
        id: OperationId,
        summary: OperationSummary,
        findings: Vec<SurveyFinding<TemplateId>>,
    ) -> Result<(), Fault> {
        let now = self.clock.now();
        let mut turn = self.take_turn(open).await?;
        turn.store().finish_operation(id, (&OperationOutcome::Succeeded(summary), now), &findings).await?;
        turn.commit().await
    }
}

impl Turn {
    async fn begin_operation(&mut self, operation: Operation) -> Result<Operation, Fault> {
        let most = self.matcher().options.operations_running_max;
        let is_begun = self.store().begin_operation(&operation, most).await?;
        if is_begun { Ok(operation) } else { Err(Fault::TooManyOperations(most)) }
    }
}

fn failed(failure: OperationFailure, message: &str) -> OperationOutcome {
    OperationOutcome::Failed { failure, message: message.to_owned() }
}

fn silent_since(now: Timestamp) -> Timestamp {
    now.checked_sub(SILENCE_MAX).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
