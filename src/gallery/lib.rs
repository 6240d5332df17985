//! The gallery: enrolled templates in memory. One [`CollectionIndex`] per collection holds the result of applying that
//! collection's log.
//!
//! This package finds the identities most similar to a probe. It does not decide whether one of them is the person. It
//! reads no clock and no database: callers pass positions, log entries and times. It writes only snapshots, into a
//! directory that the caller names. After a deletion entry is applied, no search returns the deleted template, and its
//! values are overwritten in memory and on disk.
//!
//! A search scans 8-bit codes (`rows/codes.rs`, `rows/kernel/`), discards rows that cannot be in the answer, and
//! compares the remaining rows by their original values (`scan/`, `rows/originals.rs`). Large spaces use a graph
//! (`graph/`).
//!
//! All calls are synchronous and may take milliseconds. Run them on a thread pool, not on the async reactor.

mod collection;
mod graph;
mod memory;
mod options;
mod rehearsal;
mod roster;
mod rows;
mod scan;
mod snapshot;
mod space;
mod survey;
#[cfg(test)]
mod testbed;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use rayon::{ThreadPool, ThreadPoolBuilder};
use thiserror::Error;

use domain::{CollectionStats, CollectionUid, Position, Timestamp};

pub use collection::{
    CollectionIndex, IndexedIdentity, MaintenanceReport, Query, Restore, Searched, graph_recall::RecallSample,
    snapshots::LoadedSnapshot,
};
pub use memory::MemoryBytes;
pub use options::{CodeBits, GalleryOptions, GraphKind};
pub use rehearsal::{ImpostorTrials, JointRehearsal, RehearsalLimits};
pub use scan::query::SCAN_BATCH_MAX;
use snapshot::{Leftover, SnapshotDir};
pub use snapshot::{SnapshotDirLock, SnapshotError, SnapshotInspection};
pub use survey::{
    ClusterMember, Duplicate, PairCriteria, Survey,
    join::{JoinError, JoinProgress, JoinProgressCallback},
};

/// Errors of the gallery.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GalleryError {
    /// The log entries do not follow the last applied position. The index is unchanged; read the log again from its
    /// position.
    #[error("the log continues at position {}, but the given entry has position {}", expected.0, found.0)]
    Gap { expected: Position, found: Position },
    /// The configured maximum number of templates is reached.
    #[error("the gallery holds {held} of at most {templates_max} templates; raise the limit or add memory")]
    Full { held: u64, templates_max: u64 },
}

/// Deletes the snapshots of a directory that this process does not use. Returns whether none of them concerns it any
/// more: they are deleted, or another process uses them.
fn is_cleared(root: &Path) -> bool {
    match fs::metadata(root) {
        Ok(found) if !found.is_dir() => return true,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return true,
        Ok(_) | Err(_) => {}
    }
    let deleted = SnapshotDirLock::acquire(root).and_then(|lock| lock.map_or(Ok(()), |lock| lock.delete_snapshots()));
    deleted.is_ok()
}

/// State that all collection indexes share.
#[derive(Debug)]
struct GalleryRuntime {
    options: GalleryOptions,
    /// Candidates of the first, narrowest graph search; at least one.
    search_width: AtomicUsize,
    /// `None` when each scan runs on its caller's thread.
    threads: Option<ThreadPool>,
    /// `None` when snapshots are disabled.
    snapshots: Option<Arc<SnapshotDir>>,
    /// See [`GalleryOptions::abandoned_snapshots_dir`]; `None` once its snapshots are deleted.
    abandoned: Mutex<Option<PathBuf>>,
}

/// The indexes of all collections.
#[derive(Debug)]
pub struct Gallery {
    runtime: Arc<GalleryRuntime>,
    indexes: RwLock<HashMap<CollectionUid, Arc<CollectionIndex>>>,
}

impl Gallery {
    #[must_use]
    pub fn new(options: GalleryOptions) -> Self {
        let threads = (options.scan_threads > 1).then(|| {
            let builder = ThreadPoolBuilder::new().num_threads(options.scan_threads);
            builder.thread_name(|number| format!("scan-{number}")).build()
        });
        let threads = threads.transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "scans run on one thread each, because the system refuses more threads");
            None
        });
        let search_width = AtomicUsize::new(options.graph_search_width.max(1));
        let snapshots = options.snapshots_dir.clone().map(|root| Arc::new(SnapshotDir::new(root)));
        let abandoned = Mutex::new(options.abandoned_snapshots_dir.clone());
        let runtime = GalleryRuntime { options, search_width, threads, snapshots, abandoned };
        Self { runtime: Arc::new(runtime), indexes: RwLock::default() }
    }

    /// Returns the index of the collection. Creates an empty one at the start of the log when there is none.
    pub fn open(&self, uid: CollectionUid) -> Arc<CollectionIndex> {
        let mut indexes = self.indexes.write();
        Arc::clone(indexes.entry(uid).or_insert_with(|| Arc::new(CollectionIndex::new(uid, Arc::clone(&self.runtime)))))
    }

    #[must_use]
    pub fn index(&self, uid: CollectionUid) -> Option<Arc<CollectionIndex>> {
        self.indexes.read().get(&uid).map(Arc::clone)
    }

    /// Sets the number of candidates per graph search, see [`GalleryOptions::graph_search_width`].
    pub fn set_graph_search_width(&self, graph_search_width: usize) {
        self.runtime.search_width.store(graph_search_width.max(1), Ordering::Relaxed);
    }

    /// All collection indexes, for background maintenance.
    #[must_use]
    pub fn indexes(&self) -> Vec<(CollectionUid, Arc<CollectionIndex>)> {
        self.indexes.read().iter().map(|(uid, index)| (*uid, Arc::clone(index))).collect()
    }

    /// Removes a deleted collection and returns its index. Its memory is overwritten when the last search in it ends.
    /// The caller deletes the snapshots with [`CollectionIndex::discard`], because that takes long.
    pub fn remove(&self, uid: CollectionUid) -> Option<Arc<CollectionIndex>> {
        self.indexes.write().remove(&uid)
    }

    /// Deletes the snapshots of collections that are not open. They were deleted while this process did not run.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file system refuses. [`Gallery::scrub_snapshots`] tries again.
    pub fn prune(&self) -> Result<(), SnapshotError> {
        let is_open = |uid| self.indexes.read().contains_key(&uid);
        self.runtime.snapshots.as_ref().map_or(Ok(()), |dir| dir.prune(is_open))
    }

    /// Makes erasures in snapshots durable, and repeats erasures and removals that failed. Logs failures. Returns
    /// whether deleted data, or a snapshot in no use, may still be on disk. A replaced snapshot counts until its last
    /// reader has ended.
    pub fn scrub_snapshots(&self) -> bool {
        for (_, index) in self.indexes() {
            let _logged = index.sync_erasures();
        }
        self.repeat_removals();
        self.pending_removals() > 0
    }

    /// Number of snapshots that hold deleted data or wait for their removal.
    #[must_use]
    pub fn pending_removals(&self) -> usize {
        let erasures = self.indexes().iter().filter(|(_, index)| index.is_erasure_pending()).count();
        let removals = self.runtime.snapshots.as_ref().map_or(0, |dir| dir.pending());
        erasures + removals + usize::from(self.runtime.abandoned.lock().is_some())
    }

    fn repeat_removals(&self) {
        if let Some(dir) = &self.runtime.snapshots {
            for leftover in dir.failures() {
                // The directory keeps what fails again.
                let _remembered = match leftover {
                    Leftover::Folder(path) => dir.repeat_removal(&path),
                    Leftover::Collection(uid) => {
                        self.index(uid).map_or_else(|| dir.clear(uid, |_| false), |index| index.try_clear_snapshots())
                    }
                    Leftover::Closed => self.prune(),
                };
            }
        }
        // Without the lock, which a reader of the metrics takes too.
        let abandoned = self.runtime.abandoned.lock().clone();
        if abandoned.is_some_and(|root| is_cleared(&root)) {
            *self.runtime.abandoned.lock() = None;
        }
    }

    /// Enrolled identities and their templates in all collections together.
    #[must_use]
    pub fn totals(&self) -> CollectionStats {
        self.indexes().iter().map(|(_, index)| index.stats()).fold(CollectionStats::default(), |sum, one| {
            CollectionStats { identities: sum.identities + one.identities, templates: sum.templates + one.templates }
        })
    }

    /// Memory use of all collections together.
    #[must_use]
    pub fn bytes(&self) -> MemoryBytes {
        self.indexes().iter().map(|(_, index)| index.bytes()).fold(MemoryBytes::default(), std::ops::Add::add)
    }

    /// Compares graph search and exact scan for one template of each space that has a graph. `draw` chooses the
    /// template. Takes as long as one scan of each such space.
    #[must_use]
    pub fn sample_recall(&self, now: Timestamp, draw: u64) -> RecallSample {
        self.indexes()
            .iter()
            .map(|(_, index)| index.sample_recall(now, draw))
            .fold(RecallSample::default(), std::ops::Add::add)
    }

    /// Checks that `more` templates fit. Call it before appending them to a log: an index always follows its log,
    /// whatever the limit.
    ///
    /// # Errors
    /// [`GalleryError::Full`].
    pub fn check_capacity(&self, more: u64) -> Result<(), GalleryError> {
        let provisional = self.indexes().iter().map(|(_, index)| index.counts().provisional.templates).sum::<u64>();
        let held = self.totals().templates + provisional;
        let templates_max = self.runtime.options.templates_max;
        if held.saturating_add(more) > templates_max {
            return Err(GalleryError::Full { held, templates_max });
        }
        Ok(())
    }
}
