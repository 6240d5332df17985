//! Templates that stand for the whole gallery where it is asked how near strangers and acquaintances are to each other.
//!
//! Up to [`COHORT_MAX`] templates are its members, by a hash of their ids: the same on every replica whatever the order in
//! which they came, and as good as drawn by lot. What each member knows of the others is kept up with every template that
//! comes or goes, so a decision finds it ready; an enrollment costs a comparison with each member, whatever the size of the
//! gallery.

use std::collections::BTreeMap;

use crate::{roster::Slot, rows::Rows};
use domain::{COHORT_MAX, Spread, TemplateId};

/// The members' order, and who gives way when there are too many: whose hash is the highest.
type Key = (u64, TemplateId);

#[derive(Debug, Default)]
pub(crate) struct Cohort {
    members: BTreeMap<Key, Member>,
}

#[derive(Debug, Clone)]
struct Member {
    owner: Slot,
    row: u32,
    standing: Standing,
}

/// How one template stands to the members.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standing {
    /// To those of other identities.
    pub(crate) others: Sums,
    /// The nearest of those.
    pub(crate) nearest: Option<f32>,
    /// To the others of its own identity.
    pub(crate) own: Sums,
}

/// Enough of some cosines to tell their mean and deviation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Sums {
    pub(crate) fn add(&mut self, cosine: f32) {
        self.weigh(cosine, 1.0);
    }

    fn weigh(&mut self, cosine: f32, weight: f64) {
        let cosine = f64::from(cosine);
        self.count += weight;
        self.sum += weight * cosine;
        self.squares += weight * cosine * cosine;
    }

    fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum: self.sum + other.sum, squares: self.squares + other.squares }
    }

    /// `None` of nothing.
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

impl Standing {
    fn meet(&mut self, cosine: f32, is_own: bool) {
        if is_own {
            self.own.add(cosine);
        } else {
            self.others.add(cosine);
            self.nearest = Some(self.nearest.map_or(cosine, |nearest| nearest.max(cosine)));
        }
    }
}

impl Cohort {
    /// Of rows that are there already.
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

    /// Follows a row that was added.
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

    /// Follows a row that is about to be removed; it must still be there. The last row will take its place.
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

    /// How a row stands to the members: known already of a member, worked out for any other.
    pub(crate) fn standing(&self, rows: &Rows, row: usize) -> Standing {
        if let Some(member) = self.members.get(&key(rows.template(row))) {
            return member.standing;
        }
        let mut standing = Standing::default();
        let owner = rows.owner(row);
        for member in self.members.values() {
            let cosine = rows.measure().of(rows.values(row), rows.values(member.row as usize));
            standing.meet(cosine, member.owner == owner);
        }
        standing
    }

    /// Of all members' cosines to each other: strangers', and acquaintances'.
    pub(crate) fn spreads(&self) -> (Option<Spread>, Option<Spread>) {
        let sum = |of: fn(&Standing) -> Sums| {
            self.members.values().map(|member| of(&member.standing)).fold(Sums::default(), Sums::and).spread()
        };
        (sum(|standing| standing.others), sum(|standing| standing.own))
    }

    /// The median, the 90 % quantile and the highest of how near the members' nearest strangers are.
    pub(crate) fn nearest_impostors(&self) -> Option<[f32; 3]> {
        let mut nearest: Vec<f32> = self.members.values().filter_map(|member| member.standing.nearest).collect();
        nearest.sort_unstable_by(f32::total_cmp);
        let last = nearest.len().checked_sub(1)?;
        let at = |tenths: usize| nearest[last * tenths / 10];
        Some([at(5), at(9), at(10)])
    }

    /// Of a probe's cosines to the members.
    pub(crate) fn spread_of(&self, rows: &Rows, probe: &[f32]) -> Option<Spread> {
        let mut sums = Sums::default();
        for member in self.members.values() {
            sums.add(rows.measure().of(probe, rows.values(member.row as usize)));
        }
        sums.spread()
    }

    fn join(&mut self, rows: &Rows, key: Key, row: usize) {
        let owner = rows.owner(row);
        let mut standing = Standing::default();
        for member in self.members.values_mut() {
            let cosine = rows.measure().of(rows.values(row), rows.values(member.row as usize));
            standing.meet(cosine, member.owner == owner);
            member.standing.meet(cosine, member.owner == owner);
        }
        let row = u32::try_from(row).expect("memory ends long before 2^32 rows");
        self.members.insert(key, Member { owner, row, standing });
    }

    fn leave(&mut self, rows: &Rows, key: Key) {
        let gone = self.members.remove(&key).expect("the caller has seen it");
        let values = rows.values(gone.row as usize);
        let mut bereft = Vec::new();
        for (key, member) in &mut self.members {
            let cosine = rows.measure().of(values, rows.values(member.row as usize));
            let Standing { others, nearest, own } = &mut member.standing;
            if member.owner == gone.owner {
                own.weigh(cosine, -1.0);
            } else {
                others.weigh(cosine, -1.0);
                if nearest.is_some_and(|nearest| nearest <= cosine) {
                    bereft.push(*key);
                }
            }
        }
        for key in bereft {
            let nearest = self.nearest_of(rows, &self.members[&key]);
            self.members.get_mut(&key).expect("it was found above").standing.nearest = nearest;
        }
    }

    fn nearest_of(&self, rows: &Rows, one: &Member) -> Option<f32> {
        let strangers = self.members.values().filter(|member| member.owner != one.owner);
        let cosine = |other: &Member| rows.measure().of(rows.values(one.row as usize), rows.values(other.row as usize));
        strangers.map(cosine).max_by(f32::total_cmp)
    }
}

/// Ids made one after the other share their first half, so all of an id is stirred (the finaliser of `SplitMix64`, Steele,
/// Lea and Flood 2014).
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
        testbed::{member, unit_rows},
    };

    /// What is known of each member, in order, to the last digit that rounding leaves.
    fn told(cohort: &Cohort) -> Vec<String> {
        let round = |spread: Option<Spread>| spread.map(|s| format!("{:.4} {:.3}", s.mean, s.deviation));
        let one = |(key, member): (&Key, &Member)| {
            let Standing { others, nearest, own } = member.standing;
            format!("{:?} {} {:?} {nearest:?} {:?}", key.1, member.row, round(others.spread()), round(own.spread()))
        };
        cohort.members.iter().map(one).collect()
    }

    proptest! {
        /// Whatever comes and goes: what is kept is what it would be, were it worked out from the rows that are left.
        #[test]
        fn what_is_kept_is_what_is_there(changes in prop::collection::vec((0_u32..12, any::<prop::sample::Index>(), 0..10), 1..120)) {
            let values = unit_rows(changes.len(), 8, 3);
            let mut rows = Rows::new(8, Measure::Whole, Packing::Bytes);
            let mut cohort = Cohort::default();
            for ((number, (owner, index, removes)), values) in (0..).zip(&changes).zip(&values) {
                if *removes < 3 && rows.len() > 0 {
                    let row = index.index(rows.len());
                    cohort.forget(&rows, row);
                    rows.remove(row);
                } else {
                    let row = rows.push(member(*owner, number), values);
                    cohort.admit(&rows, row);
                }
                prop_assert_eq!(told(&cohort), told(&Cohort::of(&rows)));
            }
        }
    }

    #[test]
    fn a_large_gallery_has_a_cohort_of_its_own_whatever_the_order() {
        let values = unit_rows(COHORT_MAX + 400, 4, 5);
        let mut rows = Rows::new(4, Measure::Whole, Packing::Bytes);
        let mut kept = Cohort::default();
        for (number, values) in (0..).zip(&values) {
            let row = rows.push(member(number / 2, number), values);
            kept.admit(&rows, row);
        }
        assert_eq!(kept.members.len(), COHORT_MAX);
        assert_eq!(told(&kept), told(&Cohort::of(&rows)));
        for row in [7, 900, 3, 3, 3] {
            kept.forget(&rows, row);
            rows.remove(row);
        }
        assert_eq!(kept.members.len(), COHORT_MAX, "whoever leaves is replaced");
        assert_eq!(told(&kept), told(&Cohort::of(&rows)));
        // A row that is no member is told of as if it were beside the members.
        let stranger = (0..rows.len()).find(|row| !kept.members.contains_key(&key(rows.template(*row)))).expect("many");
        let standing = kept.standing(&rows, stranger);
        let expected = kept
            .members
            .values()
            .filter(|m| m.owner != rows.owner(stranger))
            .map(|m| rows.measure().of(rows.values(stranger), rows.values(m.row as usize)));
        assert_eq!(standing.nearest, expected.max_by(f32::total_cmp));
    }
}
