//! One collection's gallery.

pub(crate) mod graph_recall;
mod rerank;
mod restore;
pub(crate) mod snapshots;
pub(crate) mod state;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::{Mutex, RwLock};

pub use restore::Restore;

use crate::{
    Bytes, GalleryError, Room,
    collection::{
        graph_recall::{Watched, watch},
        snapshots::Kept,
        state::{Figures, Fold},
    },
    graph::Graph,
    rehearsal::{Together, rehearse},
    roster::Slot,
    rows::{Rows, kernel::Packing},
    scan::{
        filter::Sieve,
        query::{Ask, Question},
        top::Best,
    },
    space::{Need, Space},
    survey::Survey,
};
use domain::{
    Candidate, CollectionStats, CollectionUid, Embedding, EmbeddingSpace, Entry, Filter, GalleryStatistics, IdentityId,
    Labels, Neighbour, Pooling, Position, Rehearsal, Similarity, Timestamp,
};

/// What a search wants.
#[derive(Debug, Clone, Copy)]
pub struct Query<'q> {
    /// The most identities to answer. Meant for tens or hundreds: each hit is compared with those already found.
    pub limit: usize,
    /// Only identities whose labels pass.
    pub filter: Option<&'q Filter>,
    /// Identities that have expired by then are not found.
    pub now: Timestamp,
    /// How the templates of one identity speak together.
    pub pooling: Pooling,
    /// Only identities that are at least this similar. Trims the answer and decides nothing.
    pub similarity_min: Option<Similarity>,
}

/// What the gallery knows of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    pub labels: Labels,
    pub expire_time: Option<Timestamp>,
}

/// What a round of maintenance did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Graphs built or built anew.
    pub built: usize,
    /// Graphs dropped because their space became small.
    pub dropped: usize,
    /// Templates inserted into graphs.
    pub inserted: usize,
}

/// One collection: who is enrolled, in every space. Searches run side by side; a change waits for those under way.
#[derive(Debug)]
pub struct Shelf {
    pub(crate) uid: CollectionUid,
    pub(crate) room: Arc<Room>,
    pub(crate) fold: RwLock<Fold>,
    /// What is asked of it all the time. By itself, so that nobody who asks waits behind a search.
    pub(crate) figures: RwLock<Figures>,
    /// Held by whoever maintains, so that no two build the same graph.
    maintained: Mutex<()>,
    /// Held by whoever takes a snapshot, or removes it.
    pub(crate) kept: Mutex<Kept>,
    /// Held by whoever makes what was erased from a snapshot last.
    pub(crate) scrubbed: Mutex<()>,
}

impl Shelf {
    pub(crate) fn new(uid: CollectionUid, room: Arc<Room>) -> Self {
        let fold = RwLock::new(Fold::new(room.options.code_bits.packing()));
        Self {
            uid,
            room,
            fold,
            figures: RwLock::default(),
            maintained: Mutex::new(()),
            kept: Mutex::new(Kept::Wanted),
            scrubbed: Mutex::new(()),
        }
    }

    pub(crate) fn packing(&self) -> Packing {
        self.room.options.code_bits.packing()
    }

    /// Up to where the shelf has followed its collection's log.
    pub fn position(&self) -> Position {
        self.figures.read().position
    }

    /// Follows the log. Entries at or before [`Shelf::position`] are skipped. All that the entries say is true for
    /// every search that starts after this has returned.
    ///
    /// # Errors
    /// [`GalleryError::Gap`]: the entries before the faulty one are applied.
    pub fn apply(&self, entries: &[Entry]) -> Result<(), GalleryError> {
        let mut fold = self.fold.write();
        let applied = entries.iter().try_for_each(|entry| fold.apply(entry));
        *self.figures.write() = fold.figures();
        applied
    }

    /// Begins to load the collection as the store holds it at `head`, in place of following the log from its start.
    /// `mark` is that of the log's entry at the head, see [`Entry::checksum`]; 0 for an empty log.
    pub fn restore(&self, head: Position, mark: u32) -> Restore<'_> {
        Restore::new(self, head, mark)
    }

    /// Puts a restored fold in place, unless the shelf has followed the log further meanwhile.
    pub(crate) fn replace(&self, restored: Fold) {
        let mut fold = self.fold.write();
        if restored.head > fold.head || fold.head == Position::START {
            let before = std::mem::replace(&mut *fold, restored);
            *self.figures.write() = fold.figures();
            drop(fold);
            drop(before);
        }
    }

    /// The identities nearest to the probe, each with its most similar template: most similar first, ties by template
    /// id. Exact unless a graph serves the space. Empty for a space that holds nothing.
    pub fn search(&self, probe: &Embedding, query: &Query<'_>) -> Vec<Candidate> {
        self.search_all(&[(probe, *query)]).pop().unwrap_or_default()
    }

    /// What [`Shelf::search`] answers to each, in order. Together they take hardly longer than one of them while memory
    /// is what they wait for: those in one space share a sweep over it.
    pub fn search_all(&self, searches: &[(&Embedding, Query<'_>)]) -> Vec<Vec<Candidate>> {
        let fold = self.fold.read();
        let sieves: Vec<Sieve<'_>> =
            searches.iter().map(|(_, query)| Sieve::new(&fold.roster, query.filter, query.now)).collect();
        let width = self.room.search_width.load(Ordering::Relaxed);
        let asked = searches.iter().map(|(probe, query)| (probe.values(), query.pooling)).zip(&sieves);
        let asks: Vec<Ask<'_>> = asked.map(|((probe, pooling), sieve)| Ask { probe, sieve, width, pooling }).collect();
        let mut bests: Vec<Best> =
            searches.iter().map(|(_, query)| Best::new(query.limit, query.similarity_min)).collect();
        let mut by_space: HashMap<EmbeddingSpace, Vec<Question<'_, '_>>> = HashMap::new();
        for (((probe, _), ask), best) in searches.iter().zip(&asks).zip(&mut bests) {
            by_space.entry(probe.space()).or_default().push((ask, best));
        }
        for (space, questions) in by_space {
            if let Some(space) = fold.spaces.get(&space) {
                space.search(questions, self.room.threads.as_ref());
            }
        }
        bests.into_iter().map(|best| best.into_hits().iter().map(|hit| fold.candidate(hit)).collect()).collect()
    }

    /// How alike the identity is, with its template that is most similar to the probe; `None` when it has none in the
    /// probe's space, has expired, or is not enrolled.
    pub fn nearest_of(
        &self,
        probe: &Embedding,
        identity: &IdentityId,
        pooling: Pooling,
        now: Timestamp,
    ) -> Option<Candidate> {
        let fold = self.fold.read();
        let slot = fold.roster.slot(identity)?;
        let sieve = Sieve::new(&fold.roster, None, now);
        let ask = Ask { probe: probe.values(), sieve: &sieve, width: 1, pooling };
        let hit = fold.spaces.get(&probe.space())?.nearest_of(&ask, slot);
        hit.filter(|_| sieve.admits(slot)).map(|hit| fold.candidate(&hit))
    }

    /// The most similar templates of these identities, up to `most` of them, the most similar first, and what surrounds
    /// them. With the nearest `most` identities these are the nearest templates of all. `None` for a space that holds
    /// nothing.
    pub fn neighbourhood(
        &self,
        probe: &Embedding,
        identities: &[IdentityId],
        most: usize,
    ) -> Option<(Vec<Neighbour>, GalleryStatistics)> {
        let fold = self.fold.read();
        let owners: Vec<Slot> = identities.iter().filter_map(|id| fold.roster.slot(id)).collect();
        let space = fold.spaces.get(&probe.space())?;
        Some(space.neighbourhood(probe, &owners, most))
    }

    /// How many identities have a template in the space.
    pub fn identities_in(&self, space: EmbeddingSpace) -> u64 {
        self.figures.read().spaces.get(&space).map_or(0, |stats| stats.identities)
    }

    /// How many templates the space holds.
    pub fn templates_in(&self, space: EmbeddingSpace) -> u64 {
        self.figures.read().spaces.get(&space).map_or(0, |stats| stats.templates)
    }

    /// The mean quality of the space's templates, 0 to 1; `None` where no template has one.
    pub fn quality_mean_in(&self, space: EmbeddingSpace) -> Option<f64> {
        self.figures.read().quality_means.get(&space).copied()
    }

    pub fn stats(&self) -> CollectionStats {
        self.figures.read().stats
    }

    /// What the collection takes.
    pub fn bytes(&self) -> Bytes {
        let fold = self.fold.read();
        let roster = Bytes { roster: fold.roster.bytes() as u64, ..Bytes::default() };
        fold.spaces.values().map(Space::bytes).fold(roster, std::ops::Add::add)
    }

    pub fn identity(&self, id: &IdentityId) -> Option<Enrolled> {
        let fold = self.fold.read();
        let occupant = fold.roster.occupant(fold.roster.slot(id)?)?;
        Some(Enrolled { labels: occupant.labels.clone(), expire_time: occupant.expire_time })
    }

    /// Tries the space's own templates against it: at most `trials_max` of them, drawn by `seed`. Takes as long as so
    /// many scans, on a snapshot, and keeps nobody waiting.
    pub fn rehearse(&self, space: EmbeddingSpace, pooling: Pooling, trials_max: usize, seed: u64) -> Rehearsal {
        let rows = self.fold.read().spaces.get(&space).map(|space| space.rows().clone());
        rows.map_or_else(Rehearsal::default, |rows| rehearse(&rows, pooling, trials_max, seed))
    }

    /// Trials of several spaces together, of at most `trials_max` identities, drawn by `seed`, on a snapshot that keeps nobody
    /// waiting. `None` where one of the spaces holds nothing.
    pub fn together(
        &self,
        spaces: &[EmbeddingSpace],
        pooling: Pooling,
        trials_max: usize,
        seed: u64,
    ) -> Option<Together> {
        let rows: Option<Vec<Rows>> = {
            let fold = self.fold.read();
            spaces.iter().map(|space| Some(fold.spaces.get(space)?.rows().clone())).collect()
        };
        Some(Together::new(rows?, pooling, trials_max, seed))
    }

    /// Takes a survey; `None` of a space that holds nothing.
    pub fn survey(&self, space: EmbeddingSpace, filter: Option<&Filter>, now: Timestamp) -> Option<Survey> {
        let fold = self.fold.read();
        let rows = fold.spaces.get(&space)?.rows().clone();
        let sieve = Sieve::new(&fold.roster, filter, now);
        let admitted: Vec<bool> = (0..rows.len()).map(|row| sieve.admits(rows.owner(row))).collect();
        drop(fold);
        Some(Survey::of(rows, admitted))
    }

    /// See [`crate::Gallery::watch`].
    pub(crate) fn watch(&self, now: Timestamp, draw: u64) -> Watched {
        let fold = self.fold.read();
        let sieve = Sieve::new(&fold.roster, None, now);
        let width = self.room.search_width.load(Ordering::Relaxed);
        fold.spaces.values().map(|space| watch(space, &sieve, width, draw)).fold(Watched::default(), std::ops::Add::add)
    }

    /// Builds, extends, rebuilds or drops graphs where a space needs it. May take minutes, during which searches and
    /// changes go on; a background task calls it. Returns at once when another thread is at it.
    pub fn maintain(&self) -> Upkeep {
        let mut upkeep = Upkeep::default();
        let Some(_alone) = self.maintained.try_lock() else {
            return upkeep;
        };
        let spaces: Vec<EmbeddingSpace> = self.fold.read().spaces.keys().copied().collect();
        for space in spaces {
            match self.need(space) {
                Need::Nothing => {}
                Need::Build => upkeep.built += usize::from(self.build(space)),
                Need::Insert => upkeep.inserted += self.insert_waiting(space),
                Need::Drop => upkeep.dropped += usize::from(self.with_space(space, Space::drop_graph).is_some()),
            }
        }
        upkeep
    }

    fn need(&self, space: EmbeddingSpace) -> Need {
        self.fold.read().spaces.get(&space).map_or(Need::Nothing, |space| space.need(&self.room.options))
    }

    fn build(&self, space: EmbeddingSpace) -> bool {
        let Some((codes, templates)) = self.with_space(space, Space::begin_build) else {
            return false;
        };
        let graph = Graph::build(codes, templates, &self.room.options);
        // The graph before this one is freed here, after the lock: a million points take a while.
        drop(self.with_space(space, |space| space.finish_build(graph)));
        true
    }

    /// The lock is taken anew for each template, so that a search waits for one insertion at most.
    fn insert_waiting(&self, space: EmbeddingSpace) -> usize {
        std::iter::from_fn(|| self.with_space(space, |space| space.insert_next().then_some(()))).count()
    }

    fn with_space<T>(&self, space: EmbeddingSpace, change: impl FnOnce(&mut Space) -> Option<T>) -> Option<T> {
        self.fold.write().spaces.get_mut(&space).and_then(change)
    }
}
