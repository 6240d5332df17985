//! The replica: the collections of the store in the memory of this process. It loads them at start, follows their logs,
//! takes snapshots and samples the recall of the graphs. It never writes to a log.

pub(crate) mod directory;
pub(crate) mod follow;
pub(crate) mod load;
pub(crate) mod recall_sampling;
pub(crate) mod snapshots;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::task::TaskTracker;

use self::directory::CollectionDirectory;
use crate::matcher::{
    collection::collection_handle::CollectionHandle, options::ReplicaOptions, recognition::Recognition,
    request::fault::Fault,
};
use domain::{CollectionId, CollectionStats, ErrorChain};
use gallery::{Gallery, MemoryBytes, RecallSample};
use store::{Scrubbed, Store};

/// Entries of a log that are read at once.
pub(crate) const LOG_PAGE: u32 = 1000;

/// Deleted collections whose snapshots are removed at once. Each removal takes a thread and some open files.
const REMOVED_AT_ONCE: usize = 4;

/// The open collections of this process. Clones share them.
#[derive(Debug, Clone)]
pub struct Replica {
    store: Arc<dyn Store>,
    gallery: Arc<Gallery>,
    /// For the measurements of model packages, which active calibrations need.
    recognition: Recognition,
    directory: Arc<CollectionDirectory>,
    recall: Arc<Mutex<RecallSample>>,
    tasks: TaskTracker,
    /// The last scrub left deleted bytes on disk.
    is_removal_pending: Arc<AtomicBool>,
    /// Limits the deleted collections whose snapshots are removed at once.
    removing: Arc<Semaphore>,
    options: ReplicaOptions,
}

/// What a replica is made of.
pub(crate) struct ReplicaParts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) gallery: Arc<Gallery>,
    pub(crate) recognition: Recognition,
    pub(crate) tasks: TaskTracker,
}

impl Replica {
    pub(crate) fn new(parts: ReplicaParts, options: ReplicaOptions) -> Self {
        let ReplicaParts { store, gallery, recognition, tasks } = parts;
        let (directory, recall, is_removal_pending) = (Arc::default(), Arc::default(), Arc::default());
        let removing = Arc::new(Semaphore::new(REMOVED_AT_ONCE));
        Self { store, gallery, recognition, directory, recall, tasks, is_removal_pending, removing, options }
    }

    pub(crate) fn options(&self) -> &ReplicaOptions {
        &self.options
    }

    pub(crate) fn directory(&self) -> &CollectionDirectory {
        &self.directory
    }

    /// The number of open collections.
    #[must_use]
    pub fn collection_count(&self) -> usize {
        self.directory.len()
    }

    /// The identities and templates of all collections in memory.
    #[must_use]
    pub fn totals(&self) -> CollectionStats {
        self.gallery.totals()
    }

    /// The bytes of all galleries, by part.
    #[must_use]
    pub fn gallery_bytes(&self) -> MemoryBytes {
        self.gallery.bytes()
    }

    /// Snapshots on disk that hold deleted data or wait for their removal.
    #[must_use]
    pub fn pending_removals(&self) -> usize {
        self.gallery.pending_removals()
    }

    /// The log entries of all collections that are known and not yet in the gallery.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.directory.all().iter().map(CollectionHandle::lag).sum()
    }

    /// The collection with this id. Loads it if another replica made it just now.
    ///
    /// # Errors
    /// [`Fault::NoCollection`].
    pub(crate) async fn open(&self, id: &CollectionId) -> Result<CollectionHandle, Fault> {
        if let Some(handle) = self.directory.get(id) {
            return Ok(handle);
        }
        let Some(collection) = self.store.collection(id).await? else {
            return Err(Fault::NoCollection(id.clone()));
        };
        self.load(collection).await
    }

    /// Closes a deleted collection. The returned task removes its snapshots; the caller need not wait for it.
    pub(crate) fn close(&self, handle: &CollectionHandle) -> JoinHandle<()> {
        self.directory.remove(&handle.collection.id, handle.collection.uid);
        self.gallery.remove(handle.collection.uid);
        let (handle, removing) = (handle.clone(), Arc::clone(&self.removing));
        self.tasks.spawn(async move {
            let _turn = removing.acquire().await;
            snapshots::remove_all(&handle).await;
        })
    }

    /// Reads the active calibrations as of the record of the handle.
    pub(crate) async fn read_active_calibrations(&self, handle: &CollectionHandle) -> Result<(), Fault> {
        let (uid, revision) = (handle.collection.uid, handle.collection.revision);
        let recognition = self.recognition.clone();
        let package = move |space| recognition.package_calibration(space).cloned();
        handle.active_calibrations.read(&*self.store, uid, revision, package).await
    }

    /// Removes deleted bytes from the files of the database and the snapshots, without waiting for readers of the
    /// database. What is left is removed by [`Replica::retry_removal`].
    pub(crate) async fn scrub(&self) -> Removal {
        let in_snapshots = self.scrub_snapshots().await;
        let in_database = match self.store.scrub().await {
            Ok(Scrubbed::Done) => None,
            Ok(Scrubbed::Pending) => Some("a reader of the database needs them".to_owned()),
            Err(error) => Some(ErrorChain(&error).to_string()),
        };
        let is_pending = in_snapshots || in_database.is_some();
        metrics::gauge!(domain::metric::REMOVAL_PENDING).set(f64::from(u8::from(is_pending)));
        let was_pending = self.is_removal_pending.swap(is_pending, Ordering::Relaxed);
        // Once, and not at each of the attempts that follow.
        if is_pending && !was_pending {
            tracing::warn!(
                in_snapshots,
                in_database,
                "deleted bytes are left on disk; the server goes on removing them"
            );
        } else if was_pending && !is_pending {
            tracing::info!("the deleted bytes that were left on disk are removed");
        }
        self.removal()
    }

    /// Whether deleted bytes are left on disk since the last scrub.
    pub(crate) fn removal(&self) -> Removal {
        if self.is_removal_pending.load(Ordering::Relaxed) { Removal::Pending } else { Removal::Done }
    }

    /// Scrubs again, if the last scrub left deleted bytes.
    pub(crate) async fn retry_removal(&self) {
        if self.removal() == Removal::Pending {
            self.scrub().await;
        }
    }

    /// Why writes do not work, if the last one failed for a reason that is not its own.
    #[must_use]
    pub fn write_outage(&self) -> Option<String> {
        self.store.write_outage()
    }
}

/// Whether the bytes of what was deleted are gone from the files of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    Done,
    /// Later requests do not find the record, but its bytes are still on disk. The server goes on removing them.
    Pending,
}
