//! What similarities mean in a collection: sample acceptance, the calibration in force, thresholds, and the fusion of
//! modalities. It reads the gallery and never writes to a log.

pub(crate) mod acceptance;
pub(crate) mod calibrations_in_force;
pub(crate) mod fusion;
#[cfg(test)]
mod realised_error_rates;
#[cfg(test)]
mod three_way_rates;
pub(crate) mod usable_modalities;
#[cfg(test)]
mod verify_rates;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::matcher::{collection::scans::Scans, options::JudgingOptions, recognition::Recognition, replica::Replica};
use domain::Clock;
use store::Store;

/// Decides what similarities mean. Clones share all state.
#[derive(Debug, Clone)]
pub struct Judging {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    recognition: Recognition,
    replica: Replica,
    scans: Scans,
    /// Held during a rehearsal: after a restart every collection needs one, and searches need the cores.
    rehearsal_lock: Arc<tokio::sync::Mutex<()>>,
    tasks: TaskTracker,
    options: JudgingOptions,
}

/// What judging is made of.
pub(crate) struct JudgingParts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) recognition: Recognition,
    pub(crate) replica: Replica,
    pub(crate) scans: Scans,
    pub(crate) tasks: TaskTracker,
}

impl Judging {
    pub(crate) fn new(parts: JudgingParts, options: JudgingOptions) -> Self {
        let JudgingParts { store, clock, recognition, replica, scans, tasks } = parts;
        Self { store, clock, recognition, replica, scans, rehearsal_lock: Arc::default(), tasks, options }
    }

    /// Runs `work` on a blocking thread, with no rehearsal beside it.
    ///
    /// # Errors
    /// When the work panicked.
    pub(crate) async fn rehearse_alone<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let _rehearsal = self.rehearsal_lock.lock().await;
        tokio::task::spawn_blocking(work).await
    }

    pub(crate) fn options(&self) -> &JudgingOptions {
        &self.options
    }
}
