//! The watch over what is approximate: how much of the exact answer the galleries' graphs give.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Fault, Matcher};

/// The watch rests so many times as long as it has looked, whatever a sweep takes: a hundredth of one core.
const RESTS: u32 = 99;
const REST_MAX: Duration = Duration::from_mins(10);

impl Matcher {
    /// The share of the nearest identities that graphs have found of late; `None` where no graph answers.
    #[must_use]
    pub fn recall_ratio(&self) -> Option<f64> {
        self.watched.lock().ratio()
    }

    /// Looks once with each graph and with the scan, and rests.
    pub(super) async fn watch(&self) -> Result<(), Fault> {
        let (gallery, now) = (Arc::clone(&self.gallery), self.clock.now());
        // The lower half of an id is random.
        let draw = self.ids.fresh().as_u64_pair().1;
        let look = move || {
            let began = Instant::now();
            (gallery.watch(now, draw), began.elapsed())
        };
        let (seen, took) = tokio::task::spawn_blocking(look).await.map_err(Fault::internal)?;
        {
            let mut watched = self.watched.lock();
            *watched = watched.then(seen);
        }
        tokio::time::sleep(took.saturating_mul(RESTS).min(REST_MAX)).await;
        Ok(())
    }
}
