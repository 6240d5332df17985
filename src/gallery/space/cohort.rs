//! A sample of templates that estimates the mated and non-mated similarity distributions of a space.
//!
//! The members are the up to [`COHORT_MAX`] templates with the lowest hash of their id. Every replica therefore has the
//! same members, whatever the insertion order, and they are as good as a random draw. The statistics of each member are
//! updated with every added or removed template, so a decision reads them at once. An enrollment costs one comparison
//! per member, independent of the gallery's size.

use std::collections::BTreeMap;

use crate::{roster::Slot, rows::Rows};
use domain::{COHORT_MAX, SAME_IMAGE, Spread, TemplateId};

/// Sort key of the members. In a full cohort the member with the highest hash is replaced.
type Key = (u64, TemplateId);

#[derive(Debug, Default)]
pub(crate) struct Cohort {
    members: BTreeMap<Key, CohortMember>,
}

#[derive(Debug, Clone)]
struct CohortMember {
    owner: Slot,
    row: u32,
    statistics: CohortStatistics,
}

/// Cosines of one template to the cohort members.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CohortStatistics {
    /// To members of other identities.
    pub(crate) others: CosineSums,
    /// Highest cosine to a member of another identity.
    pub(crate) nearest: Option<f32>,
    /// To other members of its own identity.
    pub(crate) own: CosineSums,
}

/// Running sums of cosines, from which mean and standard deviation follow.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CosineSums {
    count: f64,
    sum: f64,
    squares: f64,
}

impl CosineSums {
    pub(crate) fn add(&mut self, cosine: f32) {
        self.add_weighted(cosine, 1.0);
    }

    fn add_weighted(&mut self, cosine: f32, weight: f64) {
        let cosine = f64::from(cosine);
        self.count += weight;
        self.sum += weight * cosine;
        self.squares += weight * cosine * cosine;
    }

    pub(crate) fn subtract(&mut self, cosine: f32) {
        self.add_weighted(cosine, -1.0);
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum: self.sum + other.sum, squares: self.squares + other.squares }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self { count: self.count - other.count, sum: self.sum - other.sum, squares: self.squares - other.squares }
    }

    /// Mean and population standard deviation; `None` without any cosine.
    #[expect(clippy::cast_possible_truncation, reason = "cosines are f32")]
    pub(crate) fn spread(self) -> Option<Spread> {
        if self.count < 0.5 {
            return None;
        }
        let mean = self.sum / self.count;
        let deviation = (self.squares / self.count - mean * mean).max(0.0).sqrt();
        Some(Spread { mean: mean as f32, deviation: deviation as f32 })
    }
}

impl CohortStatistics {
    /// Adds a cosine, unless both embeddings are of one image: such a pair says nothing about persons.
    pub(crate) fn add(&mut self, cosine: f32, is_own: bool) {
        if cosine >= SAME_IMAGE {
            return;
        }
        if is_own {
            self.own.add(cosine);
        } else {
            self.others.add(cosine);
            self.nearest = Some(self.nearest.map_or(cosine, |nearest| nearest.max(cosine)));
        }
    }
}

impl Cohort {
    /// The cohort of existing rows.
    pub(crate) fn of(rows: &Rows) -> Self {
        let mut keys: Vec<(Key, usize)> = (0..rows.len()).map(|row| (key(rows.template(row)), row)).collect();
        if keys.len() > COHORT_MAX {
            keys.select_nth_unstable(COHORT_MAX);
            keys.truncate(COHORT_MAX);
        }
        keys.sort_unstable();
        let mut cohort = Self::default();
        for (key, row) in keys {
            cohort.join(rows, key, row);
        }
        cohort
    }

    /// Updates the cohort after a row was added.
    pub(crate) fn admit(&mut self, rows: &Rows, row: usize) {
        let key = key(rows.template(row));
        if self.members.len() == COHORT_MAX {
            let last = *self.members.last_key_value().expect("a full cohort has members").0;
            if key > last {
                return;
            }
            self.leave(rows, last);
        }
        self.join(rows, key, row);
    }

    /// Updates the cohort before a row is removed; the row must still exist. The last row will take its index.
    pub(crate) fn forget(&mut self, rows: &Rows, row: usize) {
        let gone = key(rows.template(row));
        if self.members.contains_key(&gone) {
            self.leave(rows, gone);
            if rows.len() > self.members.len() + 1 {
                let waiting = (0..rows.len()).map(|row| (key(rows.template(row)), row));
                let next = waiting.filter(|(key, _)| *key != gone && !self.members.contains_key(key)).min();
                if let Some((key, row)) = next {
                    self.join(rows, key, row);
                }
            }
        }
        let last = rows.len() - 1;
        if let Some(moved) = self.members.get_mut(&key(rows.template(last))) {
            moved.row = u32::try_from(row).expect("memory ends long before 2^32 rows");
        }
    }

    /// Updates the cohort after the owner of a row changed.
    pub(crate) fn change_owner(&mut self, rows: &Rows, row: usize) {
        let key = key(rows.template(row));
        if self.members.contains_key(&key) {
            self.leave(rows, key);
            self.join(rows, key, row);
        }
    }

    /// Cosines of a row to the members: stored for a member, computed for any other row.
    pub(crate) fn statistics(&self, rows: &Rows, row: usize) -> CohortStatistics {
        if let Some(member) = self.members.get(&key(rows.template(row))) {
            return member.statistics;
        }
        let mut statistics = CohortStatistics::default();
        let owner = rows.owner(row);
        for member in self.members.values() {
            let cosine = rows.measure().of(rows.values(row), rows.values(member.row as usize));
            statistics.add(cosine, member.owner == owner);
        }
        statistics
    }

    /// Distribution of the cosines among all members: non-mated pairs, then mated pairs.
    pub(crate) fn spreads(&self) -> (Option<Spread>, Option<Spread>) {
        let sum = |of: fn(&CohortStatistics) -> CosineSums| {
            self.members
                .values()
                .map(|member| of(&member.statistics))
                .fold(CosineSums::default(), CosineSums::and)
                .spread()
        };
        (sum(|statistics| statistics.others), sum(|statistics| statistics.own))
    }

    /// Median, 90 % quantile and maximum of the members' highest non-mated cosines.
    pub(crate) fn nearest_impostors(&self) -> Option<[f32; 3]> {
        let mut nearest: Vec<f32> = self.members.values().filter_map(|member| member.statistics.nearest).collect();
        quantiles_of_nearest(&mut nearest)
    }

    /// The rows of the members, ascending.
    pub(crate) fn rows(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = self.members.values().map(|member| member.row as usize).collect();
        rows.sort_unstable();
        rows
    }

    /// Distribution of the probe's cosines to the members.
    pub(crate) fn spread_of(&self, rows: &Rows, probe: &[f32]) -> Option<Spread> {
        let mut sums = CosineSums::default();
        for member in self.members.values() {
            sums.add(rows.measure().of(probe, rows.values(member.row as usize)));
        }
        sums.spread()
    }

    fn join(&mut self, rows: &Rows, key: Key, row: usize) {
        let owner = rows.owner(row);
        let mut statistics = CohortStatistics::default();
        for member in self.members.values_mut() {
            let cosine = rows.measure().of(rows.values(row), rows.values(member.row as usize));
            statistics.add(cosine, member.owner == owner);
            member.statistics.add(cosine, member.owner == owner);
        }
        let row = u32::try_from(row).expect("memory ends long before 2^32 rows");
        self.members.insert(key, CohortMember { owner, row, statistics });
    }

    fn leave(&mut self, rows: &Rows, key: Key) {
        let gone = self.members.remove(&key).expect("the caller checked that it is a member");
        let values = rows.values(gone.row as usize);
        let mut stale = Vec::new();
        for (key, member) in &mut self.members {
            let cosine = rows.measure().of(values, rows.values(member.row as usize));
            if cosine >= SAME_IMAGE {
                continue;
            }
            let CohortStatistics { others, nearest, own } = &mut member.statistics;
            if member.owner == gone.owner {
                own.subtract(cosine);
            } else {
                others.subtract(cosine);
                if nearest.is_some_and(|nearest| nearest <= cosine) {
                    stale.push(*key);
                }
            }
        }
        for key in stale {
            let nearest = self.nearest_of(rows, &self.members[&key]);
            self.members.get_mut(&key).expect("it was found above").statistics.nearest = nearest;
        }
    }

    fn nearest_of(&self, rows: &Rows, one: &CohortMember) -> Option<f32> {
        let others = self.members.values().filter(|member| member.owner != one.owner);
        let cosine =
            |other: &CohortMember| rows.measure().of(rows.values(one.row as usize), rows.values(other.row as usize));
        others.map(cosine).filter(|cosine| *cosine < SAME_IMAGE).max_by(f32::total_cmp)
    }
}

/// Median, 90 % quantile and maximum. Sorts its input.
pub(crate) fn quantiles_of_nearest(nearest: &mut [f32]) -> Option<[f32; 3]> {
    nearest.sort_unstable_by(f32::total_cmp);
    let last = nearest.len().checked_sub(1)?;
    let at = |tenths: usize| nearest[last * tenths / 10];
    Some([at(5), at(9), at(10)])
}

/// Hashes all bits of the id, because ids of one batch share their first half (finalizer of SplitMix64; Steele, Lea and
/// Flood 2014).
fn key(template: TemplateId) -> Key {
    let (high, low) = template.0.as_u64_pair();
    let mut hash = high.rotate_left(32) ^ low;
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31), template)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        rows::{kernel::Packing, measure::Measure},
        testbed::{row_record, unit_rows},
    };

    /// The statistics of each member in order, rounded to the digits that do not depend on the order of additions.
    fn described(cohort: &Cohort) -> Vec<String> {
        let round = |spread: Option<Spread>| spread.map(|s| format!("{:.4} {:.3}", s.mean, s.deviation));
        let one = |(key, member): (&Key, &CohortMember)| {
            let CohortStatistics { others, nearest, own } = member.statistics;
            format!("{:?} {} {:?} {nearest:?} {:?}", key.1, member.row, round(others.spread()), round(own.spread()))
        };
        cohort.members.iter().map(one).collect()
    }

    proptest! {
        /// After any additions, removals and changes of owners, the updated statistics equal those computed anew.
        #[test]
        fn updated_statistics_equal_those_computed_anew(changes in prop::collection::vec((0_u32..12, any::<prop::sample::Index>(), 0..10), 1..120)) {
            let values = unit_rows(changes.len(), 8, 3);
            let mut rows = Rows::new(8, Measure::Whole, Packing::Bytes);
            let mut cohort = Cohort::default();
            for ((number, (owner, index, removes)), values) in (0..).zip(&changes).zip(&values) {
                if *removes >= 8 && rows.len() > 0 {
                    let row = index.index(rows.len());
                    rows.set_owner(row, Slot(*owner));
                    cohort.change_owner(&rows, row);
                } else if *removes < 3 && rows.len() > 0 {
                    let row = index.index(rows.len());
                    cohort.forget(&rows, row);
                    rows.remove(row);
                } else {
                    let row = rows.push(row_record(*owner, number), values);
                    cohort.admit(&rows, row);
                }
                prop_assert_eq!(described(&cohort), described(&Cohort::of(&rows)));
            }
        }
    }

    #[test]
    fn the_cohort_of_a_large_gallery_does_not_depend_on_the_order() {
        let values = unit_rows(COHORT_MAX + 400, 4, 5);
        let mut rows = Rows::new(4, Measure::Whole, Packing::Bytes);
        let mut updated = Cohort::default();
        for (number, values) in (0..).zip(&values) {
            let row = rows.push(row_record(number / 2, number), values);
            updated.admit(&rows, row);
        }
        assert_eq!(updated.members.len(), COHORT_MAX);
        assert_eq!(described(&updated), described(&Cohort::of(&rows)));
        for row in [7, 900, 3, 3, 3] {
            updated.forget(&rows, row);
            rows.remove(row);
        }
        assert_eq!(updated.members.len(), COHORT_MAX, "a removed member is replaced");
        assert_eq!(described(&updated), described(&Cohort::of(&rows)));
        // A row that is no member gets the statistics that a member would have.
        let row = (0..rows.len()).find(|row| !updated.members.contains_key(&key(rows.template(*row)))).expect("many");
        let statistics = updated.statistics(&rows, row);
        let expected = updated
            .members
            .values()
            .filter(|m| m.owner != rows.owner(row))
            .map(|m| rows.measure().of(rows.values(row), rows.values(m.row as usize)));
        assert_eq!(statistics.nearest, expected.max_by(f32::total_cmp));
    }
}
