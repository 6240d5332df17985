//! Fixed pieces of memory for what rows are made of.

use std::hint::black_box;

/// Rows of 16 floats or 64 codes, or a multiple of it, never straddle a cache line when the block starts on one.
pub(crate) const CACHE_LINE_BYTES: usize = 64;

/// A piece of memory that starts on a cache line and is overwritten when it is let go.
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
        // The offset may be declared unknowable; an unaligned block is slower and right all the same.
        let start = memory.as_ptr().align_offset(CACHE_LINE_BYTES).min(spare);
        Self { memory, start, len }
    }

    /// A larger one that begins with the same.
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

/// Not derived, because a copy of the memory alone would not start on a cache line.
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

/// Overwrites with zeros, in a way that the compiler must believe somebody reads.
pub(crate) fn wipe<T: Copy + Default>(values: &mut [T]) {
    values.fill(T::default());
    black_box(values);
}

/// How rows are laid out over blocks: all blocks hold equally many, a power of two; only a block that is alone may be
/// smaller, because most collections are small.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// A row's block is its number shifted right by this.
    shift: u32,
}

/// 2^17 numbers a block: as codes they stay in a core's second-level cache while several probes pass over them.
const BLOCK_NUMBERS: usize = 1 << 17;
/// The first block starts this small and doubles.
const FIRST_ROWS: usize = 16;

impl Layout {
    pub(crate) fn new(dimension: usize) -> Self {
        Self { shift: (BLOCK_NUMBERS / dimension.max(1)).max(1).ilog2() }
    }

    /// How many rows a full block holds.
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

    /// How many rows the block must hold before row number `row` is added to it, which holds `held` now.
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
