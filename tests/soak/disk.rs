//! Embeddings on disk, and a disk that fills.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::random::DIMENSION;

/// Where an embedding lies.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    /// In the unused part of a page of the database, between the list of its rows and the rows. SQLite leaves copies there
    /// when it moves rows to other pages, `secure_delete` or not.
    pub(crate) is_unused: bool,
}

/// The embeddings in the files below a folder, each by its signs.
pub(crate) fn embeddings_below(folder: &Path) -> HashMap<u64, Place> {
    let mut found: HashMap<u64, Place> = HashMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                collect(&bytes, |signs, at| {
                    let is_unused = is_unused(&path, &bytes, at);
                    // A copy that is no remnant counts more.
                    if !is_unused || !found.contains_key(&signs) {
                        found.insert(signs, Place { file: path.clone(), is_unused });
                    }
                });
            }
        }
    }
    found
}

/// Whether a byte of a database or its write-ahead log lies in the unused part of a leaf page.
fn is_unused(file: &Path, bytes: &[u8], at: usize) -> bool {
    const PAGE_BYTES: usize = 4096;
    const LEAF_OF_A_TABLE: u8 = 13;
    let begin = match file.extension().and_then(|extension| extension.to_str()) {
        Some("db") => at / PAGE_BYTES * PAGE_BYTES,
        // A header of 32 bytes, then one of 24 before each page.
        Some("db-wal") => 32 + 24 + (at - 32) / (24 + PAGE_BYTES) * (24 + PAGE_BYTES),
        _ => return false,
    };
    // Type, first free block, number of rows, begin of the rows.
    let Some([LEAF_OF_A_TABLE, _, _, _, _, high, low, _]) = bytes.get(begin..).and_then(<[u8]>::first_chunk::<8>)
    else {
        return false;
    };
    at - begin < usize::from(u16::from_be_bytes([*high, *low]))
}

/// Tells each run of numbers that is an embedding. Several may follow each other.
fn collect(bytes: &[u8], mut found: impl FnMut(u64, usize)) {
    let mut at = 0;
    while at + 4 <= bytes.len() {
        let run: Vec<bool> = bytes[at..].chunks_exact(4).map_while(sign).collect();
        for (number, signs) in run.windows(DIMENSION).enumerate() {
            found(signs.iter().rev().fold(0, |bits, sign| bits << 1 | u64::from(*sign)), at + number * 4);
        }
        at += (run.len() * 4).max(1);
    }
}

/// Whether a number of an embedding is positive; `None` for other bytes.
fn sign(number: &[u8]) -> Option<bool> {
    let value = f32::from_le_bytes(*number.first_chunk()?);
    (value.abs().to_bits() == 0.125_f32.to_bits()).then_some(value > 0.0)
}

/// A small file system of its own.
pub(crate) struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// # Errors
    /// When it cannot be mounted.
    pub(crate) fn mount() -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m,mode=700", "soak"]).arg(folder.path()).output();
        match mount {
            Ok(said) if said.status.success() => Ok(Self { folder }),
            _ => Err("no file system can be mounted here: a disk that fills needs root".to_owned()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all of its space.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.filler()).expect("created");
        for size in [1 << 16, 1 << 9, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    pub(crate) fn free(&self) {
        let _removed = fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
