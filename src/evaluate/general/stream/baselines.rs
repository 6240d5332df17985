//! Baselines for a stream of sightings: one online rule and two offline clusterings, each with the best setting that an
//! oracle finds for these very sightings.

use serde::Serialize;

use crate::metrics::{ClusterAgreement, cluster_agreement};

/// Settings that an oracle tries, from the lowest similarity to the highest.
const SETTINGS: u16 = 200;
/// Minimum samples within reach of a core sample of DBSCAN, itself included.
const CORE_SIZES: [usize; 2] = [2, 3];

/// A baseline and its agreement with the persons.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Baseline {
    pub method: &'static str,
    /// How its setting was chosen.
    pub chosen: &'static str,
    /// Minimum similarity of one person.
    pub similarity: f32,
    #[serde(flatten)]
    pub agreement: ClusterAgreement,
}

/// The true persons and all similarities of some sightings, in their order.
pub(super) struct Sightings {
    pub(super) persons: Vec<u32>,
    /// Row-major.
    pub(super) similarities: Vec<f32>,
}

impl Sightings {
    fn len(&self) -> usize {
        self.persons.len()
    }

    fn row(&self, of: usize) -> &[f32] {
        &self.similarities[of * self.len()..][..self.len()]
    }

    /// Each sighting joins the most similar earlier one, if it is similar enough.
    fn online(&self, similarity_min: f32) -> Vec<Option<usize>> {
        let mut clusters = Vec::with_capacity(self.len());
        for sighting in 0..self.len() {
            let earlier = self.row(sighting)[..sighting].iter().enumerate();
            let nearest = earlier.max_by(|one, other| one.1.total_cmp(other.1));
            let joined = nearest.filter(|(_, similarity)| **similarity >= similarity_min);
            clusters.push(joined.map_or(Some(sighting), |(other, _)| clusters[other]));
        }
        clusters
    }

    /// DBSCAN (Ester et al. 1996). Noise is a cluster of its own, because it was seen.
    fn dbscan(&self, similarity_min: f32, core_size: usize) -> Vec<Option<usize>> {
        let near = |of: usize| {
            let row = self.row(of).iter().enumerate();
            row.filter(move |(other, similarity)| *other == of || **similarity >= similarity_min)
        };
        let is_core: Vec<bool> = (0..self.len()).map(|of| near(of).count() >= core_size).collect();
        let mut clusters: Vec<Option<usize>> = vec![None; self.len()];
        for core in (0..self.len()).filter(|of| is_core[*of]) {
            if clusters[core].is_some() {
                continue;
            }
            clusters[core] = Some(core);
            let mut open = vec![core];
            while let Some(at) = open.pop() {
                for (other, _) in near(at) {
                    if clusters[other].is_none() {
                        clusters[other] = Some(core);
                        if is_core[other] {
                            open.push(other);
                        }
                    }
                }
            }
        }
        clusters.iter().enumerate().map(|(of, cluster)| cluster.or(Some(of))).collect()
    }

    /// Merges of average linkage, by falling similarity: by nearest-neighbour chains (Murtagh 1983), which merge as the
    /// greedy algorithm does.
    fn average_linkage(&self) -> Vec<Merge> {
        let count = self.len();
        let mut similarities = self.similarities.clone();
        let mut sizes = vec![1.0_f32; count];
        let mut merges = Vec::new();
        let mut chain: Vec<usize> = Vec::new();
        while merges.len() + 1 < count {
            let Some(&last) = chain.last() else {
                chain.extend((0..count).find(|of| sizes[*of] > 0.0));
                continue;
            };
            let row = &similarities[last * count..][..count];
            let before = chain.len().checked_sub(2).map(|place| chain[place]);
            // On ties the chain turns back, so that it ends.
            let mut nearest = before.map(|before| (before, row[before]));
            for (other, similarity) in row.iter().enumerate() {
                if other != last && sizes[other] > 0.0 && nearest.is_none_or(|(_, best)| *similarity > best) {
                    nearest = Some((other, *similarity));
                }
            }
            let (other, similarity) = nearest.expect("two clusters are left");
            if before != Some(other) {
                chain.push(other);
                continue;
            }
            chain.truncate(chain.len() - 2);
            merges.push(Merge { clusters: [other, last], similarity });
            let (one, two) = (sizes[other], sizes[last]);
            for third in (0..count).filter(|third| *third != other && *third != last) {
                let mean = (one * similarities[other * count + third] + two * similarities[last * count + third])
                    / (one + two);
                similarities[other * count + third] = mean;
                similarities[third * count + other] = mean;
            }
            sizes[other] += two;
            sizes[last] = 0.0;
        }
        merges.sort_by(|one, two| two.similarity.total_cmp(&one.similarity));
        merges
    }
}

/// Two clusters, each named by one of its samples, that become one.
#[derive(Debug, Clone, Copy)]
struct Merge {
    clusters: [usize; 2],
    similarity: f32,
}

/// The clusters after the merges of at least this similarity.
fn cut(merges: &[Merge], count: usize, similarity_min: f32) -> Vec<Option<usize>> {
    fn root(parents: &mut [usize], mut of: usize) -> usize {
        while parents[of] != of {
            parents[of] = parents[parents[of]];
            of = parents[of];
        }
        of
    }
    let mut parents: Vec<usize> = (0..count).collect();
    for merge in merges.iter().take_while(|merge| merge.similarity >= similarity_min) {
        let [one, other] = merge.clusters.map(|of| root(&mut parents, of));
        parents[other] = one;
    }
    (0..count).map(|of| Some(root(&mut parents, of))).collect()
}

/// The setting with the highest F1, the lowest of equal ones.
fn best(settings: &[f32], agreement: impl Fn(f32) -> ClusterAgreement) -> (f32, ClusterAgreement) {
    let mut measured = settings.iter().map(|setting| (*setting, agreement(*setting)));
    let first = measured.next().expect("there are settings");
    measured.fold(first, |best, next| if next.1.f1 > best.1.f1 { next } else { best })
}

/// The baselines on some sightings. `others` are sightings of other persons, on which the online rule is set too; none if
/// there are no other persons.
pub(super) fn baselines(sightings: &Sightings, others: Option<&Sightings>) -> Vec<Baseline> {
    let settings: Vec<f32> = (0..=SETTINGS).map(|step| f32::from(step) / f32::from(SETTINGS) * 2.0 - 1.0).collect();
    let agreement = |clusters: &[Option<usize>]| cluster_agreement(&sightings.persons, clusters);
    let online = |of: &Sightings, setting| cluster_agreement(&of.persons, &of.online(setting));
    let mut all = Vec::new();
    let mut push = |method, chosen, (similarity, agreement)| {
        all.push(Baseline { method, chosen, similarity, agreement });
    };
    if let Some(others) = others {
        let (setting, _) = best(&settings, |setting| online(others, setting));
        push("best similarity, online", "on other people", (setting, online(sightings, setting)));
    }
    push("best similarity, online", "by an oracle", best(&settings, |setting| online(sightings, setting)));
    let densities =
        CORE_SIZES.map(|core_size| best(&settings, |setting| agreement(&sightings.dbscan(setting, core_size))));
    let [two, three] = densities;
    push("DBSCAN, offline", "by an oracle", if three.1.f1 > two.1.f1 { three } else { two });
    let merges = sightings.average_linkage();
    let linked = |setting| agreement(&cut(&merges, sightings.persons.len(), setting));
    push("average linkage, offline", "by an oracle", best(&settings, linked));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples on a circle: the similarity is the cosine of the difference of their angles, in degrees.
    fn circle(samples: &[(u32, f32)]) -> Sightings {
        let cosine = |one: f32, other: f32| (one - other).to_radians().cos();
        Sightings {
            persons: samples.iter().map(|(person, _)| *person).collect(),
            similarities: samples
                .iter()
                .flat_map(|(_, one)| samples.iter().map(move |(_, other)| cosine(*one, *other)))
                .collect(),
        }
    }

    #[test]
    fn separate_people_are_found_by_every_baseline() {
        let sightings = circle(&[(0, 0.0), (1, 90.0), (0, 5.0), (2, 180.0), (1, 94.0), (0, 2.0), (2, 183.0)]);
        for baseline in baselines(&sightings, Some(&circle(&[(8, 10.0), (9, 60.0), (8, 20.0)]))) {
            assert!((baseline.agreement.f1 - 1.0).abs() < 1e-12, "{baseline:?}");
            assert_eq!(baseline.agreement.clusters, 3, "{baseline:?}");
        }
    }

    #[test]
    fn average_linkage_merges_by_mean_similarity() {
        // 0 and 10 degrees merge first, 40 and 52 next, then both pairs at the mean of four cosines.
        let sightings = circle(&[(0, 0.0), (0, 10.0), (1, 40.0), (1, 52.0)]);
        let merges = sightings.average_linkage();
        let mean = [40.0_f32, 52.0, 30.0, 42.0].iter().map(|angle| angle.to_radians().cos()).sum::<f32>() / 4.0;
        let expected = [10.0_f32.to_radians().cos(), 12.0_f32.to_radians().cos(), mean];
        for (merge, expected) in merges.iter().zip(expected) {
            assert!((merge.similarity - expected).abs() < 1e-5, "{merge:?} instead of {expected}");
        }
        assert_eq!(merges.len(), 3);
    }

    #[test]
    fn a_border_sample_of_dbscan_does_not_join_two_clusters() {
        // With four within 10.5 degrees, only the samples at 6 and 22 are cores. The sample at 14 is near both.
        let sightings = circle(&[(0, 0.0), (0, 3.0), (0, 6.0), (0, 14.0), (1, 22.0), (1, 25.0), (1, 28.0), (2, 100.0)]);
        let clusters = sightings.dbscan(10.5_f32.to_radians().cos(), 4);
        assert_eq!(clusters[..4], [Some(2); 4], "the border sample belongs to the first core");
        assert_eq!(clusters[4..7], [Some(4); 3]);
        assert_eq!(clusters[7], Some(7), "noise is alone");
    }
}
