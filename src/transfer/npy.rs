//! NumPy arrays: N x D numbers of 32 or 16 bits in row-major order, and a file of N names. Arrays are written with 32
//! bits.
//!
//! The format is numpy.lib.format, versions 1 to 3: magic, header length, header as a Python dictionary, numbers.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{
    ImportRows, ImportSource, TransferError,
    json_lines::{lines, next_line_of},
    open,
    row::{RowDefaults, RowFields, RowRead, numbered},
};
use domain::DIMENSION_MAX;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Maximum header length in bytes; NumPy writes about a hundred.
const HEADER_BYTES_MAX: usize = 1 << 16;
/// Length of a written header: enough for any number of rows, and a multiple of 64.
const HEADER_BYTES: usize = 128;

pub(super) fn read(source: &ImportSource) -> Result<ImportRows, TransferError> {
    let ImportSource { file, names, defaults, after } = source;
    let wrong = |problem: &str| TransferError::unreadable(file, problem);
    let names = names.as_deref().ok_or_else(|| wrong("an array has no names: --ids must give the file of names"))?;
    if defaults.model.is_none() || defaults.modality.is_none() {
        return Err(wrong("an array has no model and modality: set --model and --modality"));
    }
    let mut numbers = BufReader::with_capacity(1 << 18, open(file)?);
    let shape = header(&mut numbers).map_err(|problem| wrong(&problem))?;
    let begins = numbers.stream_position().map_err(|error| TransferError::io(file, error))?;
    let row_bytes = shape.columns * shape.precision.bytes();
    let has = numbers.get_ref().metadata().map_err(|error| TransferError::io(file, error))?.len() - begins;
    let needs = shape.rows.checked_mul(row_bytes).ok_or_else(|| wrong("its header declares too many numbers"))?;
    if has != needs {
        let problem =
            format!("its header declares {needs} bytes of numbers, and {has} exist: the file is incomplete or damaged");
        return Err(wrong(&problem));
    }
    let named = lines(names)?;
    if named != shape.rows {
        let problem = format!("{named} names for {} rows of {}; the numbers must be equal", shape.rows, file.display());
        return Err(TransferError::unreadable(names, problem));
    }
    let passed = (*after).min(shape.rows);
    numbers.seek(SeekFrom::Start(begins + passed * row_bytes)).map_err(|error| TransferError::io(file, error))?;
    let mut reader = Npy {
        file: file.clone(),
        numbers,
        names_file: names.to_owned(),
        names: BufReader::new(open(names)?),
        defaults: defaults.clone(),
        row: vec![0; usize::try_from(row_bytes).map_err(|_| wrong("its rows are too long"))?],
        precision: shape.precision,
        number: passed,
        total: shape.rows,
    };
    let mut line = Vec::new();
    for _ in 0..passed {
        next_line_of(&mut reader.names, &mut line).map_err(|error| TransferError::io(names, error))?;
    }
    Ok(ImportRows { total: shape.rows, rows: Box::new(reader) })
}

struct Npy {
    file: PathBuf,
    numbers: BufReader<File>,
    names_file: PathBuf,
    names: BufReader<File>,
    defaults: RowDefaults,
    row: Vec<u8>,
    precision: Precision,
    number: u64,
    total: u64,
}

impl Iterator for Npy {
    type Item = Result<RowRead, TransferError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.number < self.total).then(|| self.read_row().inspect_err(|_| self.total = 0))
    }
}

impl Npy {
    fn read_row(&mut self) -> Result<RowRead, TransferError> {
        self.number += 1;
        self.numbers.read_exact(&mut self.row).map_err(|error| TransferError::io(&self.file, error))?;
        let mut name = Vec::new();
        next_line_of(&mut self.names, &mut name).map_err(|error| TransferError::io(&self.names_file, error))?;
        let values = self.precision.numbers(&self.row);
        let read = match std::str::from_utf8(name.trim_ascii_end()) {
            Ok(identity) => RowFields { identity, ..RowFields::default() }.with_embedding(values, &self.defaults),
            Err(_) => Err("the name is not UTF-8".to_owned()),
        };
        Ok(numbered(self.number, read))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ArrayShape {
    rows: u64,
    columns: u64,
    precision: Precision,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    /// `<f2`, common for galleries of embeddings.
    Half,
    /// `<f4`.
    Single,
}

impl Precision {
    fn bytes(self) -> u64 {
        match self {
            Self::Half => 2,
            Self::Single => 4,
        }
    }

    fn numbers(self, row: &[u8]) -> Vec<f32> {
        match self {
            Self::Half => row.as_chunks().0.iter().map(|number| half::f16::from_le_bytes(*number).to_f32()).collect(),
            Self::Single => row.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect(),
        }
    }
}

/// Reads the header, up to the numbers.
fn header(file: &mut impl BufRead) -> Result<ArrayShape, String> {
    let cut = |_: io::Error| "the file ends within its header".to_owned();
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(|_| "this is not a .npy file: it is too short".to_owned())?;
    if &start[..6] != MAGIC {
        return Err("this is not a .npy file: it has another magic number".to_owned());
    }
    let length = match start[6] {
        1 => {
            let mut length = [0; 2];
            file.read_exact(&mut length).map_err(cut)?;
            usize::from(u16::from_le_bytes(length))
        }
        2 | 3 => {
            let mut length = [0; 4];
            file.read_exact(&mut length).map_err(cut)?;
            usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX)
        }
        version => return Err(format!("version {version} of .npy is not supported")),
    };
    if length > HEADER_BYTES_MAX {
        return Err(format!("its header of {length} bytes is too long"));
    }
    let mut header = vec![0; length];
    file.read_exact(&mut header).map_err(cut)?;
    let header = String::from_utf8(header).map_err(|_| "its header is not text".to_owned())?;
    shape(&header)
}

/// Parses the dictionary's relevant entries.
fn shape(header: &str) -> Result<ArrayShape, String> {
    let value = |key: &str| {
        let after = header.split_once(&format!("'{key}':")).map(|(_, after)| after.trim_start());
        after.ok_or_else(|| format!("its header has no {key}"))
    };
    let kind = value("descr")?;
    let precision = if kind.starts_with("'<f4'") {
        Precision::Single
    } else if kind.starts_with("'<f2'") {
        Precision::Half
    } else {
        let kind: String = kind.chars().take_while(|c| *c != ',').take(40).collect();
        return Err(format!("its numbers are {kind}; only '<f4' and '<f2' are supported: save array.astype('<f4')"));
    };
    if !value("fortran_order")?.starts_with("False") {
        return Err("it is in column-major order: save numpy.ascontiguousarray(array)".to_owned());
    }
    let inside = value("shape")?.strip_prefix('(').and_then(|s| s.split_once(')')).map(|(inside, _)| inside);
    let sides: Option<Vec<u64>> = inside
        .unwrap_or("?")
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|side| side.parse().ok())
        .collect();
    match sides.as_deref() {
        Some(&[rows, columns]) if (1..=u64::from(DIMENSION_MAX)).contains(&columns) => {
            Ok(ArrayShape { rows, columns, precision })
        }
        Some(sides) => {
            Err(format!("its shape is {sides:?}: it must have rows of 1 to {DIMENSION_MAX} numbers, one per template"))
        }
        None => Err("its shape cannot be read".to_owned()),
    }
}

/// Writes an array row by row; the header is written last, when the number of rows is known.
pub(super) struct Writer<W: Write> {
    out: BufWriter<W>,
    shape: ArrayShape,
}

impl<W: Write + Seek> Writer<W> {
    pub(super) fn begin(out: W, columns: u32) -> io::Result<Self> {
        let mut writer = Self {
            out: BufWriter::with_capacity(1 << 18, out),
            shape: ArrayShape { rows: 0, columns: columns.into(), precision: Precision::Single },
        };
        writer.out.write_all(&[0; HEADER_BYTES])?;
        Ok(writer)
    }

    pub(super) fn row(&mut self, values: &[f32]) -> io::Result<()> {
        assert_eq!(values.len() as u64, self.shape.columns, "all rows of an array have one length");
        self.shape.rows += 1;
        values.iter().try_for_each(|value| self.out.write_all(&value.to_le_bytes()))
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        let ArrayShape { rows, columns, .. } = self.shape;
        let mut header = MAGIC.to_vec();
        header.extend([1, 0]);
        header.extend(u16::try_from(HEADER_BYTES - 10).expect("a short header").to_le_bytes());
        write!(header, "{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}")?;
        header.resize(HEADER_BYTES - 1, b' ');
        header.push(b'\n');
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header)?;
        self.out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// The names file that export writes beside an array.
pub(super) fn names_beside(file: &Path) -> PathBuf {
    file.with_extension("names.txt")
}
