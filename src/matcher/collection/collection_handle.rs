//! An open collection: its record, its gallery, and the state that each owner keeps beside them.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::matcher::{
    collection::{
        active_calibrations::ActiveCalibrations, group_commit::GroupCommit, log_progress::LogProgress,
        rehearsals::Rehearsals, scan_batch::ScanBatch,
    },
    request::consistency_token::ConsistencyToken,
    request::fault::Fault,
};
use decision::ReviewBudget;
use domain::{Collection, EmbeddingSpace, Entry, GalleryState, Position};
use gallery::CollectionIndex;

/// An open collection. Clones share all state but the record, which is the one at the time of the clone.
#[derive(Debug, Clone)]
pub(crate) struct CollectionHandle {
    pub(crate) collection: Arc<Collection>,
    pub(crate) index: Arc<CollectionIndex>,
    /// Held from before a turn until its entries are in the gallery.
    pub(crate) writers: Arc<Mutex<()>>,
    pub(crate) group_commit: Arc<GroupCommit>,
    pub(crate) progress: Arc<LogProgress>,
    pub(crate) scans: Arc<ScanBatch>,
    pub(crate) active_calibrations: Arc<ActiveCalibrations>,
    pub(crate) rehearsals: Arc<Rehearsals>,
    /// Review cases that recent resolves opened.
    pub(crate) review_budget: Arc<parking_lot::Mutex<ReviewBudget>>,
}

impl CollectionHandle {
    pub(crate) fn new(collection: Collection, index: Arc<CollectionIndex>) -> Self {
        let progress = LogProgress::at(index.position());
        Self {
            collection: Arc::new(collection),
            index,
            writers: Arc::default(),
            group_commit: Arc::default(),
            progress: Arc::new(progress),
            scans: Arc::default(),
            active_calibrations: Arc::default(),
            rehearsals: Arc::default(),
            review_budget: Arc::default(),
        }
    }

    /// Applies log entries to the gallery and wakes the reads that wait for them. Entries that are already applied are
    /// skipped, so pages may arrive in any order.
    ///
    /// Runs on a blocking thread: the gallery applies entries when no search holds it, and a search of a large gallery
    /// takes tens of milliseconds.
    pub(crate) async fn apply(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        if entries.is_empty() {
            return Ok(());
        }
        let index = Arc::clone(&self.index);
        let applied = tokio::task::spawn_blocking(move || index.apply(&entries)).await.map_err(Fault::internal)?;
        self.progress.advance(self.index.position());
        Ok(applied?)
    }

    /// The number of log entries that are known and not yet in the gallery.
    pub(crate) fn lag(&self) -> u64 {
        self.progress.head().0.saturating_sub(self.index.position().0)
    }

    pub(crate) fn position(&self) -> Position {
        self.index.position()
    }

    /// A token for the present state of the gallery.
    pub(crate) fn token(&self) -> ConsistencyToken {
        ConsistencyToken::at(self.collection.uid, self.position())
    }

    /// The present state of the gallery of a space; a calibration is stale when it has moved too far from its own.
    pub(crate) fn gallery_state(&self, space: EmbeddingSpace) -> GalleryState {
        GalleryState {
            space: self.collection.active_space(space.modality).map(|active| active.space),
            identities: self.index.identities_in(space),
            quality_mean: self.index.quality_mean_in(space),
            pooling: self.collection.policy.pooling,
        }
    }
}
