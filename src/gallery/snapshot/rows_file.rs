//! The rows of one space in a memory-mapped file.
//!
//! Layout: one page of header; the original values row after row (f32, little endian); a table with one entry per row;
//! the row indexes in the order of template ids, to find a template for erasure. Each entry has a checksum over itself
//! and its row's values. A header field is reserved for encryption; it is not used yet.
#![expect(unsafe_code, reason = "maps a file")]

use std::{
    fs::File,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;
use uuid::Uuid;

use super::{Folder, SnapshotError, VERSION, folder::private};
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

/// The rows of a space on disk. The file is closed; it is opened for each erasure.
#[derive(Debug)]
pub(crate) struct RowsFile {
    path: PathBuf,
    folder: Arc<Folder>,
    layout: MappedLayout,
    /// `None` for a file whose values are in memory.
    mapped: Option<Arc<MappedRows>>,
}

/// A file of rows, open and memory-mapped. Erasure overwrites rows while the file is mapped; nothing else changes it.
#[derive(Debug)]
pub(super) struct OpenRows {
    path: PathBuf,
    /// The map keeps it until the last reader drops it.
    folder: Arc<Folder>,
    layout: MappedLayout,
    file: File,
    mapped: Arc<MappedRows>,
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
    let file = private().create_new(true).open(path).map_err(&disk)?;
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
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The mapped values; `None` when the values of the file are in memory.
    pub(crate) fn mapped(&self) -> Option<&Arc<MappedRows>> {
        self.mapped.as_ref()
    }

    /// Overwrites templates. Returns whether the file held one of them.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file cannot be opened, mapped or written. A repetition is safe.
    pub(super) fn erase(&self, templates: &[TemplateId]) -> Result<bool, SnapshotError> {
        let holds_none = |mapped: &Arc<MappedRows>| templates.iter().all(|id| RowTable(mapped).row_of(*id).is_none());
        if templates.is_empty() || self.mapped.as_ref().is_some_and(holds_none) {
            return Ok(false);
        }
        let open = OpenRows::map(&self.folder, &self.path, self.layout)?;
        templates.iter().try_fold(false, |held, template| Ok(held | open.erase(*template)?))
    }
}

impl OpenRows {
    /// Maps a file and checks sizes, header and row order. [`OpenRows::check`] checks the rows.
    pub(super) fn open(folder: &Arc<Folder>, name: &str, dimension: u32, rows: usize) -> Result<Self, SnapshotError> {
        let layout = MappedLayout { values_at: PAGE_BYTES, dimension: dimension as usize, rows };
        let open = Self::map(folder, &folder.path().join(name), layout)?;
        let damaged = |what: &str| SnapshotError::damaged(&open.path, what);
        if cfg!(target_endian = "big") {
            return Err(damaged("its values are little endian, and this machine is big endian"));
        }
        let header = open.mapped.bytes().get(..PAGE_BYTES).ok_or_else(|| damaged("it is too short"))?;
        if &header[..8] != MAGIC || crc32fast::hash(&header[..32]) != u32_at(header, 32) {
            return Err(damaged("the checksum of its header does not match"));
        }
        if u32_at(header, 8) != VERSION {
            return Err(SnapshotError::OtherFormat { path: open.path.clone(), found: u32_at(header, 8) });
        }
        let header_rows = u64::from_le_bytes(header[20..28].try_into().expect("eight bytes"));
        if u32_at(header, 12) != UNENCRYPTED || u32_at(header, 16) != dimension || header_rows != rows as u64 {
            return Err(damaged("it holds other rows than the manifest says"));
        }
        if header[HEADER_BYTES..].iter().any(|byte| *byte != 0) {
            return Err(damaged("the checksum of its header does not match"));
        }
        let extent = open.extent()?;
        if crc32fast::hash(&open.mapped.bytes()[extent.order_at..]) != u32_at(header, 28) {
            return Err(damaged("the checksum of its row order does not match"));
        }
        let (order, _) = open.mapped.bytes()[extent.order_at..].as_chunks::<4>();
        if order.iter().any(|row| u32::from_le_bytes(*row) as usize >= rows) {
            return Err(damaged("its row order names a row that it does not have"));
        }
        Ok(open)
    }

    fn map(folder: &Arc<Folder>, path: &Path, layout: MappedLayout) -> Result<Self, SnapshotError> {
        let disk = SnapshotError::disk(path);
        let file = private().read(true).open(path).map_err(&disk)?;
        // SAFETY: the file lies in the server's own folder. It never shrinks; its bytes change under `erase` alone, and
        // every pattern of bytes is a number.
        let map = unsafe { Mmap::map(&file) }.map_err(&disk)?;
        let owner: Arc<Folder> = Arc::clone(folder);
        let mapped = Arc::new(MappedRows::new(map, layout, owner));
        Ok(Self { path: path.to_owned(), folder: Arc::clone(folder), layout, file, mapped })
    }

    /// The parts of the file.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when they are not as long as the file.
    fn extent(&self) -> Result<Extent, SnapshotError> {
        let extent = Extent::of(self.layout.rows, self.layout.dimension);
        let extent = extent.filter(|extent| extent.end == self.mapped.bytes().len());
        extent.ok_or_else(|| SnapshotError::damaged(&self.path, "it is shorter or longer than its rows"))
    }

    /// Closes the file. It stays mapped when its values take at least `mapped_bytes_min` bytes. The caller keeps smaller
    /// values in memory: the number of maps of a process is limited (`vm.max_map_count`), and a collection has a file
    /// per space.
    pub(super) fn close(self, mapped_bytes_min: usize) -> RowsFile {
        let values_bytes = self.layout.rows * self.mapped.row_bytes();
        let mapped = (values_bytes >= mapped_bytes_min).then_some(self.mapped);
        RowsFile { path: self.path, folder: self.folder, layout: self.layout, mapped }
    }

    /// The mapped values.
    pub(super) fn mapped(&self) -> &Arc<MappedRows> {
        &self.mapped
    }

    /// The record of a row; `None` for an erased row.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when the row's checksum is wrong.
    pub(super) fn check(&self, row: usize) -> Result<Option<RowRecord>, SnapshotError> {
        let table = RowTable(&self.mapped);
        let entry = table.entry(row);
        let numbers = &self.mapped.bytes()[PAGE_BYTES + row * self.mapped.row_bytes()..][..self.mapped.row_bytes()];
        let damaged = || SnapshotError::damaged(&self.path, format!("the checksum of row {row} does not match"));
        if *entry == erased() {
            return if numbers.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(damaged()) };
        }
        if sum_of(entry, numbers) != u32_at(entry, 28) {
            return Err(damaged());
        }
        Ok(Some(RowRecord {
            template: table.template(row),
            owner: Slot(u32_at(entry, 16)),
            quality: f32::from_bits(u32_at(entry, 20)),
        }))
    }

    /// Overwrites a template's values and table entry. Returns whether the file holds the template.
    pub(super) fn erase(&self, template: TemplateId) -> Result<bool, SnapshotError> {
        self.extent()?;
        let table = RowTable(&self.mapped);
        let Some(row) = table.row_of(template) else {
            return Ok(false);
        };
        let mut file = &self.file;
        let mut write = |at: usize, bytes: &[u8]| -> io::Result<()> {
            file.seek(SeekFrom::Start(at as u64))?;
            file.write_all(bytes)
        };
        write(PAGE_BYTES + row * self.mapped.row_bytes(), &vec![0; self.mapped.row_bytes()])
            .and_then(|()| write(table.begin() + row * ENTRY_BYTES, &erased()))
            .map_err(SnapshotError::disk(&self.path))?;
        Ok(true)
    }
}

/// The table of a mapped file whose length was checked.
struct RowTable<'m>(&'m MappedRows);

impl RowTable<'_> {
    /// Binary search by template id. Erased entries have no id, so the search uses the next entry that has one.
    fn row_of(&self, template: TemplateId) -> Option<usize> {
        let rows = self.0.len();
        let order = &self.0.bytes()[self.begin() + rows * ENTRY_BYTES..];
        let row_at = |place: usize| u32_at(order, place * size_of::<u32>()) as usize;
        let (mut low, mut high) = (0, rows);
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
        self.0.bytes()[self.begin() + row * ENTRY_BYTES..].first_chunk().expect("the file's length was checked")
    }

    fn template(&self, row: usize) -> TemplateId {
        TemplateId(Uuid::from_bytes(*self.entry(row).first_chunk().expect("an entry begins with an id")))
    }

    fn begin(&self) -> usize {
        PAGE_BYTES + self.0.len() * self.0.row_bytes()
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
