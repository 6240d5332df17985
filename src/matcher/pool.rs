//! A bounded place for what is too long for the reactor: gallery searches.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Fault;

/// Threads that search, and a bounded queue before them.
#[derive(Debug)]
pub(super) struct Pool {
    threads: Arc<Semaphore>,
    /// Places for those that run and those that wait.
    places: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(threads: usize, waiting_max: usize) -> Self {
        Self { threads: Arc::new(Semaphore::new(threads)), places: Arc::new(Semaphore::new(threads + waiting_max)) }
    }

    /// A place for work that is to come.
    ///
    /// # Errors
    /// [`Fault::Busy`] when as many wait as may.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Fault> {
        let busy = |_| Fault::Busy { retry_after: Duration::from_secs(1) };
        Arc::clone(&self.places).try_acquire_owned().map_err(busy)
    }

    /// Runs `work` on a thread of its own, in a place that was taken for it.
    ///
    /// # Errors
    /// [`Fault::Internal`] when the work panicked.
    pub(super) async fn run_in<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(Fault::internal)?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop((place, thread));
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
        let pool = Arc::new(Pool::new(1, 0));
        let (release, released) = mpsc::channel::<()>();
        let (started, has_started) = tokio::sync::oneshot::channel();
        let first = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move {
                let place = pool.place().expect("the pool is empty");
                pool.run_in(place, move || {
                    started.send(()).expect("the test waits");
                    released.recv().expect("the test releases");
                    1
                })
                .await
            }
        });
        has_started.await.expect("it starts");
        assert!(matches!(pool.place(), Err(Fault::Busy { .. })));
        release.send(()).expect("it waits");
        assert_eq!(first.await.expect("no panic").expect("a place"), 1);
        let place = pool.place().expect("the place is free again");
        assert_eq!(pool.run_in(place, || 3).await.expect("no panic"), 3);
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_fault_and_frees_its_place() {
        let pool = Pool::new(1, 0);
        let place = pool.place().expect("the pool is empty");
        let panicked = pool.run_in(place, || assert_eq!(1, 2, "on purpose")).await;
        assert!(matches!(panicked, Err(Fault::Internal(_))));
        drop(pool.place().expect("the place is free again"));
    }
}
