//! Fixtures of the gallery's tests: a log writer and random embeddings.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use uuid::Uuid;

use crate::{
    Gallery, GalleryOptions, Query, Searched,
    collection::CollectionIndex,
    roster::{Roster, Slot},
    rows::RowRecord,
};
use domain::{
    Assignment, Candidate, CollectionUid, Embedding, EmbeddingSpace, Entry, EntryKind, Identity, IdentityId, Labels,
    Modality, ModelDigest, Pooling, Position, Revision, SpaceName, StoredTemplate, Template, TemplateId,
    TemplateOrigin, Timestamp,
};

pub(crate) fn space(dimension: u32) -> EmbeddingSpace {
    EmbeddingSpace::whole(Modality::Face, ModelDigest([1; 32]), dimension)
}

pub(crate) fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1000)
}

pub(crate) fn id(name: &str) -> IdentityId {
    IdentityId::new(name).expect("tests choose valid ids")
}

pub(crate) fn embedding(values: &[f32]) -> Embedding {
    Embedding::new(space(u32::try_from(values.len()).expect("short")), values).expect("tests choose valid numbers")
}

pub(super) fn row_record(owner: u32, template: u32) -> RowRecord {
    RowRecord { owner: Slot(owner), template: TemplateId(Uuid::from_u128(template.into())), quality: f32::NAN }
}

/// Identities with labels `half` (number modulo 2) and `ten` (number modulo 10). Every seventh one has expired.
pub(super) fn roster(people: usize) -> Roster {
    let mut roster = Roster::default();
    for person in 0..people {
        let labels = [("half".to_owned(), (person % 2).to_string()), ("ten".to_owned(), (person % 10).to_string())];
        roster.put(&Identity {
            id: id(&format!("p{person}")),
            labels: Labels::try_from(BTreeMap::from(labels)).expect("valid"),
            expire_time: (person % 7 == 3).then_some(Timestamp::UNIX_EPOCH),
            provisional: false,
            revision: Revision::FIRST,
            create_time: now(),
            update_time: now(),
        });
    }
    roster
}

pub(crate) fn index(options: GalleryOptions) -> std::sync::Arc<CollectionIndex> {
    Gallery::new(options).open(CollectionUid(Uuid::nil()))
}

pub(crate) fn names(candidates: &[Candidate]) -> Vec<&str> {
    candidates.iter().map(|c| c.identity.as_str()).collect()
}

impl Query<'_> {
    pub(crate) fn top(limit: usize) -> Self {
        Query {
            limit,
            filter: None,
            now: now(),
            pooling: Pooling::Best,
            similarity_min: None,
            searched: Searched::Enrolled,
        }
    }
}

/// Random unit vectors, uniform over directions. The same seed gives the same vectors.
pub(crate) fn unit_rows(count: usize, dimension: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut uniform = move || {
        // 64-bit linear congruential generator with Knuth's constants; its upper bits are good enough for tests.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0
    };
    let mut normal = move || (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
    let mut row = || embedding(&(0..dimension).map(|_| normal()).collect::<Vec<f32>>()).values().to_vec();
    (0..count).map(|_| row()).collect()
}

/// Writes log entries as the store would.
pub(crate) struct LogWriter {
    head: Position,
    templates: u128,
    known: BTreeMap<IdentityId, Identity>,
    dimension: usize,
}

impl LogWriter {
    pub(crate) fn new(dimension: usize) -> Self {
        Self { head: Position::START, templates: 0, known: BTreeMap::new(), dimension }
    }

    /// Adds the identity when it is new, and one template of it.
    pub(crate) fn enroll(&mut self, name: &str, values: &[f32]) -> Vec<Entry> {
        assert_eq!(values.len(), self.dimension);
        let mut entries = Vec::new();
        if !self.known.contains_key(&id(name)) {
            entries.extend(self.label(name, &[], None));
        }
        self.templates += 1;
        let stored = StoredTemplate {
            template: Template {
                id: TemplateId(Uuid::from_u128(self.templates)),
                identity: id(name),
                space: space(u32::try_from(self.dimension).expect("small")),
                model: SpaceName::new("test").expect("valid"),
                origin: TemplateOrigin::Embedding,
                assignment: Assignment::Enrolled,
                quality: None,
                track: None,
                position: self.head.next(),
                create_time: now(),
            },
            embedding: embedding(values),
        };
        let mut entry = self.entry(EntryKind::Admit, name, Some(stored.template.id));
        entry.admitted = Some(stored);
        entries.push(entry);
        entries
    }

    pub(crate) fn label(&mut self, name: &str, labels: &[(&str, &str)], expire_time: Option<Timestamp>) -> Vec<Entry> {
        let map: BTreeMap<String, String> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let identity = Identity {
            id: id(name),
            labels: Labels::try_from(map).expect("valid"),
            expire_time,
            provisional: false,
            revision: Revision::FIRST,
            create_time: now(),
            update_time: now(),
        };
        self.known.insert(identity.id.clone(), identity.clone());
        let mut entry = self.entry(EntryKind::Label, name, None);
        entry.labelled = Some(identity);
        vec![entry]
    }

    /// The identity as it is known, provisional or not.
    pub(crate) fn label_provisional(&mut self, name: &str, provisional: bool) -> Vec<Entry> {
        let mut entries = self.label(name, &[], None);
        entries[0].labelled.iter_mut().for_each(|identity| identity.provisional = provisional);
        entries
    }

    pub(crate) fn forget_identity(&mut self, name: &str) -> Vec<Entry> {
        self.known.remove(&id(name));
        vec![self.entry(EntryKind::Forget, name, None)]
    }

    pub(crate) fn forget_template(&mut self, name: &str, template: TemplateId) -> Vec<Entry> {
        vec![self.entry(EntryKind::Forget, name, Some(template))]
    }

    /// The template as `stored` has it, of another identity.
    pub(crate) fn move_template(&mut self, stored: &StoredTemplate, to: &str) -> Vec<Entry> {
        let mut entry = self.entry(EntryKind::Move, to, Some(stored.template.id));
        let template = Template { identity: id(to), ..stored.template.clone() };
        entry.moved = Some(StoredTemplate { template, embedding: stored.embedding.clone() });
        vec![entry]
    }

    pub(crate) fn entry(&mut self, kind: EntryKind, name: &str, template: Option<TemplateId>) -> Entry {
        self.head = self.head.next();
        let identity = id(name);
        Entry {
            position: self.head,
            kind,
            identity,
            template,
            time: now(),
            admitted: None,
            labelled: None,
            moved: None,
        }
    }
}
