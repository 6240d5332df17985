//! Import and export files: rows of identities with embeddings or pictures.
//!
//! This package implements the formats: JSON lines, Arrow, and NumPy arrays with a file of names. It never contacts a
//! server or a database, and validates rows only as far as reading needs. It holds one row in memory, or one record
//! batch of an Arrow file, for any file size.

mod arrow;
mod columns;
mod json_lines;
mod npy;
mod output;
mod progress;
mod row;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use thiserror::Error;

pub use output::{Contents, Output};
pub use progress::ImportProgress;
pub use row::{BadRow, Exported, ImportRow, RowDefaults, RowRead};

/// Why a file cannot be read or written.
#[derive(Debug, Error)]
pub enum TransferError {
    #[error("{}: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error(
        "{} has no known format; its name must end in .jsonl (JSON lines), .arrow or .feather (Arrow), or .npy",
        .0.display()
    )]
    UnknownFormat(PathBuf),
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The whole file is invalid.
    #[error("{}: {problem}", file.display())]
    Unreadable { file: PathBuf, problem: String },
    #[error("{0}")]
    Unwritable(String),
    /// The saved progress belongs to another file or collection.
    #[error(
        "{} belongs to another file or collection; delete it to import {} from its first row",
        kept.display(), file.display()
    )]
    OtherProgress { kept: PathBuf, file: PathBuf },
}

impl TransferError {
    fn io(file: &Path, source: io::Error) -> Self {
        Self::Io { file: file.to_owned(), source }
    }

    fn unreadable(file: &Path, problem: impl Into<String>) -> Self {
        Self::Unreadable { file: file.to_owned(), problem: problem.into() }
    }
}

/// File formats by file ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    JsonLines,
    Arrow,
    Npy,
}

impl Format {
    /// # Errors
    /// [`TransferError::UnknownFormat`].
    pub fn of(file: &Path) -> Result<Self, TransferError> {
        let ending = file.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "arrow" | "feather" | "ipc" | "arrows" => Ok(Self::Arrow),
            "npy" => Ok(Self::Npy),
            _ => Err(TransferError::UnknownFormat(file.to_owned())),
        }
    }
}

/// The source of an import.
#[derive(Debug, Clone)]
pub struct ImportSource {
    pub file: PathBuf,
    /// The file of identities for a NumPy array, one per line.
    pub names: Option<PathBuf>,
    /// Defaults for rows without these fields.
    pub defaults: RowDefaults,
    /// Skip the rows up to this one.
    pub after: u64,
}

/// Iterator over the rows of a file. It ends after an error of the file itself.
pub struct ImportRows {
    /// Number of rows in the file, skipped rows included.
    pub total: u64,
    rows: Box<dyn Iterator<Item = Result<RowRead, TransferError>> + Send>,
}

impl Iterator for ImportRows {
    type Item = Result<RowRead, TransferError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

/// Opens a file and reads its header; rows are read on demand.
///
/// # Errors
/// When the file cannot be opened, or its content does not match its ending.
pub fn read(source: &ImportSource) -> Result<ImportRows, TransferError> {
    let format = Format::of(&source.file)?;
    if source.names.is_some() && format != Format::Npy {
        let problem = "names beside the file are for .npy; here every row says whose it is";
        return Err(TransferError::unreadable(&source.file, problem));
    }
    match format {
        Format::JsonLines => json_lines::read(source),
        Format::Arrow => arrow::read(source),
        Format::Npy => npy::read(source),
    }
}

/// sha256 over the contents of files, one after the other: what makes a second run recognise them.
///
/// # Errors
/// When a file cannot be read, or is a pipe or device that may never end.
pub fn digest(files: &[&Path]) -> Result<[u8; 32], TransferError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let mut file = open(path)?;
        loop {
            match file.read(&mut buffer).map_err(|error| TransferError::io(path, error))? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
    }
    Ok(hash.finalize().into())
}

fn open(path: &Path) -> Result<File, TransferError> {
    let file = File::open(path).map_err(|error| TransferError::io(path, error))?;
    let is_file = file.metadata().map_err(|error| TransferError::io(path, error))?.is_file();
    if is_file { Ok(file) } else { Err(TransferError::NotAFile(path.to_owned())) }
}
