//! Who is enrolled, in memory: one [`Shelf`] per collection, a fold over the collection's log.
//!
//! The room finds the nearest identities to a probe and never decides whether one of them is the person. It reads no
//! clock and knows no database: positions, entries and instants are given. What it writes to disk are snapshots of
//! itself, in a folder that it is given. What the log says was forgotten is gone from the next search on, and its
//! numbers are overwritten, in memory and on disk.
//!
//! A search sweeps over codes of 8 bits (`codes.rs`, `kernel/`), turns away what cannot belong to the answer, and looks
//! at the originals of the rest (`sweep.rs`, `originals.rs`); a graph walks over the largest spaces (`graph/`).
//!
//! All of it is synchronous and may take milliseconds: callers run it on a pool, never on the reactor.

mod collection;
mod graph;
mod rehearsal;
mod roster;
mod rows;
mod scan;
mod snapshot;
mod space;
mod survey;
#[cfg(test)]
mod testbed;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::RwLock;
use rayon::{ThreadPool, ThreadPoolBuilder};
use thiserror::Error;

use domain::{CollectionStats, CollectionUid, Position, Timestamp};

pub use collection::{Enrolled, Query, Restore, Shelf, Upkeep, graph_recall::Watched, snapshots::Recall};
pub use rehearsal::Together;
use rows::kernel::Packing;
pub use scan::query::PASS_MAX;
pub use snapshot::{Claim, Inspection, SnapshotError};
pub use survey::{
    Alike, Duplicate, Grouped, Survey,
    join::{JoinError, JoinProgress, JoinWatch},
};

/// How the galleries of this process search and how much they may hold.
#[derive(Debug, Clone, PartialEq)]
pub struct GalleryOptions {
    /// From this many templates in a space on, a graph answers; below, the exact scan.
    pub graph_from: usize,
    /// Which graph.
    pub graph: GraphKind,
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
    /// How many bits a number has in the codes that are swept over.
    pub code_bits: CodeBits,
    /// How many threads share a sweep over a large space.
    pub sweep_threads: usize,
    /// Where snapshots lie; none are taken or read without it.
    pub snapshots_dir: Option<PathBuf>,
}

/// How many bits a number has in the codes that are swept over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CodeBits {
    /// Answers are exact.
    #[default]
    Eight,
    /// Half of the memory and nearly twice as fast, and answers are exact with a probability only: a neighbour is missed
    /// once in a great many searches. No graph serves such codes.
    Four,
}

impl CodeBits {
    fn packing(self) -> Packing {
        match self {
            Self::Eight => Packing::Bytes,
            Self::Four => Packing::Nibbles,
        }
    }
}

impl Default for GalleryOptions {
    fn default() -> Self {
        Self {
            graph_from: 200_000,
            graph: GraphKind::Compact,
            graph_links: 16,
            graph_build_width: 200,
            graph_search_width: 128,
            graph_build_threads: 1,
            rebuild_share: 0.15,
            templates_max: 5_000_000,
            code_bits: CodeBits::Eight,
            sweep_threads: 1,
            snapshots_dir: None,
        }
    }
}

/// The graphs there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphKind {
    /// Of our own: it takes some 150 bytes a template beside the codes, which it shares with the scan.
    Compact,
    /// That of hnsw_rs: it takes some 3 kB a template.
    HnswRs,
}

/// How many bytes the galleries take, part by part. Lists are counted without what their allocator adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Codes, their scales and errors.
    pub codes: u64,
    /// Originals in memory: those that no snapshot holds yet.
    pub originals: u64,
    /// Originals in a file that is mapped. The system keeps in memory what is used, and lets go of it when it must.
    pub mapped: u64,
    /// Owners, ids and qualities of rows.
    pub rows: u64,
    /// Where each template and each identity's templates are.
    pub places: u64,
    /// Identities: ids, labels, expire times.
    pub roster: u64,
    /// Graphs, without the codes that they share.
    pub graph: u64,
}

impl Bytes {
    /// Each part by its name.
    #[must_use]
    pub fn by_part(&self) -> [(&'static str, u64); 7] {
        [
            ("codes", self.codes),
            ("originals", self.originals),
            ("mapped", self.mapped),
            ("rows", self.rows),
            ("places", self.places),
            ("roster", self.roster),
            ("graph", self.graph),
        ]
    }
}

impl std::ops::Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            codes: self.codes + other.codes,
            originals: self.originals + other.originals,
            mapped: self.mapped + other.mapped,
            rows: self.rows + other.rows,
            places: self.places + other.places,
            roster: self.roster + other.roster,
            graph: self.graph + other.graph,
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
    /// More templates than the operator allows.
    #[error("the gallery holds {held} of at most {templates_max} templates; raise the limit or add memory")]
    Full { held: u64, templates_max: u64 },
}

/// What all shelves share.
#[derive(Debug)]
struct Room {
    options: GalleryOptions,
    /// How many candidates a walk through a graph weighs at first.
    search_width: AtomicUsize,
    /// None where one thread does it.
    threads: Option<ThreadPool>,
}

/// The galleries of every collection.
#[derive(Debug)]
pub struct Gallery {
    room: Arc<Room>,
    shelves: RwLock<HashMap<CollectionUid, Arc<Shelf>>>,
}

impl Gallery {
    #[must_use]
    pub fn new(options: GalleryOptions) -> Self {
        let threads = (options.sweep_threads > 1).then(|| {
            let builder = ThreadPoolBuilder::new().num_threads(options.sweep_threads);
            builder.thread_name(|number| format!("sweep-{number}")).build()
        });
        let threads = threads.transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "sweeps run on one thread each, because the system refuses more");
            None
        });
        let search_width = AtomicUsize::new(options.graph_search_width.max(1));
        Self { room: Arc::new(Room { options, search_width, threads }), shelves: RwLock::default() }
    }

    /// The collection's shelf; an empty one at the start of the log when there was none.
    pub fn open(&self, uid: CollectionUid) -> Arc<Shelf> {
        let mut shelves = self.shelves.write();
        Arc::clone(shelves.entry(uid).or_insert_with(|| Arc::new(Shelf::new(uid, Arc::clone(&self.room)))))
    }

    #[must_use]
    pub fn shelf(&self, uid: CollectionUid) -> Option<Arc<Shelf>> {
        self.shelves.read().get(&uid).map(Arc::clone)
    }

    /// How many candidates searches of graphs weigh from now on; see [`GalleryOptions::graph_search_width`].
    pub fn widen(&self, graph_search_width: usize) {
        self.room.search_width.store(graph_search_width.max(1), Ordering::Relaxed);
    }

    /// Every shelf, for whoever keeps them up.
    #[must_use]
    pub fn shelves(&self) -> Vec<(CollectionUid, Arc<Shelf>)> {
        self.shelves.read().iter().map(|(uid, shelf)| (*uid, Arc::clone(shelf))).collect()
    }

    /// Lets go of a deleted collection. Its memory is overwritten when the last search in it has ended; its snapshots are
    /// for the caller to remove, see [`Shelf::end`], because that takes a while.
    pub fn remove(&self, uid: CollectionUid) -> Option<Arc<Shelf>> {
        self.shelves.write().remove(&uid)
    }

    /// Removes snapshots of collections that are not open: they were deleted while nobody here could hear of it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn prune(&self) -> Result<(), SnapshotError> {
        let Some(root) = &self.room.options.snapshots_dir else {
            return Ok(());
        };
        let open: HashSet<CollectionUid> = self.shelves.read().keys().copied().collect();
        snapshot::prune(root, &open)
    }

    /// What all collections hold together.
    #[must_use]
    pub fn totals(&self) -> CollectionStats {
        self.shelves().iter().map(|(_, shelf)| shelf.stats()).fold(CollectionStats::default(), |sum, one| {
            CollectionStats { identities: sum.identities + one.identities, templates: sum.templates + one.templates }
        })
    }

    /// What all collections take together.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.shelves().iter().map(|(_, shelf)| shelf.bytes()).fold(Bytes::default(), std::ops::Add::add)
    }

    /// Looks for one template of every space that has a graph, by the graph and by the scan, and compares. Takes as long
    /// as so many scans.
    #[must_use]
    pub fn watch(&self, now: Timestamp, draw: u64) -> Watched {
        self.shelves().iter().map(|(_, shelf)| shelf.watch(now, draw)).fold(Watched::default(), std::ops::Add::add)
    }

    /// Whether `more` templates fit. To be asked before they are appended to a log: a shelf follows its log whatever
    /// the limit says.
    ///
    /// # Errors
    /// [`GalleryError::Full`].
    pub fn check_room(&self, more: u64) -> Result<(), GalleryError> {
        let held = self.totals().templates;
        let templates_max = self.room.options.templates_max;
        if held.saturating_add(more) > templates_max {
            return Err(GalleryError::Full { held, templates_max });
        }
        Ok(())
    }
}
