//! The most similar identities so far, each with its most similar template.

use std::cmp::Ordering;

use crate::roster::Slot;
use domain::{Similarity, TemplateId};

/// A compared template.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hit {
    pub(crate) similarity: f32,
    pub(crate) template: TemplateId,
    pub(crate) owner: Slot,
}

impl Hit {
    /// Higher similarity first, then lower template id, so that every replica gives the same order.
    pub(crate) fn rank(&self, other: &Self) -> Ordering {
        other.similarity.total_cmp(&self.similarity).then(self.template.cmp(&other.template))
    }
}

/// At most `limit` hits of different identities, in rank order.
#[derive(Debug)]
pub(crate) struct TopIdentities {
    limit: usize,
    similarity_min: f32,
    hits: Vec<Hit>,
}

impl TopIdentities {
    pub(crate) fn new(limit: usize, similarity_min: Option<Similarity>) -> Self {
        Self { limit, similarity_min: similarity_min.unwrap_or(Similarity::LOWEST).0, hits: Vec::new() }
    }

    /// An empty list with the same limits.
    pub(crate) fn emptied(&self) -> Self {
        Self { limit: self.limit, similarity_min: self.similarity_min, hits: Vec::new() }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Hits below this similarity cannot enter the list.
    pub(crate) fn floor(&self) -> f32 {
        match self.hits.last() {
            None if self.limit == 0 => f32::INFINITY,
            Some(worst) if self.hits.len() == self.limit => worst.similarity,
            _ => self.similarity_min,
        }
    }

    /// Adds the hit if it belongs to the list. Offering it again changes nothing.
    pub(crate) fn offer(&mut self, hit: Hit) {
        if hit.similarity < self.floor() {
            return;
        }
        // A linear search is cheap, because few rows pass the floor of a full list.
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
