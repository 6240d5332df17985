//! The bounded pool for sample preparation: decoding and alignment take milliseconds and must not run on the reactor.

use std::{sync::Arc, time::Instant};

use tokio::{sync::Semaphore, task};
use tracing::Span;

use super::{EncoderError, SampleError, Urgency};

#[derive(Debug)]
pub(super) struct PreparationPool {
    all: Arc<Semaphore>,
    /// Bulk work gets at most half of the pool, so that interactive work waits for at most that much.
    bulk: Arc<Semaphore>,
}

impl PreparationPool {
    pub(super) fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        let bulk = threads.div_ceil(2);
        Self { all: Arc::new(Semaphore::new(threads)), bulk: Arc::new(Semaphore::new(bulk)) }
    }

    /// Runs work on the pool and holds `slots` meanwhile: the work continues when the caller disconnects, so the slots
    /// stay taken until it ends. The work runs inside the caller's span, whose `wait_ms` it records.
    pub(super) async fn run<K: Send + 'static, T: Send + 'static, E: Into<SampleError> + Send + 'static>(
        &self,
        urgency: Urgency,
        slots: K,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<(K, T), EncoderError> {
        let (since, span) = (Instant::now(), Span::current());
        let bulk_permit = match urgency {
            Urgency::Interactive => None,
            Urgency::Bulk => Some(permit(&self.bulk).await),
        };
        let permit = permit(&self.all).await;
        let work = task::spawn_blocking(move || {
            let _permits = (permit, bulk_permit);
            span.record("wait_ms", 1e3 * since.elapsed().as_secs_f64());
            span.in_scope(work).map(|done| (slots, done))
        });
        match work.await {
            Ok(done) => Ok(done.map_err(Into::into)?),
            Err(_) => Err(EncoderError::PreparationPanicked),
        }
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> tokio::sync::OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("the pool's semaphores are never closed")
}
