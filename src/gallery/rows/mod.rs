//! The rows of a space, one a template, always without holes: codes that are scanned, originals that decide, and whose
//! they are.
//!
//! Memory is shared with readers block by block: a snapshot costs a reference a block, and a writer copies the one
//! block that it changes while a snapshot holds it. Whatever leaves is overwritten with zeros: a removed row at once,
//! a block when its last holder lets go.

pub(crate) mod block;
pub(crate) mod codes;
pub(crate) mod kernel;
pub(crate) mod measure;
pub(crate) mod originals;
pub(crate) mod weights;

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    Bytes,
    roster::Slot,
    rows::{codes::Codes, kernel::Packing, measure::Measure, originals::Originals},
    snapshot::RowsFile,
};
use domain::{EmbeddingSpace, TemplateId};

/// Whose a row is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Member {
    pub(crate) owner: Slot,
    pub(crate) template: TemplateId,
    /// How fit the sample was, 0 to 1; NaN where nothing is known.
    pub(crate) quality: f32,
}

/// Rows with their owners and templates. A clone is a snapshot that later changes do not reach.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    measure: Measure,
    /// None where rows are compared part by part: a part that is out of sight counts for nothing, and no bound on the
    /// whole says what that does.
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

    /// The rows of a file, whose numbers stay there. Rows without a member were erased, and are left out.
    pub(crate) fn mapped(
        of: EmbeddingSpace,
        packing: Packing,
        file: &Arc<RowsFile>,
        members: &[Option<Member>],
    ) -> Self {
        let mut rows = Self::new(of.dimension, Measure::of_parts(of.parts), packing);
        let dimension = of.dimension as usize;
        rows.originals = Originals::mapped(dimension, file);
        rows.codes = rows.codes.map(|_| Codes::of(dimension, packing, members.len(), |rows| file.values(rows)));
        let nobody = Member { owner: Slot(u32::MAX), template: TemplateId(Uuid::nil()), quality: f32::NAN };
        for member in members {
            rows.join(member.unwrap_or(nobody));
        }
        for (row, _) in members.iter().enumerate().rev().filter(|(_, member)| member.is_none()) {
            rows.remove(row);
        }
        rows
    }

    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }

    /// How the rows are compared.
    pub(crate) fn measure(&self) -> Measure {
        self.measure
    }

    pub(crate) fn codes(&self) -> Option<&Codes> {
        self.codes.as_ref()
    }

    /// How many bytes the rows take, part by part.
    pub(crate) fn bytes(&self) -> Bytes {
        let (originals, mapped) = self.originals.bytes();
        Bytes {
            codes: self.codes.as_ref().map_or(0, Codes::bytes) as u64,
            originals: originals as u64,
            mapped: mapped as u64,
            rows: (self.len() * (size_of::<Slot>() + size_of::<TemplateId>() + size_of::<f32>())) as u64,
            ..Bytes::default()
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

    /// 0 to 1; NaN where nothing is known.
    pub(crate) fn quality(&self, row: usize) -> f32 {
        self.qualities[row]
    }

    pub(crate) fn templates(&self) -> &[TemplateId] {
        &self.templates
    }

    pub(crate) fn member(&self, row: usize) -> Member {
        Member { owner: self.owners[row], template: self.templates[row], quality: self.qualities[row] }
    }

    /// Each block's first row and its numbers, row after row.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (usize, &[f32])> {
        (0..self.originals.pieces()).map(|index| self.originals.piece(index))
    }

    /// Adds a row at the end and answers its number.
    pub(crate) fn push(&mut self, member: Member, values: &[f32]) -> usize {
        let row = self.len();
        if let Some(codes) = &mut self.codes {
            codes.push(values);
        }
        self.originals.push(values);
        self.join(member);
        row
    }

    fn join(&mut self, member: Member) {
        self.owners.push(member.owner);
        self.templates.push(member.template);
        self.qualities.push(member.quality);
    }

    /// Removes a row and overwrites it. The last row takes its place; answers whose that was, unless it was the
    /// removed one itself.
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

    /// Maps from the file what `written` was written to it from, where that has not changed since.
    pub(crate) fn adopt(&mut self, written: &Self, file: &Arc<RowsFile>) {
        self.originals.adopt(&written.originals, file);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testbed::member;

    fn template(number: u128) -> TemplateId {
        TemplateId(Uuid::from_u128(number))
    }

    /// More rows of 4096 numbers than one block of 32 holds.
    #[test]
    fn rows_keep_their_numbers_over_blocks() {
        let mut rows = Rows::new(4096, Measure::Whole, Packing::Bytes);
        for number in 0..100_u16 {
            assert_eq!(rows.push(member(1, number.into()), &vec![f32::from(number); 4096]), usize::from(number));
        }
        assert!((0..100_u16).all(|n| rows.values(n.into()) == vec![f32::from(n); 4096]));
        let seen: Vec<usize> = rows.blocks().map(|(first, values)| first * 4096 + values.len()).collect();
        assert_eq!(seen, [32 * 4096, 64 * 4096, 96 * 4096, 100 * 4096]);
    }

    #[test]
    fn a_removed_row_gives_its_place_away() {
        let mut rows = Rows::new(16, Measure::Whole, Packing::Bytes);
        rows.push(member(1, 1), &[1.0; 16]);
        rows.push(member(2, 2), &[2.0; 16]);
        assert_eq!(rows.remove(0), Some(template(2)));
        assert_eq!(rows.remove(0), None);
        rows.push(member(3, 3), &[3.0; 16]);
        assert_eq!((rows.len(), rows.values(0)), (1, &[3.0; 16][..]));
    }

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let mut rows = Rows::new(4, Measure::Whole, Packing::Bytes);
        rows.push(member(1, 1), &[1.0; 4]);
        let snapshot = rows.clone();
        rows.remove(0);
        rows.push(member(2, 2), &[2.0; 4]);
        assert_eq!((snapshot.values(0), snapshot.template(0)), (&[1.0; 4][..], template(1)));
        assert_eq!((rows.values(0), rows.template(0)), (&[2.0; 4][..], template(2)));
    }

    proptest! {
        #[test]
        fn removal_moves_the_last_row_and_loses_none(removals in prop::collection::vec(any::<prop::sample::Index>(), 0..90)) {
            let mut rows = Rows::new(5000, Measure::Whole, Packing::Bytes);
            let mut expected: Vec<u16> = (0..90).collect();
            for number in &expected {
                rows.push(member((*number).into(), (*number).into()), &vec![f32::from(*number); 5000]);
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
