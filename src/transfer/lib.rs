//! Files of people: rows of identities with their embeddings or pictures, as import reads them and export writes them.
//!
//! This room knows formats: JSON lines, Arrow, and NumPy's arrays with names beside them. It never speaks to a server or
//! a database, and never decides whether a row is good beyond whether it can be read. What it holds in memory is one
//! row, or one record batch of an Arrow file, however large the file is.

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
        "{} is no file of a known form; its name ends in .jsonl (JSON lines), .arrow or .feather (Arrow), or .npy",
        .0.display()
    )]
    UnknownFormat(PathBuf),
    #[error("{} is no ordinary file", .0.display())]
    NotAFile(PathBuf),
    /// The file as a whole makes no sense.
    #[error("{}: {problem}", file.display())]
    Unreadable { file: PathBuf, problem: String },
    #[error("{0}")]
    Unwritable(String),
    /// What was kept of an earlier run is of another file or for another collection.
    #[error(
        "{} is of another file, or for another collection; delete it to import {} from its first row",
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

/// The forms of files, told by the ends of their names.
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

/// What to read.
#[derive(Debug, Clone)]
pub struct ImportSource {
    pub file: PathBuf,
    /// The identities of an array of NumPy's, one a line.
    pub names: Option<PathBuf>,
    /// What rows mean that do not say it.
    pub defaults: RowDefaults,
    /// The rows up to this one are passed over.
    pub after: u64,
}

/// Rows as they come out of a file. After an error of the file itself there are no more.
pub struct ImportRows {
    /// How many rows the file has, those that are passed over included.
    pub total: u64,
    rows: Box<dyn Iterator<Item = Result<RowRead, TransferError>> + Send>,
}

impl Iterator for ImportRows {
    type Item = Result<RowRead, TransferError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

/// Opens a file and looks at what it says of itself; rows are read as they are asked for.
///
/// # Errors
/// When the file cannot be opened, or is not what its name says.
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
