//! The numbers of a space's rows as they were enrolled: what the last word on a similarity is computed from.
//!
//! Codes turn nearly every row away, so few of these are read, and most need not be in memory: once a snapshot holds
//! them they are mapped from its file, and the system keeps in memory what is used. What was admitted since stays in
//! memory until the next snapshot. A piece that changes comes back to memory as a whole.

use std::{ops::Range, sync::Arc};

use crate::{
    rows::block::{Block, Layout, wipe},
    snapshot::RowsFile,
};

/// Rows of f32, always without holes. A clone is a snapshot that later changes do not reach.
#[derive(Debug, Clone)]
pub(crate) struct Originals {
    dimension: usize,
    layout: Layout,
    pieces: Vec<Piece>,
    len: usize,
}

/// As many rows as a block of the layout holds.
#[derive(Debug, Clone)]
enum Piece {
    Resident(Arc<Block<f32>>),
    /// The rows of the file from `first` on.
    Mapped {
        file: Arc<RowsFile>,
        first: usize,
    },
}

impl Piece {
    /// Whether both are the same memory, so that one was not changed since the other was cloned from it.
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
        Self { dimension, layout: Layout::new(dimension), pieces: Vec::new(), len: 0 }
    }

    /// All rows of a file.
    pub(crate) fn mapped(dimension: usize, file: &Arc<RowsFile>) -> Self {
        let mut originals = Self::new(dimension);
        originals.len = file.len();
        let firsts = (0..originals.layout.blocks(file.len())).map(|index| originals.layout.first_of(index));
        originals.pieces = firsts.map(|first| Piece::Mapped { file: Arc::clone(file), first }).collect();
        originals
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        let within = self.layout.within(row);
        self.values(self.layout.block_of(row), within..within + 1)
    }

    /// How many pieces there are.
    pub(crate) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The number of a piece's first row, and its numbers, row after row.
    pub(crate) fn piece(&self, index: usize) -> (usize, &[f32]) {
        let first = self.layout.first_of(index);
        (first, self.values(index, 0..(self.len - first).min(self.layout.block_rows())))
    }

    pub(crate) fn push(&mut self, values: &[f32]) {
        let row = self.len;
        let index = self.layout.block_of(row);
        let held = match self.pieces.get(index) {
            Some(Piece::Resident(block)) => block.len() / self.dimension,
            Some(Piece::Mapped { .. }) => self.layout.within(row),
            None => 0,
        };
        let rows = self.layout.rows_for(row, held);
        if index == self.pieces.len() {
            self.pieces.push(Piece::Resident(Arc::new(Block::zeroed(rows * self.dimension))));
        } else if rows > held {
            let mut grown = Block::zeroed(rows * self.dimension);
            let there = self.values(index, 0..self.layout.within(row));
            grown.as_mut_slice()[..there.len()].copy_from_slice(there);
            self.pieces[index] = Piece::Resident(Arc::new(grown));
        }
        self.len += 1;
        self.row_mut(row).copy_from_slice(values);
    }

    /// Removes a row and overwrites it; the last row takes its place.
    pub(crate) fn swap_remove(&mut self, row: usize) {
        let last = self.len - 1;
        let mut carried = self.row(last).to_vec();
        self.row_mut(row).copy_from_slice(&carried);
        wipe(&mut carried);
        wipe(self.row_mut(last));
        self.len = last;
        self.pieces.truncate(self.layout.blocks(self.len));
    }

    /// Lets go of the memory of what a file holds: of every piece that is as it was when `written` was cloned from
    /// here, and written to the file row by row.
    pub(crate) fn adopt(&mut self, written: &Self, file: &Arc<RowsFile>) {
        for (index, (piece, before)) in self.pieces.iter_mut().zip(&written.pieces).enumerate() {
            if piece.is(before) {
                *piece = Piece::Mapped { file: Arc::clone(file), first: self.layout.first_of(index) };
            }
        }
    }

    /// How many bytes are in memory, and how many are mapped from a file.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let mut bytes = (0, 0);
        for index in 0..self.pieces.len() {
            match &self.pieces[index] {
                Piece::Resident(block) => bytes.0 += block.len() * size_of::<f32>(),
                Piece::Mapped { .. } => bytes.1 += size_of_val(self.piece(index).1),
            }
        }
        bytes
    }

    fn values(&self, index: usize, rows: Range<usize>) -> &[f32] {
        match &self.pieces[index] {
            Piece::Resident(block) => &block.as_slice()[rows.start * self.dimension..rows.end * self.dimension],
            Piece::Mapped { file, first } => file.values(first + rows.start..first + rows.end),
        }
    }

    /// Brings the row's piece back to memory, if it is not there or is shared.
    fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let (index, within) = (self.layout.block_of(row), self.layout.within(row));
        if let Piece::Mapped { .. } = &self.pieces[index] {
            let (_, there) = self.piece(index);
            let rows = if index == 0 { there.len() / self.dimension } else { self.layout.block_rows() };
            let mut resident = Block::zeroed(rows * self.dimension);
            resident.as_mut_slice()[..there.len()].copy_from_slice(there);
            self.pieces[index] = Piece::Resident(Arc::new(resident));
        }
        let Piece::Resident(block) = &mut self.pieces[index] else { unreachable!("it was made so above") };
        &mut Arc::make_mut(block).as_mut_slice()[within * self.dimension..][..self.dimension]
    }
}
