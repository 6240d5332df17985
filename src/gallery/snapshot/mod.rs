//! Snapshots of a collection's index at a position of its log. A restart maps the files and applies the log from there;
//! mapped values need no memory of the process.
//!
//! A snapshot is a directory with `manifest`, `roster`, and one `.rows` file per space. It is written under a temporary
//! name, synced and renamed, so a directory with a final name is complete. Checksums cover every byte, and a damaged
//! snapshot is an error: the caller then reads the store, which is authoritative. Deleted templates and identities are
//! overwritten in place, and a replaced snapshot is overwritten before its deletion. What fails of that stays pending
//! until it is done. Between two calls no file is open.

mod dir;
mod erase;
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

use crate::space::SpaceKey;
use domain::{CollectionUid, Position};

pub(super) use dir::{Leftover, SnapshotDir};
pub(super) use erase::{Erasure, SnapshotFiles};
use folder::Folder;
pub use folder::SnapshotDirLock;
pub use inspect::SnapshotInspection;
pub(super) use read::{ReadOptions, ReadSnapshot, read};
use rows_file::RowsFile;
pub(super) use write::{SnapshotContent, write};

/// File format that this version writes and reads. It reads no other: writing a new snapshot is cheaper than supporting
/// old formats.
const VERSION: u32 = 2;
const MANIFEST: &str = "manifest";
const ROSTER: &str = "roster";

/// Errors of snapshots. None loses data, because the store holds everything.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The file system refused: no space, missing directory or missing permission.
    #[error("{} could not be written or read", .path.display())]
    Disk { path: PathBuf, source: std::io::Error },
    /// The content differs from what was written.
    #[error("{} is damaged: {what}", .path.display())]
    Damaged { path: PathBuf, what: String },
    /// Another version wrote it in another format.
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

/// Content of the manifest file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SnapshotManifest {
    version: u32,
    uid: CollectionUid,
    position: Position,
    /// Checksum of the log entry at `position`. It detects a log that was restored to an earlier state and continued
    /// differently.
    entry_checksum: u32,
    /// Number of lines in the roster file.
    slots: usize,
    spaces: Vec<SpaceManifest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SpaceManifest {
    #[serde(flatten)]
    key: SpaceKey,
    /// File name in the directory.
    file: String,
    rows: usize,
}
