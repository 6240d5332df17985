//! The best identities seen so far: each once, by its most similar template.

use std::cmp::Ordering;

use crate::roster::Slot;
use domain::{Similarity, TemplateId};

/// A template that was looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hit {
    pub(crate) similarity: f32,
    pub(crate) template: TemplateId,
    pub(crate) owner: Slot,
}

impl Hit {
    /// More similar first; of equals the template with the lower id, so that every replica answers alike.
    pub(crate) fn rank(&self, other: &Self) -> Ordering {
        other.similarity.total_cmp(&self.similarity).then(self.template.cmp(&other.template))
    }
}

/// At most `limit` hits of different owners, best first.
#[derive(Debug)]
pub(crate) struct Best {
    limit: usize,
    similarity_min: f32,
    hits: Vec<Hit>,
}

impl Best {
    pub(crate) fn new(limit: usize, similarity_min: Option<Similarity>) -> Self {
        Self { limit, similarity_min: similarity_min.unwrap_or(Similarity::LOWEST).0, hits: Vec::new() }
    }

    /// One that wants the same and has seen nothing.
    pub(crate) fn emptied(&self) -> Self {
        Self { limit: self.limit, similarity_min: self.similarity_min, hits: Vec::new() }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whatever is below this changes nothing any more.
    pub(crate) fn floor(&self) -> f32 {
        match self.hits.last() {
            None if self.limit == 0 => f32::INFINITY,
            Some(worst) if self.hits.len() == self.limit => worst.similarity,
            _ => self.similarity_min,
        }
    }

    /// Takes the hit in if it belongs here. Offering one again changes nothing.
    pub(crate) fn offer(&mut self, hit: Hit) {
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

    pub(crate) fn into_hits(self) -> Vec<Hit> {
        self.hits
    }
}
