//! Export files: written under a temporary name that only the owner may read, and renamed when complete.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{Format, TransferError, arrow, json_lines, npy, row::Exported};

/// The content of a file per template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Identity and model.
    Names,
    /// Also the embedding: biometric data.
    Embeddings,
}

/// A file in progress. If dropped before [`Output::finish`], nothing remains.
pub struct Output {
    path: PathBuf,
    contents: Contents,
    /// Dimension of the embeddings; a table cannot hold other dimensions.
    dimension: Option<u32>,
    form: OutputFormat,
}

enum OutputFormat {
    JsonLines(BufWriter<NamedTempFile>),
    /// Started with the first rows, which determine the columns.
    Arrow(Option<Box<arrow::Writer<NamedTempFile>>>),
    Npy(Option<npy::Writer<NamedTempFile>>, BufWriter<NamedTempFile>),
}

impl Output {
    /// # Errors
    /// When the name has no known format, the format cannot hold the content, or the folder cannot be written to.
    pub fn begin(path: &Path, contents: Contents) -> Result<Self, TransferError> {
        let form = match Format::of(path)? {
            Format::JsonLines => OutputFormat::JsonLines(BufWriter::with_capacity(1 << 18, temporary(path)?)),
            Format::Arrow => OutputFormat::Arrow(None),
            Format::Npy if contents == Contents::Names => {
                let problem = "an .npy file has embeddings only; export embeddings, or write .jsonl or .arrow";
                return Err(TransferError::Unwritable(problem.to_owned()));
            }
            Format::Npy => OutputFormat::Npy(None, BufWriter::new(temporary(path)?)),
        };
        Ok(Self { path: path.to_owned(), contents, dimension: None, form })
    }

    /// Whether the format does not store the model, so that all rows must be of one model.
    #[must_use]
    pub fn is_of_one_model(&self) -> bool {
        matches!(self.form, OutputFormat::Npy(..))
    }

    /// Appends rows.
    ///
    /// # Errors
    /// When a table would get embeddings of different dimensions, or writing fails.
    pub fn write(&mut self, rows: &[Exported]) -> Result<(), TransferError> {
        self.check(rows)?;
        let (dimension, contents, path) = (self.dimension, self.contents, &self.path);
        let written = match &mut self.form {
            OutputFormat::JsonLines(out) => {
                rows.iter().try_for_each(|row| json_lines::write(out, row, contents == Contents::Embeddings))
            }
            OutputFormat::Arrow(writer) => {
                let columns = dimension.filter(|_| contents == Contents::Embeddings);
                begun(writer, path, |file| arrow::Writer::begin(file, columns).map(Box::new))?.rows(rows)
            }
            OutputFormat::Npy(writer, names) => {
                let writer = begun(writer, path, |file| npy::Writer::begin(file, dimension.unwrap_or(1)))?;
                rows.iter().try_for_each(|row| {
                    writeln!(names, "{}", row.identity)?;
                    writer.row(row.embedding.values())
                })
            }
        };
        written.map_err(|error| TransferError::io(&self.path, error))
    }

    /// Renames the file into place; returns the written files.
    ///
    /// # Errors
    /// When writing fails; then the previous file is unchanged.
    pub fn finish(self) -> Result<Vec<PathBuf>, TransferError> {
        let path = &self.path;
        let io = |error| TransferError::io(path, error);
        Ok(match self.form {
            OutputFormat::JsonLines(out) => vec![place(whole(out).map_err(io)?, path)?],
            OutputFormat::Arrow(mut writer) => {
                begun(&mut writer, path, |file| arrow::Writer::begin(file, None).map(Box::new))?;
                let writer = writer.expect("it was started above");
                vec![place(writer.finish().map_err(io)?, path)?]
            }
            OutputFormat::Npy(mut writer, names) => {
                begun(&mut writer, path, |file| npy::Writer::begin(file, 1))?;
                let writer = writer.expect("it was started above");
                let names = place(whole(names).map_err(io)?, &npy::names_beside(path))?;
                vec![place(writer.finish().map_err(io)?, path)?, names]
            }
        })
    }

    /// A table has one dimension.
    fn check(&mut self, rows: &[Exported]) -> Result<(), TransferError> {
        if self.contents == Contents::Names || matches!(self.form, OutputFormat::JsonLines(_)) {
            return Ok(());
        }
        for row in rows {
            let dimension = *self.dimension.get_or_insert(row.embedding.space().dimension);
            if dimension != row.embedding.space().dimension {
                let problem = "the collection holds embeddings of several lengths, and a table has rows of one: \
                               choose a model with --model, or write .jsonl";
                return Err(TransferError::Unwritable(problem.to_owned()));
            }
        }
        Ok(())
    }
}

fn begun<'w, W>(
    writer: &'w mut Option<W>,
    path: &Path,
    begin: impl FnOnce(NamedTempFile) -> io::Result<W>,
) -> Result<&'w mut W, TransferError> {
    if writer.is_none() {
        *writer = Some(begin(temporary(path)?).map_err(|error| TransferError::io(path, error))?);
    }
    Ok(writer.as_mut().expect("it was started above"))
}

/// In the target folder, so that a rename suffices. The system lets only the owner read it.
fn temporary(path: &Path) -> Result<NamedTempFile, TransferError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = tempfile::Builder::new().prefix(".semblance-").suffix(".partial").tempfile_in(folder);
    made.map_err(|error| TransferError::io(folder, error))
}

fn whole(out: BufWriter<NamedTempFile>) -> io::Result<NamedTempFile> {
    out.into_inner().map_err(io::IntoInnerError::into_error)
}

fn place(file: NamedTempFile, path: &Path) -> Result<PathBuf, TransferError> {
    let io = |error| TransferError::io(path, error);
    file.as_file().sync_all().map_err(io)?;
    let _file: File = file.persist(path).map_err(|error| io(error.error))?;
    Ok(path.to_owned())
}

/// Replaces a small file atomically: a reader, and a run after a power failure, sees the old or the new content.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), TransferError> {
    let mut file = temporary(path)?;
    file.write_all(bytes).map_err(|error| TransferError::io(path, error))?;
    file.persist(path).map_err(|error| TransferError::io(path, error.error))?;
    Ok(())
}
