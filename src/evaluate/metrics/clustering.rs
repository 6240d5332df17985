//! Agreement of clusters with persons, by pairs of samples.

use std::collections::HashMap;

use serde::Serialize;

/// Pairwise agreement of an assignment of samples to clusters with the true persons.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClusterAgreement {
    /// Number of clusters, without unassigned samples.
    pub clusters: usize,
    /// Persons with samples in two clusters or more.
    pub persons_split: usize,
    /// Clusters with samples of two persons or more.
    pub clusters_mixed: usize,
    /// Share of the pairs in one cluster that show one person; 1 without such pairs.
    pub precision: f64,
    /// Share of the pairs of one person that are in one cluster; 1 without such pairs.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

/// Compares clusters with persons, one of each per sample. An unassigned sample (`None`) is in no pair of a cluster.
///
/// # Panics
/// When the lengths differ.
#[must_use]
pub fn cluster_agreement(persons: &[u32], clusters: &[Option<usize>]) -> ClusterAgreement {
    assert_eq!(persons.len(), clusters.len(), "one cluster per sample");
    let mut of_person: HashMap<u32, f64> = HashMap::new();
    let mut of_cluster: HashMap<usize, f64> = HashMap::new();
    let mut of_both: HashMap<(u32, usize), f64> = HashMap::new();
    for (person, cluster) in persons.iter().zip(clusters) {
        *of_person.entry(*person).or_default() += 1.0;
        if let Some(cluster) = cluster {
            *of_cluster.entry(*cluster).or_default() += 1.0;
            *of_both.entry((*person, *cluster)).or_default() += 1.0;
        }
    }
    let pairs = |counts: &mut dyn Iterator<Item = &f64>| counts.map(|count| count * (count - 1.0) / 2.0).sum::<f64>();
    let (right, together, true_pairs) =
        (pairs(&mut of_both.values()), pairs(&mut of_cluster.values()), pairs(&mut of_person.values()));
    let share = |of: f64| if of > 0.0 { right / of } else { 1.0 };
    let (precision, recall) = (share(together), share(true_pairs));
    let mut clusters_of: HashMap<u32, usize> = HashMap::new();
    let mut persons_of: HashMap<usize, usize> = HashMap::new();
    for (person, cluster) in of_both.keys() {
        *clusters_of.entry(*person).or_default() += 1;
        *persons_of.entry(*cluster).or_default() += 1;
    }
    ClusterAgreement {
        clusters: of_cluster.len(),
        persons_split: clusters_of.values().filter(|count| **count > 1).count(),
        clusters_mixed: persons_of.values().filter(|count| **count > 1).count(),
        precision,
        recall,
        f1: if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_by_hand() {
        // Person 1 has three samples in clusters a, a, b; person 2 has two in b and none; person 3 one in c.
        let persons = [1, 1, 1, 2, 2, 3];
        let clusters = [Some(0), Some(0), Some(1), Some(1), None, Some(2)];
        let agreement = cluster_agreement(&persons, &clusters);
        // Pairs in one cluster: (1, 1) in a, (1, 2) in b. Pairs of one person: three and one.
        assert_eq!((agreement.precision, agreement.recall), (0.5, 0.25));
        assert!((agreement.f1 - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((agreement.clusters, agreement.persons_split, agreement.clusters_mixed), (3, 1, 1));
    }

    #[test]
    fn perfect_clusters_agree() {
        let agreement = cluster_agreement(&[4, 4, 5], &[Some(9), Some(9), Some(2)]);
        assert_eq!((agreement.precision, agreement.recall, agreement.f1), (1.0, 1.0, 1.0));
        assert_eq!((agreement.persons_split, agreement.clusters_mixed), (0, 0));
    }
}
