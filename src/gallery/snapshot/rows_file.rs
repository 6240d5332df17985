//! The rows of one space in a file that is mapped into memory.
//!
//! A page of header, the originals row after row (f32, little endian), a table with an entry a row, and the rows in the
//! order of their template ids, by which a template is found that must be erased. Each entry holds a checksum over
//! itself and its row's numbers. There is a field for how the numbers are sealed; so far they are not.
#![expect(unsafe_code, reason = "maps a file, and reads its bytes as the numbers that they are")]

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
    rows::{Member, Rows},
};
use domain::TemplateId;

const MAGIC: &[u8; 8] = b"SEMBROWS";
const PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 36;
/// Numbers that stand as they are. Others are for numbers that are encrypted.
const UNSEALED: u32 = 0;
const ENTRY_BYTES: usize = 32;
/// The owner of a row that was erased.
const NOBODY: u32 = u32::MAX;

/// A file of rows. Its numbers may be erased while it is mapped, and change in no other way.
#[derive(Debug)]
pub(crate) struct RowsFile {
    map: Mmap,
    file: File,
    path: PathBuf,
    dimension: usize,
    rows: usize,
    /// Kept until the last reader lets go.
    _folder: Arc<Folder>,
}

/// The sizes of a file's parts.
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

/// Writes rows to a new file and syncs it.
pub(super) fn write_rows(path: &Path, dimension: u32, rows: &Rows) -> Result<(), SnapshotError> {
    let disk = SnapshotError::disk(path);
    let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(&disk)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let order = in_order(rows);
    let mut header = [0; PAGE_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&UNSEALED.to_le_bytes());
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
            table.extend(entry(rows.member(row), &bytes));
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

/// What is known of a row, and a checksum over that and its numbers.
fn entry(member: Member, numbers: &[u8]) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..16].copy_from_slice(member.template.0.as_bytes());
    entry[16..20].copy_from_slice(&member.owner.0.to_le_bytes());
    entry[20..24].copy_from_slice(&member.quality.to_le_bytes());
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
    /// Maps a file and checks its frame: sizes, header, order. Rows are checked by [`RowsFile::check`].
    pub(super) fn open(folder: &Arc<Folder>, name: &str, dimension: u32, rows: usize) -> Result<Self, SnapshotError> {
        let path = folder.path().join(name);
        let disk = SnapshotError::disk(&path);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(&disk)?;
        // SAFETY: the file lies in the server's own folder and is open for as long as it is mapped. It never shrinks;
        // its bytes change under `erase` alone, and every pattern of bytes is a number.
        let map = unsafe { Mmap::map(&file) }.map_err(&disk)?;
        let damaged = |what: &str| SnapshotError::damaged(&path, what);
        if cfg!(target_endian = "big") {
            return Err(damaged("its numbers are little endian, and this machine's are not"));
        }
        let header = map.get(..PAGE_BYTES).ok_or_else(|| damaged("it is too short"))?;
        if &header[..8] != MAGIC || crc32fast::hash(&header[..32]) != u32_at(header, 32) {
            return Err(damaged("its header is not what was written"));
        }
        if u32_at(header, 8) != VERSION {
            return Err(SnapshotError::OtherFormat { path: path.clone(), found: u32_at(header, 8) });
        }
        let said = u64::from_le_bytes(header[20..28].try_into().expect("eight bytes"));
        if u32_at(header, 12) != UNSEALED || u32_at(header, 16) != dimension || said != rows as u64 {
            return Err(damaged("it holds other rows than the manifest says"));
        }
        if header[HEADER_BYTES..].iter().any(|byte| *byte != 0) {
            return Err(damaged("its header is not what was written"));
        }
        let dimension = dimension as usize;
        let extent = Extent::of(rows, dimension).filter(|extent| extent.end == map.len());
        let extent = extent.ok_or_else(|| damaged("it is shorter or longer than its rows"))?;
        if crc32fast::hash(&map[extent.order_at..]) != u32_at(header, 28) {
            return Err(damaged("the order of its rows is not what was written"));
        }
        Ok(Self { file, dimension, rows, _folder: Arc::clone(folder), path: path.clone(), map })
    }

    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Rows as numbers, one after the other.
    pub(crate) fn values(&self, rows: std::ops::Range<usize>) -> &[f32] {
        let bytes = &self.map[PAGE_BYTES..][rows.start * self.row_bytes()..rows.end * self.row_bytes()];
        // SAFETY: every pattern of bytes is a number.
        let (before, numbers, after) = unsafe { bytes.align_to::<f32>() };
        assert!(before.is_empty() && after.is_empty(), "a map starts on a page, and rows are whole numbers");
        numbers
    }

    /// What is known of a row; `None` for one that was erased.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when the row is not what was written.
    pub(super) fn check(&self, row: usize) -> Result<Option<Member>, SnapshotError> {
        let entry = self.entry(row);
        let numbers = &self.map[PAGE_BYTES + row * self.row_bytes()..][..self.row_bytes()];
        let damaged = || SnapshotError::damaged(&self.path, format!("row {row} is not what was written"));
        if *entry == erased() {
            return if numbers.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(damaged()) };
        }
        if sum_of(entry, numbers) != u32_at(entry, 28) {
            return Err(damaged());
        }
        Ok(Some(Member {
            template: self.template(row),
            owner: Slot(u32_at(entry, 16)),
            quality: f32::from_bits(u32_at(entry, 20)),
        }))
    }

    /// Overwrites a template's numbers and all that is known of it; answers whether the file had it.
    pub(super) fn erase(&self, template: TemplateId) -> Result<bool, SnapshotError> {
        let Some(row) = self.row_of(template) else {
            return Ok(false);
        };
        let mut file = &self.file;
        let mut write = |at: usize, bytes: &[u8]| -> io::Result<()> {
            file.seek(SeekFrom::Start(at as u64))?;
            file.write_all(bytes)
        };
        write(PAGE_BYTES + row * self.row_bytes(), &vec![0; self.row_bytes()])
            .and_then(|()| write(self.table_at() + row * ENTRY_BYTES, &erased()))
            .map_err(SnapshotError::disk(&self.path))?;
        Ok(true)
    }

    pub(super) fn sync(&self) -> Result<(), SnapshotError> {
        self.file.sync_data().map_err(SnapshotError::disk(&self.path))
    }

    /// A search by halves. Entries that were erased have lost their id, and lead the search astray; so it walks to the
    /// nearest that has one.
    fn row_of(&self, template: TemplateId) -> Option<usize> {
        let order = &self.map[self.table_at() + self.rows * ENTRY_BYTES..];
        let row_at = |place: usize| u32_at(order, place * size_of::<u32>()) as usize;
        let (mut low, mut high) = (0, self.rows);
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
        self.map[self.table_at() + row * ENTRY_BYTES..].first_chunk().expect("the file's length was checked")
    }

    fn template(&self, row: usize) -> TemplateId {
        TemplateId(Uuid::from_bytes(*self.entry(row).first_chunk().expect("an entry begins with an id")))
    }

    fn row_bytes(&self) -> usize {
        self.dimension * size_of::<f32>()
    }

    fn table_at(&self) -> usize {
        PAGE_BYTES + self.rows * self.row_bytes()
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
