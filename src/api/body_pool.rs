//! Threads for work on large bodies: translating, hashing, writing JSON. The reactor does not wait for it.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::matcher::Fault;

/// A bound on the threads that work on bodies at once. Clones share the bound.
///
/// Requests in flight are bounded, so the requests that wait here are bounded too.
#[derive(Debug, Clone)]
pub(super) struct BodyPool(Arc<Semaphore>);

impl BodyPool {
    pub(super) fn new(threads: usize) -> Self {
        Self(Arc::new(Semaphore::new(threads)))
    }

    /// Runs `work` on a blocking thread, when one of the pool's is free.
    ///
    /// # Errors
    /// [`Fault::Internal`] when the work panics.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        let thread = Arc::clone(&self.0).acquire_owned().await.map_err(Fault::internal)?;
        let work = move || {
            let result = work();
            // The closure owns the permit, so a caller that hangs up does not free a thread that still works.
            drop(thread);
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(Fault::internal)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_caller_that_hangs_up_does_not_free_a_thread_that_still_works() {
        let pool = BodyPool::new(1);
        let (release, released) = mpsc::channel::<()>();
        let (started, has_started) = tokio::sync::oneshot::channel();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(move || {
                    started.send(()).expect("the test waits");
                    released.recv().expect("the test releases");
                })
                .await
            }
        });
        has_started.await.expect("it starts");
        first.abort();
        assert!(first.await.expect_err("aborted").is_cancelled());
        assert_eq!(pool.0.available_permits(), 0);
        release.send(()).expect("it waits");
        assert_eq!(pool.run(|| 3).await.expect("the thread is free again"), 3);
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_fault_and_frees_its_thread() {
        let pool = BodyPool::new(1);
        let panicked = pool.run(|| assert_eq!(1, 2, "on purpose")).await;
        assert!(matches!(panicked, Err(Fault::Internal(_))));
        assert_eq!(pool.run(|| 3).await.expect("the thread is free again"), 3);
    }
}
