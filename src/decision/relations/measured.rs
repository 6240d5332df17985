//! Measurement of a whole gallery in memory: simulated or replayed.

use std::collections::BTreeMap;

use super::{NEIGHBOURS_MAX, Relations};
use domain::{COHORT_MAX, GalleryStatistics, Neighbour, OwnCosines, Spread};

/// Number of class means in the NAC score.
const NAC_CLASSES: usize = 16;
/// Number of cohort members in AS-norm; all of them in a smaller gallery.
const AS_NORM_TOP: usize = 200;

/// A gallery's templates with their statistics. Embeddings are unit vectors, row-major, and never leave it.
#[derive(Debug)]
pub struct MeasuredGallery {
    dimension: usize,
    templates: Vec<f32>,
    /// Index in `identities` of each template's identity.
    owners: Vec<usize>,
    identities: Vec<IdentityTemplates>,
    /// Templates against which statistics are computed.
    cohort: Vec<usize>,
    statistics: Vec<TemplateStatistics>,
    /// Statistics of the gallery, without the probe's distribution.
    surroundings: GalleryStatistics,
}

#[derive(Debug)]
struct IdentityTemplates {
    templates: Vec<usize>,
    /// Length of the sum of its templates.
    length: f32,
}

/// Statistics of a template that do not depend on a probe.
#[derive(Debug, Clone, Copy)]
struct TemplateStatistics {
    nearest_impostor: Option<f32>,
    own: Option<OwnCosines>,
    others: Option<Spread>,
    /// Mean and standard deviation of its highest non-mated cosines.
    highest_others: Option<Spread>,
}

/// Measurements of a probe.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeMeasurement {
    pub relations: Relations,
    pub scores: Scores,
}

/// Scores of baseline methods; a higher score means more likely enrolled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Highest cosine.
    pub cosine: f32,
    /// AS-norm (Cumani et al. 2011): mean of the highest cosine normalised by the probe's and by the template's highest
    /// non-mated cosines.
    pub as_norm: f32,
    /// NAC: softmax share, at scale 1, of the best among the 16 highest cosines to class means.
    pub nac: f32,
    /// Highest cosine minus the highest of another identity.
    pub margin: f32,
}

/// A measured probe with its true answer.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenSetTrial {
    pub measurement: ProbeMeasurement,
    /// Identity of the probe: a number within its set of worlds.
    pub person: u32,
    pub is_enrolled: bool,
}

/// Trials in one gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct GalleryTrials {
    pub identities: usize,
    pub templates: usize,
    pub trials: Vec<OpenSetTrial>,
}

impl MeasuredGallery {
    /// `templates` are unit vectors, row-major; `owners` names the identity of each.
    ///
    /// # Panics
    /// When their numbers differ.
    #[must_use]
    pub fn new(templates: Vec<f32>, owners: &[u32]) -> Self {
        let dimension = templates.len() / owners.len().max(1);
        assert_eq!(dimension * owners.len(), templates.len(), "one name for each template");
        let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (template, owner) in owners.iter().enumerate() {
            groups.entry(*owner).or_default().push(template);
        }
        let indexes: BTreeMap<u32, usize> = groups.keys().copied().zip(0..).collect();
        let row = |template: usize| &templates[template * dimension..][..dimension];
        let identities: Vec<IdentityTemplates> = groups
            .into_values()
            .map(|own| {
                let mut sum = vec![0.0; dimension];
                for template in &own {
                    sum.iter_mut().zip(row(*template)).for_each(|(sum, number)| *sum += number);
                }
                IdentityTemplates { templates: own, length: dot(&sum, &sum).sqrt().max(1e-6) }
            })
            .collect();
        let cohort = spread_evenly(owners.len());
        let mut measured = Self {
            dimension,
            owners: owners.iter().map(|owner| indexes[owner]).collect(),
            templates,
            identities,
            cohort,
            statistics: Vec::new(),
            surroundings: EMPTY,
        };
        measured.statistics = (0..owners.len()).map(|template| measured.statistics_of(template)).collect();
        measured.surroundings = measured.surroundings_of();
        measured
    }

    /// Measures a probe of unit length. `None` in an empty gallery.
    #[must_use]
    pub fn measure(&self, probe: &[f32]) -> Option<ProbeMeasurement> {
        let cosines: Vec<f32> = (0..self.owners.len()).map(|template| dot(probe, self.row(template))).collect();
        let spread = spread(self.cohort.iter().map(|template| cosines[*template]))?;
        let centroids: Vec<f32> = self
            .identities
            .iter()
            .map(|one| one.templates.iter().map(|template| cosines[*template]).sum::<f32>() / one.length)
            .collect();
        let mut order: Vec<usize> = (0..cosines.len()).collect();
        order.sort_by(|one, other| cosines[*other].total_cmp(&cosines[*one]));
        let neighbours: Vec<Neighbour> =
            order.iter().take(NEIGHBOURS_MAX).map(|template| self.neighbour(*template, &cosines, &centroids)).collect();
        let surroundings = GalleryStatistics { probe: spread, ..self.surroundings };
        let scores = self.scores(&cosines, &centroids, &order);
        Some(ProbeMeasurement { relations: Relations::new(&neighbours, &surroundings), scores })
    }

    #[must_use]
    pub fn identities(&self) -> usize {
        self.identities.len()
    }

    #[must_use]
    pub fn templates(&self) -> usize {
        self.owners.len()
    }

    fn row(&self, template: usize) -> &[f32] {
        &self.templates[template * self.dimension..][..self.dimension]
    }

    fn neighbour(&self, template: usize, cosines: &[f32], centroids: &[f32]) -> Neighbour {
        let owner = self.owners[template];
        let TemplateStatistics { nearest_impostor, own, others, .. } = self.statistics[template];
        Neighbour {
            identity: owner as u64,
            identity_templates: u32::try_from(self.identities[owner].templates.len()).unwrap_or(u32::MAX),
            cosine: cosines[template],
            centroid: centroids[owner],
            nearest_impostor,
            own,
            others,
        }
    }

    fn statistics_of(&self, template: usize) -> TemplateStatistics {
        let (row, owner) = (self.row(template), self.owners[template]);
        let others_in_cohort = self.cohort.iter().filter(|other| self.owners[**other] != owner);
        let mut others: Vec<f32> = others_in_cohort.map(|other| dot(row, self.row(*other))).collect();
        let all = spread(others.iter().copied());
        others.sort_unstable_by(|one, other| other.total_cmp(one));
        let own: Vec<f32> = self.identities[owner]
            .templates
            .iter()
            .filter(|other| **other != template)
            .map(|other| dot(row, self.row(*other)))
            .collect();
        TemplateStatistics {
            nearest_impostor: others.first().copied(),
            own: own.iter().copied().max_by(f32::total_cmp).map(|nearest| OwnCosines { nearest, mean: mean(&own) }),
            others: all,
            highest_others: spread(others.iter().take(AS_NORM_TOP).copied()),
        }
    }

    /// Statistics of the gallery alone.
    fn surroundings_of(&self) -> GalleryStatistics {
        let mut nearest: Vec<f32> =
            self.statistics.iter().filter_map(|statistics| statistics.nearest_impostor).collect();
        nearest.sort_unstable_by(f32::total_cmp);
        let at = |tenths: usize| nearest[(nearest.len() - 1) * tenths / 10];
        let own = self.identities.iter().flat_map(|one| {
            let pairs = one.templates.iter().enumerate();
            pairs.flat_map(|(place, first)| one.templates[place + 1..].iter().map(move |second| (*first, *second)))
        });
        GalleryStatistics {
            templates: self.owners.len() as u64,
            identities: self.identities.len() as u64,
            impostor: pooled(self.statistics.iter().filter_map(|statistics| statistics.others)),
            genuine: spread(own.map(|(first, second)| dot(self.row(first), self.row(second)))),
            nearest_impostors: (!nearest.is_empty()).then(|| [at(5), at(9), at(10)]),
            ..EMPTY
        }
    }

    fn scores(&self, cosines: &[f32], centroids: &[f32], order: &[usize]) -> Scores {
        let best = order[0];
        let cosine = cosines[best];
        let is_other = |template: &&usize| self.owners[**template] != self.owners[best];
        let runner_up = order.iter().find(is_other).map_or(-1.0, |template| cosines[*template]);
        let in_cohort = |template: &&usize| self.cohort.binary_search(template).is_ok();
        let others_in_cohort = order.iter().filter(is_other).filter(in_cohort);
        let normed = |spread: Option<Spread>| {
            spread.map_or(cosine, |Spread { mean, deviation }| (cosine - mean) / deviation.max(0.01))
        };
        let of_probe = spread(others_in_cohort.take(AS_NORM_TOP).map(|template| cosines[*template]));
        let mut classes = centroids.to_vec();
        classes.sort_unstable_by(|one, other| other.total_cmp(one));
        classes.truncate(NAC_CLASSES);
        let nac = 1.0 / classes.iter().map(|class| (class - classes[0]).exp()).sum::<f32>();
        let as_norm = f32::midpoint(normed(of_probe), normed(self.statistics[best].highest_others));
        Scores { cosine, as_norm, nac, margin: cosine - runner_up }
    }
}

/// Statistics of an empty gallery.
const EMPTY: GalleryStatistics = GalleryStatistics {
    templates: 0,
    identities: 0,
    impostor: None,
    genuine: None,
    nearest_impostors: None,
    probe: Spread { mean: 0.0, deviation: 0.0 },
};

/// At most [`COHORT_MAX`] template indexes, evenly spaced, in order.
fn spread_evenly(templates: usize) -> Vec<usize> {
    let count = templates.min(COHORT_MAX);
    (0..count).map(|place| place * templates / count).collect()
}

fn spread(cosines: impl Iterator<Item = f32>) -> Option<Spread> {
    let (mut count, mut sum, mut squares) = (0.0_f64, 0.0, 0.0);
    for cosine in cosines.map(f64::from) {
        count += 1.0;
        sum += cosine;
        squares += cosine * cosine;
    }
    (count > 0.0).then(|| of_moments(sum / count, squares / count))
}

/// Distribution of the union of parts, each with the same weight.
fn pooled(parts: impl Iterator<Item = Spread>) -> Option<Spread> {
    let (mut count, mut sum, mut squares) = (0.0_f64, 0.0, 0.0);
    for Spread { mean, deviation } in parts {
        let (mean, deviation) = (f64::from(mean), f64::from(deviation));
        count += 1.0;
        sum += mean;
        squares += mean * mean + deviation * deviation;
    }
    (count > 0.0).then(|| of_moments(sum / count, squares / count))
}

#[expect(clippy::cast_possible_truncation, reason = "cosines are f32")]
fn of_moments(mean: f64, square: f64) -> Spread {
    Spread { mean: mean as f32, deviation: (square - mean * mean).max(0.0).sqrt() as f32 }
}

fn mean(numbers: &[f32]) -> f32 {
    numbers.iter().sum::<f32>() / numbers.len() as f32
}

/// Eight independent sums, which the compiler vectorises.
fn dot(one: &[f32], other: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let ((ones, one_rest), (others, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    for (a, b) in ones.iter().zip(others) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + one_rest.iter().zip(other_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Threshold with the highest balanced accuracy between enrolled (score >= threshold) and new probes. Sorts its input.
#[must_use]
pub fn best_threshold(scored: &mut [(f32, bool)]) -> f32 {
    scored.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
    let enrolled = scored.iter().filter(|(_, is_enrolled)| *is_enrolled).count();
    let (per_enrolled, per_new) = (1.0 / enrolled.max(1) as f64, 1.0 / (scored.len() - enrolled).max(1) as f64);
    let (mut gained, mut best) = (0.0, (0.0, f32::INFINITY));
    for (place, (score, is_enrolled)) in scored.iter().enumerate() {
        gained += if *is_enrolled { per_enrolled } else { -per_new };
        let next = scored.get(place + 1).map(|next| next.0);
        if gained > best.0 && next != Some(*score) {
            // Halfway to the next score, so that it does not depend on the last bit of one probe.
            best = (gained, next.map_or(*score, |next| f32::midpoint(*score, next)));
        }
    }
    best.1
}
