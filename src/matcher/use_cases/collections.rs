//! Collections: create, get, list, update, delete.

use std::{sync::Arc, time::Duration};

use crate::matcher::{Matcher, replica::Removal, request::context::Context, request::fault::Fault, turn::idempotency};
use domain::{
    Collection, CollectionCounts, CollectionId, CollectionUid, DIMENSION_MAX, EmbeddingSpace, Modality, ModelDigest,
    OpenSetRule, PadPolicy, Policy, Pooling, Position, QualityPolicy, Reranking, ReviewPolicy, Revision, SpaceBinding,
    SpaceName, SpaceRole, UncertainRule,
};
use store::{KeyedAnswer, StoreError};

/// The longest display name, in characters.
const DISPLAY_NAME_CHARS_MAX: usize = 200;
/// The maximum spaces of a collection.
const SPACES_MAX: usize = 32;

/// A request for a new collection.
#[derive(Debug, Clone, Default)]
pub struct CollectionDraft {
    pub id: Option<CollectionId>,
    pub display_name: String,
    pub policy: Policy,
    pub spaces: Vec<DeclaredSpace>,
}

/// A space for embeddings that a client makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredSpace {
    pub name: SpaceName,
    pub modality: Modality,
    pub dimension: u32,
}

/// The changes of a collection; `None` leaves a field.
#[derive(Debug, Clone, Default)]
pub struct CollectionPatch {
    pub display_name: Option<String>,
    pub target_fpir: Option<f64>,
    pub target_fmr: Option<f64>,
    /// The inner `None` removes the limit.
    pub target_duplicates: Option<f64>,
    pub quality: Option<QualityPolicy>,
    pub pad: Option<PadPolicy>,
    pub pooling: Option<Pooling>,
    pub open_set: Option<OpenSetRule>,
    pub review: Option<ReviewPolicy>,
    pub person_half_life: Option<Duration>,
    /// The inner `None` removes the limit. Only identities that are created later get another expire time.
    pub identity_ttl: Option<Option<Duration>>,
    pub uncertain: Option<UncertainRule>,
    pub provisional_ttl: Option<Duration>,
    pub reranking: Option<Reranking>,
    pub review_share: Option<f64>,
    /// External spaces to declare beside the existing ones; none is ever removed.
    pub spaces: Vec<DeclaredSpace>,
    /// Change only if the record still has this revision.
    pub expected: Option<Revision>,
}

impl Matcher {
    pub async fn create_collection(&self, context: &Context, draft: CollectionDraft) -> Result<Collection, Fault> {
        let now = self.clock.now();
        let uid = CollectionUid(self.ids.fresh());
        let id = match draft.id {
            Some(id) => id,
            None => CollectionId::new(&uid.to_string())?,
        };
        let mut collection = Collection {
            uid,
            id,
            display_name: display_name(draft.display_name)?,
            policy: checked(draft.policy)?,
            spaces: Vec::new(),
            revision: Revision::FIRST,
            create_time: now,
            update_time: now,
        };
        self.declare(&mut collection, &draft.spaces)?;
        let matcher = self.clone();
        let context = context.clone();
        self.writes.detached(async move { matcher.create_once(&context, collection).await }).await
    }

    async fn create_once(&self, context: &Context, collection: Collection) -> Result<Collection, Fault> {
        let key = idempotency::key(context, None);
        let record = idempotency::record(context, &collection, collection.create_time)?;
        let answer = key.as_ref().zip(record.as_ref()).map(|(key, record)| KeyedAnswer { key, record });
        match self.store.create_collection(&collection, answer).await {
            Err(StoreError::CollectionExists) => Err(Fault::CollectionExists(collection.id)),
            Err(error) => Err(error.into()),
            Ok(Some(before)) => idempotency::answer(context, Some(before))?
                .ok_or_else(|| Fault::internal("an answer is kept for a request without an id")),
            Ok(None) => {
                self.replica.load_at(collection.clone(), Position::START).await?;
                Ok(collection)
            }
        }
    }

    pub async fn collection(&self, id: &CollectionId) -> Result<Collection, Fault> {
        self.store.collection(id).await?.ok_or_else(|| Fault::NoCollection(id.clone()))
    }

    /// Collections by id, those after `after`.
    pub async fn collections(&self, after: Option<&CollectionId>, limit: u32) -> Result<Vec<Collection>, Fault> {
        Ok(self.store.collections(after, limit).await?)
    }

    /// The identities and templates of a collection in memory.
    #[must_use]
    pub fn stats(&self, id: &CollectionId) -> CollectionCounts {
        self.replica.directory().get(id).map(|handle| handle.index.counts()).unwrap_or_default()
    }

    pub async fn update_collection(&self, id: &CollectionId, patch: CollectionPatch) -> Result<Collection, Fault> {
        /// An enroll that pins a space also changes the revision; an update without an expected revision is tried again.
        const TRIES: u32 = 5;
        let mut tries = 1;
        loop {
            match self.try_update(id, patch.clone()).await {
                Err(Fault::EtagMoved) if patch.expected.is_none() && tries < TRIES => tries += 1,
                updated => return updated,
            }
        }
    }

    async fn try_update(&self, id: &CollectionId, patch: CollectionPatch) -> Result<Collection, Fault> {
        let mut collection = self.collection(id).await?;
        let read = collection.revision;
        if patch.expected.is_some_and(|expected| expected != read) {
            return Err(Fault::EtagMoved);
        }
        if let Some(name) = patch.display_name {
            collection.display_name = display_name(name)?;
        }
        let policy = Policy {
            target_fpir: patch.target_fpir.unwrap_or(collection.policy.target_fpir),
            target_fmr: patch.target_fmr.unwrap_or(collection.policy.target_fmr),
            target_duplicates: patch.target_duplicates.unwrap_or(collection.policy.target_duplicates),
            quality: patch.quality.unwrap_or(collection.policy.quality),
            pad: patch.pad.unwrap_or(collection.policy.pad),
            pooling: patch.pooling.unwrap_or(collection.policy.pooling),
            open_set: patch.open_set.unwrap_or(collection.policy.open_set),
            review: patch.review.unwrap_or(collection.policy.review),
            person_half_life: patch.person_half_life.unwrap_or(collection.policy.person_half_life),
            identity_ttl: patch.identity_ttl.unwrap_or(collection.policy.identity_ttl),
            reranking: patch.reranking.unwrap_or(collection.policy.reranking),
            review_share: patch.review_share.unwrap_or(collection.policy.review_share),
            uncertain: patch.uncertain.unwrap_or(collection.policy.uncertain),
            provisional_ttl: patch.provisional_ttl.unwrap_or(collection.policy.provisional_ttl),
        };
        collection.policy = checked(policy)?;
        self.declare(&mut collection, &patch.spaces)?;
        collection.revision = read.next();
        collection.update_time = self.clock.now();
        match self.store.update_collection(&collection, read).await {
            Err(StoreError::CollectionGone) => return Err(Fault::NoCollection(id.clone())),
            updated => updated?,
        }
        self.replica.directory().refresh(&Arc::new(collection.clone()));
        Ok(collection)
    }

    pub async fn delete_collection(&self, id: &CollectionId, expected: Option<Revision>) -> Result<Removal, Fault> {
        let collection = self.collection(id).await?;
        if expected.is_some_and(|expected| expected != collection.revision) {
            return Err(Fault::EtagMoved);
        }
        let handle = self.replica.open(id).await?;
        let matcher = self.clone();
        self.writes
            .detached(async move {
                let _writer = handle.writers.lock().await;
                let deleted = matcher.store.delete_collection(collection.uid).await?;
                matcher.replica.close(&handle).await.map_err(Fault::internal)?;
                let removal = matcher.replica.scrub().await;
                if deleted { Ok(removal) } else { Err(Fault::NoCollection(collection.id)) }
            })
            .await
    }
}

fn display_name(name: String) -> Result<String, Fault> {
    if name.chars().count() > DISPLAY_NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(Fault::invalid(
            "displayName",
            format!("a display name has at most {DISPLAY_NAME_CHARS_MAX} characters and no control characters"),
        ));
    }
    Ok(name)
}

impl Matcher {
    /// Adds external spaces. A space that is declared again changes nothing; another space of the same name is refused,
    /// because it would change the meaning of the enrolled templates.
    fn declare(&self, collection: &mut Collection, declared: &[DeclaredSpace]) -> Result<(), Fault> {
        for space in declared {
            if self.recognition.encoders().by_name(&space.name).is_some() {
                let problem =
                    format!("{} is a model of this server; choose another name for your own space", space.name);
                return Err(Fault::invalid("spaces.model", problem));
            }
            if !(1..=DIMENSION_MAX).contains(&space.dimension) {
                return Err(Fault::invalid("spaces.dimension", format!("a dimension is 1 to {DIMENSION_MAX}")));
            }
            let binding = SpaceBinding {
                name: space.name.clone(),
                space: EmbeddingSpace::whole(
                    space.modality,
                    ModelDigest::of_external(&space.name, space.modality, space.dimension),
                    space.dimension,
                ),
                role: SpaceRole::Beside,
                external: true,
            };
            match collection.space_named(&space.name) {
                Some(known) if known.space == binding.space => {}
                Some(_) => {
                    return Err(Fault::invalid(
                        "spaces.model",
                        format!("{} names another space of this collection", space.name),
                    ));
                }
                None => collection.spaces.push(binding),
            }
        }
        if collection.spaces.len() > SPACES_MAX {
            return Err(Fault::invalid("spaces", format!("a collection has at most {SPACES_MAX} spaces")));
        }
        Ok(())
    }
}

/// # Errors
/// An invalid argument when a number is out of range, or two settings of an uncertain answer exclude each other.
fn checked(policy: Policy) -> Result<Policy, Fault> {
    if policy.uncertain == UncertainRule::Provisional && policy.review != ReviewPolicy::Off {
        let problem =
            "provisional identities and review exclude each other: turn one of policy.uncertain and policy.review off";
        return Err(Fault::invalid("policy.uncertain", problem));
    }
    Ok(policy.checked()?)
}
