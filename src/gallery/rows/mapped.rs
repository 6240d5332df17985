//! Original values of rows in a memory-mapped file.
#![expect(unsafe_code, reason = "reads the bytes of a mapped file as the numbers that they are")]

use std::{fmt::Debug, ops::Range, sync::Arc};

use memmap2::Mmap;

/// Position and size of the values in a mapped file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MappedLayout {
    /// Byte offset of the values, a multiple of four.
    pub(crate) values_at: usize,
    /// Values per row.
    pub(crate) dimension: usize,
    pub(crate) rows: usize,
}

/// A mapped file with the values of rows: f32 in the byte order of this machine, row after row. The file's owner may
/// overwrite values while they are mapped.
#[derive(Debug)]
pub(crate) struct MappedRows {
    map: Mmap,
    layout: MappedLayout,
    /// Dropped after the last reader, for example to delete the file.
    _owner: Arc<dyn Debug + Send + Sync>,
}

impl MappedRows {
    /// The map must contain all values of the layout.
    pub(crate) fn new(map: Mmap, layout: MappedLayout, owner: Arc<dyn Debug + Send + Sync>) -> Self {
        Self { map, layout, _owner: owner }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.layout.rows
    }

    /// Bytes per row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.layout.dimension * size_of::<f32>()
    }

    /// The whole file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Values of a range of rows, row after row.
    pub(crate) fn values(&self, rows: Range<usize>) -> &[f32] {
        let bytes = &self.map[self.layout.values_at..][rows.start * self.row_bytes()..rows.end * self.row_bytes()];
        // SAFETY: every pattern of bytes is a number.
        let (before, numbers, after) = unsafe { bytes.align_to::<f32>() };
        assert!(before.is_empty() && after.is_empty(), "a map starts on a page, and rows are whole numbers");
        numbers
    }
}
