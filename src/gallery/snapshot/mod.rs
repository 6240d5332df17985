//! What a collection's gallery looked like at a position of its log, in files: a restart maps them and follows the log
//! from there on, and what they hold need not be in memory.
//!
//! A snapshot is a folder: `manifest`, `roster`, and one `.rows` file for each space. It is written beside its place,
//! synced and renamed into it, so a folder with a proper name is whole. Every byte is covered by a checksum, and a
//! damaged snapshot is an error that says so: the caller then reads the store, which is the truth. Nothing of what was
//! forgotten stays: it is overwritten in place, and a snapshot that was replaced is overwritten before it is removed.

mod folder;
mod inspect;
mod line;
mod read;
mod rows_file;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use domain::{CollectionUid, EmbeddingSpace, Position};

pub use folder::Claim;
pub(super) use folder::{Folder, clear, newest, prune};
pub use inspect::Inspection;
pub(super) use read::{Recalled, read};
pub(super) use rows_file::RowsFile;
pub(super) use write::{Moment, Roll, write};

/// The format that this program writes, and the only one that it reads: a snapshot is made again sooner than a format
/// is kept for years.
const VERSION: u32 = 1;
const MANIFEST: &str = "manifest";
const ROSTER: &str = "roster";

/// What can go wrong with a snapshot. None of it loses anything: the store has it all.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The disk refused: it is full, or not there, or not ours.
    #[error("{} could not be written or read", .path.display())]
    Disk { path: PathBuf, source: std::io::Error },
    /// Something else stands where a snapshot wrote what it wrote.
    #[error("{} is damaged: {what}", .path.display())]
    Damaged { path: PathBuf, what: String },
    /// Made by a program that writes another format.
    #[error("{} has format {found}, and this program reads format {VERSION}", .path.display())]
    OtherFormat { path: PathBuf, found: u32 },
}

impl SnapshotError {
    fn disk(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Disk { path: path.to_owned(), source }
    }

    fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}

/// What a snapshot's manifest says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    uid: CollectionUid,
    position: Position,
    /// Of the entry at that position, so that a log that was put back to an earlier state is not mistaken for this one.
    mark: u32,
    /// How many lines the roster has.
    slots: usize,
    spaces: Vec<KeptSpace>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptSpace {
    space: EmbeddingSpace,
    /// The name of the file in the folder.
    file: String,
    rows: usize,
}
