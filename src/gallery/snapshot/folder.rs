//! Folders of snapshots: `<uid>-<position>` for a complete one, `.<uid>-<position>` for one that is being written.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{SnapshotDir, SnapshotError};
use domain::{CollectionUid, Position};

/// Lock file of the process that owns a snapshot directory.
const LOCK_FILE: &str = "claimed";

/// Bytes per write when a file is overwritten.
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
        let file = private().create(true).truncate(false).open(&path);
        let file = file.map_err(SnapshotError::disk(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { root: root.to_owned(), _locked: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(SnapshotError::disk(&path)(error)),
        }
    }

    /// Deletes every snapshot in the directory.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file system refuses.
    pub fn delete_snapshots(&self) -> Result<(), SnapshotError> {
        SnapshotDir::new(self.root.clone()).prune(|_| false)
    }
}

/// Folder of one complete snapshot. After [`Folder::retire`] it is overwritten and deleted when the last user of its
/// files drops it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    dir: Arc<SnapshotDir>,
    is_retired: AtomicBool,
}

impl Folder {
    pub(super) fn new(path: PathBuf, dir: &Arc<SnapshotDir>) -> Self {
        Self { path, dir: Arc::clone(dir), is_retired: AtomicBool::new(false) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn retire(&self) {
        if !self.is_retired.swap(true, Ordering::Relaxed) {
            self.dir.retire(&self.path);
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_retired.load(Ordering::Relaxed) {
            // The directory remembers a failure and tries again.
            let _told = self.dir.remove(&self.path);
        }
    }
}

pub(super) fn name(uid: CollectionUid, position: Position) -> String {
    // Fixed width, so that names sort by position.
    format!("{uid}-{:020}", position.0)
}

/// Name of a snapshot while it is written.
pub(super) fn partial_name(uid: CollectionUid, position: Position) -> String {
    format!(".{}", name(uid, position))
}

/// A folder of a snapshot directory, as its name tells.
#[derive(Debug)]
pub(super) struct FoundFolder {
    pub(super) path: PathBuf,
    pub(super) uid: CollectionUid,
    pub(super) is_complete: bool,
}

/// The folders in a directory with snapshots of the chosen collections, in no order. None when the directory is missing.
pub(super) fn list(root: &Path, is_chosen: impl Fn(CollectionUid) -> bool) -> Result<Vec<FoundFolder>, SnapshotError> {
    let disk = SnapshotError::disk(root);
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(&disk)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(&disk)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let whole = name.strip_prefix('.').unwrap_or(name);
        let uid = whole.rsplit_once('-').and_then(|(uid, _)| uid.parse().ok()).map(CollectionUid);
        if let Some(uid) = uid.filter(|uid| is_chosen(*uid)) {
            found.push(FoundFolder { path: entry.path(), uid, is_complete: whole.len() == name.len() });
        }
    }
    Ok(found)
}

/// Overwrites and deletes the files of a folder, and the folder. Does nothing when it is missing. A file that fails does
/// not stop the others. A file in place of the folder is deleted alike.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.is_dir() => return remove_file(folder),
        Ok(_) => {}
    }
    let mut failed = None;
    for entry in fs::read_dir(folder)? {
        if let Err(error) = remove_file(&entry?.path()) {
            failed = Some(error);
        }
    }
    failed.map_or_else(|| fs::remove_dir(folder), Err)
}

/// Overwrites and deletes a file. A link is deleted only: what it leads to is not of a snapshot.
fn remove_file(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_symlink() {
        overwrite(path)?;
    }
    fs::remove_file(path)
}

fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    let zeros = vec![0; CHUNK_BYTES];
    let mut fill = || {
        while left > 0 {
            let chunk = zeros.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&zeros[..chunk])?;
            left -= chunk as u64;
        }
        file.sync_data()
    };
    match fill() {
        // A file system that writes elsewhere instead of in place: only the deletion frees anything.
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Ok(()),
        filled => filled,
    }
}

/// Syncs a file, or the names in a folder, to disk.
pub(super) fn sync(path: &Path) -> Result<(), SnapshotError> {
    File::open(path).and_then(|open| open.sync_all()).map_err(SnapshotError::disk(path))
}

/// Creates a directory that only this user can read. An existing one stays as it is.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Opens a file to write. A file that this creates can be read by this user only.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
