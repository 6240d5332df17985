//! One collection's gallery.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, RwLock};

use super::{
    GalleryError, GalleryOptions, Restore,
    best::{Best, Hit},
    graph::Graph,
    rehearse::rehearse,
    slots::{Roster, Sieve},
    space::{Ask, Need, Space},
};
use crate::domain::{
    Candidate, CollectionStats, Embedding, EmbeddingSpace, Entry, EntryKind, Filter, Identity, IdentityId, Labels,
    Position, Rehearsal, Similarity, StoredTemplate, TemplateId, Timestamp,
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
    /// Only templates that are at least this similar. Trims the answer and decides nothing.
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
    options: Arc<GalleryOptions>,
    fold: RwLock<Fold>,
    /// Held by whoever maintains, so that no two build the same graph.
    maintained: Mutex<()>,
}

impl Shelf {
    pub(super) fn new(options: Arc<GalleryOptions>) -> Self {
        Self { options, fold: RwLock::default(), maintained: Mutex::new(()) }
    }

    /// Up to where the shelf has followed its collection's log.
    pub fn position(&self) -> Position {
        self.fold.read().head
    }

    /// Follows the log. Entries at or before [`Shelf::position`] are skipped. All that the entries say is true for
    /// every search that starts after this has returned.
    ///
    /// # Errors
    /// [`GalleryError::Gap`], [`GalleryError::UnknownChange`]: the entries before the faulty one are applied.
    pub fn apply(&self, entries: &[Entry]) -> Result<(), GalleryError> {
        let mut fold = self.fold.write();
        entries.iter().try_for_each(|entry| fold.apply(entry))
    }

    /// Begins to load the collection as the store holds it at `head`, in place of following the log from its start.
    pub fn restore(&self, head: Position) -> Restore<'_> {
        Restore::new(self, head)
    }

    /// Puts a restored fold in place, unless the shelf has followed the log further meanwhile.
    pub(super) fn replace(&self, restored: Fold) {
        let mut fold = self.fold.write();
        if restored.head > fold.head || fold.head == Position::START {
            let before = std::mem::replace(&mut *fold, restored);
            drop(fold);
            drop(before);
        }
    }

    /// The identities nearest to the probe, each by its most similar template: most similar first, ties by template
    /// id. Exact unless a graph serves the space. Empty for a space that holds nothing.
    pub fn search(&self, probe: &Embedding, query: &Query<'_>) -> Vec<Candidate> {
        let fold = self.fold.read();
        let Some(space) = fold.spaces.get(&probe.space()) else {
            return Vec::new();
        };
        let sieve = Sieve::new(&fold.roster, query.filter, query.now);
        let mut best = Best::new(query.limit, query.similarity_min);
        let width = self.options.graph_search_width.max(1);
        space.search(&Ask { probe: probe.values(), sieve: &sieve, width }, &mut best);
        best.into_hits().iter().map(|hit| fold.candidate(hit)).collect()
    }

    /// The identity's template that is most similar to the probe; `None` when the identity has none in the probe's
    /// space, has expired, or is not enrolled.
    pub fn nearest_of(&self, probe: &Embedding, identity: &IdentityId, now: Timestamp) -> Option<Candidate> {
        let fold = self.fold.read();
        let slot = fold.roster.slot(identity)?;
        let admitted = Sieve::new(&fold.roster, None, now).admits(slot);
        let hit = fold.spaces.get(&probe.space())?.nearest_of(probe.values(), slot);
        hit.filter(|_| admitted).map(|hit| fold.candidate(&hit))
    }

    /// How many identities have a template in the space.
    pub fn identities_in(&self, space: EmbeddingSpace) -> u64 {
        self.fold.read().spaces.get(&space).map_or(0, |space| space.identities() as u64)
    }

    /// How many templates the space holds.
    pub fn templates_in(&self, space: EmbeddingSpace) -> u64 {
        self.fold.read().spaces.get(&space).map_or(0, |space| space.rows().len() as u64)
    }

    pub fn stats(&self) -> CollectionStats {
        let fold = self.fold.read();
        CollectionStats {
            identities: fold.roster.len() as u64,
            templates: fold.spaces.values().map(|space| space.rows().len() as u64).sum(),
        }
    }

    pub fn identity(&self, id: &IdentityId) -> Option<Enrolled> {
        let fold = self.fold.read();
        let occupant = fold.roster.occupant(fold.roster.slot(id)?)?;
        Some(Enrolled { labels: occupant.labels.clone(), expire_time: occupant.expire_time })
    }

    /// Tries the space's own templates against it: at most `trials_max` of them, drawn by `seed`. Takes as long as so
    /// many scans, on a snapshot, and keeps nobody waiting.
    pub fn rehearse(&self, space: EmbeddingSpace, trials_max: usize, seed: u64) -> Rehearsal {
        let rows = self.fold.read().spaces.get(&space).map(|space| space.rows().clone());
        rows.map_or_else(Rehearsal::default, |rows| rehearse(&rows, trials_max, seed))
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
        self.fold.read().spaces.get(&space).map_or(Need::Nothing, |space| space.need(&self.options))
    }

    fn build(&self, space: EmbeddingSpace) -> bool {
        let Some(rows) = self.with_space(space, |space| Some(space.begin_build())) else {
            return false;
        };
        let graph = Graph::build(&rows, &self.options);
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

/// What the log adds up to.
#[derive(Debug, Default)]
pub(super) struct Fold {
    pub(super) head: Position,
    roster: Roster,
    spaces: HashMap<EmbeddingSpace, Space>,
}

impl Fold {
    pub(super) fn put(&mut self, identity: &Identity) {
        self.roster.put(identity);
    }

    /// A template of an identity that is not there is passed over: the identity was removed after the template was
    /// written, and the entry that says so comes next.
    pub(super) fn admit(&mut self, stored: &StoredTemplate) {
        let Some(owner) = self.roster.slot(&stored.template.identity) else {
            return;
        };
        let key = stored.embedding.space();
        let space = self.spaces.entry(key).or_insert_with(|| Space::new(key));
        space.admit(owner, stored.template.id, stored.embedding.values());
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), GalleryError> {
        if entry.position <= self.head {
            return Ok(());
        }
        if entry.position != self.head.next() {
            return Err(GalleryError::Gap { expected: self.head.next(), found: entry.position });
        }
        match (entry.kind, entry.template) {
            (EntryKind::Admit, _) => entry.admitted.iter().for_each(|stored| self.admit(stored)),
            (EntryKind::Label, _) => entry.labelled.iter().for_each(|identity| self.put(identity)),
            (EntryKind::Forget | EntryKind::Expire, Some(template)) => self.forget_template(template),
            (EntryKind::Forget | EntryKind::Expire, None) => self.forget_identity(&entry.identity),
            (EntryKind::Move, _) => return Err(GalleryError::UnknownChange(entry.position)),
        }
        self.head = entry.position;
        Ok(())
    }

    fn forget_template(&mut self, template: TemplateId) {
        self.spaces.values_mut().for_each(|space| space.forget_template(template));
    }

    fn forget_identity(&mut self, id: &IdentityId) {
        if let Some(slot) = self.roster.forget(id) {
            self.spaces.values_mut().for_each(|space| space.forget_owner(slot));
        }
    }

    fn candidate(&self, hit: &Hit) -> Candidate {
        let occupant = self.roster.occupant(hit.owner).expect("rows leave with their owner");
        Candidate { identity: occupant.id.clone(), template: hit.template, similarity: Similarity(hit.similarity) }
    }
}
