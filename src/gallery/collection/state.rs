//! A collection's log, added up: who is enrolled with which templates, and what a snapshot must know of that.

use std::collections::HashMap;

use crate::{
    GalleryError, SnapshotError,
    roster::{Roster, Slot},
    rows::{Member, kernel::Packing},
    scan::top::Hit,
    snapshot::{Moment, Roll},
    space::Space,
};
use domain::{
    Candidate, CollectionStats, EmbeddingSpace, Entry, EntryKind, Identity, IdentityId, Position, Similarity,
    StoredTemplate, TemplateId,
};

/// What the log adds up to.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    pub(crate) head: Position,
    /// Of the entry at the head.
    pub(crate) mark: u32,
    /// Of the codes of its spaces.
    packing: Packing,
    pub(crate) roster: Roster,
    pub(crate) spaces: HashMap<EmbeddingSpace, Space>,
    /// The newest snapshot.
    pub(crate) kept: Option<Roll>,
    /// While a snapshot is written: what was forgotten since, and must be overwritten in it.
    pub(crate) forgotten: Option<Vec<Forgotten>>,
}

/// Somebody or something that no file may hold any more.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Forgotten {
    Template(TemplateId),
    Identity(Slot),
}

/// A share of what is held; below it, reading the entries again costs less than writing everything anew.
const MOVED_SHARE: u64 = 100;

impl Fold {
    pub(crate) fn new(packing: Packing) -> Self {
        Self { packing, ..Self::default() }
    }

    pub(crate) fn of(moment: Moment, roll: Roll, packing: Packing) -> Self {
        let Moment { position, mark, occupants, spaces } = moment;
        let (roster, spaces) = rayon::join(
            || Roster::of(occupants),
            || spaces.into_iter().map(|(key, rows)| (key, Space::of(rows))).collect(),
        );
        Self { packing, head: position, mark, roster, spaces, kept: Some(roll), forgotten: None }
    }

    pub(crate) fn put(&mut self, identity: &Identity) {
        self.roster.put(identity);
    }

    /// A template of an identity that is not there is passed over: the identity was removed after the template was
    /// written, and the entry that says so comes next.
    pub(crate) fn admit(&mut self, stored: &StoredTemplate) {
        let Some(owner) = self.roster.slot(&stored.template.identity) else {
            return;
        };
        let key = stored.embedding.space();
        let space = self.spaces.entry(key).or_insert_with(|| Space::new(key, self.packing));
        let quality = stored.template.quality.unwrap_or(f32::NAN);
        space.admit(Member { owner, template: stored.template.id, quality }, stored.embedding.values());
    }

    pub(crate) fn figures(&self) -> Figures {
        let of = |space: &Space| CollectionStats {
            identities: space.identities() as u64,
            templates: space.rows().len() as u64,
        };
        let spaces: HashMap<EmbeddingSpace, CollectionStats> =
            self.spaces.iter().map(|(key, space)| (*key, of(space))).collect();
        let templates = spaces.values().map(|stats| stats.templates).sum();
        let mean = |(key, space): (&EmbeddingSpace, &Space)| Some((*key, space.quality_mean()?));
        Figures {
            position: self.head,
            stats: CollectionStats { identities: self.roster.len() as u64, templates },
            spaces,
            quality_means: self.spaces.iter().filter_map(mean).collect(),
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
            (EntryKind::Forget | EntryKind::Expire, Some(template)) => self.forget_template(template),
            (EntryKind::Forget | EntryKind::Expire, None) => self.forget_identity(&entry.identity),
        }
        self.head = entry.position;
        self.mark = entry.checksum();
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
    pub(crate) fn begin_snapshot(&mut self) -> bool {
        let held: u64 = self.spaces.values().map(|space| space.rows().len() as u64).sum();
        let moved = self.head.0 - self.kept.as_ref().map_or(0, |roll| roll.position.0);
        let wanted = moved > 0 && moved >= held / MOVED_SHARE;
        self.forgotten = wanted.then(Vec::new);
        wanted
    }

    /// What a snapshot is made of; shared with what is in memory.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            position: self.head,
            mark: self.mark,
            occupants: self.roster.shared(),
            spaces: self.spaces.iter().map(|(key, space)| (*key, space.rows().clone())).collect(),
        }
    }

    /// Takes the new snapshot into use. Answers the one that is of no use any more.
    pub(crate) fn finish_snapshot(&mut self, moment: &Moment, mut roll: Roll) -> Option<Roll> {
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

    pub(crate) fn candidate(&self, hit: &Hit) -> Candidate {
        let occupant = self.roster.occupant(hit.owner).expect("rows leave with their owner");
        Candidate {
            identity: occupant.id.clone(),
            template: hit.template,
            similarity: Similarity(hit.similarity),
            fused: None,
        }
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

/// Where a fold stands and how much it holds.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) position: Position,
    pub(crate) stats: CollectionStats,
    pub(crate) spaces: HashMap<EmbeddingSpace, CollectionStats>,
    /// Of the templates that have a quality.
    pub(crate) quality_means: HashMap<EmbeddingSpace, f64>,
}
