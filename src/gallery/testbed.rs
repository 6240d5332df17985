//! What the gallery's tests share: someone who writes a log, and random embeddings.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use uuid::Uuid;

use crate::{
    Gallery, GalleryOptions, Query,
    collection::Shelf,
    roster::{Roster, Slot},
    rows::Member,
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

pub(super) fn member(owner: u32, template: u32) -> Member {
    Member { owner: Slot(owner), template: TemplateId(Uuid::from_u128(template.into())), quality: f32::NAN }
}

/// People whose labels say which half and which tenth they are of; a seventh of them have expired.
pub(super) fn roster(people: usize) -> Roster {
    let mut roster = Roster::default();
    for person in 0..people {
        let labels = [("half".to_owned(), (person % 2).to_string()), ("ten".to_owned(), (person % 10).to_string())];
        roster.put(&Identity {
            id: id(&format!("p{person}")),
            labels: Labels::try_from(BTreeMap::from(labels)).expect("valid"),
            expire_time: (person % 7 == 3).then_some(Timestamp::UNIX_EPOCH),
            revision: Revision::FIRST,
            create_time: now(),
            update_time: now(),
        });
    }
    roster
}

pub(crate) fn shelf(options: GalleryOptions) -> std::sync::Arc<Shelf> {
    Gallery::new(options).open(CollectionUid(Uuid::nil()))
}

pub(crate) fn names(candidates: &[Candidate]) -> Vec<&str> {
    candidates.iter().map(|c| c.identity.as_str()).collect()
}

impl Query<'_> {
    pub(crate) fn top(limit: usize) -> Self {
        Query { limit, filter: None, now: now(), pooling: Pooling::Best, similarity_min: None }
    }
}

/// Unit vectors without preference for a direction, the same for the same seed.
pub(crate) fn unit_rows(count: usize, dimension: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut uniform = move || {
        // A 64-bit linear congruential generator, Knuth's constants; its upper bits are good enough for tests.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0
    };
    let mut normal = move || (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
    let mut row = || embedding(&(0..dimension).map(|_| normal()).collect::<Vec<f32>>()).values().to_vec();
    (0..count).map(|_| row()).collect()
}

/// Writes a collection's log as the store would.
pub(crate) struct Writer {
    head: Position,
    templates: u128,
    known: BTreeMap<IdentityId, Identity>,
    dimension: usize,
}

impl Writer {
    pub(crate) fn new(dimension: usize) -> Self {
        Self { head: Position::START, templates: 0, known: BTreeMap::new(), dimension }
    }

    /// The identity if it is new, and a template of it.
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
            revision: Revision::FIRST,
            create_time: now(),
            update_time: now(),
        };
        self.known.insert(identity.id.clone(), identity.clone());
        let mut entry = self.entry(EntryKind::Label, name, None);
        entry.labelled = Some(identity);
        vec![entry]
    }

    pub(crate) fn forget_identity(&mut self, name: &str) -> Vec<Entry> {
        self.known.remove(&id(name));
        vec![self.entry(EntryKind::Forget, name, None)]
    }

    pub(crate) fn forget_template(&mut self, name: &str, template: TemplateId) -> Vec<Entry> {
        vec![self.entry(EntryKind::Forget, name, Some(template))]
    }

    pub(crate) fn entry(&mut self, kind: EntryKind, name: &str, template: Option<TemplateId>) -> Entry {
        self.head = self.head.next();
        let identity = id(name);
        Entry { position: self.head, kind, identity, template, time: now(), admitted: None, labelled: None }
    }
}
