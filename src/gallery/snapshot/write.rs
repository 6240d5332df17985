//! Writing a snapshot.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    sync::Arc,
};

use super::{
    Folder, MANIFEST, ROSTER, SnapshotDir, SnapshotError, SnapshotFiles, SnapshotManifest, SpaceManifest, VERSION,
    folder::{self, private},
    line::{ERASED, encode_line},
    rows_file::{OpenRows, write_rows},
};
use crate::{roster::RosterEntries, rows::Rows, space::SpaceKey};
use domain::{CollectionUid, Position};

/// Input of a snapshot: a collection's state at one position of its log.
#[derive(Debug)]
pub(crate) struct SnapshotContent {
    pub(crate) position: Position,
    pub(crate) entry_checksum: u32,
    /// The identity of each slot.
    pub(crate) entries: RosterEntries,
    pub(crate) spaces: Vec<(SpaceKey, Rows)>,
}

/// Writes a snapshot under a temporary name and renames it. What an error leaves behind is removed, now or later.
pub(crate) fn write(
    dir: &Arc<SnapshotDir>,
    uid: CollectionUid,
    content: &SnapshotContent,
    mapped_bytes_min: usize,
) -> Result<SnapshotFiles, SnapshotError> {
    let root = dir.root();
    folder::make_private(root).map_err(SnapshotError::disk(root))?;
    let partial = root.join(folder::partial_name(uid, content.position));
    let place = root.join(folder::name(uid, content.position));
    dir.set_changed(uid);
    // An earlier attempt, or an unusable snapshot of the same position.
    dir.remove(&partial)?;
    dir.remove(&place)?;
    let written = write_files(&partial, uid, content).and_then(|lines| {
        fs::rename(&partial, &place).map_err(SnapshotError::disk(&place))?;
        folder::sync(root)?;
        map_files(dir, &place, content, lines, mapped_bytes_min)
    });
    if written.is_err() {
        let _remembered = dir.remove(&partial).and(dir.remove(&place));
    }
    written
}

/// Maps the rows as a start would.
fn map_files(
    dir: &Arc<SnapshotDir>,
    place: &Path,
    content: &SnapshotContent,
    lines: Vec<u64>,
    mapped_bytes_min: usize,
) -> Result<SnapshotFiles, SnapshotError> {
    let folder = Arc::new(Folder::new(place.to_owned(), dir));
    let mut files = HashMap::new();
    for (number, (key, rows)) in content.spaces.iter().enumerate() {
        let open = OpenRows::open(&folder, &rows_name(number), key.space.dimension, rows.len())?;
        files.insert(*key, open.close(mapped_bytes_min));
    }
    Ok(SnapshotFiles::new(content.position, folder, files, lines))
}

/// Name of the file of a space, by its place in the manifest.
pub(super) fn rows_name(number: usize) -> String {
    format!("{number}.rows")
}

fn write_files(partial: &Path, uid: CollectionUid, content: &SnapshotContent) -> Result<Vec<u64>, SnapshotError> {
    folder::make_private(partial).map_err(SnapshotError::disk(partial))?;
    let lines = write_roster(&partial.join(ROSTER), &content.entries)?;
    let mut spaces = Vec::new();
    for (number, (key, rows)) in content.spaces.iter().enumerate() {
        let file = rows_name(number);
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
    private().create_new(true).open(path).map_err(SnapshotError::disk(path))
}
