//! The rows of one space in a memory-mapped file.
//!
//! Layout: one page of header; the original values row after row (f32, little endian); a table with one entry per row;
//! the row indexes in the order of template ids, to find a template for erasure. Each entry has a checksum over itself
//! and its row's values. A header field is reserved for encryption; it is not used yet.
#![expect(unsafe_code, reason = "maps a file")]

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;
use uuid::Uuid;

use super::{Folder, SnapshotError, VERSION};
use crate::{
    roster::Slot,
    rows::{
        RowRecord, Rows,
        mapped::{MappedLayout, MappedRows},
    },
};
use domain::TemplateId;

const MAGIC: &[u8; 8] = b"SEMBROWS";
const PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 36;
/// Header value for values stored without encryption.
const UNENCRYPTED: u32 = 0;
const ENTRY_BYTES: usize = 32;
/// Owner of an erased row.
const NOBODY: u32 = u32::MAX;

/// A memory-mapped file of rows. Erasure overwrites rows while the file is mapped; nothing else changes it.
#[derive(Debug)]
pub(crate) struct RowsFile {
    /// Keeps the directory until the last reader drops it.
    mapped: Arc<MappedRows>,
    file: File,
    path: PathBuf,
}

/// Byte offsets of the file's parts.
struct Extent {
    order_at: usize,
    end: usize,
}

impl Extent {
    fn of(rows: usize, dimension: usize) -> Option<Self> {
        let numbers = rows.checked_mul(dimension)?.checked_mul(size_of::<f32>())?;
        let table_at = PAGE_BYTES.checked_add(numbers)?;
        let order_at = table_at.checked_add(rows.checked_mul(ENTRY_BYTES)?)?;
        Some(Self { order_at, end: order_at.checked_add(rows.checked_mul(size_of::<u32>())?)? })
    }
}

/// Writes rows to a new file and syncs it to disk.
pub(super) fn write_rows(path: &Path, dimension: u32, rows: &Rows) -> Result<(), SnapshotError> {
    let disk = SnapshotError::disk(path);
    let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(&disk)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let order = in_order(rows);
    let mut header = [0; PAGE_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&UNENCRYPTED.to_le_bytes());
    header[16..20].copy_from_slice(&dimension.to_le_bytes());
    header[20..28].copy_from_slice(&(rows.len() as u64).to_le_bytes());
    header[28..32].copy_from_slice(&crc32fast::hash(&order).to_le_bytes());
    let sum = crc32fast::hash(&header[..32]);
    header[32..36].copy_from_slice(&sum.to_le_bytes());
    let mut body = || {
        out.write_all(&header)?;
        let mut table = Vec::with_capacity(rows.len() * ENTRY_BYTES);
        let mut bytes = Vec::with_capacity(dimension as usize * size_of::<f32>());
        for row in 0..rows.len() {
            bytes.clear();
            bytes.extend(rows.values(row).iter().flat_map(|number| number.to_le_bytes()));
            table.extend(entry(rows.record(row), &bytes));
            out.write_all(&bytes)?;
        }
        out.write_all(&table)?;
        out.write_all(&order)?;
        out.flush()?;
        out.get_ref().sync_all()
    };
    body().map_err(&disk)
}

fn in_order(rows: &Rows) -> Vec<u8> {
    let mut order: Vec<u32> = (0..rows.len()).map(|row| u32::try_from(row).expect("slots are as many")).collect();
    order.sort_unstable_by_key(|row| rows.template(*row as usize));
    order.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Table entry of a row, with a checksum over the entry and the row's values.
fn entry(record: RowRecord, numbers: &[u8]) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..16].copy_from_slice(record.template.0.as_bytes());
    entry[16..20].copy_from_slice(&record.owner.0.to_le_bytes());
    entry[20..24].copy_from_slice(&record.quality.to_le_bytes());
    let sum = sum_of(&entry, numbers);
    entry[28..32].copy_from_slice(&sum.to_le_bytes());
    entry
}

fn sum_of(entry: &[u8], numbers: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&entry[..28]);
    sum.update(numbers);
    sum.finalize()
}

impl RowsFile {
    /// Maps a file and checks sizes, header and row order. [`RowsFile::check`] checks the rows.
    pub(super) fn open(folder: &Arc<Folder>, name: &str, dimension: u32, rows: usize) -> Result<Self, SnapshotError> {
        let path = folder.path().join(name);
        let disk = SnapshotError::disk(&path);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(&disk)?;
        // SAFETY: the file lies in the server's own folder and is open for as long as it is mapped. It never shrinks;
        // its bytes change under `erase` alone, and every pattern of bytes is a number.
        let map = unsafe { Mmap::map(&file) }.map_err(&disk)?;
        let damaged = |what: &str| SnapshotError::damaged(&path, what);
        if cfg!(target_endian = "big") {
            return Err(damaged("its values are little endian, and this machine is big endian"));
        }
        let header = map.get(..PAGE_BYTES).ok_or_else(|| damaged("it is too short"))?;
        if &header[..8] != MAGIC || crc32fast::hash(&header[..32]) != u32_at(header, 32) {
            return Err(damaged("the checksum of its header does not match"));
        }
        if u32_at(header, 8) != VERSION {
            return Err(SnapshotError::OtherFormat { path: path.clone(), found: u32_at(header, 8) });
        }
        let header_rows = u64::from_le_bytes(header[20..28].try_into().expect("eight bytes"));
        if u32_at(header, 12) != UNENCRYPTED || u32_at(header, 16) != dimension || header_rows != rows as u64 {
            return Err(damaged("it holds other rows than the manifest says"));
        }
        if header[HEADER_BYTES..].iter().any(|byte| *byte != 0) {
            return Err(damaged("the checksum of its header does not match"));
        }
        let dimension = dimension as usize;
        let extent = Extent::of(rows, dimension).filter(|extent| extent.end == map.len());
        let extent = extent.ok_or_else(|| damaged("it is shorter or longer than its rows"))?;
        if crc32fast::hash(&map[extent.order_at..]) != u32_at(header, 28) {
            return Err(damaged("the checksum of its row order does not match"));
        }
        let layout = MappedLayout { values_at: PAGE_BYTES, dimension, rows };
        let owner: Arc<Folder> = Arc::clone(folder);
        Ok(Self { mapped: Arc::new(MappedRows::new(map, layout, owner)), file, path: path.clone() })
    }

    /// The mapped values.
    pub(crate) fn mapped(&self) -> &Arc<MappedRows> {
        &self.mapped
    }

    pub(super) fn len(&self) -> usize {
        self.mapped.len()
    }

    /// The record of a row; `None` for an erased row.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when the row's checksum is wrong.
    pub(super) fn check(&self, row: usize) -> Result<Option<RowRecord>, SnapshotError> {
        let entry = self.entry(row);
        let numbers = &self.mapped.bytes()[PAGE_BYTES + row * self.mapped.row_bytes()..][..self.mapped.row_bytes()];
        let damaged = || SnapshotError::damaged(&self.path, format!("the checksum of row {row} does not match"));
        if *entry == erased() {
            return if numbers.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(damaged()) };
        }
        if sum_of(entry, numbers) != u32_at(entry, 28) {
            return Err(damaged());
        }
        Ok(Some(RowRecord {
            template: self.template(row),
            owner: Slot(u32_at(entry, 16)),
            quality: f32::from_bits(u32_at(entry, 20)),
        }))
    }

    /// Overwrites a template's values and table entry. Returns whether the file holds the template.
    pub(super) fn erase(&self, template: TemplateId) -> Result<bool, SnapshotError> {
        let Some(row) = self.row_of(template) else {
            return Ok(false);
        };
        let mut file = &self.file;
        let mut write = |at: usize, bytes: &[u8]| -> io::Result<()> {
            file.seek(SeekFrom::Start(at as u64))?;
            file.write_all(bytes)
        };
        write(PAGE_BYTES + row * self.mapped.row_bytes(), &vec![0; self.mapped.row_bytes()])
            .and_then(|()| write(self.table_at() + row * ENTRY_BYTES, &erased()))
            .map_err(SnapshotError::disk(&self.path))?;
        Ok(true)
    }

    pub(super) fn sync(&self) -> Result<(), SnapshotError> {
        self.file.sync_data().map_err(SnapshotError::disk(&self.path))
    }

    /// Binary search by template id. Erased entries have no id, so the search uses the next entry that has one.
    fn row_of(&self, template: TemplateId) -> Option<usize> {
        let order = &self.mapped.bytes()[self.table_at() + self.len() * ENTRY_BYTES..];
        let row_at = |place: usize| u32_at(order, place * size_of::<u32>()) as usize;
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let live = (middle..high).find(|place| *self.entry(row_at(*place)) != erased());
            let Some(place) = live else {
                high = middle;
                continue;
            };
            match self.template(row_at(place)).cmp(&template) {
                std::cmp::Ordering::Equal => return Some(row_at(place)),
                std::cmp::Ordering::Less => low = place + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn entry(&self, row: usize) -> &[u8; ENTRY_BYTES] {
        self.mapped.bytes()[self.table_at() + row * ENTRY_BYTES..].first_chunk().expect("the file's length was checked")
    }

    fn template(&self, row: usize) -> TemplateId {
        TemplateId(Uuid::from_bytes(*self.entry(row).first_chunk().expect("an entry begins with an id")))
    }

    fn table_at(&self) -> usize {
        PAGE_BYTES + self.len() * self.mapped.row_bytes()
    }
}

fn erased() -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[16..20].copy_from_slice(&NOBODY.to_le_bytes());
    entry
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("within what was checked"))
}
