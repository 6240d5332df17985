//! Arrow files and streams, including Feather.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{FixedSizeListBuilder, Float32Builder, StringBuilder},
};
use arrow_ipc::{
    reader::{FileReader, StreamReader},
    writer::FileWriter,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::{
    ImportRows, ImportSource, TransferError, columns, open,
    row::{Exported, RowDefaults, RowRead, numbered},
};

/// Magic of a file; a stream starts with its first message.
const MAGIC: &[u8; 6] = b"ARROW1";

type RecordBatches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

pub(super) fn read(source: &ImportSource) -> Result<ImportRows, TransferError> {
    let (schema, batches) = batches(&source.file)?;
    columns::check(&schema).map_err(|problem| TransferError::unreadable(&source.file, problem))?;
    // The format does not store the number of rows: count them in a pass that reads no column.
    let total = count(&source.file)?;
    let reader = Arrow {
        file: source.file.clone(),
        batches: Some(batches),
        batch: None,
        at: 0,
        defaults: source.defaults.clone(),
        after: source.after,
        number: 0,
    };
    Ok(ImportRows { total, rows: Box::new(reader) })
}

fn count(file: &Path) -> Result<u64, TransferError> {
    let (_, batches) = batches_of(file, Some(Vec::new()))?;
    let mut batches = Some(batches);
    let mut total = 0;
    while let Some(batch) = next(&mut batches).map_err(|problem| TransferError::unreadable(file, problem))? {
        total += batch.num_rows() as u64;
    }
    Ok(total)
}

fn batches(file: &Path) -> Result<(SchemaRef, RecordBatches), TransferError> {
    batches_of(file, None)
}

fn batches_of(path: &Path, columns: Option<Vec<usize>>) -> Result<(SchemaRef, RecordBatches), TransferError> {
    let io = |error| TransferError::io(path, error);
    let mut file = open(path)?;
    let mut begins = Vec::new();
    (&mut file).take(MAGIC.len() as u64).read_to_end(&mut begins).map_err(io)?;
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let is_file = begins == MAGIC;
    let opened = guarded(move || reader(file, is_file, columns));
    opened.map_err(|problem| TransferError::unreadable(path, format!("this is not an Arrow file: {problem}")))
}

fn reader(file: File, is_file: bool, columns: Option<Vec<usize>>) -> Result<(SchemaRef, RecordBatches), ArrowError> {
    let file = BufReader::with_capacity(1 << 18, file);
    Ok(if is_file {
        let reader = FileReader::try_new(file, columns)?;
        (reader.schema(), Box::new(reader))
    } else {
        let reader = StreamReader::try_new(file, columns)?;
        (reader.schema(), Box::new(reader))
    })
}

/// The library asserts some properties of its input: a damaged file may panic, which becomes an error here.
fn guarded<T>(work: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("it is damaged".to_owned()),
    }
}

/// The next batch; `None` after the last one and after an error.
fn next(batches: &mut Option<RecordBatches>) -> Result<Option<RecordBatch>, String> {
    let Some(open) = batches else { return Ok(None) };
    let batch = guarded(|| open.next().transpose());
    if !matches!(batch, Ok(Some(_))) {
        *batches = None;
    }
    batch
}

struct Arrow {
    file: PathBuf,
    batches: Option<RecordBatches>,
    batch: Option<RecordBatch>,
    /// Index of the next row in the batch.
    at: usize,
    defaults: RowDefaults,
    after: u64,
    number: u64,
}

impl Iterator for Arrow {
    type Item = Result<RowRead, TransferError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match &self.batch {
                Some(batch) if self.at < batch.num_rows() => {
                    let at = self.at;
                    self.at += 1;
                    self.number += 1;
                    if self.number > self.after {
                        return Some(Ok(numbered(self.number, columns::row(batch, at, &self.defaults))));
                    }
                }
                _ => match next(&mut self.batches) {
                    Ok(None) => return None,
                    Ok(batch) => (self.batch, self.at) = (batch, 0),
                    Err(problem) => return Some(Err(TransferError::unreadable(&self.file, problem))),
                },
            }
        }
    }
}

/// Writes an Arrow file batch by batch.
pub(super) struct Writer<W: Write> {
    schema: SchemaRef,
    /// Number of values in an embedding; `None` for a file without embeddings.
    columns: Option<i32>,
    out: FileWriter<BufWriter<W>>,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(out: W, columns: Option<u32>) -> io::Result<Self> {
        let columns = columns.map(|columns| i32::try_from(columns).expect("a dimension is bounded far below"));
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let mut fields = ["identity", "labels", "modality", "model", "digest"].map(text).to_vec();
        fields.extend(columns.map(|columns| Field::new("embedding", numbers(columns), false)));
        let schema = Arc::new(Schema::new(fields));
        let out = FileWriter::try_new(BufWriter::with_capacity(1 << 18, out), &schema).map_err(io::Error::other)?;
        Ok(Self { schema, columns, out })
    }

    pub(super) fn rows(&mut self, rows: &[Exported]) -> io::Result<()> {
        let mut texts: [StringBuilder; 5] = Default::default();
        for row in rows {
            let [identity, labels, modality, model, digest] = &mut texts;
            identity.append_value(row.identity.as_str());
            labels.append_value(serde_json::to_string(&row.labels)?);
            modality.append_value(row.modality.as_str());
            model.append_value(row.model.as_str());
            digest.append_value(row.digest.to_string());
        }
        let mut columns: Vec<ArrayRef> = texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        if let Some(width) = self.columns {
            let item = Arc::new(item());
            let mut lists = FixedSizeListBuilder::new(Float32Builder::new(), width).with_field(item);
            for row in rows {
                lists.values().append_slice(row.embedding.values());
                lists.append(true);
            }
            columns.push(Arc::new(lists.finish()));
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(io::Error::other)?;
        self.out.write(&batch).map_err(io::Error::other)
    }

    pub(super) fn finish(self) -> io::Result<W> {
        let out = self.out.into_inner().map_err(io::Error::other)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

fn numbers(columns: i32) -> DataType {
    DataType::FixedSizeList(Arc::new(item()), columns)
}

fn item() -> Field {
    Field::new("item", DataType::Float32, false)
}
