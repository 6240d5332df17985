//! Snapshots of a collection index: files that a restart reads instead of the store's tables.

use std::sync::Arc;

use parking_lot::MutexGuard;

use crate::{
    SnapshotError,
    collection::{CollectionIndex, state::IndexState},
    snapshot::{self, ReadOptions, ReadSnapshot, SnapshotFiles},
};
use domain::Position;

/// Whether snapshots of the index may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SnapshotPolicy {
    Enabled,
    /// The collection was deleted.
    Disabled,
}

impl CollectionIndex {
    /// Reads the newest snapshot, if there is one. The index does not change until [`LoadedSnapshot::install`].
    ///
    /// # Errors
    /// [`SnapshotError`] when the snapshot cannot be read or is damaged. Delete it with
    /// [`CollectionIndex::clear_snapshots`].
    pub fn load_snapshot(self: &Arc<Self>) -> Result<Option<LoadedSnapshot>, SnapshotError> {
        let Some(dir) = &self.runtime.snapshots else {
            return Ok(None);
        };
        let Some(folder) = dir.newest(self.uid)? else {
            return Ok(None);
        };
        let options = ReadOptions { packing: self.packing(), mapped_bytes_min: self.runtime.options.mapped_bytes_min };
        let read = || {
            let ReadSnapshot { content, files } = snapshot::read(dir, &folder, self.uid, options)?;
            Ok(IndexState::of(content, files, self.packing()))
        };
        // Uses all scan threads, because no search runs yet.
        let state = self.runtime.threads.as_ref().map_or_else(read, |threads| threads.install(read))?;
        Ok(Some(LoadedSnapshot { index: Arc::clone(self), state }))
    }

    /// Writes a snapshot when needed: there is none yet, or the log has grown by a hundredth of the template count.
    /// Searches and changes go on meanwhile. Returns whether a snapshot was written.
    ///
    /// # Errors
    /// [`SnapshotError`] when it cannot be written. The previous snapshot stays in use.
    pub fn write_snapshot(&self) -> Result<bool, SnapshotError> {
        let Some(dir) = &self.runtime.snapshots else {
            return Ok(false);
        };
        let policy = self.snapshot_policy.lock();
        if *policy == SnapshotPolicy::Disabled {
            return Ok(false);
        }
        if !self.state.write().begin_snapshot() {
            return Ok(false);
        }
        // Searches and changes go on during the write. Deletions meanwhile are recorded and erased from the new files
        // afterwards.
        let content = self.state.read().content();
        let written = snapshot::write(dir, self.uid, &content, self.runtime.options.mapped_bytes_min);
        let replaced = match written {
            Ok(files) => self.state.write().finish_snapshot(&content, files),
            Err(error) => {
                self.state.write().pending_erasures = None;
                return Err(error);
            }
        };
        // Overwrites the files of the previous snapshot after the lock is released.
        drop(replaced);
        Ok(true)
    }

    /// Deletes snapshots that could not be installed. The one in use stays.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file system refuses. [`crate::Gallery::scrub_snapshots`] tries again.
    pub fn clear_snapshots(&self) -> Result<(), SnapshotError> {
        self.clear_unused(self.snapshot_policy.lock())
    }

    /// As [`CollectionIndex::clear_snapshots`]; does nothing while a snapshot is written or deleted.
    pub(crate) fn try_clear_snapshots(&self) -> Result<(), SnapshotError> {
        self.snapshot_policy.try_lock().map_or(Ok(()), |alone| self.clear_unused(alone))
    }

    fn clear_unused(&self, _alone: MutexGuard<'_, SnapshotPolicy>) -> Result<(), SnapshotError> {
        let Some(dir) = &self.runtime.snapshots else {
            return Ok(());
        };
        let used = self.state.read().snapshot.as_ref().map(|files| files.path().to_owned());
        dir.clear(self.uid, |path| used.as_deref() == Some(path) || dir.is_in_use(path))
    }

    /// Empties the index of a deleted collection, deletes all its snapshots and disables further ones.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file system refuses. [`crate::Gallery::scrub_snapshots`] tries again.
    pub fn discard(&self) -> Result<(), SnapshotError> {
        let mut policy = self.snapshot_policy.lock();
        *policy = SnapshotPolicy::Disabled;
        // The write lock waits for running searches, so no search uses the mapped files after this.
        let previous = {
            let mut state = self.state.write();
            let previous = std::mem::replace(&mut *state, IndexState::new(self.packing()));
            *self.statistics.write() = state.statistics();
            previous
        };
        drop(previous);
        self.runtime.snapshots.as_ref().map_or(Ok(()), |dir| dir.clear(self.uid, |_| false))
    }

    /// Whether deleted data may be in a snapshot on disk.
    pub fn is_erasure_pending(&self) -> bool {
        self.state.read().is_erasure_pending()
    }

    /// Repeats erasures that failed, and syncs all to disk, so that they survive a power loss. Searches go on meanwhile.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file system refuses. The erasures stay pending.
    pub fn sync_erasures(&self) -> Result<(), SnapshotError> {
        // One call at a time: a call that finds nothing to sync may return only after the sync of another call is
        // complete.
        let _alone = self.erasure_sync.lock();
        // A read lock first, because most calls find nothing to sync.
        if self.state.read().snapshot.as_ref().is_none_or(SnapshotFiles::is_settled) {
            return Ok(());
        }
        let Some(mut unsettled) = self.state.write().snapshot.as_mut().map(SnapshotFiles::take_unsettled) else {
            return Ok(());
        };
        let settled = unsettled.settle();
        if settled.is_err()
            && let Some(files) = &mut self.state.write().snapshot
        {
            files.put_back(unsettled);
        }
        settled
    }
}

/// A complete snapshot in memory, not yet installed. The caller checks that it belongs to the current log.
#[derive(Debug)]
#[must_use = "nothing changes until the snapshot is installed"]
pub struct LoadedSnapshot {
    index: Arc<CollectionIndex>,
    state: IndexState,
}

impl LoadedSnapshot {
    /// Position of the log at which the snapshot was taken.
    pub fn position(&self) -> Position {
        self.state.head
    }

    /// Checksum of the log entry at that position.
    pub fn entry_checksum(&self) -> u32 {
        self.state.entry_checksum
    }

    /// Replaces the index's state. Entries after its position are applied as usual.
    pub fn install(self) {
        self.index.replace(self.state);
    }
}
