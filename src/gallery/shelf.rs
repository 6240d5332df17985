//! One collection's gallery.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::{Mutex, RwLock};

use super::{
    Bytes, GalleryError, Restore, Room, SnapshotError,
    best::{Best, Hit},
    graph::Graph,
    kernel::Packing,
    rehearse::rehearse,
    rows::Member,
    slots::{Roster, Sieve, Slot},
    snapshot::{self, Moment, Recalled, Roll},
    space::{Ask, Need, Space},
    sweep::Question,
    watch::{Watched, watch},
};
use crate::domain::{
    Candidate, CollectionStats, CollectionUid, Embedding, EmbeddingSpace, Entry, EntryKind, Filter, Identity,
    IdentityId, Labels, Pooling, Position, Rehearsal, Similarity, StoredTemplate, TemplateId, Timestamp,
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
    uid: CollectionUid,
    room: Arc<Room>,
    fold: RwLock<Fold>,
    /// What is asked of it all the time. By itself, so that nobody who asks waits behind a search.
    figures: RwLock<Figures>,
    /// Held by whoever maintains, so that no two build the same graph.
    maintained: Mutex<()>,
    /// Held by whoever takes a snapshot, or removes it.
    kept: Mutex<Kept>,
}

/// Where a fold stands and how much it holds.
#[derive(Debug, Default)]
struct Figures {
    position: Position,
    stats: CollectionStats,
    spaces: HashMap<EmbeddingSpace, CollectionStats>,
}

/// Whether snapshots are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Wanted,
    /// The collection is gone.
    Never,
}

impl Shelf {
    pub(super) fn new(uid: CollectionUid, room: Arc<Room>) -> Self {
        let fold = RwLock::new(Fold::new(room.options.code_bits.packing()));
        Self { uid, room, fold, figures: RwLock::default(), maintained: Mutex::new(()), kept: Mutex::new(Kept::Wanted) }
    }

    pub(super) fn packing(&self) -> Packing {
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
    /// [`GalleryError::Gap`], [`GalleryError::UnknownChange`]: the entries before the faulty one are applied.
    pub fn apply(&self, entries: &[Entry]) -> Result<(), GalleryError> {
        let mut fold = self.fold.write();
        let applied = entries.iter().try_for_each(|entry| fold.apply(entry));
        *self.figures.write() = fold.figures();
        applied
    }

    /// Begins to load the collection as the store holds it at `head`, in place of following the log from its start.
    /// `mark` is that of the log's entry at the head, see [`Entry::mark`]; 0 for an empty log.
    pub fn restore(&self, head: Position, mark: u32) -> Restore<'_> {
        Restore::new(self, head, mark)
    }

    /// Puts a restored fold in place, unless the shelf has followed the log further meanwhile.
    pub(super) fn replace(&self, restored: Fold) {
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

    /// How many identities have a template in the space.
    pub fn identities_in(&self, space: EmbeddingSpace) -> u64 {
        self.figures.read().spaces.get(&space).map_or(0, |stats| stats.identities)
    }

    /// How many templates the space holds.
    pub fn templates_in(&self, space: EmbeddingSpace) -> u64 {
        self.figures.read().spaces.get(&space).map_or(0, |stats| stats.templates)
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

    /// See [`super::Gallery::watch`].
    pub(super) fn watch(&self, now: Timestamp, draw: u64) -> Watched {
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

/// Snapshots: what a restart reads instead of the store.
impl Shelf {
    /// Reads the newest snapshot, if there is one. Nothing changes until it is taken up.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged. It is of no use then; see [`Shelf::clear`].
    pub fn recall(self: &Arc<Self>) -> Result<Option<Recall>, SnapshotError> {
        let Some(root) = &self.room.options.snapshots_dir else {
            return Ok(None);
        };
        let Some(folder) = snapshot::newest(root, self.uid)? else {
            return Ok(None);
        };
        let Recalled { moment, roll } = snapshot::read(&folder, self.uid, self.packing())?;
        Ok(Some(Recall { shelf: Arc::clone(self), fold: Fold::of(moment, roll, self.packing()) }))
    }

    /// Takes a snapshot where one is wanted: the log has moved on by a hundredth of what is held, or there is none yet.
    /// Searches and changes go on meanwhile. Answers whether it was taken.
    ///
    /// # Errors
    /// When it cannot be written. The snapshot before it stays in use.
    pub fn keep(&self) -> Result<bool, SnapshotError> {
        let Some(root) = &self.room.options.snapshots_dir else {
            return Ok(false);
        };
        let kept = self.kept.lock();
        if *kept == Kept::Never {
            return Ok(false);
        }
        if !self.fold.write().begin_snapshot() {
            return Ok(false);
        }
        // Searches go on while it is copied, and what is forgotten in between is overwritten in the end.
        let moment = self.fold.read().moment();
        let written = snapshot::write(root, self.uid, &moment);
        let replaced = match written {
            Ok(roll) => self.fold.write().finish_snapshot(&moment, roll),
            Err(error) => {
                self.fold.write().forgotten = None;
                return Err(error);
            }
        };
        // Files are overwritten here, after the lock.
        drop(replaced);
        Ok(true)
    }

    /// Removes all snapshots, because they are of no use.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn clear(&self) -> Result<(), SnapshotError> {
        let _alone = self.kept.lock();
        self.remove_snapshots()
    }

    /// Removes all snapshots and takes none any more, because the collection is gone.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn end(&self) -> Result<(), SnapshotError> {
        let mut kept = self.kept.lock();
        *kept = Kept::Never;
        self.remove_snapshots()
    }

    fn remove_snapshots(&self) -> Result<(), SnapshotError> {
        let roll = self.fold.write().kept.take();
        drop(roll);
        self.room.options.snapshots_dir.as_ref().map_or(Ok(()), |root| snapshot::clear(root, self.uid))
    }

    /// Makes what was overwritten in the snapshot stay so, whatever happens to the machine.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn scrub(&self) -> Result<(), SnapshotError> {
        // Asked first by a reader, because most have nothing to do.
        if self.fold.read().kept.as_ref().is_none_or(Roll::is_synced) {
            return Ok(());
        }
        self.fold.write().kept.as_mut().map_or(Ok(()), Roll::sync)
    }
}

/// A snapshot that was read and is whole. Whether it is of the log that the store holds now is for the caller to see.
#[derive(Debug)]
#[must_use = "nothing is loaded until it is taken up"]
pub struct Recall {
    shelf: Arc<Shelf>,
    fold: Fold,
}

impl Recall {
    /// Where in the log it stands.
    pub fn position(&self) -> Position {
        self.fold.head
    }

    /// Of the entry at that position.
    pub fn mark(&self) -> u32 {
        self.fold.mark
    }

    /// Puts it in place; entries after its position are applied as usual.
    pub fn take_up(self) {
        self.shelf.replace(self.fold);
    }
}

/// What the log adds up to.
#[derive(Debug, Default)]
pub(super) struct Fold {
    pub(super) head: Position,
    /// Of the entry at the head.
    pub(super) mark: u32,
    /// Of the codes of its spaces.
    packing: Packing,
    roster: Roster,
    spaces: HashMap<EmbeddingSpace, Space>,
    /// The newest snapshot.
    kept: Option<Roll>,
    /// While a snapshot is written: what was forgotten since, and must be overwritten in it.
    forgotten: Option<Vec<Forgotten>>,
}

/// Somebody or something that no file may hold any more.
#[derive(Debug, Clone, Copy)]
enum Forgotten {
    Template(TemplateId),
    Identity(Slot),
}

/// A share of what is held; below it, reading the entries again costs less than writing everything anew.
const MOVED_SHARE: u64 = 100;

impl Fold {
    pub(super) fn new(packing: Packing) -> Self {
        Self { packing, ..Self::default() }
    }

    fn of(moment: Moment, roll: Roll, packing: Packing) -> Self {
        Self {
            packing,
            head: moment.position,
            mark: moment.mark,
            roster: Roster::of(moment.occupants),
            spaces: moment.spaces.into_iter().map(|(key, rows)| (key, Space::of(rows))).collect(),
            kept: Some(roll),
            forgotten: None,
        }
    }

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
        let space = self.spaces.entry(key).or_insert_with(|| Space::new(key, self.packing));
        let quality = stored.template.quality.unwrap_or(f32::NAN);
        space.admit(Member { owner, template: stored.template.id, quality }, stored.embedding.values());
    }

    fn figures(&self) -> Figures {
        let of = |space: &Space| CollectionStats {
            identities: space.identities() as u64,
            templates: space.rows().len() as u64,
        };
        let spaces: HashMap<EmbeddingSpace, CollectionStats> =
            self.spaces.iter().map(|(key, space)| (*key, of(space))).collect();
        let templates = spaces.values().map(|stats| stats.templates).sum();
        Figures {
            position: self.head,
            stats: CollectionStats { identities: self.roster.len() as u64, templates },
            spaces,
        }
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
        self.mark = entry.mark();
        Ok(())
    }

    fn forget_template(&mut self, template: TemplateId) {
        for space in self.spaces.values_mut() {
            space.forget_template(template);
        }
        self.erase(Forgotten::Template(template));
    }

    fn forget_identity(&mut self, id: &IdentityId) {
        if let Some(slot) = self.roster.forget(id) {
            let forgotten: Vec<TemplateId> =
                self.spaces.values_mut().flat_map(|space| space.forget_owner(slot)).collect();
            for template in forgotten {
                self.erase(Forgotten::Template(template));
            }
            self.erase(Forgotten::Identity(slot));
        }
    }

    /// Overwrites what files hold of it. A snapshot in which that fails is given up: better none than one that
    /// remembers.
    fn erase(&mut self, forgotten: Forgotten) {
        if let Some(roll) = &mut self.kept
            && let Err(error) = forgotten.erase_from(roll)
        {
            tracing::warn!(%error, "a snapshot is given up, because nothing can be erased from it");
            roll.retire();
            self.kept = None;
        }
        if let Some(list) = &mut self.forgotten {
            list.push(forgotten);
        }
    }

    /// Whether a snapshot is wanted. From then on it is noted what is forgotten.
    fn begin_snapshot(&mut self) -> bool {
        let held: u64 = self.spaces.values().map(|space| space.rows().len() as u64).sum();
        let moved = self.head.0 - self.kept.as_ref().map_or(0, |roll| roll.position.0);
        let wanted = moved > 0 && moved >= held / MOVED_SHARE;
        self.forgotten = wanted.then(Vec::new);
        wanted
    }

    /// What a snapshot is made of; shared with what is in memory.
    fn moment(&self) -> Moment {
        Moment {
            position: self.head,
            mark: self.mark,
            occupants: self.roster.shared(),
            spaces: self.spaces.iter().map(|(key, space)| (*key, space.rows().clone())).collect(),
        }
    }

    /// Takes the new snapshot into use. Answers the one that is of no use any more.
    fn finish_snapshot(&mut self, moment: &Moment, mut roll: Roll) -> Option<Roll> {
        let erased = self.forgotten.take().map(|list| list.iter().try_for_each(|one| one.erase_from(&mut roll)));
        // Nothing to catch up from means that the shelf was loaded anew meanwhile.
        if !matches!(erased, Some(Ok(()))) {
            roll.retire();
            return Some(roll);
        }
        for (key, written) in &moment.spaces {
            if let (Some(space), Some(file)) = (self.spaces.get_mut(key), roll.file(key)) {
                space.adopt(written, file);
            }
        }
        let replaced = self.kept.replace(roll);
        replaced.iter().for_each(Roll::retire);
        replaced
    }

    fn candidate(&self, hit: &Hit) -> Candidate {
        let occupant = self.roster.occupant(hit.owner).expect("rows leave with their owner");
        Candidate { identity: occupant.id.clone(), template: hit.template, similarity: Similarity(hit.similarity) }
    }
}

impl Forgotten {
    fn erase_from(self, roll: &mut Roll) -> Result<(), SnapshotError> {
        match self {
            Self::Template(template) => roll.erase_template(template),
            Self::Identity(slot) => roll.erase_identity(slot),
        }
    }
}
