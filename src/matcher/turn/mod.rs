//! Writes: every change of a collection happens in its turn. This folder takes the turn, plans enrollments, commits several
//! enrolls together, and answers repeated requests.

pub(crate) mod collection_turn;
pub(crate) mod enroll_commit;
pub(crate) mod idempotency;
pub(crate) mod plan;
mod repetition;

use std::{sync::Arc, time::Instant};

use futures::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{OwnedMutexGuard, Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, debug_span, field::Empty};

use self::collection_turn::CollectionTurn;
use crate::matcher::{
    collection::collection_handle::CollectionHandle, options::WriteOptions, replica::Replica,
    request::context::Context, request::fault::Fault,
};
use domain::{Clock, CollectionId, IdSource};
use gallery::Gallery;
use store::{Store, StoreError};

/// Takes turns and commits. Clones share all state.
#[derive(Debug, Clone)]
pub(crate) struct Writes {
    store: Arc<dyn Store>,
    gallery: Arc<Gallery>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    replica: Replica,
    /// One permit for each sample of batches in work.
    bulk: Arc<Semaphore>,
    /// Work that continues when its caller hangs up.
    tasks: TaskTracker,
    options: WriteOptions,
}

/// What writes are made of.
pub(crate) struct WriteParts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) gallery: Arc<Gallery>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) replica: Replica,
    pub(crate) tasks: TaskTracker,
}

impl Writes {
    pub(crate) fn new(parts: WriteParts, options: WriteOptions) -> Self {
        let WriteParts { store, gallery, clock, ids, replica, tasks } = parts;
        let bulk = Arc::new(Semaphore::new(options.bulk_in_flight_max));
        Self { store, gallery, clock, ids, replica, bulk, tasks, options }
    }

    pub(crate) fn options(&self) -> &WriteOptions {
        &self.options
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Waits until the samples of a batch may start.
    pub(crate) async fn bulk_permits(&self, samples: usize) -> Result<SemaphorePermit<'_>, Fault> {
        let permits = samples.clamp(1, self.options.bulk_in_flight_max);
        self.bulk.acquire_many(u32::try_from(permits).unwrap_or(u32::MAX)).await.map_err(Fault::internal)
    }

    /// Does `work` in the turn of the collection and commits it, unless this request was answered before.
    ///
    /// A caller that hangs up while it waits for the turn leaves the queue; after that the write continues to its end.
    pub(crate) async fn change<T>(
        &self,
        context: &Context,
        collection: &CollectionId,
        work: impl for<'t> FnOnce(&'t mut CollectionTurn) -> BoxFuture<'t, Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let handle = self.replica.open(collection).await?;
        let taken = tokio::time::timeout_at(context.deadline.into(), self.take_turn(&handle)).await;
        let mut turn = taken.map_err(|_| Fault::TooLate)??;
        if let Some(answer) = turn.answered(context).await?? {
            return Ok(answer);
        }
        let context = context.clone();
        self.detached(async move {
            let answer = work(&mut turn).await?;
            turn.keep_answer(&context, &answer).await?;
            turn.commit().await?;
            Ok(answer)
        })
        .await
    }

    /// Takes the turn of a collection and applies everything that was committed before.
    pub(crate) async fn take_turn(&self, handle: &CollectionHandle) -> Result<CollectionTurn, Fault> {
        let taken = async {
            let since = Instant::now();
            let writer = Arc::clone(&handle.writers).lock_owned().await;
            let turn = self.begin_turn(handle, writer).await?;
            Span::current().record("wait_ms", 1e3 * since.elapsed().as_secs_f64());
            Ok::<_, Fault>(turn)
        };
        taken.instrument(turn_span()).await
    }

    /// As [`Writes::take_turn`], for a caller that holds the writer lock of this process.
    async fn begin_turn(
        &self,
        handle: &CollectionHandle,
        writer: OwnedMutexGuard<()>,
    ) -> Result<CollectionTurn, Fault> {
        let held = match self.store.take_turn(handle.collection.uid).await {
            Err(StoreError::CollectionGone) => {
                self.replica.close(handle);
                return Err(Fault::NoCollection(handle.collection.id.clone()));
            }
            held => held?,
        };
        let collection = Arc::new(held.collection().clone());
        self.replica.directory().refresh(&collection);
        let handle = CollectionHandle { collection, ..handle.clone() };
        CollectionTurn::begin(self.clone(), held, handle, writer).await
    }

    /// Runs a write to its end even if its caller hangs up: a turn that is being committed must also reach the gallery.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        self.tasks.spawn(write.in_current_span()).await.map_err(Fault::internal)?
    }
}

/// The span of a turn: `wait_ms` from the request for the turn to its start, `batch` the enrolls that share it.
fn turn_span() -> Span {
    debug_span!("turn", wait_ms = Empty, batch = Empty)
}
