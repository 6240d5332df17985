//! The best identities seen so far: each once, by its most similar template.

use std::cmp::Ordering;

use super::slots::Slot;
use domain::{Similarity, TemplateId};

/// A template that was looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hit {
    pub(super) similarity: f32,
    pub(super) template: TemplateId,
    pub(super) owner: Slot,
}

impl Hit {
    /// More similar first; of equals the template with the lower id, so that every replica answers alike.
    pub(super) fn rank(&self, other: &Self) -> Ordering {
        other.similarity.total_cmp(&self.similarity).then(self.template.cmp(&other.template))
    }
}

/// At most `limit` hits of different owners, best first.
#[derive(Debug)]
pub(super) struct Best {
    limit: usize,
    similarity_min: f32,
    hits: Vec<Hit>,
}

impl Best {
    pub(super) fn new(limit: usize, similarity_min: Option<Similarity>) -> Self {
        Self { limit, similarity_min: similarity_min.unwrap_or(Similarity::LOWEST).0, hits: Vec::new() }
    }

    /// One that wants the same and has seen nothing.
    pub(super) fn emptied(&self) -> Self {
        Self { limit: self.limit, similarity_min: self.similarity_min, hits: Vec::new() }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whatever is below this changes nothing any more.
    pub(super) fn floor(&self) -> f32 {
        match self.hits.last() {
            None if self.limit == 0 => f32::INFINITY,
            Some(worst) if self.hits.len() == self.limit => worst.similarity,
            _ => self.similarity_min,
        }
    }

    /// Takes the hit in if it belongs here. Offering one again changes nothing.
    pub(super) fn offer(&mut self, hit: Hit) {
        if hit.similarity < self.floor() {
            return;
        }
        // A walk over the list is cheap, because few rows come this far once the list is full.
        if let Some(known) = self.hits.iter().position(|h| h.owner == hit.owner) {
            if hit.rank(&self.hits[known]) != Ordering::Less {
                return;
            }
            self.hits.remove(known);
        }
        let place = self.hits.partition_point(|h| h.rank(&hit) == Ordering::Less);
        self.hits.insert(place, hit);
        self.hits.truncate(self.limit);
    }

    pub(super) fn into_hits(self) -> Vec<Hit> {
        self.hits
    }
}
