//! Reading a snapshot, completely or not at all.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::{
    Folder, MANIFEST, ROSTER, SnapshotDir, SnapshotError, SnapshotFiles, SnapshotManifest, VERSION,
    line::{decode_line, is_erased},
    rows_file::OpenRows,
    write::{SnapshotContent, rows_name},
};
use crate::{
    roster::RosterEntries,
    rows::{RowRecord, Rows, kernel::Packing},
};
use domain::CollectionUid;

/// Minimum number of rows or lines per parallel task.
const CHECKED_TOGETHER: usize = 1024;

/// A snapshot in memory, with the files to erase from.
#[derive(Debug)]
pub(crate) struct ReadSnapshot {
    pub(crate) content: SnapshotContent,
    pub(crate) files: SnapshotFiles,
}

/// How a snapshot is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadOptions {
    pub(crate) packing: Packing,
    /// Size of the values of a space from which they stay mapped instead of in memory.
    pub(crate) mapped_bytes_min: usize,
}

/// Reads a snapshot and checks all of it. One file is open at a time.
pub(crate) fn read(
    dir: &Arc<SnapshotDir>,
    folder: &Path,
    uid: CollectionUid,
    options: ReadOptions,
) -> Result<ReadSnapshot, SnapshotError> {
    let folder = Arc::new(Folder::new(folder.to_owned(), dir));
    let manifest = read_manifest(&folder.path().join(MANIFEST), uid)?;
    let path = folder.path().join(ROSTER);
    let (entries, lines) = read_roster(&path, manifest.slots)?;
    let mut files = HashMap::new();
    let mut spaces = Vec::new();
    let mut has_erased = false;
    for (number, space_manifest) in manifest.spaces.iter().enumerate() {
        let key = space_manifest.key;
        if space_manifest.file != rows_name(number) {
            return Err(SnapshotError::damaged(folder.path(), format!("it names the file {:?}", space_manifest.file)));
        }
        let open = OpenRows::open(&folder, &space_manifest.file, key.space.dimension, space_manifest.rows)?;
        let ownerless = |record: &RowRecord| entries.get(record.owner.0 as usize).is_none_or(Option::is_none);
        let mut records = read_records(&open)?;
        // The identity was erased, but the process stopped before its rows were. Erases them now.
        for record in records.iter_mut().filter(|record| record.as_ref().is_some_and(ownerless)) {
            let erased = record.take().expect("the filter finds records only");
            has_erased |= open.erase(erased.template)?;
        }
        let values = Arc::clone(open.mapped());
        let file = open.close(options.mapped_bytes_min);
        let rows = if file.mapped().is_some() { Rows::mapped } else { Rows::resident };
        spaces.push((key, rows(key.space, options.packing, &values, &records)));
        files.insert(key, file);
    }
    let content =
        SnapshotContent { position: manifest.position, entry_checksum: manifest.entry_checksum, entries, spaces };
    let mut files = SnapshotFiles::new(content.position, folder, files, lines);
    if has_erased {
        files.set_unsynced();
    }
    Ok(ReadSnapshot { content, files })
}

fn read_manifest(path: &Path, uid: CollectionUid) -> Result<SnapshotManifest, SnapshotError> {
    let bytes = fs::read(path).map_err(SnapshotError::disk(path))?;
    let line = bytes.strip_suffix(b"\n").ok_or_else(|| SnapshotError::damaged(path, "the file ends early"))?;
    // Checks the version first: another format may have other fields.
    let versioned: serde_json::Value =
        decode_line(line).ok_or_else(|| SnapshotError::damaged(path, "its checksum does not match"))?;
    let version = versioned.get("version").and_then(serde_json::Value::as_u64).unwrap_or_default();
    if version != u64::from(VERSION) {
        let found = u32::try_from(version).unwrap_or(u32::MAX);
        return Err(SnapshotError::OtherFormat { path: path.to_owned(), found });
    }
    let manifest: SnapshotManifest =
        serde_json::from_value(versioned).map_err(|error| SnapshotError::damaged(path, error.to_string()))?;
    if manifest.uid != uid {
        return Err(SnapshotError::damaged(path, "it belongs to another collection"));
    }
    Ok(manifest)
}

/// The entry of each slot, and the byte offset of each line.
fn read_roster(path: &Path, slots: usize) -> Result<(RosterEntries, Vec<u64>), SnapshotError> {
    let bytes = fs::read(path).map_err(SnapshotError::disk(path))?;
    let written: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let entry = |(at, line): (usize, &&[u8])| {
        let damaged = || SnapshotError::damaged(path, format!("the checksum of line {} does not match", at + 1));
        let body = line.strip_suffix(b"\n").ok_or_else(damaged)?;
        Ok(if is_erased(body) { None } else { Some(Arc::new(decode_line(body).ok_or_else(damaged)?)) })
    };
    let entries: RosterEntries =
        written.par_iter().enumerate().with_min_len(CHECKED_TOGETHER).map(entry).collect::<Result<_, _>>()?;
    let begins = written.iter().scan(0, |begin, line| {
        *begin += line.len() as u64;
        Some(*begin)
    });
    let lines = std::iter::once(0).chain(begins).collect();
    if entries.len() != slots {
        return Err(SnapshotError::damaged(path, format!("it has {} lines instead of {slots}", entries.len())));
    }
    Ok((entries, lines))
}

/// The record of each row; `None` for erased rows.
fn read_records(file: &OpenRows) -> Result<Vec<Option<RowRecord>>, SnapshotError> {
    let rows = (0..file.mapped().len()).into_par_iter().with_min_len(CHECKED_TOGETHER);
    rows.map(|row| file.check(row)).collect()
}
