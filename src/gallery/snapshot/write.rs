//! Taking a snapshot, and keeping it true while it is the newest.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Folder, KeptSpace, MANIFEST, Manifest, ROSTER, RowsFile, SnapshotError, VERSION, folder,
    line::{ERASED, sealed},
    rows_file::write_rows,
};
use crate::{
    roster::{Occupants, Slot},
    rows::Rows,
};
use domain::{CollectionUid, EmbeddingSpace, Position, TemplateId};

/// What a gallery holds at one position of its log.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) position: Position,
    pub(crate) mark: u32,
    /// Who has each slot.
    pub(crate) occupants: Occupants,
    pub(crate) spaces: Vec<(EmbeddingSpace, Rows)>,
}

/// The newest snapshot: its files, and where in them stands who must be erased.
#[derive(Debug)]
pub(crate) struct Roll {
    pub(crate) position: Position,
    pub(super) folder: Arc<Folder>,
    pub(super) files: HashMap<EmbeddingSpace, Arc<RowsFile>>,
    pub(super) roster: Arc<File>,
    /// Where each slot's line begins, and where the last one ends.
    pub(super) lines: Vec<u64>,
    /// Whether what was erased would survive a power cut.
    pub(crate) is_synced: bool,
}

/// Files in which something was erased, to be synced without keeping anybody from the gallery.
#[derive(Debug)]
pub(crate) struct Unsynced {
    roster: Arc<File>,
    path: PathBuf,
    files: Vec<Arc<RowsFile>>,
}

impl Unsynced {
    /// Makes what was erased stay so, whatever happens to the machine.
    pub(crate) fn sync(&self) -> Result<(), SnapshotError> {
        self.roster.sync_data().map_err(SnapshotError::disk(&self.path))?;
        self.files.iter().try_for_each(|file| file.sync())
    }
}

/// Writes a snapshot beside its place and renames it into it.
pub(crate) fn write(root: &Path, uid: CollectionUid, moment: &Moment) -> Result<Roll, SnapshotError> {
    folder::make_private(root).map_err(SnapshotError::disk(root))?;
    let name = folder::name(uid, moment.position);
    let (begun, place) = (root.join(format!(".{name}")), root.join(name));
    folder::remove(&begun).map_err(SnapshotError::disk(&begun))?;
    let written = write_files(&begun, uid, moment)
        .and_then(|lines| fs::rename(&begun, &place).map_err(SnapshotError::disk(&place)).map(|()| lines));
    let lines = written.inspect_err(|_| {
        // What is half written holds people's numbers too. Where not even that can be done, the next start does it.
        let _ = folder::remove(&begun);
    })?;
    folder::sync(root)?;
    Roll::open(Arc::new(Folder::new(place)), moment, lines)
}

fn write_files(begun: &Path, uid: CollectionUid, moment: &Moment) -> Result<Vec<u64>, SnapshotError> {
    folder::make_private(begun).map_err(SnapshotError::disk(begun))?;
    let lines = write_roster(&begun.join(ROSTER), &moment.occupants)?;
    let mut spaces = Vec::new();
    for (number, (space, rows)) in moment.spaces.iter().enumerate() {
        let file = format!("{number}.rows");
        write_rows(&begun.join(&file), space.dimension, rows)?;
        spaces.push(KeptSpace { space: *space, file, rows: rows.len() });
    }
    let slots = moment.occupants.len();
    let manifest = Manifest { version: VERSION, uid, position: moment.position, mark: moment.mark, slots, spaces };
    let path = begun.join(MANIFEST);
    let line = sealed(&manifest).map_err(|error| SnapshotError::disk(&path)(error.into()))?;
    let mut file = create(&path)?;
    file.write_all(&line).and_then(|()| file.sync_all()).map_err(SnapshotError::disk(&path))?;
    folder::sync(begun)?;
    Ok(lines)
}

/// One line for each slot; of a free one it looks as of somebody who was erased.
fn write_roster(path: &Path, occupants: &Occupants) -> Result<Vec<u64>, SnapshotError> {
    let mut out = BufWriter::new(create(path)?);
    let mut lines = vec![0];
    let mut body = || {
        for occupant in occupants {
            let line = occupant.as_deref().map_or_else(|| Ok(vec![ERASED, b'\n']), sealed)?;
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

impl Roll {
    fn open(folder: Arc<Folder>, moment: &Moment, lines: Vec<u64>) -> Result<Self, SnapshotError> {
        let path = folder.path().join(ROSTER);
        let roster = OpenOptions::new().write(true).open(&path).map_err(SnapshotError::disk(&path))?;
        let roster = Arc::new(roster);
        let mut files = HashMap::new();
        for (number, (space, rows)) in moment.spaces.iter().enumerate() {
            let file = RowsFile::open(&folder, &format!("{number}.rows"), space.dimension, rows.len())?;
            files.insert(*space, Arc::new(file));
        }
        Ok(Self { position: moment.position, folder, files, roster, lines, is_synced: true })
    }

    pub(crate) fn file(&self, space: &EmbeddingSpace) -> Option<&Arc<RowsFile>> {
        self.files.get(space)
    }

    /// Overwrites what the files hold of a template, if they do.
    pub(crate) fn erase_template(&mut self, template: TemplateId) -> Result<(), SnapshotError> {
        for file in self.files.values() {
            self.is_synced &= !file.erase(template)?;
        }
        Ok(())
    }

    /// Overwrites what the roster holds of whoever had the slot; their templates are erased one by one.
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

    /// The files to sync. They count as synced from here on; where that fails, it is for the caller to take back.
    pub(crate) fn take_unsynced(&mut self) -> Unsynced {
        self.is_synced = true;
        Unsynced {
            roster: Arc::clone(&self.roster),
            path: self.folder.path().join(ROSTER),
            files: self.files.values().map(Arc::clone).collect(),
        }
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// To be overwritten and removed, once no search reads its files any more.
    pub(crate) fn retire(&self) {
        self.folder.retire();
    }
}
