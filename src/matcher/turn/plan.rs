//! The plan of a turn: the changes of its enrolls, computed before anything is written.
//!
//! Enrolls that share a commit are planned in sequence; each sees the changes of those before it. A refused enroll leaves
//! the plan unchanged, so it fails alone, without a savepoint.

use std::collections::HashMap;

use super::{Writes, collection_turn::CollectionTurn};
use crate::matcher::request::fault::Fault;
use domain::{
    Assignment, Change, Collection, Embedding, Encoded, Identity, IdentityId, Labels, Position, Revision, SpaceBinding,
    SpaceRole, StoredTemplate, Template, TemplateId, TemplateOrigin,
};
use store::EnrolledIdentity;

/// Changes of a collection that are not written yet.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The record, with the spaces that the enrolls will pin.
    collection: Collection,
    /// The head of the log before the plan.
    head: Position,
    /// The named identities as they will be. An identity that is not in the map does not exist.
    known: HashMap<IdentityId, PlannedIdentity>,
    changes: Vec<Change>,
    templates: u64,
    /// Whether templates are added to provisional identities: only those of sightings are.
    is_of_sightings: bool,
}

/// An identity and the number of its templates.
#[derive(Debug)]
struct PlannedIdentity {
    identity: Identity,
    templates: u64,
}

/// The result of a plan.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The record; only its spaces may differ from before.
    pub(crate) collection: Collection,
    pub(crate) changes: Vec<Change>,
}

impl Plan {
    /// An empty plan. `known` are the existing identities among the named ones, with the number of their templates.
    pub(crate) fn new(collection: Collection, head: Position, known: Vec<EnrolledIdentity>) -> Self {
        let planned =
            |EnrolledIdentity { identity, templates }| (identity.id.clone(), PlannedIdentity { identity, templates });
        let known = known.into_iter().map(planned).collect();
        Self { collection, head, known, changes: Vec::new(), templates: 0, is_of_sightings: false }
    }

    /// Plans to create or relabel an identity and to add its templates.
    ///
    /// # Errors
    /// [`Fault::IdentityProvisional`], [`Fault::TooManyTemplates`], [`Fault::GalleryFull`], [`Fault::OtherSpace`],
    /// [`Fault::SpaceNameTaken`], or invalid labels; then the plan is unchanged.
    pub(crate) fn admit(
        &mut self,
        writes: &Writes,
        id: &IdentityId,
        labels: &Labels,
        encoded: Vec<Encoded>,
    ) -> Result<Vec<Template>, Fault> {
        let now = writes.clock.now();
        let more = encoded.len() as u64;
        let (expired, known) = match self.known.get(id) {
            Some(known) if known.identity.is_expired(now) => (true, None),
            known => (false, known),
        };
        if known.is_some_and(|known| known.identity.provisional && !self.is_of_sightings) {
            return Err(Fault::IdentityProvisional(id.clone()));
        }
        let limit = writes.options.templates_per_identity_max;
        if known.is_some_and(|known| known.templates + more > limit) {
            return Err(Fault::TooManyTemplates { identity: id.clone(), limit });
        }
        writes.gallery.check_capacity(self.templates + more)?;
        let spaces = spaces_with(&self.collection, &encoded)?;
        let (identity, is_put) = match known {
            None => {
                let (labels, revision) = (labels.clone(), Revision::FIRST);
                let (id, create_time, update_time) = (id.clone(), now, now);
                let expire_time = self.collection.policy.expire_time(now);
                (Identity { id, labels, expire_time, provisional: false, revision, create_time, update_time }, true)
            }
            Some(PlannedIdentity { identity: known, .. }) => {
                let merged = known.labels.merged(labels)?;
                if merged == known.labels {
                    (known.clone(), false)
                } else {
                    let revision = known.revision.next();
                    (Identity { labels: merged, revision, update_time: now, ..known.clone() }, true)
                }
            }
        };
        let had = known.map_or(0, |known| known.templates);

        // Nothing below fails.
        self.collection.spaces = spaces;
        if expired {
            // An expired identity does not exist: its templates must neither return nor expire the new ones.
            self.changes.push(Change::ExpireIdentity(id.clone()));
        }
        if is_put {
            self.changes.push(Change::PutIdentity(identity.clone()));
        }
        self.known.insert(id.clone(), PlannedIdentity { identity, templates: had + more });
        self.templates += more;
        let mut templates = Vec::with_capacity(encoded.len());
        for part in encoded {
            let template = Template {
                id: TemplateId(writes.ids.fresh()),
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

    /// Whether the identity exists and has these labels already.
    pub(super) fn has_labels(&self, id: &IdentityId, labels: &Labels) -> bool {
        let known = self.known.get(id).map(|known| &known.identity.labels);
        known.is_some_and(|known| known.merged(labels).is_ok_and(|merged| merged == *known))
    }

    /// The planned template of an identity with at least this cosine to an embedding.
    pub(super) fn template_near(&self, id: &IdentityId, embedding: &Embedding, cosine_min: f32) -> Option<&Template> {
        self.changes.iter().rev().find_map(|change| match change {
            Change::Admit(StoredTemplate { template, embedding: planned })
                if template.identity == *id
                    && planned.similarity(embedding).is_some_and(|similarity| similarity.0 >= cosine_min) =>
            {
                Some(template)
            }
            _ => None,
        })
    }

    /// Sets the assignment of all planned templates.
    pub(crate) fn assign(&mut self, assignment: &Assignment) {
        for change in &mut self.changes {
            if let Change::Admit(stored) = change {
                stored.template.assignment = assignment.clone();
            }
        }
    }

    /// The head of the log after the plan: each planned change is one entry.
    pub(crate) fn end(&self) -> Position {
        Position(self.head.0 + self.changes.len() as u64)
    }

    pub(crate) fn finish(self) -> Planned {
        Planned { collection: self.collection, changes: self.changes }
    }
}

impl CollectionTurn {
    /// Creates or relabels an identity and appends its templates, all with one assignment.
    pub(crate) async fn admit(
        &mut self,
        id: &IdentityId,
        labels: &Labels,
        encoded: Vec<Encoded>,
        assignment: &Assignment,
    ) -> Result<Vec<Template>, Fault> {
        let mut plan = self.plan(std::slice::from_ref(id)).await?;
        let templates = plan.admit(self.writes(), id, labels, encoded)?;
        plan.assign(assignment);
        self.carry_out(plan).await?;
        Ok(templates)
    }

    /// Appends the templates of a sighting to the identity of sightings, which exists.
    pub(crate) async fn admit_sighting(&mut self, id: &IdentityId, encoded: Vec<Encoded>) -> Result<(), Fault> {
        let mut plan = self.plan(std::slice::from_ref(id)).await?;
        plan.is_of_sightings = true;
        plan.admit(self.writes(), id, &Labels::default(), encoded)?;
        self.carry_out(plan).await
    }

    /// Begins a plan for these identities.
    pub(super) async fn plan(&mut self, ids: &[IdentityId]) -> Result<Plan, Fault> {
        let known = self.store().enrolled_identities(ids).await?;
        Ok(Plan::new(self.handle().collection.as_ref().clone(), self.token().position(), known))
    }

    /// Appends the changes of a plan.
    pub(super) async fn carry_out(&mut self, plan: Plan) -> Result<(), Fault> {
        let Planned { mut collection, changes } = plan.finish();
        if collection.spaces != self.handle().collection.spaces {
            collection.revision = collection.revision.next();
            collection.update_time = self.now();
            self.put_collection(collection).await?;
        }
        self.append(&changes).await
    }
}

/// The spaces of the collection after an enroll. The first use of a modality makes its space the active one; another space
/// of the modality is filled beside it.
///
/// # Errors
/// [`Fault::OtherSpace`], [`Fault::SpaceNameTaken`].
fn spaces_with(collection: &Collection, encoded: &[Encoded]) -> Result<Vec<SpaceBinding>, Fault> {
    let mut collection = collection.clone();
    for part in encoded {
        let space = part.embedding.space();
        let active = collection.active_space(space.modality);
        let has_active = active.is_some();
        // A sample was encoded for the active space. Another replica may have pinned a different one meanwhile.
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
