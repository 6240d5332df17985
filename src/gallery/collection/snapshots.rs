//! Snapshots of a collection index: files that a restart reads instead of the store's tables.

use std::sync::Arc;

use crate::{
    SnapshotError,
    collection::{CollectionIndex, state::IndexState},
    snapshot::{self, ReadSnapshot, SnapshotFiles},
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
        let Some(root) = &self.runtime.options.snapshots_dir else {
            return Ok(None);
        };
        let Some(folder) = snapshot::newest(root, self.uid)? else {
            return Ok(None);
        };
        let read = || {
            let ReadSnapshot { content, files } = snapshot::read(&folder, self.uid, self.packing())?;
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
        let Some(root) = &self.runtime.options.snapshots_dir else {
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
        let written = snapshot::write(root, self.uid, &content);
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

    /// Deletes snapshots that could not be installed. Does nothing when a snapshot is in use, because its files are
    /// mapped.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file system refuses.
    pub fn clear_snapshots(&self) -> Result<(), SnapshotError> {
        let _alone = self.snapshot_policy.lock();
        if self.state.read().snapshot.is_some() {
            return Ok(());
        }
        self.remove_snapshots()
    }

    /// Empties the index of a deleted collection, deletes all its snapshots and disables further ones.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file system refuses.
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
        self.remove_snapshots()
    }

    fn remove_snapshots(&self) -> Result<(), SnapshotError> {
        self.runtime.options.snapshots_dir.as_ref().map_or(Ok(()), |root| snapshot::clear(root, self.uid))
    }

    /// Syncs erasures in the snapshot to disk, so that they survive a power loss. Searches go on meanwhile.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file system refuses.
    pub fn sync_erasures(&self) -> Result<(), SnapshotError> {
        // One call at a time: a call that finds nothing to sync may return only after the sync of another call is
        // complete.
        let _alone = self.erasure_sync.lock();
        // A read lock first, because most calls find nothing to sync.
        if self.state.read().snapshot.as_ref().is_none_or(SnapshotFiles::is_synced) {
            return Ok(());
        }
        let unsynced = self.state.write().snapshot.as_mut().map(SnapshotFiles::take_unsynced);
        let synced = unsynced.map_or(Ok(()), |unsynced| unsynced.sync());
        if synced.is_err()
            && let Some(files) = &mut self.state.write().snapshot
        {
            files.is_synced = false;
        }
        synced
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
