//! Groups of templates that are alike, whatever names they bear: average linkage (Sokal and Michener 1958).
//!
//! Two groups are as alike as their pairs are in the mean. Of unit vectors that is the product of the groups' means, so a
//! group is one vector however large it is. The two that are most alike become one, again and again, until none are as
//! alike as the level. Only groups of which some pair reaches the level can be, for a mean is never above all that it is
//! the mean of: so it is enough to know the pairs that a join finds, and the groups are those of a look at every pair.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap, HashSet},
    ops::ControlFlow,
};

use crate::{
    rows::{Rows, measure::Measure},
    survey::join::{JoinError, Near},
};

/// So many merges are done between two looks at whether to go on.
const MERGES_AT_ONCE: usize = 256;

/// The groups of some rows, each in order of its templates' ids, the group with the lowest id first. `pairs` are those of
/// the rows that reach the level. Ties are broken by the lowest id of a group, so that every replica answers alike.
///
/// # Errors
/// [`JoinError::Stopped`] when `go_on` says so.
pub(crate) fn cluster(
    rows: &Rows,
    mut members: Vec<usize>,
    pairs: &[Near],
    level: f32,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<Vec<usize>>, JoinError> {
    members.sort_unstable_by_key(|row| rows.template(*row));
    let mut linkage = Linkage::new(rows, members, pairs, level);
    let mut merges = 0;
    while linkage.merge_next() {
        merges += 1;
        if merges % MERGES_AT_ONCE == 0 && go_on().is_break() {
            return Err(JoinError::Stopped);
        }
    }
    let groups = linkage.groups.into_iter().flatten();
    Ok(groups.map(|group| group.members.into_iter().map(|at| linkage.members[at as usize]).collect()).collect())
}

/// Two groups that may become one: by their places, and as they were when they were compared.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    similarity: f32,
    places: [u32; 2],
    sizes: [usize; 2],
}

impl Eq for Candidate {}

impl Ord for Candidate {
    /// The greatest is the next: the most similar, and of equals that with the lowest places.
    fn cmp(&self, other: &Self) -> Ordering {
        self.similarity.total_cmp(&other.similarity).then(other.places.cmp(&self.places))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Templates that are one person so far.
#[derive(Debug)]
struct Group {
    /// Places of its members, rising.
    members: Vec<u32>,
    /// None while it is one row, whose numbers the rows hold.
    mean: Option<Vec<f32>>,
    /// Places of the groups that it may become one with.
    near: HashSet<u32>,
}

struct Linkage<'r> {
    rows: &'r Rows,
    level: f32,
    /// The row at each place; places are in order of templates' ids.
    members: Vec<usize>,
    /// Each stands at the lowest place of its members.
    groups: Vec<Option<Group>>,
    queue: BinaryHeap<Candidate>,
}

impl<'r> Linkage<'r> {
    fn new(rows: &'r Rows, members: Vec<usize>, pairs: &[Near], level: f32) -> Self {
        let places: HashMap<usize, u32> = members.iter().copied().zip(0..).collect();
        let alone = |place| Some(Group { members: vec![place], mean: None, near: HashSet::new() });
        let mut groups: Vec<Option<Group>> = (0..).map(alone).take(members.len()).collect();
        let mut queue = Vec::with_capacity(pairs.len());
        for Near { rows: pair, similarity } in pairs {
            let mut pair = pair.map(|row| places[&(row as usize)]);
            pair.sort_unstable();
            for [one, other] in [pair, [pair[1], pair[0]]] {
                groups[one as usize].as_mut().expect("nothing is merged yet").near.insert(other);
            }
            queue.push(Candidate { similarity: *similarity, places: pair, sizes: [1, 1] });
        }
        Self { rows, level, members, groups, queue: queue.into() }
    }

    /// Makes one group of the two that are most alike. Answers whether there were such.
    fn merge_next(&mut self) -> bool {
        while let Some(Candidate { places: [one, other], sizes, .. }) = self.queue.pop() {
            // Groups only grow: one that still has its size is still the same.
            let is_as_it_was = |place: u32, size| self.at(place).is_some_and(|group| group.members.len() == size);
            if is_as_it_was(one, sizes[0]) && is_as_it_was(other, sizes[1]) {
                self.merge(one, other);
                return true;
            }
        }
        false
    }

    fn at(&self, place: u32) -> Option<&Group> {
        self.groups[place as usize].as_ref()
    }

    fn merge(&mut self, one: u32, other: u32) {
        let mean = self.mean_of_both(one, other);
        let mut take = |place: u32| self.groups[place as usize].take().expect("it was looked at");
        let (mut merged, absorbed) = (take(one), take(other));
        merged.mean = mean;
        merged.members.extend(absorbed.members);
        merged.members.sort_unstable();
        merged.near.extend(absorbed.near);
        let near: Vec<u32> = merged.near.drain().filter(|place| *place != one && *place != other).collect();
        self.groups[one as usize] = Some(merged);
        for place in near {
            let similarity = self.similarity(one, place);
            let is_near = similarity >= self.level;
            let neighbour = self.groups[place as usize].as_mut().expect("neighbours know each other");
            neighbour.near.remove(&other);
            // Below the level they need not know each other: whatever group the neighbour comes into, it brings its mean.
            if !is_near {
                neighbour.near.remove(&one);
                continue;
            }
            neighbour.near.insert(one);
            let places = [one.min(place), one.max(place)];
            let sizes = places.map(|place| self.at(place).map_or(0, |group| group.members.len()));
            self.queue.push(Candidate { similarity, places, sizes });
            self.groups[one as usize].as_mut().expect("put above").near.insert(place);
        }
    }

    /// Of a space that is compared part by part there is no mean that stands for all.
    fn mean_of_both(&self, one: u32, other: u32) -> Option<Vec<f32>> {
        if self.rows.measure() != Measure::Whole {
            return None;
        }
        let weight = |place: u32| self.at(place).map_or(0, |group| group.members.len()) as f32;
        let (of_one, of_other) = (weight(one), weight(other));
        let all = of_one + of_other;
        let (of_one, of_other) = (of_one / all, of_other / all);
        Some(self.direction(one).iter().zip(self.direction(other)).map(|(a, b)| a * of_one + b * of_other).collect())
    }

    fn direction(&self, place: u32) -> &[f32] {
        let mean = self.at(place).and_then(|group| group.mean.as_deref());
        mean.unwrap_or_else(|| self.rows.values(self.members[place as usize]))
    }

    /// The mean similarity of the pairs between two groups.
    fn similarity(&self, one: u32, other: u32) -> f32 {
        let measure = self.rows.measure();
        if measure == Measure::Whole {
            return measure.of(self.direction(one), self.direction(other));
        }
        let values = |place: &u32| self.rows.values(self.members[*place as usize]);
        let members = |place: u32| self.at(place).map_or(&[][..], |group| &group.members);
        let pairs = members(one).iter().flat_map(|a| members(other).iter().map(move |b| (a, b)));
        let sum: f64 = pairs.map(|(a, b)| f64::from(measure.of(values(a), values(b)))).sum();
        #[expect(clippy::cast_possible_truncation, reason = "similarities are single precision")]
        let mean = (sum / (members(one).len() * members(other).len()).max(1) as f64) as f32;
        mean
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{
        roster::Slot,
        rows::{Member, kernel::Packing},
        survey::join::{Wanted, join},
        testbed::{embedding, unit_rows},
    };
    use domain::TemplateId;

    fn rows_of(vectors: &[Vec<f32>], measure: Measure) -> Rows {
        let mut rows = Rows::new(u32::try_from(vectors[0].len()).expect("short"), measure, Packing::Bytes);
        for (number, vector) in vectors.iter().enumerate() {
            let template = TemplateId(Uuid::from_u128((number as u128 * 7919) % 104_729));
            rows.push(Member { owner: Slot(0), template, quality: f32::NAN }, vector);
        }
        rows
    }

    fn clusters(rows: &Rows, level: f32) -> Vec<Vec<usize>> {
        let wanted = Wanted { level, pairs_max: usize::MAX, counts: &|_, _| true };
        let pairs = join(rows, &wanted, &mut |_| ControlFlow::Continue(())).expect("nobody stopped it");
        let members = (0..rows.len()).collect();
        cluster(rows, members, &pairs, level, &mut || ControlFlow::Continue(())).expect("nobody stopped it")
    }

    /// By the book: all pairs of groups are looked at before each merge.
    fn by_the_book(rows: &Rows, level: f32) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = (0..rows.len()).map(|row| vec![row]).collect();
        groups.sort_by_key(|group| rows.template(group[0]));
        let mean = |one: &[usize], other: &[usize]| {
            let of = |(a, b): (&usize, &usize)| f64::from(rows.measure().of(rows.values(*a), rows.values(*b)));
            let sum: f64 = one.iter().flat_map(|a| other.iter().map(move |b| (a, b))).map(of).sum();
            sum / (one.len() * other.len()) as f64
        };
        loop {
            let mut best = (f64::from(level), None);
            for one in 0..groups.len() {
                for other in one + 1..groups.len() {
                    let similarity = mean(&groups[one], &groups[other]);
                    if similarity > best.0 {
                        best = (similarity, Some((one, other)));
                    }
                }
            }
            let Some((one, other)) = best.1 else { break };
            let absorbed = groups.remove(other);
            groups[one].extend(absorbed);
            groups[one].sort_by_key(|row| rows.template(*row));
        }
        groups
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn sparse_pairs_give_the_groups_of_all_pairs(
            seed in 1_u64..10_000, people in 1_usize..6, noise in 0.2_f32..1.5, parts in 1_usize..3, level in 0.0_f32..0.9,
        ) {
            let (centres, noises) = (unit_rows(people, 24, seed), unit_rows(30, 24, seed + 1));
            let vectors: Vec<Vec<f32>> = noises.iter().enumerate().map(|(at, noises)| {
                let sum: Vec<f32> = centres[at % people].iter().zip(noises).map(|(c, n)| c + n * noise).collect();
                embedding(&sum).values().to_vec()
            }).collect();
            let rows = rows_of(&vectors, Measure::of_parts(u32::try_from(parts).expect("few")));
            prop_assert_eq!(clusters(&rows, level), by_the_book(&rows, level));
        }
    }

    #[test]
    fn copies_are_one_group_whatever_the_order_of_rows() {
        let vectors = unit_rows(4, 32, 2);
        let rows = rows_of(&[0, 1, 0, 2, 1, 0, 3].map(|at: usize| vectors[at].clone()), Measure::Whole);
        assert_eq!(clusters(&rows, 0.999), [vec![0, 2, 5], vec![1, 4], vec![3], vec![6]]);
        let mut moved = rows.clone();
        moved.remove(0);
        // The last row stands first now.
        assert_eq!(clusters(&moved, 0.999), [vec![1, 4], vec![2, 5], vec![3], vec![0]]);
    }

    #[test]
    fn it_stops_when_it_is_told_to() {
        let rows = rows_of(&vec![unit_rows(1, 16, 1)[0].clone(); MERGES_AT_ONCE + 2], Measure::Whole);
        let wanted = Wanted { level: 0.9, pairs_max: usize::MAX, counts: &|_, _| true };
        let pairs = join(&rows, &wanted, &mut |_| ControlFlow::Continue(())).expect("nobody stopped it");
        let stopped = cluster(&rows, (0..rows.len()).collect(), &pairs, 0.9, &mut || ControlFlow::Break(()));
        assert_eq!(stopped, Err(JoinError::Stopped));
    }
}
