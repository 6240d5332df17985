//! The directory of a gallery's snapshots, with the removals that are not done.
//!
//! A snapshot that is in no use holds the data of people, and no erasure reaches it. Its removal is therefore remembered
//! until it is done.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::{
    SnapshotError,
    folder::{self, FoundFolder},
};
use domain::CollectionUid;

/// What is to be removed from the directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Leftover {
    /// A snapshot, complete or not.
    Folder(PathBuf),
    /// Every unused snapshot of a collection, because the directory could not be listed.
    Collection(CollectionUid),
    /// Every snapshot of collections that are not open, because the directory could not be listed.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RemovalState {
    /// A reader still uses the files. Its end removes them.
    InUse,
    /// A thread overwrites and deletes the files.
    Running,
    /// The last attempt failed.
    Failed,
}

/// Directory of the snapshots of all collections. The process that uses it holds its [`super::SnapshotDirLock`].
#[derive(Debug)]
pub(crate) struct SnapshotDir {
    root: PathBuf,
    removals: Mutex<HashMap<Leftover, RemovalState>>,
    /// The first listing, by collection. Each part is used once, so that a start lists once for all collections.
    listed: Mutex<Option<HashMap<CollectionUid, Vec<FoundFolder>>>>,
}

impl SnapshotDir {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, removals: Mutex::default(), listed: Mutex::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The newest complete snapshot of a collection. Removes older and incomplete ones; a failure of that is remembered.
    pub(crate) fn newest(&self, uid: CollectionUid) -> Result<Option<PathBuf>, SnapshotError> {
        let (mut complete, mut stale) = (Vec::new(), Vec::new());
        for found in self.folders_of(uid)? {
            if found.is_complete { &mut complete } else { &mut stale }.push(found.path);
        }
        complete.sort_unstable();
        let newest = complete.pop();
        for path in stale.into_iter().chain(complete) {
            let _remembered = self.remove(&path);
        }
        Ok(newest)
    }

    fn folders_of(&self, uid: CollectionUid) -> Result<Vec<FoundFolder>, SnapshotError> {
        let mut listed = self.listed.lock();
        if listed.is_none() {
            let first = listed.insert(HashMap::new());
            for found in folder::list(&self.root, |_| true)? {
                first.entry(found.uid).or_default().push(found);
            }
        }
        if let Some(found) = listed.as_mut().and_then(|listed| listed.remove(&uid)) {
            return Ok(found);
        }
        drop(listed);
        folder::list(&self.root, |found| found == uid)
    }

    /// Notes that the snapshots of a collection change: the first listing is no longer right.
    pub(super) fn set_changed(&self, uid: CollectionUid) {
        if let Some(listed) = &mut *self.listed.lock() {
            listed.remove(&uid);
        }
    }

    /// Removes the snapshots of a collection except those that are `kept`. A failure is remembered.
    pub(crate) fn clear(&self, uid: CollectionUid, kept: impl Fn(&Path) -> bool) -> Result<(), SnapshotError> {
        self.set_changed(uid);
        self.remove_listed(&Leftover::Collection(uid), |found, path| found == uid && !kept(path))
    }

    /// Removes complete and incomplete snapshots of all collections that are not open. A failure is remembered.
    pub(crate) fn prune(&self, is_open: impl Fn(CollectionUid) -> bool) -> Result<(), SnapshotError> {
        // Asks after the listing: a collection that opens meanwhile has no snapshot in the list.
        self.remove_listed(&Leftover::Closed, |found, _| !is_open(found))
    }

    fn remove_listed(
        &self,
        leftover: &Leftover,
        is_unused: impl Fn(CollectionUid, &Path) -> bool,
    ) -> Result<(), SnapshotError> {
        let listed = folder::list(&self.root, |_| true).inspect_err(|error| self.failed(leftover.clone(), error))?;
        let mut removed = Ok(());
        for found in listed.iter().filter(|found| is_unused(found.uid, &found.path)) {
            removed = self.remove(&found.path).and(removed);
        }
        // From here on, each folder that is left has an entry of its own.
        self.done(leftover);
        removed
    }

    /// Overwrites and deletes a snapshot. A failure is remembered.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), SnapshotError> {
        self.remove_when(path, |_| true)
    }

    /// As [`SnapshotDir::remove`], unless the removal has been done since it failed: a new snapshot may have the path.
    pub(crate) fn repeat_removal(&self, path: &Path) -> Result<(), SnapshotError> {
        self.remove_when(path, |state| state == Some(RemovalState::Failed))
    }

    fn remove_when(&self, path: &Path, is_due: impl FnOnce(Option<RemovalState>) -> bool) -> Result<(), SnapshotError> {
        let leftover = Leftover::Folder(path.to_owned());
        let before = {
            let mut removals = self.removals.lock();
            let before = removals.get(&leftover).copied();
            if before == Some(RemovalState::Running) {
                let busy = io::Error::new(io::ErrorKind::ResourceBusy, "the snapshot is being deleted");
                return Err(SnapshotError::disk(path)(busy));
            }
            if !is_due(before) {
                return Ok(());
            }
            removals.insert(leftover.clone(), RemovalState::Running);
            before
        };
        let removed = folder::remove(path).map_err(SnapshotError::disk(path));
        let has_failed_before = before == Some(RemovalState::Failed);
        match &removed {
            Ok(()) => {
                self.removals.lock().remove(&leftover);
                if has_failed_before {
                    tracing::info!(path = %path.display(), "an unused snapshot is deleted at last");
                }
            }
            Err(error) => {
                self.removals.lock().insert(leftover, RemovalState::Failed);
                if !has_failed_before {
                    warn_of(error, path);
                }
            }
        }
        removed
    }

    fn failed(&self, leftover: Leftover, error: &SnapshotError) {
        if self.removals.lock().insert(leftover, RemovalState::Failed).is_none() {
            warn_of(error, &self.root);
        }
    }

    fn done(&self, leftover: &Leftover) {
        if self.removals.lock().remove(leftover).is_some() {
            tracing::info!(path = %self.root.display(), "unused snapshots are listed at last");
        }
    }

    /// Remembers a snapshot that its last reader will remove.
    pub(super) fn retire(&self, path: &Path) {
        self.removals.lock().entry(Leftover::Folder(path.to_owned())).or_insert(RemovalState::InUse);
    }

    /// Whether a reader still uses a replaced snapshot.
    pub(crate) fn is_in_use(&self, path: &Path) -> bool {
        self.removals.lock().get(&Leftover::Folder(path.to_owned())) == Some(&RemovalState::InUse)
    }

    /// The removals whose last attempt failed.
    pub(crate) fn failures(&self) -> Vec<Leftover> {
        let removals = self.removals.lock();
        removals.iter().filter(|(_, state)| **state == RemovalState::Failed).map(|(one, _)| one.clone()).collect()
    }

    /// Number of removals that are not done.
    pub(crate) fn pending(&self) -> usize {
        self.removals.lock().len()
    }
}

fn warn_of(error: &SnapshotError, path: &Path) {
    let error = domain::ErrorChain(error).to_string();
    tracing::warn!(path = %path.display(), error, "an unused snapshot could not be deleted; the next sweep tries again");
}
