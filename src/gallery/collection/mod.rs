//! The index of one collection.

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
    GalleryError, GalleryRuntime, MemoryBytes,
    collection::{
        graph_recall::{RecallSample, sample_recall},
        snapshots::SnapshotPolicy,
        state::{IndexState, IndexStatistics},
    },
    graph::Graph,
    rehearsal::{ImpostorTrials, JointRehearsal, RehearsalLimits, outsider_trials, rehearse, rehearse_open_set},
    roster::Slot,
    rows::{Rows, kernel::Packing},
    scan::{
        filter::CandidateFilter,
        query::{PendingQuery, SpaceQuery},
        top::TopIdentities,
    },
    space::{GraphTask, SpaceIndex, SpaceKey},
    survey::Survey,
};
use domain::{
    Candidate, CollectionCounts, CollectionStats, CollectionUid, Embedding, EmbeddingSpace, Entry, Filter,
    GalleryStatistics, IdentityId, Labels, Neighbour, Pooling, Position, PosteriorTrials, Rehearsal, Similarity,
    Timestamp,
};

/// Parameters of a search.
#[derive(Debug, Clone, Copy)]
pub struct Query<'q> {
    /// Maximum number of identities in the answer. Intended for up to hundreds: each hit is compared with all hits
    /// found so far.
    pub limit: usize,
    /// Only identities whose labels match.
    pub filter: Option<&'q Filter>,
    /// Identities that expired at or before this time are excluded.
    pub now: Timestamp,
    /// How to combine the similarities of one identity's templates.
    pub pooling: Pooling,
    /// Only identities with at least this similarity. It shortens the answer and is not a decision threshold.
    pub similarity_min: Option<Similarity>,
    pub searched: Searched,
}

/// The identities that a search compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Searched {
    #[default]
    Enrolled,
    Provisional,
    Both,
}

impl Searched {
    fn includes(self, provisional: bool) -> bool {
        match self {
            Self::Enrolled => !provisional,
            Self::Provisional => provisional,
            Self::Both => true,
        }
    }
}

/// An enrolled identity without its templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedIdentity {
    pub provisional: bool,
    pub labels: Labels,
    pub expire_time: Option<Timestamp>,
}

/// Result of one maintenance run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MaintenanceReport {
    /// Number of graphs built or rebuilt.
    pub built: usize,
    /// Number of graphs dropped because their space became small.
    pub dropped: usize,
    /// Number of templates inserted into graphs.
    pub inserted: usize,
}

/// All templates of one collection, in all its embedding spaces. Searches run concurrently; a change waits for running
/// searches.
#[derive(Debug)]
pub struct CollectionIndex {
    pub(crate) uid: CollectionUid,
    pub(crate) runtime: Arc<GalleryRuntime>,
    pub(crate) state: RwLock<IndexState>,
    /// Counters that callers read often. A lock of their own, so that readers never wait for a search or a change.
    pub(crate) statistics: RwLock<IndexStatistics>,
    /// Held during maintenance, so that no two threads build the same graph.
    maintenance: Mutex<()>,
    /// Held while a snapshot is written or deleted.
    pub(crate) snapshot_policy: Mutex<SnapshotPolicy>,
    /// Held while erasures in the snapshot are synced to disk.
    pub(crate) erasure_sync: Mutex<()>,
}

impl CollectionIndex {
    pub(crate) fn new(uid: CollectionUid, runtime: Arc<GalleryRuntime>) -> Self {
        let state = RwLock::new(IndexState::new(runtime.options.code_bits.packing()));
        Self {
            uid,
            runtime,
            state,
            statistics: RwLock::default(),
            maintenance: Mutex::new(()),
            snapshot_policy: Mutex::new(SnapshotPolicy::Enabled),
            erasure_sync: Mutex::new(()),
        }
    }

    pub(crate) fn packing(&self) -> Packing {
        self.runtime.options.code_bits.packing()
    }

    /// Last applied position of the collection's log.
    pub fn position(&self) -> Position {
        self.statistics.read().position
    }

    /// Applies log entries. Skips entries at or before [`CollectionIndex::position`]. Every search that starts after
    /// this call sees all entries.
    ///
    /// # Errors
    /// [`GalleryError::Gap`]: the entries before the faulty one are applied.
    pub fn apply(&self, entries: &[Entry]) -> Result<(), GalleryError> {
        let mut state = self.state.write();
        let applied = entries.iter().try_for_each(|entry| state.apply(entry));
        *self.statistics.write() = state.statistics();
        applied
    }

    /// Starts loading the collection from the store's tables as of `head`, instead of applying the log from its start.
    /// `entry_checksum` is the checksum of the log entry at the head, see [`Entry::checksum`]; 0 for an empty log.
    pub fn restore(&self, head: Position, entry_checksum: u32) -> Restore<'_> {
        Restore::new(self, head, entry_checksum)
    }

    /// Replaces the state with a loaded one, unless the index applied the log beyond it meanwhile.
    pub(crate) fn replace(&self, restored: IndexState) {
        let mut state = self.state.write();
        let unused = if restored.head > state.head || state.head == Position::START {
            let before = std::mem::replace(&mut *state, restored);
            *self.statistics.write() = state.statistics();
            before
        } else {
            restored
        };
        // Erasures do not reach a snapshot that is in no use. Both states may have read the same one.
        if let Some(files) = &unused.snapshot
            && state.snapshot.as_ref().is_none_or(|used| used.path() != files.path())
        {
            files.retire();
        }
        drop(state);
        drop(unused);
    }

    /// The identities most similar to the probe, each with its most similar template. Sorted by falling similarity,
    /// ties by rising template id. Exact unless a graph serves the space. Empty when the space holds no template.
    pub fn search(&self, probe: &Embedding, query: &Query<'_>) -> Vec<Candidate> {
        self.search_all(&[(probe, *query)]).pop().unwrap_or_default()
    }

    /// The answers of [`CollectionIndex::search`] to each search, in order. Searches in one space share one scan, which
    /// takes hardly longer than a single one while memory bandwidth is the bottleneck.
    pub fn search_all(&self, searches: &[(&Embedding, Query<'_>)]) -> Vec<Vec<Candidate>> {
        let state = self.state.read();
        let filters: Vec<CandidateFilter<'_>> =
            searches.iter().map(|(_, query)| CandidateFilter::new(&state.roster, query.filter, query.now)).collect();
        let width = self.runtime.search_width.load(Ordering::Relaxed);
        let inputs = searches.iter().map(|(probe, query)| (probe.values(), query.pooling)).zip(&filters);
        let queries: Vec<SpaceQuery<'_>> = inputs
            .map(|((probe, pooling), candidate_filter)| SpaceQuery { probe, candidate_filter, width, pooling })
            .collect();
        let mut tops: Vec<TopIdentities> =
            searches.iter().map(|(_, query)| TopIdentities::new(query.limit, query.similarity_min)).collect();
        for provisional in [false, true] {
            let mut by_space: HashMap<EmbeddingSpace, Vec<PendingQuery<'_, '_>>> = HashMap::new();
            for (((probe, asked), query), top) in searches.iter().zip(&queries).zip(&mut tops) {
                if asked.searched.includes(provisional) {
                    by_space.entry(probe.space()).or_default().push(PendingQuery { query, top });
                }
            }
            for (space, pending) in by_space {
                if let Some(space) = state.spaces.get(&SpaceKey { space, provisional }) {
                    space.search(pending, self.runtime.threads.as_ref());
                }
            }
        }
        tops.into_iter().map(|top| top.into_hits().iter().map(|hit| state.candidate(hit)).collect()).collect()
    }

    /// The pooled similarity of one identity, with its most similar template. `None` when the identity is not enrolled,
    /// has expired, or has no template in the probe's space.
    pub fn nearest_of(
        &self,
        probe: &Embedding,
        identity: &IdentityId,
        pooling: Pooling,
        now: Timestamp,
    ) -> Option<Candidate> {
        let state = self.state.read();
        let slot = state.roster.slot(identity)?;
        let candidate_filter = CandidateFilter::new(&state.roster, None, now);
        let query = SpaceQuery { probe: probe.values(), candidate_filter: &candidate_filter, width: 1, pooling };
        let hit = state.enrolled(probe.space())?.nearest_of(&query, slot);
        hit.filter(|_| candidate_filter.admits(slot)).map(|hit| state.candidate(&hit))
    }

    /// Measurements for the open-set decision: the at most `most` most similar templates of these identities, sorted by
    /// falling similarity, and statistics of the space. When `identities` are the `most` most similar ones, these are
    /// the most similar templates of the whole space. `None` when the space holds no template.
    pub fn neighbourhood(
        &self,
        probe: &Embedding,
        identities: &[IdentityId],
        most: usize,
    ) -> Option<(Vec<Neighbour>, GalleryStatistics)> {
        let state = self.state.read();
        let owners: Vec<Slot> = identities.iter().filter_map(|id| state.roster.slot(id)).collect();
        let space = state.enrolled(probe.space())?;
        Some(space.neighbourhood(probe, &owners, most))
    }

    /// Number of identities with a template in the space.
    pub fn identities_in(&self, space: EmbeddingSpace) -> u64 {
        self.statistics.read().spaces.get(&space).map_or(0, |stats| stats.identities)
    }

    /// Number of templates in the space.
    pub fn templates_in(&self, space: EmbeddingSpace) -> u64 {
        self.statistics.read().spaces.get(&space).map_or(0, |stats| stats.templates)
    }

    /// Mean quality of the space's templates, 0 to 1; `None` when no template has a quality.
    pub fn quality_mean_in(&self, space: EmbeddingSpace) -> Option<f64> {
        self.statistics.read().quality_means.get(&space).copied()
    }

    /// Enrolled identities and their templates.
    pub fn stats(&self) -> CollectionStats {
        self.statistics.read().stats
    }

    /// All identities and templates.
    pub fn counts(&self) -> CollectionCounts {
        let statistics = self.statistics.read();
        CollectionCounts { enrolled: statistics.stats, provisional: statistics.provisional }
    }

    /// Number of provisional identities with a template in the space.
    pub fn provisional_in(&self, space: EmbeddingSpace) -> u64 {
        self.statistics.read().provisional_spaces.get(&space).map_or(0, |stats| stats.identities)
    }

    /// The embeddings of a provisional identity in a space, in the order of their enrollment.
    pub fn provisional_embeddings(&self, identity: &IdentityId, space: EmbeddingSpace) -> Vec<Embedding> {
        let state = self.state.read();
        let (Some(slot), Some(index)) = (state.roster.slot(identity), state.provisional(space)) else {
            return Vec::new();
        };
        let embedding = |row: usize| Embedding::restored(space, index.rows().values(row).into());
        index.rows_of(slot).into_iter().filter_map(embedding).collect()
    }

    /// Memory use of the collection.
    pub fn bytes(&self) -> MemoryBytes {
        let state = self.state.read();
        let roster = MemoryBytes { roster: state.roster.bytes() as u64, ..MemoryBytes::default() };
        state.spaces.values().map(SpaceIndex::bytes).fold(roster, std::ops::Add::add)
    }

    pub fn identity(&self, id: &IdentityId) -> Option<IndexedIdentity> {
        let state = self.state.read();
        let entry = state.roster.entry(state.roster.slot(id)?)?;
        Some(IndexedIdentity {
            provisional: entry.provisional,
            labels: entry.labels.clone(),
            expire_time: entry.expire_time,
        })
    }

    /// Runs comparison trials among the templates of the space: at most `trials_max`, drawn by `seed`. Works on a
    /// snapshot, so searches and changes go on. Takes as long as `trials_max` scans.
    pub fn rehearse(&self, space: EmbeddingSpace, pooling: Pooling, trials_max: usize, seed: u64) -> Rehearsal {
        let rows = self.state.read().enrolled(space).map(|space| space.rows().clone());
        rows.map_or_else(Rehearsal::default, |rows| rehearse(&rows, pooling, trials_max, seed))
    }

    /// Compares people who are not enrolled, all in one space, with random identities, one by one. Takes much shorter than
    /// [`CollectionIndex::rehearse`]. The same seed gives the same trials.
    #[must_use]
    pub fn outsider_trials(
        &self,
        pooling: Pooling,
        outsiders: &[Embedding],
        trials_max: usize,
        seed: u64,
    ) -> ImpostorTrials {
        let space = outsiders.first().map(Embedding::space);
        let rows = space.and_then(|space| self.state.read().enrolled(space).map(|space| space.rows().clone()));
        let values: Vec<&[f32]> = outsiders.iter().map(Embedding::values).collect();
        rows.map_or_else(ImpostorTrials::default, |rows| outsider_trials(&rows, pooling, &values, trials_max, seed))
    }

    /// Runs trials of the open-set decision among the templates of the space: each drawn template against the gallery
    /// without it, and without its identity. `genuine` are similarities of genuine pairs of the encoder, if known, for
    /// made-up mated trials. `log_odds` gives the log-odds of being enrolled. Works on a snapshot. Takes
    /// as long as one scan per trial, and some milliseconds per trial at most.
    pub fn rehearse_open_set(
        &self,
        space: EmbeddingSpace,
        limits: RehearsalLimits,
        genuine: &[f32],
        log_odds: &dyn Fn(&[Neighbour], &GalleryStatistics) -> f64,
    ) -> PosteriorTrials {
        let rows = self.state.read().enrolled(space).map(|space| space.rows().clone());
        rows.map_or_else(PosteriorTrials::default, |rows| rehearse_open_set(&rows, limits, genuine, log_odds))
    }

    /// Prepares comparison trials over several spaces: at most `trials_max`, drawn by `seed`, on a snapshot. `None`
    /// when one of the spaces holds no template.
    pub fn joint_rehearsal(
        &self,
        spaces: &[EmbeddingSpace],
        pooling: Pooling,
        trials_max: usize,
        seed: u64,
    ) -> Option<JointRehearsal> {
        let rows: Option<Vec<Rows>> = {
            let state = self.state.read();
            spaces.iter().map(|space| Some(state.enrolled(*space)?.rows().clone())).collect()
        };
        Some(JointRehearsal::new(rows?, pooling, trials_max, seed))
    }

    /// Takes a snapshot of the space for duplicate search and clustering; `None` when the space holds no template.
    pub fn survey(&self, space: EmbeddingSpace, filter: Option<&Filter>, now: Timestamp) -> Option<Survey> {
        let state = self.state.read();
        let rows = state.enrolled(space)?.rows().clone();
        let candidate_filter = CandidateFilter::new(&state.roster, filter, now);
        let admitted: Vec<bool> = (0..rows.len()).map(|row| candidate_filter.admits(rows.owner(row))).collect();
        drop(state);
        Some(Survey::of(rows, admitted))
    }

    /// See [`crate::Gallery::sample_recall`].
    pub(crate) fn sample_recall(&self, now: Timestamp, draw: u64) -> RecallSample {
        let state = self.state.read();
        let candidate_filter = CandidateFilter::new(&state.roster, None, now);
        let width = self.runtime.search_width.load(Ordering::Relaxed);
        state
            .spaces
            .values()
            .map(|space| sample_recall(space, &candidate_filter, width, draw))
            .fold(RecallSample::default(), std::ops::Add::add)
    }

    /// Builds, extends, rebuilds or drops graphs where a space needs it. May take minutes; searches and changes go on
    /// meanwhile. Call it from a background task. Returns at once when another thread is maintaining this index.
    pub fn maintain(&self) -> MaintenanceReport {
        let mut report = MaintenanceReport::default();
        let Some(_alone) = self.maintenance.try_lock() else {
            return report;
        };
        let spaces: Vec<SpaceKey> = self.state.read().spaces.keys().copied().collect();
        for space in spaces {
            match self.graph_task(space) {
                GraphTask::Nothing => {}
                GraphTask::Build => report.built += usize::from(self.build(space)),
                GraphTask::Insert => report.inserted += self.insert_waiting(space),
                GraphTask::Drop => {
                    report.dropped += usize::from(self.with_space(space, SpaceIndex::drop_graph).is_some());
                }
            }
        }
        report
    }

    fn graph_task(&self, space: SpaceKey) -> GraphTask {
        let state = self.state.read();
        state.spaces.get(&space).map_or(GraphTask::Nothing, |space| space.graph_task(&self.runtime.options))
    }

    fn build(&self, space: SpaceKey) -> bool {
        let Some((codes, templates)) = self.with_space(space, SpaceIndex::begin_build) else {
            return false;
        };
        let graph = Graph::build(codes, templates, &self.runtime.options);
        // Frees the previous graph after the lock is released: a million points take a while.
        drop(self.with_space(space, |space| space.finish_build(graph)));
        true
    }

    /// Takes the lock anew for each template, so that a search waits for at most one insertion.
    fn insert_waiting(&self, space: SpaceKey) -> usize {
        std::iter::from_fn(|| self.with_space(space, |space| space.insert_next().then_some(()))).count()
    }

    fn with_space<T>(&self, space: SpaceKey, change: impl FnOnce(&mut SpaceIndex) -> Option<T>) -> Option<T> {
        self.state.write().spaces.get_mut(&space).and_then(change)
    }
}
