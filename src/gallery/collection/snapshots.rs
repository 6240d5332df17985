//! A shelf's snapshots: what a restart reads instead of the store.

use std::sync::Arc;

use crate::{
    SnapshotError,
    collection::{Shelf, state::Fold},
    snapshot::{self, Recalled, Roll},
};
use domain::Position;

/// Whether snapshots are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Wanted,
    /// The collection is gone.
    Never,
}

impl Shelf {
    /// Reads the newest snapshot, if there is one. Nothing changes until it is taken up.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged. It is of no use then; see [`Shelf::clear`].
    pub fn recall(self: &Arc<Self>) -> Result<Option<Recall>, SnapshotError> {
        let Some(root) = &self.room.options.snapshots_dir else {
            return Ok(None);
        };
        let Some(folder) = snapshot::newest(root, self.uid)? else {
            return Ok(None);
        };
        let read = || {
            let Recalled { moment, roll } = snapshot::read(&folder, self.uid, self.packing())?;
            Ok(Fold::of(moment, roll, self.packing()))
        };
        // Reading takes every thread that a sweep would: nobody searches yet.
        let fold = self.room.threads.as_ref().map_or_else(read, |threads| threads.install(read))?;
        Ok(Some(Recall { shelf: Arc::clone(self), fold }))
    }

    /// Takes a snapshot where one is wanted: the log has moved on by a hundredth of what is held, or there is none yet.
    /// Searches and changes go on meanwhile. Answers whether it was taken.
    ///
    /// # Errors
    /// When it cannot be written. The snapshot before it stays in use.
    pub fn keep(&self) -> Result<bool, SnapshotError> {
        let Some(root) = &self.room.options.snapshots_dir else {
            return Ok(false);
        };
        let kept = self.kept.lock();
        if *kept == Kept::Never {
            return Ok(false);
        }
        if !self.fold.write().begin_snapshot() {
            return Ok(false);
        }
        // Searches go on while it is copied, and what is forgotten in between is overwritten in the end.
        let moment = self.fold.read().moment();
        let written = snapshot::write(root, self.uid, &moment);
        let replaced = match written {
            Ok(roll) => self.fold.write().finish_snapshot(&moment, roll),
            Err(error) => {
                self.fold.write().forgotten = None;
                return Err(error);
            }
        };
        // Files are overwritten here, after the lock.
        drop(replaced);
        Ok(true)
    }

    /// Removes snapshots that could not be taken up. Does nothing once one is in use: what is in memory stands on it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn clear(&self) -> Result<(), SnapshotError> {
        let _alone = self.kept.lock();
        if self.fold.read().kept.is_some() {
            return Ok(());
        }
        self.remove_snapshots()
    }

    /// Forgets everybody, removes all snapshots and takes none any more, because the collection is gone.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn end(&self) -> Result<(), SnapshotError> {
        let mut kept = self.kept.lock();
        *kept = Kept::Never;
        // Searches under way have ended once this has the lock, and nothing stands on the files any more.
        let ended = {
            let mut fold = self.fold.write();
            let ended = std::mem::replace(&mut *fold, Fold::new(self.packing()));
            *self.figures.write() = fold.figures();
            ended
        };
        drop(ended);
        self.remove_snapshots()
    }

    fn remove_snapshots(&self) -> Result<(), SnapshotError> {
        self.room.options.snapshots_dir.as_ref().map_or(Ok(()), |root| snapshot::clear(root, self.uid))
    }

    /// Makes what was overwritten in the snapshot stay so, whatever happens to the machine. Searches go on meanwhile.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn scrub(&self) -> Result<(), SnapshotError> {
        // One at a time, so that who finds nothing to do knows that it is done and not under way.
        let _alone = self.scrubbed.lock();
        // Asked first by a reader, because most have nothing to do.
        if self.fold.read().kept.as_ref().is_none_or(Roll::is_synced) {
            return Ok(());
        }
        let unsynced = self.fold.write().kept.as_mut().map(Roll::take_unsynced);
        let synced = unsynced.map_or(Ok(()), |unsynced| unsynced.sync());
        if synced.is_err()
            && let Some(roll) = &mut self.fold.write().kept
        {
            roll.is_synced = false;
        }
        synced
    }
}

/// A snapshot that was read and is whole. Whether it is of the log that the store holds now is for the caller to see.
#[derive(Debug)]
#[must_use = "nothing is loaded until it is taken up"]
pub struct Recall {
    shelf: Arc<Shelf>,
    fold: Fold,
}

impl Recall {
    /// Where in the log it stands.
    pub fn position(&self) -> Position {
        self.fold.head
    }

    /// Of the entry at that position.
    pub fn mark(&self) -> u32 {
        self.fold.mark
    }

    /// Puts it in place; entries after its position are applied as usual.
    pub fn take_up(self) {
        self.shelf.replace(self.fold);
    }
}
