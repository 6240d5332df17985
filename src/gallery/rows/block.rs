//! Fixed-size memory blocks that hold the rows.

use std::hint::black_box;

/// Rows of 16 floats or 64 codes, or multiples of these, never straddle a cache line in a block that starts on one.
pub(crate) const CACHE_LINE_BYTES: usize = 64;

/// Memory that starts on a cache line and is overwritten with zeros when dropped.
#[derive(Debug)]
pub(crate) struct Block<T: Copy + Default> {
    memory: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Block<T> {
    pub(crate) fn zeroed(len: usize) -> Self {
        let spare = CACHE_LINE_BYTES / size_of::<T>();
        let memory = vec![T::default(); len + spare];
        // `align_offset` may report that no offset is known. An unaligned block is slower but correct.
        let start = memory.as_ptr().align_offset(CACHE_LINE_BYTES).min(spare);
        Self { memory, start, len }
    }

    /// A larger block with the same start.
    pub(crate) fn grown(&self, len: usize) -> Self {
        let mut grown = Self::zeroed(len);
        grown.as_mut_slice()[..self.len].copy_from_slice(self.as_slice());
        grown
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        &self.memory[self.start..][..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.memory[self.start..][..self.len]
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Not derived: a copy of the memory alone might not start on a cache line.
impl<T: Copy + Default> Clone for Block<T> {
    fn clone(&self) -> Self {
        self.grown(self.len)
    }
}

impl<T: Copy + Default> Drop for Block<T> {
    fn drop(&mut self) {
        wipe(&mut self.memory);
    }
}

/// Overwrites with zeros. `black_box` keeps the compiler from removing the write.
pub(crate) fn wipe<T: Copy + Default>(values: &mut [T]) {
    values.fill(T::default());
    black_box(values);
}

/// Distribution of rows over blocks. All blocks hold the same number of rows, a power of two. A single block may be
/// smaller, because most collections are small.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Block index = row index >> shift.
    shift: u32,
}

/// 2^17 values per block: their codes stay in a core's second-level cache while several probes are compared with them.
const BLOCK_NUMBERS: usize = 1 << 17;
/// Initial size of the first block, in rows; it doubles.
const FIRST_ROWS: usize = 16;

impl Layout {
    pub(crate) fn new(dimension: usize) -> Self {
        Self { shift: (BLOCK_NUMBERS / dimension.max(1)).max(1).ilog2() }
    }

    /// Rows per full block.
    pub(crate) fn block_rows(self) -> usize {
        1 << self.shift
    }

    pub(crate) fn block_of(self, row: usize) -> usize {
        row >> self.shift
    }

    pub(crate) fn within(self, row: usize) -> usize {
        row & (self.block_rows() - 1)
    }

    pub(crate) fn first_of(self, block: usize) -> usize {
        block << self.shift
    }

    pub(crate) fn blocks(self, rows: usize) -> usize {
        rows.div_ceil(self.block_rows())
    }

    /// Capacity in rows that the row's block needs for `row`; its present capacity is `held`.
    pub(crate) fn rows_for(self, row: usize, held: usize) -> usize {
        let wanted = self.within(row) + 1;
        if self.block_of(row) > 0 {
            self.block_rows()
        } else if wanted > held {
            (held * 2).max(FIRST_ROWS).min(self.block_rows())
        } else {
            held
        }
    }
}
