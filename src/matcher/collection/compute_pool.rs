//! A bounded thread pool for gallery scans, which run too long for the reactor.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::matcher::request::fault::Fault;

/// Scan threads with a bounded queue.
#[derive(Debug)]
pub(crate) struct ComputePool {
    threads: Arc<Semaphore>,
    /// One permit for each scan that runs or waits.
    slots: Arc<Semaphore>,
}

impl ComputePool {
    pub(crate) fn new(threads: usize, waiting_max: usize) -> Self {
        Self { threads: Arc::new(Semaphore::new(threads)), slots: Arc::new(Semaphore::new(threads + waiting_max)) }
    }

    /// Reserves a slot for later work.
    ///
    /// # Errors
    /// [`Fault::Busy`] when the queue is full.
    pub(crate) fn slot(&self) -> Result<OwnedSemaphorePermit, Fault> {
        let busy = |_| Fault::busy();
        Arc::clone(&self.slots).try_acquire_owned().map_err(busy)
    }

    /// Runs `work` on a thread, in a reserved slot.
    ///
    /// # Errors
    /// [`Fault::Internal`] when the work panicked.
    pub(crate) async fn run_in<T: Send + 'static>(
        &self,
        slot: OwnedSemaphorePermit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(Fault::internal)?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop((slot, thread));
            result
        })
        .await
        .map_err(Fault::internal)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_full_pool_refuses_and_recovers() {
        let pool = Arc::new(ComputePool::new(1, 0));
        let (release, released) = mpsc::channel::<()>();
        let (started, has_started) = tokio::sync::oneshot::channel();
        let first = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move {
                let slot = pool.slot().expect("the pool is empty");
                pool.run_in(slot, move || {
                    started.send(()).expect("the test waits");
                    released.recv().expect("the test releases");
                    1
                })
                .await
            }
        });
        has_started.await.expect("it starts");
        assert!(matches!(pool.slot(), Err(Fault::Busy { .. })));
        release.send(()).expect("it waits");
        assert_eq!(first.await.expect("no panic").expect("a slot"), 1);
        let slot = pool.slot().expect("the slot is free again");
        assert_eq!(pool.run_in(slot, || 3).await.expect("no panic"), 3);
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_fault_and_frees_its_slot() {
        let pool = ComputePool::new(1, 0);
        let slot = pool.slot().expect("the pool is empty");
        let panicked = pool.run_in(slot, || assert_eq!(1, 2, "on purpose")).await;
        assert!(matches!(panicked, Err(Fault::Internal(_))));
        drop(pool.slot().expect("the slot is free again"));
    }
}
