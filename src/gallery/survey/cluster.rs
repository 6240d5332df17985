//! Clustering of templates by average linkage (Sokal and Michener 1958), independent of their identities.
//!
//! The similarity of two clusters is the mean similarity of their pairs. For unit vectors that is the dot product of
//! the clusters' means, so a cluster is one vector of any size. The two most similar clusters merge until no two reach
//! the minimum similarity. A mean never exceeds its largest term, so only clusters with a pair that reaches the minimum
//! can merge: the pairs of a join are enough, and the result equals that of all pairs.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap, HashSet},
    ops::ControlFlow,
};

use crate::{
    rows::{Rows, measure::Measure},
    survey::join::{JoinError, SimilarPair},
};

/// Number of merges between two progress reports.
const MERGES_AT_ONCE: usize = 256;

/// Clusters of some rows: each sorted by template id, the cluster with the lowest id first. `pairs` are all pairs of
/// these rows that reach `similarity_min`. Ties go to the lowest template id, so that every replica gives the same
/// clusters.
///
/// # Errors
/// [`JoinError::Stopped`] when `callback` breaks.
pub(crate) fn cluster(
    rows: &Rows,
    mut members: Vec<usize>,
    pairs: &[SimilarPair],
    similarity_min: f32,
    callback: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Vec<Vec<usize>>, JoinError> {
    members.sort_unstable_by_key(|row| rows.template(*row));
    let mut linkage = Linkage::new(rows, members, pairs, similarity_min);
    let mut merges = 0;
    while linkage.merge_next() {
        merges += 1;
        if merges % MERGES_AT_ONCE == 0 && callback().is_break() {
            return Err(JoinError::Stopped);
        }
    }
    let groups = linkage.groups.into_iter().flatten();
    Ok(groups.map(|group| group.members.into_iter().map(|at| linkage.members[at as usize]).collect()).collect())
}

/// Two clusters that may merge, by node, with their sizes at the time of comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
struct MergeCandidate {
    similarity: f32,
    nodes: [u32; 2],
    sizes: [usize; 2],
}

impl Eq for MergeCandidate {}

impl Ord for MergeCandidate {
    /// The greatest merges next: the most similar, then the one with the lowest nodes.
    fn cmp(&self, other: &Self) -> Ordering {
        self.similarity.total_cmp(&other.similarity).then(other.nodes.cmp(&self.nodes))
    }
}

impl PartialOrd for MergeCandidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A cluster of templates.
#[derive(Debug)]
struct Cluster {
    /// Nodes of its members, ascending.
    members: Vec<u32>,
    /// `None` for a single row, whose values are in the rows.
    mean: Option<Vec<f32>>,
    /// Nodes of the clusters that it may merge with.
    near: HashSet<u32>,
}

struct Linkage<'r> {
    rows: &'r Rows,
    similarity_min: f32,
    /// The row of each node; nodes are in the order of template ids.
    members: Vec<usize>,
    /// Each cluster is stored at its lowest node.
    groups: Vec<Option<Cluster>>,
    queue: BinaryHeap<MergeCandidate>,
}

impl<'r> Linkage<'r> {
    fn new(rows: &'r Rows, members: Vec<usize>, pairs: &[SimilarPair], similarity_min: f32) -> Self {
        let nodes: HashMap<usize, u32> = members.iter().copied().zip(0..).collect();
        let alone = |node| Some(Cluster { members: vec![node], mean: None, near: HashSet::new() });
        let mut groups: Vec<Option<Cluster>> = (0..).map(alone).take(members.len()).collect();
        let mut queue = Vec::with_capacity(pairs.len());
        for SimilarPair { rows: pair, similarity } in pairs {
            let mut pair = pair.map(|row| nodes[&(row as usize)]);
            pair.sort_unstable();
            for [one, other] in [pair, [pair[1], pair[0]]] {
                groups[one as usize].as_mut().expect("nothing is merged yet").near.insert(other);
            }
            queue.push(MergeCandidate { similarity: *similarity, nodes: pair, sizes: [1, 1] });
        }
        Self { rows, similarity_min, members, groups, queue: queue.into() }
    }

    /// Merges the two most similar clusters. Returns false when no two are left.
    fn merge_next(&mut self) -> bool {
        while let Some(MergeCandidate { nodes: [one, other], sizes, .. }) = self.queue.pop() {
            // Clusters only grow, so one of the same size is unchanged.
            let is_unchanged = |node: u32, size| self.at(node).is_some_and(|group| group.members.len() == size);
            if is_unchanged(one, sizes[0]) && is_unchanged(other, sizes[1]) {
                self.merge(one, other);
                return true;
            }
        }
        false
    }

    fn at(&self, node: u32) -> Option<&Cluster> {
        self.groups[node as usize].as_ref()
    }

    fn merge(&mut self, one: u32, other: u32) {
        let mean = self.mean_of_both(one, other);
        let mut take = |node: u32| self.groups[node as usize].take().expect("both clusters exist");
        let (mut merged, absorbed) = (take(one), take(other));
        merged.mean = mean;
        merged.members.extend(absorbed.members);
        merged.members.sort_unstable();
        merged.near.extend(absorbed.near);
        let near: Vec<u32> = merged.near.drain().filter(|node| *node != one && *node != other).collect();
        self.groups[one as usize] = Some(merged);
        for node in near {
            let similarity = self.similarity(one, node);
            let is_near = similarity >= self.similarity_min;
            let neighbour = self.groups[node as usize].as_mut().expect("neighbour lists are symmetric");
            neighbour.near.remove(&other);
            // Below the minimum the two need no record of each other: when the neighbour merges later, the new mean is
            // compared again.
            if !is_near {
                neighbour.near.remove(&one);
                continue;
            }
            neighbour.near.insert(one);
            let nodes = [one.min(node), one.max(node)];
            let sizes = nodes.map(|node| self.at(node).map_or(0, |group| group.members.len()));
            self.queue.push(MergeCandidate { similarity, nodes, sizes });
            self.groups[one as usize].as_mut().expect("put above").near.insert(node);
        }
    }

    /// `None` for a space of parts, where no mean represents all members.
    fn mean_of_both(&self, one: u32, other: u32) -> Option<Vec<f32>> {
        if self.rows.measure() != Measure::Whole {
            return None;
        }
        let weight = |node: u32| self.at(node).map_or(0, |group| group.members.len()) as f32;
        let (of_one, of_other) = (weight(one), weight(other));
        let all = of_one + of_other;
        let (of_one, of_other) = (of_one / all, of_other / all);
        Some(self.direction(one).iter().zip(self.direction(other)).map(|(a, b)| a * of_one + b * of_other).collect())
    }

    fn direction(&self, node: u32) -> &[f32] {
        let mean = self.at(node).and_then(|group| group.mean.as_deref());
        mean.unwrap_or_else(|| self.rows.values(self.members[node as usize]))
    }

    /// Mean similarity of the pairs between two clusters.
    fn similarity(&self, one: u32, other: u32) -> f32 {
        let measure = self.rows.measure();
        if measure == Measure::Whole {
            return measure.of(self.direction(one), self.direction(other));
        }
        let values = |node: &u32| self.rows.values(self.members[*node as usize]);
        let members = |node: u32| self.at(node).map_or(&[][..], |group| &group.members);
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
        rows::{RowRecord, kernel::Packing},
        survey::join::{JoinOptions, join},
        testbed::{embedding, unit_rows},
    };
    use domain::TemplateId;

    fn rows_of(vectors: &[Vec<f32>], measure: Measure) -> Rows {
        let mut rows = Rows::new(u32::try_from(vectors[0].len()).expect("short"), measure, Packing::Bytes);
        for (number, vector) in vectors.iter().enumerate() {
            let template = TemplateId(Uuid::from_u128((number as u128 * 7919) % 104_729));
            rows.push(RowRecord { owner: Slot(0), template, quality: f32::NAN }, vector);
        }
        rows
    }

    fn clusters(rows: &Rows, similarity_min: f32) -> Vec<Vec<usize>> {
        let options = JoinOptions { similarity_min, pairs_max: usize::MAX, counts: &|_, _| true };
        let pairs = join(rows, &options, &mut |_| ControlFlow::Continue(())).expect("not stopped");
        let members = (0..rows.len()).collect();
        cluster(rows, members, &pairs, similarity_min, &mut || ControlFlow::Continue(())).expect("not stopped")
    }

    /// Reference implementation: compares all pairs of clusters before each merge.
    fn by_all_pairs(rows: &Rows, similarity_min: f32) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = (0..rows.len()).map(|row| vec![row]).collect();
        groups.sort_by_key(|group| rows.template(group[0]));
        let mean = |one: &[usize], other: &[usize]| {
            let of = |(a, b): (&usize, &usize)| f64::from(rows.measure().of(rows.values(*a), rows.values(*b)));
            let sum: f64 = one.iter().flat_map(|a| other.iter().map(move |b| (a, b))).map(of).sum();
            sum / (one.len() * other.len()) as f64
        };
        loop {
            let mut best = (f64::from(similarity_min), None);
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
        fn pairs_above_the_minimum_give_the_clusters_of_all_pairs(
            seed in 1_u64..10_000, people in 1_usize..6, noise in 0.2_f32..1.5, parts in 1_usize..3, similarity_min in 0.0_f32..0.9,
        ) {
            let (centres, noises) = (unit_rows(people, 24, seed), unit_rows(30, 24, seed + 1));
            let vectors: Vec<Vec<f32>> = noises.iter().enumerate().map(|(at, noises)| {
                let sum: Vec<f32> = centres[at % people].iter().zip(noises).map(|(c, n)| c + n * noise).collect();
                embedding(&sum).values().to_vec()
            }).collect();
            let rows = rows_of(&vectors, Measure::of_parts(u32::try_from(parts).expect("few")));
            prop_assert_eq!(clusters(&rows, similarity_min), by_all_pairs(&rows, similarity_min));
        }
    }

    #[test]
    fn copies_are_one_cluster_in_any_row_order() {
        let vectors = unit_rows(4, 32, 2);
        let rows = rows_of(&[0, 1, 0, 2, 1, 0, 3].map(|at: usize| vectors[at].clone()), Measure::Whole);
        assert_eq!(clusters(&rows, 0.999), [vec![0, 2, 5], vec![1, 4], vec![3], vec![6]]);
        let mut moved = rows.clone();
        moved.remove(0);
        // The last row took index 0.
        assert_eq!(clusters(&moved, 0.999), [vec![1, 4], vec![2, 5], vec![3], vec![0]]);
    }

    #[test]
    fn the_callback_stops_clustering() {
        let rows = rows_of(&vec![unit_rows(1, 16, 1)[0].clone(); MERGES_AT_ONCE + 2], Measure::Whole);
        let options = JoinOptions { similarity_min: 0.9, pairs_max: usize::MAX, counts: &|_, _| true };
        let pairs = join(&rows, &options, &mut |_| ControlFlow::Continue(())).expect("not stopped");
        let stopped = cluster(&rows, (0..rows.len()).collect(), &pairs, 0.9, &mut || ControlFlow::Break(()));
        assert_eq!(stopped, Err(JoinError::Stopped));
    }
}
