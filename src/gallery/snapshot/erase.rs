//! Erasure of deleted templates and identities from the files of a snapshot.
//!
//! No file stays open: a process with thousands of collections would need as many descriptors. An erasure whose file
//! cannot be opened or written is kept and tried again.

use std::{
    collections::HashMap,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Folder, ROSTER, RowsFile, SnapshotError,
    folder::{self, private},
    line::ERASED,
};
use crate::{roster::Slot, rows::mapped::MappedRows, space::SpaceKey};
use domain::{ErrorChain, Position, TemplateId};

/// A deleted template or identity, to be erased from snapshot files.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Erasure {
    Template(TemplateId),
    Identity(Slot),
}

/// The newest snapshot of a collection, with what is needed to erase from it.
#[derive(Debug)]
pub(crate) struct SnapshotFiles {
    pub(crate) position: Position,
    files: Arc<ErasableFiles>,
    /// Erasures that failed.
    unerased: Vec<Erasure>,
    /// Whether all other erasures are synced to disk.
    is_synced: bool,
}

/// The files that contain data of people, closed.
#[derive(Debug)]
struct ErasableFiles {
    folder: Arc<Folder>,
    rows: HashMap<SpaceKey, RowsFile>,
    /// Byte offset of each slot's line in the roster, and of the end.
    lines: Vec<u64>,
    /// Whether the last attempt to erase or to sync failed, for the log.
    is_failing: AtomicBool,
}

/// Erasures that are not on disk. They are written without a lock on the index.
#[derive(Debug)]
pub(crate) struct UnsettledErasures {
    files: Arc<ErasableFiles>,
    unerased: Vec<Erasure>,
}

impl SnapshotFiles {
    pub(super) fn new(
        position: Position,
        folder: Arc<Folder>,
        rows: HashMap<SpaceKey, RowsFile>,
        lines: Vec<u64>,
    ) -> Self {
        let files = ErasableFiles { folder, rows, lines, is_failing: AtomicBool::new(false) };
        Self { position, files: Arc::new(files), unerased: Vec::new(), is_synced: true }
    }

    pub(crate) fn path(&self) -> &Path {
        self.files.folder.path()
    }

    /// The mapped file of a space; `None` when its values stay in memory.
    pub(crate) fn mapped(&self, key: &SpaceKey) -> Option<&Arc<MappedRows>> {
        self.files.rows.get(key)?.mapped()
    }

    /// Overwrites templates and identities in the files. Keeps them for another attempt when a file cannot be opened or
    /// written.
    pub(crate) fn erase(&mut self, erasures: &[Erasure]) {
        match self.files.erase(erasures) {
            Ok(is_changed) => self.is_synced &= !is_changed,
            Err(error) => {
                self.files.tell(&Err(error));
                self.unerased.extend(erasures);
                self.is_synced = false;
            }
        }
    }

    /// Notes that reading the snapshot erased rows from it.
    pub(super) fn set_unsynced(&mut self) {
        self.is_synced = false;
    }

    /// Whether every erasure is on disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.unerased.is_empty() && self.is_synced
    }

    pub(crate) fn has_failed_erasures(&self) -> bool {
        !self.unerased.is_empty()
    }

    /// Returns what is not on disk, and counts it as settled. When it fails, the caller puts it back.
    pub(crate) fn take_unsettled(&mut self) -> UnsettledErasures {
        self.is_synced = true;
        UnsettledErasures { files: Arc::clone(&self.files), unerased: std::mem::take(&mut self.unerased) }
    }

    /// Takes back what could not be settled, unless another snapshot has replaced its files.
    pub(crate) fn put_back(&mut self, unsettled: UnsettledErasures) {
        if Arc::ptr_eq(&self.files, &unsettled.files) {
            self.unerased.extend(unsettled.unerased);
            self.is_synced = false;
        }
    }

    /// Marks the folder for overwriting and deletion, when no search uses its files any more.
    pub(crate) fn retire(&self) {
        self.files.folder.retire();
    }
}

impl UnsettledErasures {
    /// Erases what is not erased, and syncs all files to disk.
    pub(crate) fn settle(&mut self) -> Result<(), SnapshotError> {
        let settled = self.files.erase(&self.unerased).and_then(|_| {
            self.unerased.clear();
            self.files.sync()
        });
        self.files.tell(&settled);
        settled
    }
}

impl ErasableFiles {
    /// Overwrites templates and identities. Returns whether a file changed. A file that fails does not stop the others.
    fn erase(&self, erasures: &[Erasure]) -> Result<bool, SnapshotError> {
        let (mut templates, mut slots) = (Vec::new(), Vec::new());
        for erasure in erasures {
            match erasure {
                Erasure::Template(template) => templates.push(*template),
                Erasure::Identity(slot) => slots.push(*slot),
            }
        }
        let mut erased = self.erase_lines(&slots);
        for file in self.rows.values() {
            erased = match (erased, file.erase(&templates)) {
                (Ok(before), Ok(now)) => Ok(before | now),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
        }
        erased
    }

    /// Overwrites the lines of identities in the roster.
    fn erase_lines(&self, slots: &[Slot]) -> Result<bool, SnapshotError> {
        let spans = slots.iter().filter_map(|slot| {
            let slot = slot.0 as usize;
            Some((*self.lines.get(slot)?, *self.lines.get(slot + 1)?))
        });
        let spans: Vec<(u64, u64)> = spans.collect();
        if spans.is_empty() {
            return Ok(false);
        }
        let erase = || -> io::Result<()> {
            let mut roster = private().open(self.roster())?;
            for (from, to) in spans {
                let line = usize::try_from(to - from).expect("a line is short").saturating_sub(1);
                roster.seek(SeekFrom::Start(from))?;
                roster.write_all(&vec![ERASED; line])?;
            }
            Ok(())
        };
        erase().map_err(SnapshotError::disk(&self.roster()))?;
        Ok(true)
    }

    fn sync(&self) -> Result<(), SnapshotError> {
        folder::sync(&self.roster())?;
        self.rows.values().try_for_each(|file| folder::sync(file.path()))
    }

    fn roster(&self) -> PathBuf {
        self.folder.path().join(ROSTER)
    }

    /// Logs the first failure, and the success after it.
    fn tell(&self, settled: &Result<(), SnapshotError>) {
        let path = self.folder.path().display();
        match settled {
            Ok(()) if self.is_failing.swap(false, Ordering::Relaxed) => {
                tracing::info!(%path, "deleted data is erased from a snapshot at last");
            }
            Err(error) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                let error = ErrorChain(error).to_string();
                tracing::warn!(%path, error, "deleted data may still be in a snapshot; the next sweep tries again");
            }
            Ok(()) | Err(_) => {}
        }
    }
}
