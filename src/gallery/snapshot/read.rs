//! Reading a snapshot back, to the last byte or not at all.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    path::Path,
    sync::Arc,
};

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::{
    Folder, MANIFEST, Manifest, ROSTER, Roll, RowsFile, SnapshotError, VERSION,
    line::{is_erased, opened},
    write::Moment,
};
use crate::{
    roster::Occupants,
    rows::{Member, Rows, kernel::Packing},
};
use domain::CollectionUid;

/// So many rows or lines are checked by one thread before others may take of them.
const CHECKED_TOGETHER: usize = 1024;

/// A gallery as a snapshot holds it.
#[derive(Debug)]
pub(crate) struct Recalled {
    pub(crate) moment: Moment,
    pub(crate) roll: Roll,
}

/// Reads and checks all of a snapshot.
pub(crate) fn read(folder: &Path, uid: CollectionUid, packing: Packing) -> Result<Recalled, SnapshotError> {
    let folder = Arc::new(Folder::new(folder.to_owned()));
    let manifest = read_manifest(&folder.path().join(MANIFEST), uid)?;
    let path = folder.path().join(ROSTER);
    let (occupants, lines) = read_roster(&path, manifest.slots)?;
    let mut files = HashMap::new();
    let mut spaces = Vec::new();
    for kept in &manifest.spaces {
        let file = RowsFile::open(&folder, &kept.file, kept.space.dimension, kept.rows)?;
        let file = Arc::new(file);
        let members = read_members(&file, &occupants)?;
        spaces.push((kept.space, Rows::mapped(kept.space, packing, &file, &members)));
        files.insert(kept.space, file);
    }
    let roster = Arc::new(OpenOptions::new().write(true).open(&path).map_err(SnapshotError::disk(&path))?);
    let moment = Moment { position: manifest.position, mark: manifest.mark, occupants, spaces };
    Ok(Recalled { roll: Roll { position: moment.position, folder, files, roster, lines, is_synced: true }, moment })
}

fn read_manifest(path: &Path, uid: CollectionUid) -> Result<Manifest, SnapshotError> {
    let bytes = fs::read(path).map_err(SnapshotError::disk(path))?;
    let line = bytes.strip_suffix(b"\n").ok_or_else(|| SnapshotError::damaged(path, "it is cut off"))?;
    // The version before all else: another format's other fields are none of our business.
    let versioned: serde_json::Value =
        opened(line).ok_or_else(|| SnapshotError::damaged(path, "it is not what was written"))?;
    let version = versioned.get("version").and_then(serde_json::Value::as_u64).unwrap_or_default();
    if version != u64::from(VERSION) {
        let found = u32::try_from(version).unwrap_or(u32::MAX);
        return Err(SnapshotError::OtherFormat { path: path.to_owned(), found });
    }
    let manifest: Manifest =
        serde_json::from_value(versioned).map_err(|error| SnapshotError::damaged(path, error.to_string()))?;
    if manifest.uid != uid {
        return Err(SnapshotError::damaged(path, "it is of another collection"));
    }
    Ok(manifest)
}

/// The occupant of each slot, and where each line begins.
fn read_roster(path: &Path, slots: usize) -> Result<(Occupants, Vec<u64>), SnapshotError> {
    let bytes = fs::read(path).map_err(SnapshotError::disk(path))?;
    let written: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let occupant = |(at, line): (usize, &&[u8])| {
        let damaged = || SnapshotError::damaged(path, format!("line {} is not what was written", at + 1));
        let body = line.strip_suffix(b"\n").ok_or_else(damaged)?;
        Ok(if is_erased(body) { None } else { Some(Arc::new(opened(body).ok_or_else(damaged)?)) })
    };
    let occupants: Occupants =
        written.par_iter().enumerate().with_min_len(CHECKED_TOGETHER).map(occupant).collect::<Result<_, _>>()?;
    let begins = written.iter().scan(0, |begin, line| {
        *begin += line.len() as u64;
        Some(*begin)
    });
    let lines = std::iter::once(0).chain(begins).collect();
    if occupants.len() != slots {
        return Err(SnapshotError::damaged(path, format!("it has {} lines instead of {slots}", occupants.len())));
    }
    Ok((occupants, lines))
}

/// Whose each row is; nobody's where it was erased.
fn read_members(file: &RowsFile, occupants: &Occupants) -> Result<Vec<Option<Member>>, SnapshotError> {
    let rows = (0..file.len()).into_par_iter().with_min_len(CHECKED_TOGETHER);
    let checked: Vec<Option<Member>> = rows.map(|row| file.check(row)).collect::<Result<_, _>>()?;
    let mut members = Vec::with_capacity(file.len());
    for member in checked {
        let lives = |slot: usize| occupants.get(slot).is_some_and(Option::is_some);
        match member {
            // Its owner was erased, and it was about to be when the machine stopped.
            Some(member) if !lives(member.owner.0 as usize) => {
                file.erase(member.template)?;
                members.push(None);
            }
            member => members.push(member),
        }
    }
    Ok(members)
}
