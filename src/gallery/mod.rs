//! Who is enrolled, in memory: one [`Shelf`] per collection, a fold over the collection's log.
//!
//! The room finds the nearest identities to a probe and never decides whether one of them is the person. It writes
//! nothing to disk, reads no clock and knows no database: positions, entries and instants are given. What the log
//! says was forgotten is gone from the next search on, and its numbers are overwritten.
//!
//! All of it is synchronous and may take milliseconds: callers run it on a pool, never on the reactor.

mod best;
mod graph;
mod rehearse;
mod restore;
mod rows;
mod scan;
mod shelf;
mod slots;
mod space;
#[cfg(test)]
mod testbed;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use thiserror::Error;

use crate::domain::{CollectionStats, CollectionUid, Position};

pub use restore::Restore;
pub use shelf::{Enrolled, Query, Shelf, Upkeep};

/// How the galleries of this process search and how much they may hold.
#[derive(Debug, Clone, PartialEq)]
pub struct GalleryOptions {
    /// From this many templates in a space on, a graph answers; below, the exact scan.
    pub graph_from: usize,
    /// Links of a point in the graph's upper layers (M of Malkov and Yashunin 2016); the ground layer has twice as many.
    pub graph_links: usize,
    /// How many candidates an insertion into the graph weighs (efConstruction).
    pub graph_build_width: usize,
    /// How many candidates a search of the graph weighs (ef).
    pub graph_search_width: usize,
    /// How many threads build a graph.
    pub graph_build_threads: usize,
    /// The share of forgotten points at which a graph is built anew.
    pub rebuild_share: f64,
    /// The most templates that all collections together may hold.
    pub templates_max: u64,
}

impl Default for GalleryOptions {
    fn default() -> Self {
        Self {
            graph_from: 200_000,
            graph_links: 16,
            graph_build_width: 200,
            graph_search_width: 128,
            graph_build_threads: 1,
            rebuild_share: 0.15,
            templates_max: 5_000_000,
        }
    }
}

/// What can go wrong in the gallery.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GalleryError {
    /// Entries are missing between what the shelf holds and what it was given. It stands where it stood: read again
    /// from its position.
    #[error("the log goes on at position {}, and the entry given is {}", expected.0, found.0)]
    Gap { expected: Position, found: Position },
    /// The log was written by a program that knows a change which this one does not.
    #[error("position {} of the log holds a change that this version cannot follow; upgrade it", .0.0)]
    UnknownChange(Position),
    /// More templates than the operator allows.
    #[error("the gallery holds {held} of at most {templates_max} templates; raise the limit or add memory")]
    Full { held: u64, templates_max: u64 },
}

/// The galleries of every collection.
#[derive(Debug)]
pub struct Gallery {
    options: Arc<GalleryOptions>,
    shelves: RwLock<HashMap<CollectionUid, Arc<Shelf>>>,
}

impl Gallery {
    #[must_use]
    pub fn new(options: GalleryOptions) -> Self {
        Self { options: Arc::new(options), shelves: RwLock::default() }
    }

    /// The collection's shelf; an empty one at the start of the log when there was none.
    pub fn open(&self, uid: CollectionUid) -> Arc<Shelf> {
        let mut shelves = self.shelves.write();
        Arc::clone(shelves.entry(uid).or_insert_with(|| Arc::new(Shelf::new(Arc::clone(&self.options)))))
    }

    #[must_use]
    pub fn shelf(&self, uid: CollectionUid) -> Option<Arc<Shelf>> {
        self.shelves.read().get(&uid).map(Arc::clone)
    }

    /// Every shelf, for whoever keeps them up.
    #[must_use]
    pub fn shelves(&self) -> Vec<(CollectionUid, Arc<Shelf>)> {
        self.shelves.read().iter().map(|(uid, shelf)| (*uid, Arc::clone(shelf))).collect()
    }

    /// Lets go of a deleted collection. Its memory is overwritten when the last search in it has ended.
    pub fn remove(&self, uid: CollectionUid) -> bool {
        let removed = self.shelves.write().remove(&uid);
        removed.is_some()
    }

    /// What all collections hold together.
    #[must_use]
    pub fn totals(&self) -> CollectionStats {
        self.shelves().iter().map(|(_, shelf)| shelf.stats()).fold(CollectionStats::default(), |sum, one| {
            CollectionStats { identities: sum.identities + one.identities, templates: sum.templates + one.templates }
        })
    }

    /// Whether `more` templates fit. To be asked before they are appended to a log: a shelf follows its log whatever
    /// the limit says.
    ///
    /// # Errors
    /// [`GalleryError::Full`].
    pub fn check_room(&self, more: u64) -> Result<(), GalleryError> {
        let held = self.totals().templates;
        let templates_max = self.options.templates_max;
        if held.saturating_add(more) > templates_max {
            return Err(GalleryError::Full { held, templates_max });
        }
        Ok(())
    }
}
