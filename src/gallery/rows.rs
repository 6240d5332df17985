//! The numbers of a space: flat rows of f32, one a template, always without holes.
//!
//! Rows live in blocks that readers may share: a snapshot costs a reference a block, and a writer copies the one
//! block that it changes while a snapshot holds it. Whatever leaves is overwritten with zeros: a removed row at once,
//! a block when its last holder lets go.

use std::{hint::black_box, sync::Arc};

use super::{scan::Measure, slots::Slot};
use crate::domain::TemplateId;

/// 512 KiB of numbers a block: it stays in a core's second-level cache while several probes pass over it.
const BLOCK_NUMBERS: usize = 1 << 17;
/// The first block starts this small and doubles, because most collections are small.
const FIRST_ROWS: usize = 16;
/// Rows of 16 numbers or a multiple of it never straddle a cache line when the block starts on one.
const CACHE_LINE_BYTES: usize = 64;
const CACHE_LINE_NUMBERS: usize = CACHE_LINE_BYTES / size_of::<f32>();

/// Rows with their owners and templates. A clone is a snapshot that later changes do not reach.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    dimension: usize,
    measure: Measure,
    /// A row's block is its number shifted right by this.
    block_shift: u32,
    /// All full but the last. Only a block that is alone may be smaller than the others.
    blocks: Vec<Arc<Block>>,
    owners: Vec<Slot>,
    templates: Vec<TemplateId>,
}

impl Rows {
    pub(super) fn new(dimension: u32, measure: Measure) -> Self {
        let dimension = dimension as usize;
        let block_rows = (BLOCK_NUMBERS / dimension.max(1)).max(1);
        Self {
            dimension,
            measure,
            block_shift: block_rows.ilog2(),
            blocks: Vec::new(),
            owners: Vec::new(),
            templates: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// How the rows are compared.
    pub(super) fn measure(&self) -> Measure {
        self.measure
    }

    pub(super) fn values(&self, row: usize) -> &[f32] {
        self.blocks[row >> self.block_shift].row(row & self.block_mask(), self.dimension)
    }

    pub(super) fn owner(&self, row: usize) -> Slot {
        self.owners[row]
    }

    pub(super) fn template(&self, row: usize) -> TemplateId {
        self.templates[row]
    }

    /// Each block's first row and its numbers, row after row.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.blocks.iter().enumerate().map(|(index, block)| {
            let first = index << self.block_shift;
            let rows = (self.len() - first).min(self.block_mask() + 1);
            (first, block.rows(rows, self.dimension))
        })
    }

    /// Adds a row at the end and answers its number.
    pub(super) fn push(&mut self, owner: Slot, template: TemplateId, values: &[f32]) -> usize {
        let row = self.len();
        self.make_room(row);
        self.block_mut(row).copy_from_slice(values);
        self.owners.push(owner);
        self.templates.push(template);
        row
    }

    /// Removes a row and overwrites it. The last row takes its place; answers whose that was, unless it was the
    /// removed one itself.
    pub(super) fn remove(&mut self, row: usize) -> Option<TemplateId> {
        let last = self.len() - 1;
        let mut carried = self.values(last).to_vec();
        self.block_mut(row).copy_from_slice(&carried);
        wipe(&mut carried);
        wipe(self.block_mut(last));
        self.owners.swap_remove(row);
        self.templates.swap_remove(row);
        self.blocks.truncate(self.len().div_ceil(self.block_mask() + 1));
        self.templates.get(row).copied()
    }

    fn make_room(&mut self, row: usize) {
        let block_rows = self.block_mask() + 1;
        if row == 0 {
            self.blocks.push(Arc::new(Block::zeroed(block_rows.min(FIRST_ROWS) * self.dimension)));
        } else if row & self.block_mask() == 0 {
            self.blocks.push(Arc::new(Block::zeroed(block_rows * self.dimension)));
        } else if row < block_rows && row * self.dimension == self.blocks[0].len {
            self.blocks[0] = Arc::new(self.blocks[0].grown((row * 2).min(block_rows) * self.dimension));
        }
    }

    fn block_mut(&mut self, row: usize) -> &mut [f32] {
        let within = row & self.block_mask();
        let dimension = self.dimension;
        Arc::make_mut(&mut self.blocks[row >> self.block_shift]).row_mut(within, dimension)
    }

    fn block_mask(&self) -> usize {
        (1 << self.block_shift) - 1
    }
}

/// A fixed piece of memory that starts on a cache line and is overwritten when it is let go.
#[derive(Debug)]
struct Block {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Block {
    fn zeroed(len: usize) -> Self {
        let memory = vec![0.0_f32; len + CACHE_LINE_NUMBERS];
        // The offset may be declared unknowable; an unaligned block is slower and right all the same.
        let start = memory.as_ptr().align_offset(CACHE_LINE_BYTES).min(CACHE_LINE_NUMBERS);
        Self { memory, start, len }
    }

    fn grown(&self, len: usize) -> Self {
        let mut grown = Self::zeroed(len);
        let start = grown.start;
        grown.memory[start..start + self.len].copy_from_slice(self.rows(1, self.len));
        grown
    }

    fn rows(&self, rows: usize, dimension: usize) -> &[f32] {
        &self.memory[self.start..][..rows * dimension]
    }

    fn row(&self, row: usize, dimension: usize) -> &[f32] {
        &self.memory[self.start + row * dimension..][..dimension]
    }

    fn row_mut(&mut self, row: usize, dimension: usize) -> &mut [f32] {
        &mut self.memory[self.start + row * dimension..][..dimension]
    }
}

/// Not derived, because a copy of the memory alone would not start on a cache line.
impl Clone for Block {
    fn clone(&self) -> Self {
        self.grown(self.len)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        wipe(&mut self.memory);
    }
}

/// Overwrites with zeros, in a way that the compiler must believe somebody reads.
fn wipe(values: &mut [f32]) {
    values.fill(0.0);
    black_box(values);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn template(number: u128) -> TemplateId {
        TemplateId(Uuid::from_u128(number))
    }

    /// More rows of 4096 numbers than one block of 32 holds.
    #[test]
    fn rows_keep_their_numbers_over_blocks() {
        let mut rows = Rows::new(4096, Measure::Whole);
        for number in 0..100_u16 {
            assert_eq!(
                rows.push(Slot(1), template(number.into()), &vec![f32::from(number); 4096]),
                usize::from(number)
            );
        }
        assert!((0..100_u16).all(|n| rows.values(n.into()) == vec![f32::from(n); 4096]));
        let seen: Vec<usize> = rows.blocks().map(|(first, values)| first * 4096 + values.len()).collect();
        assert_eq!(seen, [32 * 4096, 64 * 4096, 96 * 4096, 100 * 4096]);
    }

    #[test]
    fn a_removed_row_is_overwritten_at_once() {
        let mut rows = Rows::new(16, Measure::Whole);
        rows.push(Slot(1), template(1), &[1.0; 16]);
        rows.push(Slot(2), template(2), &[2.0; 16]);
        assert_eq!(rows.remove(0), Some(template(2)));
        assert_eq!(rows.remove(0), None);
        rows.push(Slot(3), template(3), &[3.0; 16]);
        let block = &rows.blocks[0];
        assert_eq!(block.rows(1, 16), [3.0; 16]);
        assert!(block.memory.iter().all(|v| [0.0, 3.0].contains(v)), "nothing of the removed rows is left");
    }

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let mut rows = Rows::new(4, Measure::Whole);
        rows.push(Slot(1), template(1), &[1.0; 4]);
        let snapshot = rows.clone();
        rows.remove(0);
        rows.push(Slot(2), template(2), &[2.0; 4]);
        assert_eq!((snapshot.values(0), snapshot.template(0)), (&[1.0; 4][..], template(1)));
        assert_eq!((rows.values(0), rows.template(0)), (&[2.0; 4][..], template(2)));
    }

    proptest! {
        #[test]
        fn removal_moves_the_last_row_and_loses_none(removals in prop::collection::vec(any::<prop::sample::Index>(), 0..90)) {
            let mut rows = Rows::new(5000, Measure::Whole);
            let mut expected: Vec<u16> = (0..90).collect();
            for number in &expected {
                rows.push(Slot((*number).into()), template((*number).into()), &vec![f32::from(*number); 5000]);
            }
            for removal in removals {
                let row = removal.index(expected.len());
                expected.swap_remove(row);
                prop_assert_eq!(rows.remove(row), expected.get(row).map(|n| template((*n).into())));
            }
            prop_assert_eq!(rows.len(), expected.len());
            for (row, number) in expected.iter().enumerate() {
                prop_assert_eq!(&rows.values(row)[4998..], &[f32::from(*number); 2]);
                prop_assert_eq!(rows.owner(row), Slot((*number).into()));
            }
        }
    }
}
