//! The bounded pool that prepares samples: decoding and alignment cost milliseconds and stay off the reactor.

use std::sync::Arc;

use tokio::{sync::Semaphore, task};

use super::{
    EncoderError, Limits, SampleError, Urgency,
    prepare::{self, Prepared, Preprocessing},
    queue::Place,
};
use crate::domain::SampleContent;

#[derive(Debug)]
pub(super) struct Pool {
    all: Arc<Semaphore>,
    /// Bulk work gets at most half of the pool, so that it never stands before interactive work by more than that.
    bulk: Arc<Semaphore>,
    limits: Limits,
}

impl Pool {
    pub(super) fn new(threads: usize, limits: Limits) -> Self {
        let threads = threads.max(1);
        let bulk = threads.div_ceil(2);
        Self { all: Arc::new(Semaphore::new(threads)), bulk: Arc::new(Semaphore::new(bulk)), limits }
    }

    /// Prepares a sample on the pool, and keeps its place for it meanwhile: the work goes on when the caller hangs up,
    /// so the place stays taken until the work is done.
    pub(super) async fn prepare(
        &self,
        how: &Arc<Preprocessing>,
        content: SampleContent,
        urgency: Urgency,
        place: Place<Prepared>,
    ) -> Result<(Place<Prepared>, Prepared), EncoderError> {
        let bulk_permit = match urgency {
            Urgency::Interactive => None,
            Urgency::Bulk => Some(permit(&self.bulk).await),
        };
        let permit = permit(&self.all).await;
        let (how, limits) = (Arc::clone(how), self.limits);
        let work = task::spawn_blocking(move || {
            let _permits = (permit, bulk_permit);
            prepare::prepare(&how, &content, &limits).map(|prepared| (place, prepared))
        });
        match work.await {
            Ok(prepared) => Ok(prepared.map_err(SampleError::from)?),
            Err(_) => Err(EncoderError::PreparationPanicked),
        }
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> tokio::sync::OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("the pool's semaphores are never closed")
}
