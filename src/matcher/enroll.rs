//! Enroll: samples become templates of an identity.

use futures::FutureExt;
use serde::{Deserialize, Serialize};

use super::{ConsistencyToken, Context, Fault, Matcher, gate, probe::Encoded, turn::Turn};
use crate::domain::{
    Change, CollectionId, Identity, IdentityId, Labels, Position, Revision, Sample, SampleReport, SpaceBinding,
    SpaceRole, StoredTemplate, Template, TemplateId, TemplateOrigin,
};

/// Whom to enroll, from what.
#[derive(Debug, Clone)]
pub struct Enrollment {
    pub collection: CollectionId,
    pub identity: IdentityId,
    pub samples: Vec<Sample>,
    /// Written over the labels that the identity has.
    pub labels: Labels,
}

/// What was enrolled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Enrolled {
    pub identity: IdentityId,
    pub templates: Vec<Template>,
    pub token: ConsistencyToken,
    /// What was seen in each sample, in order.
    #[serde(default)]
    pub samples: Vec<SampleReport>,
}

impl Matcher {
    /// Adds one template for each sample to the identity, which is made if it is missing. Once this has answered, they
    /// are durable and found by the next search.
    pub async fn enroll(&self, context: &Context, enrollment: Enrollment) -> Result<Enrolled, Fault> {
        let Enrollment { collection, identity, samples, labels } = enrollment;
        let open = self.open(&collection).await?;
        if let Some(answer) = self.answered_before(context, &collection).await? {
            return Ok(answer);
        }
        let encoded = self.encode(context, Some(&open.collection), samples).await?;
        gate::admit(&open.collection.policy, &encoded)?;
        let samples = encoded.iter().map(|part| part.report.clone()).collect();
        self.change(context, &collection, move |turn| {
            async move {
                let templates = turn.admit(&identity, &labels, encoded).await?;
                Ok(Enrolled { identity, templates, token: turn.token(), samples })
            }
            .boxed()
        })
        .await
    }
}

impl Turn {
    /// Makes or relabels the identity and appends its templates.
    pub(super) async fn admit(
        &mut self,
        id: &IdentityId,
        labels: &Labels,
        encoded: Vec<Encoded>,
    ) -> Result<Vec<Template>, Fault> {
        let now = self.matcher().clock.now();
        let mut changes = Vec::with_capacity(encoded.len() + 2);
        let mut known = self.store().identity(id).await?;
        if known.as_ref().is_some_and(|k| k.is_expired(now)) {
            // Whoever had expired is nobody: what they left must not come back to life, nor take the new with it.
            changes.push(Change::ExpireIdentity(id.clone()));
            known = None;
        }
        self.check_room(known.as_ref().map(|k| &k.id), encoded.len() as u64).await?;
        self.bind_spaces(&encoded).await?;
        match known {
            None => changes.push(Change::PutIdentity(Identity {
                id: id.clone(),
                labels: labels.clone(),
                expire_time: None,
                revision: Revision::FIRST,
                create_time: now,
                update_time: now,
            })),
            Some(known) => {
                let merged = known.labels.merged(labels)?;
                if merged != known.labels {
                    let revision = known.revision.next();
                    changes.push(Change::PutIdentity(Identity { labels: merged, revision, update_time: now, ..known }));
                }
            }
        }
        let head = self.token();
        let mut templates = Vec::with_capacity(encoded.len());
        for part in encoded {
            let template = Template {
                id: TemplateId(self.matcher().ids.fresh()),
                identity: id.clone(),
                space: part.embedding.space(),
                model: part.model,
                origin: part.origin,
                quality: part.report.quality.map(|quality| quality.score),
                track: part.report.track,
                position: Position(head.position().0 + changes.len() as u64 + 1),
                create_time: now,
            };
            templates.push(template.clone());
            changes.push(Change::Admit(StoredTemplate { template, embedding: part.embedding }));
        }
        self.append(&changes).await?;
        Ok(templates)
    }

    async fn check_room(&mut self, known: Option<&IdentityId>, more: u64) -> Result<(), Fault> {
        let limit = self.matcher().options.templates_per_identity_max;
        if let Some(id) = known
            && self.store().template_count(id).await? + more > limit
        {
            return Err(Fault::TooManyTemplates { identity: id.clone(), limit });
        }
        Ok(self.matcher().gallery.check_room(more)?)
    }

    /// Pins the space of each modality at its first use; another space of the modality is filled beside it.
    async fn bind_spaces(&mut self, encoded: &[Encoded]) -> Result<(), Fault> {
        let mut collection = (*self.open().collection).clone();
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
        if collection.spaces == self.open().collection.spaces {
            return Ok(());
        }
        collection.revision = collection.revision.next();
        collection.update_time = self.matcher().clock.now();
        self.put_collection(collection).await
    }
}
