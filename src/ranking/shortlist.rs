//! Re-ranking of a list by how its templates stand to each other.
//!
//! Every template of the list has neighbours in it. Where people have several templates each, these neighbours are mostly
//! their own, and tell more of them than one template does. Where they have few, neighbours are strangers: then both ways
//! make lists worse by far, and so neither is gone below [`COMPANIONS_MIN`] companions.

use super::reciprocal;
use domain::{Ranking, Reranking};

/// So many templates are weighed against each other at most.
pub const SHORTLIST: usize = 200;
/// The median template of the list has at least so many others of its own identity in it, or the order stays as it is.
pub const COMPANIONS_MIN: usize = 3;
/// Neighbour feature centralisation: so many nearest of a template may be its neighbours.
const NEAREST: usize = 2;

/// The templates of the nearest identities, by their similarities alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Shortlist {
    /// Whose each template is: the place of its identity in the list, the nearest first.
    owners: Vec<usize>,
    /// Which template each is.
    templates: Vec<usize>,
    /// Of the probe to each.
    probe: Vec<f32>,
    /// Of each to each, row after row; empty where people have too few templates for it to matter.
    between: Vec<f32>,
}

impl Shortlist {
    /// Of identities, the nearest first, each with its templates: those of the nearest one, the most similar first, then those
    /// of the next, up to [`SHORTLIST`] of them. `probe` is the similarity of a template to the probe, `between` that of two.
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
        if have_company(&owners) {
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

    /// The templates in the order of the list.
    #[must_use]
    pub fn templates(&self) -> &[usize] {
        &self.templates
    }

    /// The places of `identities` in their new order, and what ordered them. Identities without a template here follow the
    /// others, in the order that they had.
    #[must_use]
    pub fn order(&self, by: Reranking, identities: usize) -> (Vec<usize>, Ranking) {
        let mut places: Vec<usize> = (0..identities).collect();
        let Some((scores, ranking)) = self.scores(by) else {
            return (places, Ranking::Similarity);
        };
        let mut best = vec![f64::NEG_INFINITY; identities];
        for (owner, score) in self.owners.iter().zip(scores) {
            best[*owner] = best[*owner].max(score);
        }
        // A stable sort: of equals the one that is more similar stays first.
        places.sort_by(|one, other| best[*other].total_cmp(&best[*one]));
        (places, ranking)
    }

    /// A score for each template, the higher the earlier; none where the guard keeps the order as it is.
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

    /// Neighbour feature centralisation (Yuan et al. 2025, Pose2ID), on the gallery's side alone: to each template the sum of its
    /// mutual nearest neighbours is added, and what comes of it is scaled to unit length, without which templates of more
    /// neighbours would be nearer to everybody. The cosine with the probe, from the cosines that there are.
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
            // The squared distance of two unit vectors.
            (2.0 - 2.0 * cosine).max(0.0)
        };
        let distances = (0..count * count).map(|at| distance(at / count, at % count)).collect();
        reciprocal::distances(count, distances).into_iter().skip(1).map(|distance| -distance).collect()
    }
}

/// The guard: whether the median template has enough others of its own identity beside it.
fn have_company(owners: &[usize]) -> bool {
    let mut counts = vec![0_usize; owners.iter().max().map_or(0, |last| last + 1)];
    for owner in owners {
        counts[*owner] += 1;
    }
    let mut companions: Vec<usize> = owners.iter().map(|owner| counts[*owner] - 1).collect();
    companions.sort_unstable();
    companions.get(companions.len() / 2).is_some_and(|median| *median >= COMPANIONS_MIN)
}
