//! Writing a snapshot, and erasing from it while it is the newest.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Folder, MANIFEST, ROSTER, RowsFile, SnapshotError, SnapshotManifest, SpaceManifest, VERSION, folder,
    line::{ERASED, encode_line},
    rows_file::write_rows,
};
use crate::{
    roster::{RosterEntries, Slot},
    rows::{Rows, mapped::MappedRows},
    space::SpaceKey,
};
use domain::{CollectionUid, Position, TemplateId};

/// Input of a snapshot: a collection's state at one position of its log.
#[derive(Debug)]
pub(crate) struct SnapshotContent {
    pub(crate) position: Position,
    pub(crate) entry_checksum: u32,
    /// The identity of each slot.
    pub(crate) entries: RosterEntries,
    pub(crate) spaces: Vec<(SpaceKey, Rows)>,
}

/// Open files of the newest snapshot, with what is needed to erase from them.
#[derive(Debug)]
pub(crate) struct SnapshotFiles {
    pub(crate) position: Position,
    pub(super) folder: Arc<Folder>,
    pub(super) files: HashMap<SpaceKey, Arc<RowsFile>>,
    pub(super) roster: Arc<File>,
    /// Byte offset of each slot's line, and of the end.
    pub(super) lines: Vec<u64>,
    /// Whether all erasures are synced to disk.
    pub(crate) is_synced: bool,
}

/// Files with erasures that are not synced to disk. They are synced without a lock on the index.
#[derive(Debug)]
pub(crate) struct UnsyncedFiles {
    roster: Arc<File>,
    path: PathBuf,
    files: Vec<Arc<RowsFile>>,
}

impl UnsyncedFiles {
    /// Syncs the files to disk.
    pub(crate) fn sync(&self) -> Result<(), SnapshotError> {
        self.roster.sync_data().map_err(SnapshotError::disk(&self.path))?;
        self.files.iter().try_for_each(|file| file.sync())
    }
}

/// Writes a snapshot under a temporary name and renames it.
pub(crate) fn write(
    root: &Path,
    uid: CollectionUid,
    content: &SnapshotContent,
) -> Result<SnapshotFiles, SnapshotError> {
    folder::make_private(root).map_err(SnapshotError::disk(root))?;
    let name = folder::name(uid, content.position);
    let (partial, place) = (root.join(format!(".{name}")), root.join(name));
    folder::remove(&partial).map_err(SnapshotError::disk(&partial))?;
    let written = write_files(&partial, uid, content)
        .and_then(|lines| fs::rename(&partial, &place).map_err(SnapshotError::disk(&place)).map(|()| lines));
    let lines = written.inspect_err(|_| {
        // A partial snapshot contains personal data too. When this deletion fails, the next start repeats it.
        let _ = folder::remove(&partial);
    })?;
    folder::sync(root)?;
    SnapshotFiles::open(Arc::new(Folder::new(place)), content, lines)
}

fn write_files(partial: &Path, uid: CollectionUid, content: &SnapshotContent) -> Result<Vec<u64>, SnapshotError> {
    folder::make_private(partial).map_err(SnapshotError::disk(partial))?;
    let lines = write_roster(&partial.join(ROSTER), &content.entries)?;
    let mut spaces = Vec::new();
    for (number, (key, rows)) in content.spaces.iter().enumerate() {
        let file = format!("{number}.rows");
        write_rows(&partial.join(&file), key.space.dimension, rows)?;
        spaces.push(SpaceManifest { key: *key, file, rows: rows.len() });
    }
    let slots = content.entries.len();
    let manifest = SnapshotManifest {
        version: VERSION,
        uid,
        position: content.position,
        entry_checksum: content.entry_checksum,
        slots,
        spaces,
    };
    let path = partial.join(MANIFEST);
    let line = encode_line(&manifest).map_err(|error| SnapshotError::disk(&path)(error.into()))?;
    let mut file = create(&path)?;
    file.write_all(&line).and_then(|()| file.sync_all()).map_err(SnapshotError::disk(&path))?;
    folder::sync(partial)?;
    Ok(lines)
}

/// One line per slot. A free slot gets an erased line.
fn write_roster(path: &Path, entries: &RosterEntries) -> Result<Vec<u64>, SnapshotError> {
    let mut out = BufWriter::new(create(path)?);
    let mut lines = vec![0];
    let mut body = || {
        for entry in entries {
            let line = entry.as_deref().map_or_else(|| Ok(vec![ERASED, b'\n']), encode_line)?;
            out.write_all(&line)?;
            lines.push(lines[lines.len() - 1] + line.len() as u64);
        }
        out.flush()?;
        out.get_ref().sync_all()
    };
    body().map_err(SnapshotError::disk(path))?;
    Ok(lines)
}

fn create(path: &Path) -> Result<File, SnapshotError> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(SnapshotError::disk(path))
}

impl SnapshotFiles {
    fn open(folder: Arc<Folder>, content: &SnapshotContent, lines: Vec<u64>) -> Result<Self, SnapshotError> {
        let path = folder.path().join(ROSTER);
        let roster = OpenOptions::new().write(true).open(&path).map_err(SnapshotError::disk(&path))?;
        let roster = Arc::new(roster);
        let mut files = HashMap::new();
        for (number, (key, rows)) in content.spaces.iter().enumerate() {
            let file = RowsFile::open(&folder, &format!("{number}.rows"), key.space.dimension, rows.len())?;
            files.insert(*key, Arc::new(file));
        }
        Ok(Self { position: content.position, folder, files, roster, lines, is_synced: true })
    }

    pub(crate) fn mapped(&self, key: &SpaceKey) -> Option<&Arc<MappedRows>> {
        self.files.get(key).map(|file| file.mapped())
    }

    /// Overwrites the template in the files that hold it.
    pub(crate) fn erase_template(&mut self, template: TemplateId) -> Result<(), SnapshotError> {
        for file in self.files.values() {
            self.is_synced &= !file.erase(template)?;
        }
        Ok(())
    }

    /// Overwrites the identity's line in the roster. Its templates are erased one by one.
    pub(crate) fn erase_identity(&mut self, slot: Slot) -> Result<(), SnapshotError> {
        let slot = slot.0 as usize;
        let (Some(from), Some(to)) = (self.lines.get(slot), self.lines.get(slot + 1)) else {
            return Ok(());
        };
        let line = usize::try_from(to - from).expect("a line is short").saturating_sub(1);
        let mut roster = &*self.roster;
        let mut erase = || {
            roster.seek(SeekFrom::Start(*from))?;
            roster.write_all(&vec![ERASED; line])
        };
        erase().map_err(SnapshotError::disk(&self.folder.path().join(ROSTER)))?;
        self.is_synced = false;
        Ok(())
    }

    /// Returns the files to sync and marks them as synced. When the sync fails, the caller resets the mark.
    pub(crate) fn take_unsynced(&mut self) -> UnsyncedFiles {
        self.is_synced = true;
        UnsyncedFiles {
            roster: Arc::clone(&self.roster),
            path: self.folder.path().join(ROSTER),
            files: self.files.values().map(Arc::clone).collect(),
        }
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Marks the directory for overwriting and deletion, when no search uses its files any more.
    pub(crate) fn retire(&self) {
        self.folder.retire();
    }
}
