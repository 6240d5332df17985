//! Directories of snapshots: `<uid>-<position>` for a complete one, `.<uid>-<position>` for one that is being written.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use uuid::Uuid;

use super::SnapshotError;
use domain::{CollectionUid, Position};

/// Lock file of the process that owns a snapshot directory.
const LOCK_FILE: &str = "claimed";

/// MemoryBytes per write when a file is overwritten.
const CHUNK_BYTES: usize = 1 << 20;

/// Exclusive use of a snapshot directory. Two processes would delete each other's snapshots.
#[derive(Debug)]
pub struct SnapshotDirLock {
    root: PathBuf,
    _locked: File,
}

impl SnapshotDirLock {
    /// Locks the directory and creates it when missing. `None` when another process holds the lock.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file system refuses.
    pub fn acquire(root: &Path) -> Result<Option<Self>, SnapshotError> {
        make_private(root).map_err(SnapshotError::disk(root))?;
        let path = root.join(LOCK_FILE);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(SnapshotError::disk(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { root: root.to_owned(), _locked: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(SnapshotError::disk(&path)(error)),
        }
    }

    /// How many collections have a snapshot in a directory. 0 when it cannot be read.
    #[must_use]
    pub fn count(root: &Path) -> usize {
        let uid = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            name.rsplit_once('-').and_then(|(uid, _)| uid.parse::<Uuid>().ok())
        };
        entries(root).unwrap_or_default().iter().filter_map(uid).collect::<HashSet<_>>().len()
    }

    /// Deletes every snapshot in the directory.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file system refuses.
    pub fn delete_snapshots(&self) -> Result<(), SnapshotError> {
        prune(&self.root, &HashSet::new())
    }
}

/// Directory of one snapshot. After [`Folder::retire`] it is overwritten and deleted when the last user of its files
/// drops it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    is_retired: AtomicBool,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, is_retired: AtomicBool::new(false) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_retired.load(Ordering::Relaxed)
            && let Err(error) = remove(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a replaced snapshot could not be deleted");
        }
    }
}

pub(super) fn name(uid: CollectionUid, position: Position) -> String {
    // Fixed width, so that names sort by position.
    format!("{uid}-{:020}", position.0)
}

/// The newest complete snapshot of a collection. Deletes older and incomplete ones.
pub(crate) fn newest(root: &Path, uid: CollectionUid) -> Result<Option<PathBuf>, SnapshotError> {
    let (whole, partial) = (format!("{uid}-"), format!(".{uid}-"));
    let mut found = Vec::new();
    for entry in entries(root)? {
        let name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with(&partial) {
            remove(&entry).map_err(SnapshotError::disk(&entry))?;
        } else if name.starts_with(&whole) {
            found.push(entry);
        }
    }
    found.sort_unstable();
    let newest = found.pop();
    for older in found {
        remove(&older).map_err(SnapshotError::disk(&older))?;
    }
    Ok(newest)
}

/// Deletes every snapshot of a collection.
pub(crate) fn clear(root: &Path, uid: CollectionUid) -> Result<(), SnapshotError> {
    match newest(root, uid)? {
        Some(last) => remove(&last).map_err(SnapshotError::disk(&last)),
        None => Ok(()),
    }
}

/// Deletes complete and incomplete snapshots of all collections that are not open.
pub(crate) fn prune(root: &Path, open: &HashSet<CollectionUid>) -> Result<(), SnapshotError> {
    for entry in entries(root)? {
        let name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let uid = name.trim_start_matches('.').rsplit_once('-').and_then(|(uid, _)| uid.parse().ok());
        if uid.is_some_and(|uid| !open.contains(&CollectionUid(uid))) {
            remove(&entry).map_err(SnapshotError::disk(&entry))?;
        }
    }
    Ok(())
}

fn entries(root: &Path) -> Result<Vec<PathBuf>, SnapshotError> {
    match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(SnapshotError::disk(root)(error)),
        Ok(entries) => entries.map(|e| e.map(|e| e.path()).map_err(SnapshotError::disk(root))).collect(),
    }
}

/// Overwrites the files of a directory and deletes it. Does nothing when it is missing.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        overwrite(&entry?.path())?;
    }
    fs::remove_dir_all(folder)
}

fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    let zeros = vec![0; CHUNK_BYTES];
    while left > 0 {
        let chunk = zeros.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&zeros[..chunk])?;
        left -= chunk as u64;
    }
    file.sync_data()
}

/// Syncs the names in a directory to disk.
pub(super) fn sync(folder: &Path) -> Result<(), SnapshotError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(SnapshotError::disk(folder))
}

/// Creates a directory that only this user can read. An existing one stays as it is.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
