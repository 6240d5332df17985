//! The rows of a space, one per template, without holes: codes to scan, original values to compare exactly, and the
//! owner, template id and quality of each row.
//!
//! Memory is shared block by block. A snapshot costs one reference per block; a writer copies a block only when a
//! snapshot still holds it. Removed data is overwritten with zeros: a removed row at once, a block when its last holder
//! drops it.

pub(crate) mod block;
pub(crate) mod codes;
pub(crate) mod kernel;
pub(crate) mod mapped;
pub(crate) mod measure;
pub(crate) mod originals;
pub(crate) mod weights;

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    MemoryBytes,
    roster::Slot,
    rows::{codes::Codes, kernel::Packing, mapped::MappedRows, measure::Measure, originals::Originals},
};
use domain::{EmbeddingSpace, TemplateId};

/// Owner, template and quality of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RowRecord {
    pub(crate) owner: Slot,
    pub(crate) template: TemplateId,
    /// Sample quality, 0 to 1; NaN when unknown.
    pub(crate) quality: f32,
}

/// Rows with their records. A clone is a snapshot that later changes do not affect.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    measure: Measure,
    /// `None` when rows are compared part by part: absent parts do not count, so no bound on whole rows applies.
    codes: Option<Codes>,
    originals: Originals,
    owners: Vec<Slot>,
    templates: Vec<TemplateId>,
    qualities: Vec<f32>,
}

impl Rows {
    pub(crate) fn new(dimension: u32, measure: Measure, packing: Packing) -> Self {
        let dimension = dimension as usize;
        Self {
            measure,
            codes: (measure == Measure::Whole).then(|| Codes::packed(dimension, packing)),
            originals: Originals::new(dimension),
            owners: Vec::new(),
            templates: Vec::new(),
            qualities: Vec::new(),
        }
    }

    /// Rows whose values stay in the mapped file. Rows without a record were erased and are left out.
    pub(crate) fn mapped(
        of: EmbeddingSpace,
        packing: Packing,
        file: &Arc<MappedRows>,
        records: &[Option<RowRecord>],
    ) -> Self {
        let mut rows = Self::new(of.dimension, Measure::of_parts(of.parts), packing);
        let dimension = of.dimension as usize;
        rows.originals = Originals::mapped(dimension, file);
        rows.codes = rows.codes.map(|_| Codes::of(dimension, packing, records.len(), |rows| file.values(rows)));
        let placeholder = RowRecord { owner: Slot(u32::MAX), template: TemplateId(Uuid::nil()), quality: f32::NAN };
        for record in records {
            rows.join(record.unwrap_or(placeholder));
        }
        for (row, _) in records.iter().enumerate().rev().filter(|(_, record)| record.is_none()) {
            rows.remove(row);
        }
        rows
    }

    /// Rows whose values are copied from the file to memory. Rows without a record were erased and are left out.
    pub(crate) fn resident(
        of: EmbeddingSpace,
        packing: Packing,
        file: &Arc<MappedRows>,
        records: &[Option<RowRecord>],
    ) -> Self {
        let mut rows = Self::new(of.dimension, Measure::of_parts(of.parts), packing);
        for (row, record) in records.iter().enumerate() {
            if let Some(record) = record {
                rows.push(*record, file.values(row..row + 1));
            }
        }
        rows
    }

    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }

    /// Comparison of the rows.
    pub(crate) fn measure(&self) -> Measure {
        self.measure
    }

    pub(crate) fn codes(&self) -> Option<&Codes> {
        self.codes.as_ref()
    }

    /// Memory of the rows by part.
    pub(crate) fn bytes(&self) -> MemoryBytes {
        let (originals, mapped) = self.originals.bytes();
        MemoryBytes {
            codes: self.codes.as_ref().map_or(0, Codes::bytes) as u64,
            originals: originals as u64,
            mapped: mapped as u64,
            rows: (self.len() * (size_of::<Slot>() + size_of::<TemplateId>() + size_of::<f32>())) as u64,
            ..MemoryBytes::default()
        }
    }

    pub(crate) fn values(&self, row: usize) -> &[f32] {
        self.originals.row(row)
    }

    pub(crate) fn owner(&self, row: usize) -> Slot {
        self.owners[row]
    }

    pub(crate) fn template(&self, row: usize) -> TemplateId {
        self.templates[row]
    }

    /// Makes another identity the owner of a row.
    pub(crate) fn set_owner(&mut self, row: usize, owner: Slot) {
        self.owners[row] = owner;
    }

    /// 0 to 1; NaN when unknown.
    pub(crate) fn quality(&self, row: usize) -> f32 {
        self.qualities[row]
    }

    pub(crate) fn templates(&self) -> &[TemplateId] {
        &self.templates
    }

    pub(crate) fn record(&self, row: usize) -> RowRecord {
        RowRecord { owner: self.owners[row], template: self.templates[row], quality: self.qualities[row] }
    }

    /// Index of each block's first row, and the block's values, row after row.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, &[f32])> {
        (0..self.originals.chunks()).map(|index| self.originals.chunk(index))
    }

    /// Appends a row and returns its index.
    pub(crate) fn push(&mut self, record: RowRecord, values: &[f32]) -> usize {
        let row = self.len();
        if let Some(codes) = &mut self.codes {
            codes.push(values);
        }
        self.originals.push(values);
        self.join(record);
        row
    }

    fn join(&mut self, record: RowRecord) {
        self.owners.push(record.owner);
        self.templates.push(record.template);
        self.qualities.push(record.quality);
    }

    /// Removes a row and overwrites it with zeros. The last row takes its index: returns that row's template, or `None`
    /// when the removed row was the last.
    pub(crate) fn remove(&mut self, row: usize) -> Option<TemplateId> {
        if let Some(codes) = &mut self.codes {
            codes.swap_remove(row);
        }
        self.originals.swap_remove(row);
        self.owners.swap_remove(row);
        self.templates.swap_remove(row);
        self.qualities.swap_remove(row);
        self.templates.get(row).copied()
    }

    /// Replaces values in memory by the mapped file, for rows that did not change since `written` was written to it.
    pub(crate) fn adopt(&mut self, written: &Self, file: &Arc<MappedRows>) {
        self.originals.adopt(&written.originals, file);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testbed::row_record;

    fn template(number: u128) -> TemplateId {
        TemplateId(Uuid::from_u128(number))
    }

    /// More rows of 4096 values than one block holds (32).
    #[test]
    fn rows_keep_their_values_across_blocks() {
        let mut rows = Rows::new(4096, Measure::Whole, Packing::Bytes);
        for number in 0..100_u16 {
            assert_eq!(rows.push(row_record(1, number.into()), &vec![f32::from(number); 4096]), usize::from(number));
        }
        assert!((0..100_u16).all(|n| rows.values(n.into()) == vec![f32::from(n); 4096]));
        let seen: Vec<usize> = rows.blocks().map(|(first, values)| first * 4096 + values.len()).collect();
        assert_eq!(seen, [32 * 4096, 64 * 4096, 96 * 4096, 100 * 4096]);
    }

    #[test]
    fn the_last_row_takes_the_index_of_a_removed_row() {
        let mut rows = Rows::new(16, Measure::Whole, Packing::Bytes);
        rows.push(row_record(1, 1), &[1.0; 16]);
        rows.push(row_record(2, 2), &[2.0; 16]);
        assert_eq!(rows.remove(0), Some(template(2)));
        assert_eq!(rows.remove(0), None);
        rows.push(row_record(3, 3), &[3.0; 16]);
        assert_eq!((rows.len(), rows.values(0)), (1, &[3.0; 16][..]));
    }

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let mut rows = Rows::new(4, Measure::Whole, Packing::Bytes);
        rows.push(row_record(1, 1), &[1.0; 4]);
        let snapshot = rows.clone();
        rows.remove(0);
        rows.push(row_record(2, 2), &[2.0; 4]);
        assert_eq!((snapshot.values(0), snapshot.template(0)), (&[1.0; 4][..], template(1)));
        assert_eq!((rows.values(0), rows.template(0)), (&[2.0; 4][..], template(2)));
    }

    proptest! {
        #[test]
        fn removal_moves_the_last_row_and_loses_none(removals in prop::collection::vec(any::<prop::sample::Index>(), 0..90)) {
            let mut rows = Rows::new(5000, Measure::Whole, Packing::Bytes);
            let mut expected: Vec<u16> = (0..90).collect();
            for number in &expected {
                rows.push(row_record((*number).into(), (*number).into()), &vec![f32::from(*number); 5000]);
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
