//! Weight of each row in its identity's pooled similarity, for poolings in which templates weigh each other (prototype,
//! centralised).
//!
//! Weights are computed when the first search needs them, and updated with every change after that. A restart with a
//! million templates does not compute weights that no policy uses; the first search that needs them does, and
//! concurrent searches wait for it.

use std::sync::OnceLock;

use crate::rows::{Rows, measure::Measure};
use domain::Pooling;

/// One weight per row, in row order, for each pooling that uses weights.
#[derive(Debug, Default)]
pub(crate) struct TemplateWeights {
    prototype: OnceLock<Vec<f32>>,
    centralised: OnceLock<Vec<f32>>,
}

/// A pooling with the weights of a space's rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightedPooling<'s> {
    pub(crate) pooling: Pooling,
    /// Per row; empty when all rows have weight 1.
    weights: &'s [f32],
}

impl<'s> WeightedPooling<'s> {
    pub(crate) fn new(pooling: Pooling, weights: &'s [f32]) -> Self {
        Self { pooling, weights }
    }

    /// Input of pooling for a row with this similarity.
    pub(crate) fn template_similarity(self, rows: &Rows, row: usize, similarity: f32) -> ranking::TemplateSimilarity {
        let weight = self.weights.get(row).copied().unwrap_or(1.0);
        ranking::TemplateSimilarity { similarity, quality: rows.quality(row), weight }
    }
}

/// Replaces poolings that sum rows in a space of parts: similarity is no cosine of whole rows there. Uses the
/// quality-weighted mean instead.
pub(crate) fn pooling_in_space(measure: Measure, pooling: Pooling) -> Pooling {
    match measure {
        Measure::Parts(_) if ranking::uses_template_weights(pooling) => Pooling::ByQuality,
        Measure::Whole | Measure::Parts(_) => pooling,
    }
}

/// Weights of some rows of one identity, each with its row index. Computed in the order of template ids, because the
/// row order depends on earlier deletions and the result must be equal on every replica.
pub(crate) fn template_weights_of(rows: &Rows, pooling: Pooling, its_rows: &[usize]) -> Vec<(usize, f32)> {
    let mut its_rows = its_rows.to_vec();
    its_rows.sort_unstable_by_key(|row| rows.template(*row));
    let values: Vec<&[f32]> = its_rows.iter().map(|row| rows.values(*row)).collect();
    let qualities: Vec<f32> = its_rows.iter().map(|row| rows.quality(*row)).collect();
    let weights = ranking::template_weights(pooling, &values, &qualities);
    its_rows.into_iter().zip(weights).collect()
}

/// Weights of all rows; empty when the pooling uses none. `identities` yields the rows of each identity.
pub(crate) fn all_template_weights(
    rows: &Rows,
    pooling: Pooling,
    identities: impl Iterator<Item = Vec<usize>>,
) -> Vec<f32> {
    if !ranking::uses_template_weights(pooling) {
        return Vec::new();
    }
    let mut all = vec![1.0; rows.len()];
    for (row, weight) in identities.flat_map(|its_rows| template_weights_of(rows, pooling, &its_rows)) {
        all[row] = weight;
    }
    all
}

impl TemplateWeights {
    /// The weights that the pooling uses; computes them on first use. `identities` yields the rows of each identity.
    pub(crate) fn of(&self, rows: &Rows, pooling: Pooling, identities: impl Iterator<Item = Vec<usize>>) -> &[f32] {
        let stored = match pooling {
            Pooling::Prototype => &self.prototype,
            Pooling::Centralised => &self.centralised,
            Pooling::Best | Pooling::MeanOfBest(_) | Pooling::ByQuality => return &[],
        };
        stored.get_or_init(|| all_template_weights(rows, pooling, identities))
    }

    /// Whether weights exist that need updates.
    pub(crate) fn are_computed(&self) -> bool {
        self.prototype.get().is_some() || self.centralised.get().is_some()
    }

    /// Updates the weights of one identity after rows were appended or removed (see [`TemplateWeights::remove`]).
    /// `its_rows` are its present rows.
    pub(crate) fn update(&mut self, rows: &Rows, its_rows: &[usize]) {
        for (pooling, stored) in
            [(Pooling::Prototype, &mut self.prototype), (Pooling::Centralised, &mut self.centralised)]
        {
            if let Some(stored) = stored.get_mut() {
                stored.resize(rows.len(), 1.0);
                for (row, weight) in template_weights_of(rows, pooling, its_rows) {
                    stored[row] = weight;
                }
            }
        }
    }

    /// Removes a row; the last row takes its index.
    pub(crate) fn remove(&mut self, row: usize) {
        for stored in [&mut self.prototype, &mut self.centralised] {
            if let Some(stored) = stored.get_mut() {
                stored.swap_remove(row);
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let stored = [&self.prototype, &self.centralised];
        stored.iter().filter_map(|stored| stored.get()).map(|stored| stored.capacity() * size_of::<f32>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        roster::Slot,
        rows::{RowRecord, kernel::Packing},
        space::SpaceIndex,
        testbed::{row_record, space, unit_rows},
    };
    use domain::EmbeddingSpace;

    /// The weights, computed anew.
    fn computed_anew(space: &SpaceIndex, pooling: Pooling) -> Vec<f32> {
        let rows = space.rows();
        let mut owned: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
        for row in 0..rows.len() {
            owned.entry(rows.owner(row)).or_default().push(row);
        }
        all_template_weights(rows, pooling, owned.into_values())
    }

    proptest! {
        /// After any changes, the updated weights equal those computed anew.
        #[test]
        fn updated_weights_equal_those_computed_anew(changes in prop::collection::vec((0_u32..6, any::<prop::sample::Index>(), 0..10), 1..80)) {
            let values = unit_rows(changes.len(), 8, 3);
            let mut stored = SpaceIndex::new(space(8), Packing::Bytes);
            for ((number, (owner, index, way)), values) in (0..).zip(&changes).zip(&values) {
                match way {
                    0 => drop(stored.forget_owner(Slot(*owner))),
                    8.. if stored.rows().len() > 0 => {
                        stored.change_owner(stored.rows().template(index.index(stored.rows().len())), Slot(*owner));
                    }
                    1..3 if stored.rows().len() > 0 => {
                        stored.forget_template(stored.rows().template(index.index(stored.rows().len())));
                    }
                    _ => stored.admit(RowRecord { quality: 0.1 * *way as f32, ..row_record(*owner, number * 7919 % 10_007) }, values),
                }
                for pooling in [Pooling::Prototype, Pooling::Centralised] {
                    prop_assert_eq!(stored.weighted(pooling).weights, computed_anew(&stored, pooling));
                }
            }
        }
    }

    #[test]
    fn a_space_of_parts_is_pooled_by_quality() {
        let parts = SpaceIndex::new(EmbeddingSpace { parts: 2, ..space(8) }, Packing::Bytes);
        for pooling in [Pooling::Prototype, Pooling::Centralised] {
            assert_eq!(parts.weighted(pooling).pooling, Pooling::ByQuality);
            assert_eq!(SpaceIndex::new(space(8), Packing::Bytes).weighted(pooling).pooling, pooling);
        }
        assert_eq!(parts.weighted(Pooling::Best).pooling, Pooling::Best);
    }
}
