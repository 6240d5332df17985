//! Original values of the rows, from which exact similarities are computed.
//!
//! The codes discard nearly all rows, so few original values are read and most need not be in memory. Values in a
//! snapshot are mapped from its file, and the operating system caches the pages in use. Values of later templates stay
//! in memory until the next snapshot. A changed chunk is copied back to memory as a whole.

use std::{ops::Range, sync::Arc};

use crate::rows::{
    block::{Block, Layout, wipe},
    mapped::MappedRows,
};

/// Rows of f32 without holes. A clone is a snapshot that later changes do not affect.
#[derive(Debug, Clone)]
pub(crate) struct Originals {
    dimension: usize,
    layout: Layout,
    chunks: Vec<Chunk>,
    len: usize,
}

/// The rows of one block of the layout.
#[derive(Debug, Clone)]
enum Chunk {
    Resident(Arc<Block<f32>>),
    /// The rows of the file from index `first`.
    Mapped {
        file: Arc<MappedRows>,
        first: usize,
    },
}

impl Chunk {
    /// Whether both are the same memory, which means that neither changed since one was cloned from the other.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Resident(one), Self::Resident(other)) => Arc::ptr_eq(one, other),
            (Self::Mapped { file: one, first: a }, Self::Mapped { file: other, first: b }) => {
                Arc::ptr_eq(one, other) && a == b
            }
            (Self::Resident(_), Self::Mapped { .. }) | (Self::Mapped { .. }, Self::Resident(_)) => false,
        }
    }
}

impl Originals {
    pub(crate) fn new(dimension: usize) -> Self {
        Self { dimension, layout: Layout::new(dimension), chunks: Vec::new(), len: 0 }
    }

    /// All rows of a file.
    pub(crate) fn mapped(dimension: usize, file: &Arc<MappedRows>) -> Self {
        let mut originals = Self::new(dimension);
        originals.len = file.len();
        let firsts = (0..originals.layout.blocks(file.len())).map(|index| originals.layout.first_of(index));
        originals.chunks = firsts.map(|first| Chunk::Mapped { file: Arc::clone(file), first }).collect();
        originals
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        let within = self.layout.within(row);
        self.values(self.layout.block_of(row), within..within + 1)
    }

    /// Number of chunks.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Index of the chunk's first row, and the chunk's values, row after row.
    pub(crate) fn chunk(&self, index: usize) -> (usize, &[f32]) {
        let first = self.layout.first_of(index);
        (first, self.values(index, 0..(self.len - first).min(self.layout.block_rows())))
    }

    pub(crate) fn push(&mut self, values: &[f32]) {
        let row = self.len;
        let index = self.layout.block_of(row);
        let held = match self.chunks.get(index) {
            Some(Chunk::Resident(block)) => block.len() / self.dimension,
            Some(Chunk::Mapped { .. }) => self.layout.within(row),
            None => 0,
        };
        let rows = self.layout.rows_for(row, held);
        if index == self.chunks.len() {
            self.chunks.push(Chunk::Resident(Arc::new(Block::zeroed(rows * self.dimension))));
        } else if rows > held {
            let mut grown = Block::zeroed(rows * self.dimension);
            let there = self.values(index, 0..self.layout.within(row));
            grown.as_mut_slice()[..there.len()].copy_from_slice(there);
            self.chunks[index] = Chunk::Resident(Arc::new(grown));
        }
        self.len += 1;
        self.row_mut(row).copy_from_slice(values);
    }

    /// Removes a row and overwrites it with zeros; the last row takes its index.
    pub(crate) fn swap_remove(&mut self, row: usize) {
        let last = self.len - 1;
        let mut carried = self.row(last).to_vec();
        self.row_mut(row).copy_from_slice(&carried);
        wipe(&mut carried);
        wipe(self.row_mut(last));
        self.len = last;
        self.chunks.truncate(self.layout.blocks(self.len));
    }

    /// Maps every chunk from the file that did not change since `written` was cloned from here and written to it.
    pub(crate) fn adopt(&mut self, written: &Self, file: &Arc<MappedRows>) {
        for (index, (chunk, before)) in self.chunks.iter_mut().zip(&written.chunks).enumerate() {
            if chunk.is(before) {
                *chunk = Chunk::Mapped { file: Arc::clone(file), first: self.layout.first_of(index) };
            }
        }
    }

    /// Bytes in memory, and bytes mapped from files.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let mut bytes = (0, 0);
        for index in 0..self.chunks.len() {
            match &self.chunks[index] {
                Chunk::Resident(block) => bytes.0 += block.len() * size_of::<f32>(),
                Chunk::Mapped { .. } => bytes.1 += size_of_val(self.chunk(index).1),
            }
        }
        bytes
    }

    fn values(&self, index: usize, rows: Range<usize>) -> &[f32] {
        match &self.chunks[index] {
            Chunk::Resident(block) => &block.as_slice()[rows.start * self.dimension..rows.end * self.dimension],
            Chunk::Mapped { file, first } => file.values(first + rows.start..first + rows.end),
        }
    }

    /// Copies the row's chunk to memory when it is mapped or shared.
    fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let (index, within) = (self.layout.block_of(row), self.layout.within(row));
        if let Chunk::Mapped { .. } = &self.chunks[index] {
            let (_, there) = self.chunk(index);
            let rows = if index == 0 { there.len() / self.dimension } else { self.layout.block_rows() };
            let mut resident = Block::zeroed(rows * self.dimension);
            resident.as_mut_slice()[..there.len()].copy_from_slice(there);
            self.chunks[index] = Chunk::Resident(Arc::new(resident));
        }
        let Chunk::Resident(block) = &mut self.chunks[index] else { unreachable!("it was made so above") };
        &mut Arc::make_mut(block).as_mut_slice()[within * self.dimension..][..self.dimension]
    }
}
