//! Re-ranking of a result list by the similarities among its templates.
//!
//! When identities have several templates each, the neighbours of a template in the list mostly belong to its own
//! identity, and say more about it than one template. When they have few, neighbours belong to other identities, and
//! both methods make lists much worse. So neither is used below [`SAME_IDENTITY_MIN`] templates of the same identity.

use super::reciprocal;
use domain::{Ranking, Reranking};

/// Maximum number of templates that are compared with each other.
pub const SHORTLIST: usize = 200;
/// Minimum for the median template: number of other templates of its identity in the list. Below it the order stays as
/// it is.
pub(crate) const SAME_IDENTITY_MIN: usize = 3;
/// Neighbour feature centralisation: number of nearest templates that may count as neighbours.
const NEAREST: usize = 2;

/// The templates of the most similar identities, with their similarities to the probe and to each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Shortlist {
    /// Index of each template's identity in the list; the most similar identity is 0.
    owners: Vec<usize>,
    /// The caller's number of each template.
    templates: Vec<usize>,
    /// Similarity of the probe to each template.
    probe: Vec<f32>,
    /// Similarities of all pairs of templates, row-major; empty when the order will not change.
    between: Vec<f32>,
}

impl Shortlist {
    /// Builds a shortlist. `identities` are sorted by falling similarity, each with its templates. Takes the templates
    /// of the first identity by falling similarity, then those of the second, up to [`SHORTLIST`]. `probe` returns the
    /// similarity of a template to the probe, `between` that of two templates.
    #[must_use]
    pub fn of(identities: &[Vec<usize>], probe: impl Fn(usize) -> f32, between: impl Fn(usize, usize) -> f32) -> Self {
        let mut chosen: Vec<(usize, usize, f32)> = Vec::new();
        for (owner, its) in identities.iter().enumerate() {
            if chosen.len() >= SHORTLIST {
                break;
            }
            let mut its: Vec<(usize, usize, f32)> = its.iter().map(|one| (owner, *one, probe(*one))).collect();
            its.sort_by(|one, other| other.2.total_cmp(&one.2));
            chosen.extend(its);
        }
        chosen.truncate(SHORTLIST);
        let templates: Vec<usize> = chosen.iter().map(|(_, template, _)| *template).collect();
        let owners: Vec<usize> = chosen.iter().map(|(owner, ..)| *owner).collect();
        let mut each = Vec::new();
        if have_same_identity_neighbours(&owners) {
            each = vec![1.0; templates.len() * templates.len()];
            for (row, one) in templates.iter().enumerate() {
                for (column, other) in templates.iter().enumerate().take(row) {
                    let similarity = between(*one, *other);
                    each[row * templates.len() + column] = similarity;
                    each[column * templates.len() + row] = similarity;
                }
            }
        }
        let probe = chosen.iter().map(|(.., similarity)| *similarity).collect();
        Self { owners, templates, probe, between: each }
    }

    /// The caller's numbers of the templates, in list order.
    #[must_use]
    pub fn templates(&self) -> &[usize] {
        &self.templates
    }

    /// New order of `identities` identities as indexes into the list, and the method that ordered them. Identities
    /// without a template in the shortlist keep their order after the others.
    #[must_use]
    pub fn order(&self, by: Reranking, identities: usize) -> (Vec<usize>, Ranking) {
        let mut order: Vec<usize> = (0..identities).collect();
        let Some((scores, ranking)) = self.scores(by) else {
            return (order, Ranking::Similarity);
        };
        let mut best = vec![f64::NEG_INFINITY; identities];
        for (owner, score) in self.owners.iter().zip(scores) {
            best[*owner] = best[*owner].max(score);
        }
        // The sort is stable, so ties keep their order by similarity.
        order.sort_by(|one, other| best[*other].total_cmp(&best[*one]));
        (order, ranking)
    }

    /// Score per template, higher is better, and the method. `None` when the order stays as it is.
    #[must_use]
    pub fn scores(&self, by: Reranking) -> Option<(Vec<f64>, Ranking)> {
        if self.between.is_empty() {
            return None;
        }
        match by {
            Reranking::Off => None,
            Reranking::Neighbours => Some((self.centralised(), Ranking::Neighbours)),
            Reranking::KReciprocal => Some((self.reciprocal(), Ranking::KReciprocal)),
        }
    }

    fn between(&self, one: usize, other: usize) -> f64 {
        f64::from(self.between[one * self.owners.len() + other])
    }

    /// Neighbour feature centralisation (Yuan et al. 2025, Pose2ID), on the gallery side only: adds to each template
    /// its mutual nearest neighbours and scales the sum to unit length. Without the scaling, templates with more
    /// neighbours would be more similar to every probe. Returns cosines with the probe, computed from the known
    /// cosines.
    fn centralised(&self) -> Vec<f64> {
        let count = self.owners.len();
        let nearest: Vec<Vec<usize>> = (0..count)
            .map(|one| {
                let mut others: Vec<usize> = (0..count).filter(|other| *other != one).collect();
                others.sort_by(|a, b| self.between(one, *b).total_cmp(&self.between(one, *a)));
                others.truncate(NEAREST);
                others
            })
            .collect();
        let moved = |one: usize| {
            let mutual = nearest[one].iter().copied().filter(|other| nearest[*other].contains(&one));
            let together: Vec<usize> = std::iter::once(one).chain(mutual).collect();
            let sum: f64 = together.iter().map(|part| f64::from(self.probe[*part])).sum();
            let pairs = together.iter().flat_map(|a| together.iter().map(|b| self.between(*a, *b)));
            sum / pairs.sum::<f64>().max(f64::EPSILON).sqrt()
        };
        (0..count).map(moved).collect()
    }

    fn reciprocal(&self) -> Vec<f64> {
        let count = self.owners.len() + 1;
        let distance = |one: usize, other: usize| {
            let cosine = match (one, other) {
                (0, 0) => 1.0,
                (0, template) | (template, 0) => f64::from(self.probe[template - 1]),
                (one, other) => self.between(one - 1, other - 1),
            };
            // Squared distance of two unit vectors.
            (2.0 - 2.0 * cosine).max(0.0)
        };
        let distances = (0..count * count).map(|at| distance(at / count, at % count)).collect();
        reciprocal::distances(count, distances).into_iter().skip(1).map(|distance| -distance).collect()
    }
}

/// Whether the median template has at least [`SAME_IDENTITY_MIN`] other templates of its identity in the list.
fn have_same_identity_neighbours(owners: &[usize]) -> bool {
    let mut counts = vec![0_usize; owners.iter().max().map_or(0, |last| last + 1)];
    for owner in owners {
        counts[*owner] += 1;
    }
    let mut companions: Vec<usize> = owners.iter().map(|owner| counts[*owner] - 1).collect();
    companions.sort_unstable();
    companions.get(companions.len() / 2).is_some_and(|median| *median >= SAME_IDENTITY_MIN)
}
