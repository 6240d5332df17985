//! Recall sampling: the share of the exact result that the graphs return.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Replica;
use crate::matcher::request::fault::Fault;
use domain::Timestamp;

/// A rest is this many times as long as the sample before it, so sampling uses a hundredth of one core.
const RESTS: u32 = 99;
const REST_MAX: Duration = Duration::from_mins(10);

impl Replica {
    /// The recall of recent samples, 0 to 1; `None` when no search uses a graph.
    #[must_use]
    pub fn recall_ratio(&self) -> Option<f64> {
        self.recall.lock().ratio()
    }

    /// Searches once with each graph and with the exact scan, then rests. `draw` chooses the probes.
    pub(crate) async fn sample_recall(&self, now: Timestamp, draw: u64) -> Result<(), Fault> {
        let gallery = Arc::clone(&self.gallery);
        let sample = move || {
            let began = Instant::now();
            (gallery.sample_recall(now, draw), began.elapsed())
        };
        let (sampled, took) = tokio::task::spawn_blocking(sample).await.map_err(Fault::internal)?;
        {
            let mut recall = self.recall.lock();
            *recall = recall.then(sampled);
        }
        tokio::time::sleep(took.saturating_mul(RESTS).min(REST_MAX)).await;
        Ok(())
    }
}
