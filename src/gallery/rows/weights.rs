//! What each row of a space counts, for poolings in which the templates of one identity weigh each other.
//!
//! Made when a search first asks for it, and kept up with every template that comes or goes from then on: a restart with a
//! million templates does not wait for what no policy may want. The first search does; those beside it wait with it.

use std::sync::OnceLock;

use crate::rows::{Rows, measure::Measure};
use domain::Pooling;

/// A number for each row, in the rows' order.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    prototype: OnceLock<Vec<f32>>,
    centralised: OnceLock<Vec<f32>>,
}

/// How the templates of one identity speak together in a space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice<'s> {
    pub(crate) pooling: Pooling,
    /// Of each row; empty where all count the same.
    shares: &'s [f32],
}

impl<'s> Voice<'s> {
    pub(crate) fn new(pooling: Pooling, shares: &'s [f32]) -> Self {
        Self { pooling, shares }
    }

    /// What a row says, when it is so similar.
    pub(crate) fn said(self, rows: &Rows, row: usize, similarity: f32) -> ranking::Said {
        let share = self.shares.get(row).copied().unwrap_or(1.0);
        ranking::Said { similarity, quality: rows.quality(row), share }
    }
}

/// What stands in for a pooling in a space of several parts. There similarity is no cosine of whole rows, so that sums of rows
/// say nothing of it: the mean of the similarities, by quality, is what is left.
pub(crate) fn in_space(measure: Measure, pooling: Pooling) -> Pooling {
    match measure {
        Measure::Parts(_) if ranking::counts_by_share(pooling) => Pooling::ByQuality,
        Measure::Whole | Measure::Parts(_) => pooling,
    }
}

/// The shares of some rows of one identity, each with the row's number. Worked out in the order of template ids and not of
/// rows, which depends on what was forgotten before: they are to be the same anywhere.
pub(crate) fn shares_of(rows: &Rows, pooling: Pooling, its_rows: &[usize]) -> Vec<(usize, f32)> {
    let mut its_rows = its_rows.to_vec();
    its_rows.sort_unstable_by_key(|row| rows.template(*row));
    let values: Vec<&[f32]> = its_rows.iter().map(|row| rows.values(*row)).collect();
    let qualities: Vec<f32> = its_rows.iter().map(|row| rows.quality(*row)).collect();
    let shares = ranking::shares(pooling, &values, &qualities);
    its_rows.into_iter().zip(shares).collect()
}

/// The shares of all rows; `identities` are the rows of each.
pub(crate) fn shares_of_all(rows: &Rows, pooling: Pooling, identities: impl Iterator<Item = Vec<usize>>) -> Vec<f32> {
    if !ranking::counts_by_share(pooling) {
        return Vec::new();
    }
    let mut all = vec![1.0; rows.len()];
    for (row, share) in identities.flat_map(|its_rows| shares_of(rows, pooling, &its_rows)) {
        all[row] = share;
    }
    all
}

impl Shares {
    /// Those that the pooling goes by; makes them where they are not there. `identities` are the rows of each.
    pub(crate) fn of(&self, rows: &Rows, pooling: Pooling, identities: impl Iterator<Item = Vec<usize>>) -> &[f32] {
        let kept = match pooling {
            Pooling::Prototype => &self.prototype,
            Pooling::Centralised => &self.centralised,
            Pooling::Best | Pooling::MeanOfBest(_) | Pooling::ByQuality => return &[],
        };
        kept.get_or_init(|| shares_of_all(rows, pooling, identities))
    }

    /// Whether there is anything to keep up.
    pub(crate) fn are_kept(&self) -> bool {
        self.prototype.get().is_some() || self.centralised.get().is_some()
    }

    /// Follows rows that were added at the end or removed, see [`Shares::remove`]: `its_rows` are those that their identity has
    /// now.
    pub(crate) fn follow(&mut self, rows: &Rows, its_rows: &[usize]) {
        for (pooling, kept) in
            [(Pooling::Prototype, &mut self.prototype), (Pooling::Centralised, &mut self.centralised)]
        {
            if let Some(kept) = kept.get_mut() {
                kept.resize(rows.len(), 1.0);
                for (row, share) in shares_of(rows, pooling, its_rows) {
                    kept[row] = share;
                }
            }
        }
    }

    /// Follows a row whose place the last one takes.
    pub(crate) fn remove(&mut self, row: usize) {
        for kept in [&mut self.prototype, &mut self.centralised] {
            if let Some(kept) = kept.get_mut() {
                kept.swap_remove(row);
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let kept = [&self.prototype, &self.centralised];
        kept.iter().filter_map(|kept| kept.get()).map(|kept| kept.capacity() * size_of::<f32>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        roster::Slot,
        rows::{Member, kernel::Packing},
        space::Space,
        testbed::{member, space, unit_rows},
    };
    use domain::EmbeddingSpace;

    /// What the shares would be, were they made now.
    fn made_anew(space: &Space, pooling: Pooling) -> Vec<f32> {
        let rows = space.rows();
        let mut owned: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
        for row in 0..rows.len() {
            owned.entry(rows.owner(row)).or_default().push(row);
        }
        shares_of_all(rows, pooling, owned.into_values())
    }

    proptest! {
        /// Whatever comes and goes: what is kept is what it would be, were it worked out from the rows that are left.
        #[test]
        fn what_is_kept_is_what_is_there(changes in prop::collection::vec((0_u32..6, any::<prop::sample::Index>(), 0..10), 1..80)) {
            let values = unit_rows(changes.len(), 8, 3);
            let mut kept = Space::new(space(8), Packing::Bytes);
            for ((number, (owner, index, way)), values) in (0..).zip(&changes).zip(&values) {
                match way {
                    0 => drop(kept.forget_owner(Slot(*owner))),
                    1..3 if kept.rows().len() > 0 => {
                        kept.forget_template(kept.rows().template(index.index(kept.rows().len())));
                    }
                    _ => kept.admit(Member { quality: 0.1 * *way as f32, ..member(*owner, number * 7919 % 10_007) }, values),
                }
                for pooling in [Pooling::Prototype, Pooling::Centralised] {
                    prop_assert_eq!(kept.voice(pooling).shares, made_anew(&kept, pooling));
                }
            }
        }
    }

    #[test]
    fn a_space_of_parts_is_pooled_by_quality() {
        let parts = Space::new(EmbeddingSpace { parts: 2, ..space(8) }, Packing::Bytes);
        for pooling in [Pooling::Prototype, Pooling::Centralised] {
            assert_eq!(parts.voice(pooling).pooling, Pooling::ByQuality);
            assert_eq!(Space::new(space(8), Packing::Bytes).voice(pooling).pooling, pooling);
        }
        assert_eq!(parts.voice(Pooling::Best).pooling, Pooling::Best);
    }
}
