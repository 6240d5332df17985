//! What enrolls will change, worked out before anything is written.
//!
//! Several enrolls that share a commit are planned one after the other, each seeing what those before it will leave. One
//! that is refused leaves the plan as it was, so it fails alone, without a savepoint.

use std::collections::HashMap;

use super::{Fault, Matcher};
use domain::{
    Assignment, Change, Collection, Encoded, Identity, IdentityId, Labels, Position, Revision, SpaceBinding, SpaceRole,
    StoredTemplate, Template, TemplateId, TemplateOrigin,
};
use store::EnrolledIdentity;

/// Changes to a collection that nobody has written yet.
#[derive(Debug)]
pub(super) struct Plan {
    /// With the spaces that will be pinned.
    collection: Collection,
    /// The last entry before those that are planned.
    head: Position,
    /// Those who will be there, and how many templates each will have. Who is not named is not there.
    known: HashMap<IdentityId, (Identity, u64)>,
    changes: Vec<Change>,
    templates: u64,
}

/// What a plan comes to.
#[derive(Debug)]
pub(super) struct Planned {
    /// Its record; only the spaces may be other than they were.
    pub(super) collection: Collection,
    pub(super) changes: Vec<Change>,
}

impl Plan {
    /// Nothing planned yet. `known` are those of the identities in question who are there.
    pub(super) fn new(collection: Collection, head: Position, known: Vec<EnrolledIdentity>) -> Self {
        let known =
            known.into_iter().map(|known| (known.identity.id.clone(), (known.identity, known.templates))).collect();
        Self { collection, head, known, changes: Vec::new(), templates: 0 }
    }

    /// Plans to make or relabel the identity and to admit its templates.
    ///
    /// # Errors
    /// Whatever forbids it; then nothing of it is planned.
    pub(super) fn admit(
        &mut self,
        matcher: &Matcher,
        id: &IdentityId,
        labels: &Labels,
        encoded: Vec<Encoded>,
    ) -> Result<Vec<Template>, Fault> {
        let now = matcher.clock.now();
        let more = encoded.len() as u64;
        let (expired, known) = match self.known.get(id) {
            Some((identity, _)) if identity.is_expired(now) => (true, None),
            known => (false, known),
        };
        let limit = matcher.options.templates_per_identity_max;
        if known.is_some_and(|(_, templates)| templates + more > limit) {
            return Err(Fault::TooManyTemplates { identity: id.clone(), limit });
        }
        matcher.gallery.check_room(self.templates + more)?;
        let spaces = spaces_with(&self.collection, &encoded)?;
        let (identity, is_put) = match known {
            None => {
                let (labels, revision) = (labels.clone(), Revision::FIRST);
                let (id, create_time, update_time) = (id.clone(), now, now);
                (Identity { id, labels, expire_time: None, revision, create_time, update_time }, true)
            }
            Some((known, _)) => {
                let merged = known.labels.merged(labels)?;
                if merged == known.labels {
                    (known.clone(), false)
                } else {
                    let revision = known.revision.next();
                    (Identity { labels: merged, revision, update_time: now, ..known.clone() }, true)
                }
            }
        };
        let had = known.map_or(0, |(_, templates)| *templates);

        // From here on nothing fails.
        self.collection.spaces = spaces;
        if expired {
            // Whoever had expired is nobody: what they left must not come back to life, nor take the new with it.
            self.changes.push(Change::ExpireIdentity(id.clone()));
        }
        if is_put {
            self.changes.push(Change::PutIdentity(identity.clone()));
        }
        self.known.insert(id.clone(), (identity, had + more));
        self.templates += more;
        let mut templates = Vec::with_capacity(encoded.len());
        for part in encoded {
            let template = Template {
                id: TemplateId(matcher.ids.fresh()),
                identity: id.clone(),
                space: part.embedding.space(),
                model: part.model,
                origin: part.origin,
                assignment: Assignment::Enrolled,
                quality: part.report.quality.map(|quality| quality.score),
                track: part.report.track,
                position: self.end().next(),
                create_time: now,
            };
            templates.push(template.clone());
            self.changes.push(Change::Admit(StoredTemplate { template, embedding: part.embedding }));
        }
        Ok(templates)
    }

    /// Says whose word it is that the planned templates are of their identities.
    pub(super) fn assign(&mut self, assignment: &Assignment) {
        for change in &mut self.changes {
            if let Change::Admit(stored) = change {
                stored.template.assignment = assignment.clone();
            }
        }
    }

    /// Where the log will end: each change that is planned here has its entry.
    pub(super) fn end(&self) -> Position {
        Position(self.head.0 + self.changes.len() as u64)
    }

    pub(super) fn finish(self) -> Planned {
        Planned { collection: self.collection, changes: self.changes }
    }
}

/// The collection's spaces once these are enrolled: the first use of a modality pins its space; another space of the
/// modality is filled beside it.
fn spaces_with(collection: &Collection, encoded: &[Encoded]) -> Result<Vec<SpaceBinding>, Fault> {
    let mut collection = collection.clone();
    for part in encoded {
        let space = part.embedding.space();
        let active = collection.active_space(space.modality);
        let has_active = active.is_some();
        // A sample is encoded for the space that is searched. Another replica may have pinned one meanwhile.
        if let Some(active) = active.filter(|a| a.space != space && part.origin == TemplateOrigin::Sample) {
            let (active, given) = (active.name.clone(), part.model.clone());
            return Err(Fault::OtherSpace { modality: space.modality, active, given });
        }
        if collection.space_named(&part.model).is_some_and(|named| named.space != space) {
            return Err(Fault::SpaceNameTaken(part.model.clone()));
        }
        match collection.spaces.iter_mut().find(|b| b.space == space) {
            Some(known) if !has_active => known.role = SpaceRole::Active,
            Some(_) => {}
            None => {
                let role = if has_active { SpaceRole::Beside } else { SpaceRole::Active };
                let (name, external) = (part.model.clone(), part.external);
                collection.spaces.push(SpaceBinding { name, space, role, external });
            }
        }
    }
    Ok(collection.spaces)
}
