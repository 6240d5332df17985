//! The state of a collection after applying its log: identities, templates, and what a snapshot needs of them.

use std::collections::HashMap;

use crate::{
    GalleryError,
    roster::{Roster, Slot},
    rows::{RowRecord, kernel::Packing},
    scan::top::Hit,
    snapshot::{Erasure, SnapshotContent, SnapshotFiles},
    space::{SpaceIndex, SpaceKey},
};
use domain::{
    Candidate, CollectionStats, EmbeddingSpace, Entry, EntryKind, Identity, IdentityId, Position, Similarity,
    StoredTemplate, TemplateId,
};

/// Result of applying the log up to `head`.
#[derive(Debug, Default)]
pub(crate) struct IndexState {
    pub(crate) head: Position,
    /// Checksum of the log entry at the head.
    pub(crate) entry_checksum: u32,
    /// Packing of the codes in all spaces.
    packing: Packing,
    pub(crate) roster: Roster,
    pub(crate) spaces: HashMap<SpaceKey, SpaceIndex>,
    /// The newest snapshot.
    pub(crate) snapshot: Option<SnapshotFiles>,
    /// While a snapshot is being written: deletions since its start, to be erased from it.
    pub(crate) pending_erasures: Option<Vec<Erasure>>,
}

/// A snapshot is written when the log has grown by one hundredth of the template count. Below that, applying the
/// entries costs less than writing all files.
const MOVED_SHARE: u64 = 100;

impl IndexState {
    pub(crate) fn new(packing: Packing) -> Self {
        Self { packing, ..Self::default() }
    }

    pub(crate) fn of(content: SnapshotContent, files: SnapshotFiles, packing: Packing) -> Self {
        let SnapshotContent { position, entry_checksum, entries, spaces } = content;
        let (roster, spaces) = rayon::join(
            || Roster::of(entries),
            || spaces.into_iter().map(|(key, rows)| (key, SpaceIndex::of(rows))).collect(),
        );
        Self { packing, head: position, entry_checksum, roster, spaces, snapshot: Some(files), pending_erasures: None }
    }

    /// The templates of enrolled identities in a space.
    pub(crate) fn enrolled(&self, space: EmbeddingSpace) -> Option<&SpaceIndex> {
        self.spaces.get(&SpaceKey { space, provisional: false })
    }

    /// The templates of provisional identities in a space.
    pub(crate) fn provisional(&self, space: EmbeddingSpace) -> Option<&SpaceIndex> {
        self.spaces.get(&SpaceKey { space, provisional: true })
    }

    pub(crate) fn put(&mut self, identity: &Identity) {
        let slot = self.roster.put(identity);
        self.align(slot, identity.provisional);
    }

    /// Moves the templates of an identity that is no longer provisional, or that is again, to the indexes of its kind.
    fn align(&mut self, slot: Slot, provisional: bool) {
        let others: Vec<SpaceKey> = self.spaces.keys().copied().filter(|key| key.provisional != provisional).collect();
        for key in others {
            for (record, values) in self.index(key).take_owner(slot) {
                self.index(SpaceKey { provisional, ..key }).admit(record, &values);
            }
        }
    }

    fn index(&mut self, key: SpaceKey) -> &mut SpaceIndex {
        self.spaces.entry(key).or_insert_with(|| SpaceIndex::new(key.space, self.packing))
    }

    /// Skips a template whose identity is missing: the identity was deleted later, and its deletion entry follows in
    /// the log.
    pub(crate) fn admit(&mut self, stored: &StoredTemplate) {
        let Some(owner) = self.roster.slot(&stored.template.identity) else {
            return;
        };
        let key = SpaceKey { space: stored.embedding.space(), provisional: self.roster.is_provisional(owner) };
        let quality = stored.template.quality.unwrap_or(f32::NAN);
        self.index(key).admit(RowRecord { owner, template: stored.template.id, quality }, stored.embedding.values());
    }

    pub(crate) fn statistics(&self) -> IndexStatistics {
        let of = |space: &SpaceIndex| CollectionStats {
            identities: space.identities() as u64,
            templates: space.rows().len() as u64,
        };
        let by_kind = |provisional: bool| -> HashMap<EmbeddingSpace, CollectionStats> {
            let own = self.spaces.iter().filter(|(key, _)| key.provisional == provisional);
            own.map(|(key, space)| (key.space, of(space))).collect()
        };
        let (spaces, provisional_spaces) = (by_kind(false), by_kind(true));
        let enrolled = self.spaces.iter().filter(|(key, _)| !key.provisional);
        let quality_means = enrolled.filter_map(|(key, space)| Some((key.space, space.quality_mean()?))).collect();
        let sum = |spaces: &HashMap<EmbeddingSpace, CollectionStats>| spaces.values().map(|one| one.templates).sum();
        IndexStatistics {
            position: self.head,
            stats: CollectionStats { identities: self.roster.enrolled() as u64, templates: sum(&spaces) },
            provisional: CollectionStats {
                identities: self.roster.provisional() as u64,
                templates: sum(&provisional_spaces),
            },
            spaces,
            provisional_spaces,
            quality_means,
        }
    }

    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<(), GalleryError> {
        if entry.position <= self.head {
            return Ok(());
        }
        if entry.position != self.head.next() {
            return Err(GalleryError::Gap { expected: self.head.next(), found: entry.position });
        }
        match (entry.kind, entry.template) {
            (EntryKind::Admit, _) => entry.admitted.iter().for_each(|stored| self.admit(stored)),
            (EntryKind::Label, _) => entry.labelled.iter().for_each(|identity| self.put(identity)),
            (EntryKind::Move, Some(template)) => match &entry.moved {
                Some(stored) => self.move_template(stored),
                None => self.forget_template(template),
            },
            (EntryKind::Move, None) => {}
            (EntryKind::Forget | EntryKind::Expire, Some(template)) => self.forget_template(template),
            (EntryKind::Forget | EntryKind::Expire, None) => self.forget_identity(&entry.identity),
        }
        self.head = entry.position;
        self.entry_checksum = entry.checksum();
        Ok(())
    }

    /// Gives the template to its present owner. An owner that is missing was created later, and a later entry moves the
    /// template there; until then no search finds it.
    fn move_template(&mut self, stored: &StoredTemplate) {
        let template = stored.template.id;
        let Some(owner) = self.roster.slot(&stored.template.identity) else {
            return self.forget_template(template);
        };
        let key = SpaceKey { space: stored.embedding.space(), provisional: self.roster.is_provisional(owner) };
        if !self.index(key).change_owner(template, owner) {
            for space in self.spaces.values_mut() {
                space.forget_template(template);
            }
            self.admit(stored);
        }
    }

    fn forget_template(&mut self, template: TemplateId) {
        for space in self.spaces.values_mut() {
            space.forget_template(template);
        }
        self.erase(&[Erasure::Template(template)]);
    }

    fn forget_identity(&mut self, id: &IdentityId) {
        if let Some(slot) = self.roster.forget(id) {
            let forgotten = self.spaces.values_mut().flat_map(|space| space.forget_owner(slot));
            let mut erasures: Vec<Erasure> = forgotten.map(Erasure::Template).collect();
            erasures.push(Erasure::Identity(slot));
            self.erase(&erasures);
        }
    }

    fn erase(&mut self, erasures: &[Erasure]) {
        if let Some(files) = &mut self.snapshot {
            files.erase(erasures);
        }
        if let Some(list) = &mut self.pending_erasures {
            list.extend(erasures);
        }
    }

    /// Whether deleted data may be in the newest snapshot, or in one that is being written.
    pub(crate) fn is_erasure_pending(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|files| !files.is_settled())
            || self.pending_erasures.as_ref().is_some_and(|list| !list.is_empty())
    }

    /// Returns whether a snapshot is needed: the log has moved far enough, or erasing from the last one fails. If so,
    /// deletions are recorded from now on.
    pub(crate) fn begin_snapshot(&mut self) -> bool {
        let held: u64 = self.spaces.values().map(|space| space.rows().len() as u64).sum();
        let moved = self.head.0 - self.snapshot.as_ref().map_or(0, |files| files.position.0);
        let is_failing = self.snapshot.as_ref().is_some_and(SnapshotFiles::has_failed_erasures);
        let wanted = moved > 0 && (moved >= held / MOVED_SHARE || is_failing);
        self.pending_erasures = wanted.then(Vec::new);
        wanted
    }

    /// Input of a snapshot. It shares memory with this state.
    pub(crate) fn content(&self) -> SnapshotContent {
        SnapshotContent {
            position: self.head,
            entry_checksum: self.entry_checksum,
            entries: self.roster.shared(),
            spaces: self.spaces.iter().map(|(key, space)| (*key, space.rows().clone())).collect(),
        }
    }

    /// Installs the new snapshot and returns the files that are no longer used.
    pub(crate) fn finish_snapshot(
        &mut self,
        content: &SnapshotContent,
        mut files: SnapshotFiles,
    ) -> Option<SnapshotFiles> {
        let Some(erasures) = self.pending_erasures.take() else {
            // The index was replaced during the write.
            files.retire();
            return Some(files);
        };
        files.erase(&erasures);
        for (key, written) in &content.spaces {
            if let (Some(space), Some(file)) = (self.spaces.get_mut(key), files.mapped(key)) {
                space.adopt(written, file);
            }
        }
        let replaced = self.snapshot.replace(files);
        replaced.iter().for_each(SnapshotFiles::retire);
        replaced
    }

    pub(crate) fn candidate(&self, hit: &Hit) -> Candidate {
        let entry = self.roster.entry(hit.owner).expect("rows leave with their owner");
        Candidate {
            identity: entry.id.clone(),
            template: hit.template,
            similarity: Similarity(hit.similarity),
            fused: None,
        }
    }
}

/// Counters of a state.
#[derive(Debug, Default)]
pub(crate) struct IndexStatistics {
    pub(crate) position: Position,
    /// Enrolled identities and their templates.
    pub(crate) stats: CollectionStats,
    /// The same for each space.
    pub(crate) spaces: HashMap<EmbeddingSpace, CollectionStats>,
    /// Provisional identities and their templates.
    pub(crate) provisional: CollectionStats,
    /// The same for each space.
    pub(crate) provisional_spaces: HashMap<EmbeddingSpace, CollectionStats>,
    /// Mean over the templates that have a quality, per space; 0 to 1.
    pub(crate) quality_means: HashMap<EmbeddingSpace, f64>,
}
