//! Identities: create, get, list, update, delete.

use futures::FutureExt;

use crate::matcher::{
    Matcher, replica::Removal, request::context::Context, request::fault::Fault, turn::collection_turn::CollectionTurn,
};
use domain::{Change, CollectionId, Filter, Identity, IdentityId, Labels, Revision, Timestamp};

/// A request for a new identity.
#[derive(Debug, Clone, Default)]
pub struct IdentityDraft {
    pub id: Option<IdentityId>,
    pub labels: Labels,
    pub expire_time: Option<Timestamp>,
}

/// The changes of an identity; `None` leaves a field.
#[derive(Debug, Clone, Default)]
pub struct IdentityPatch {
    pub labels: Option<Labels>,
    /// The inner `None` removes the expire time.
    pub expire_time: Option<Option<Timestamp>>,
    /// False enrolls a provisional identity.
    pub provisional: Option<bool>,
    /// Change only if the record still has this revision.
    pub expected: Option<Revision>,
}

/// Which identities a list has.
#[derive(Debug, Clone, Default)]
pub struct ListedIdentities {
    pub filter: Option<Filter>,
    /// Only provisional identities, or none of them.
    pub provisional: Option<bool>,
}

impl ListedIdentities {
    fn is_all(&self) -> bool {
        self.filter.is_none() && self.provisional.is_none()
    }

    fn includes(&self, identity: &Identity) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.accepts(&identity.labels))
            && self.provisional.is_none_or(|provisional| identity.provisional == provisional)
    }
}

impl Matcher {
    pub async fn create_identity(
        &self,
        context: &Context,
        collection: &CollectionId,
        draft: IdentityDraft,
    ) -> Result<Identity, Fault> {
        let now = self.clock.now();
        let id = match draft.id {
            Some(id) => id,
            None => IdentityId::new(&self.ids.fresh().to_string())?,
        };
        let mut identity = Identity {
            id: id.clone(),
            labels: draft.labels,
            expire_time: draft.expire_time,
            provisional: false,
            revision: Revision::FIRST,
            create_time: now,
            update_time: now,
        };
        self.writes
            .change(context, collection, move |turn| {
                async move {
                    let policy = turn.handle().collection.policy;
                    identity.expire_time = identity.expire_time.or_else(|| policy.expire_time(identity.create_time));
                    let mut changes = Vec::new();
                    match turn.store().identity(&id).await? {
                        Some(known) if !known.is_expired(now) => return Err(Fault::IdentityExists(id)),
                        Some(_) => changes.push(Change::ExpireIdentity(id)),
                        None => {}
                    }
                    changes.push(Change::PutIdentity(identity.clone()));
                    turn.append(&changes).await?;
                    Ok(identity)
                }
                .boxed()
            })
            .await
    }

    pub async fn identity(&self, collection: &CollectionId, id: &IdentityId) -> Result<Identity, Fault> {
        let handle = self.replica.open(collection).await?;
        let known = self.store.in_collection(handle.collection.uid).identity(id).await?;
        let now = self.clock.now();
        known.filter(|k| !k.is_expired(now)).ok_or_else(|| Fault::NoIdentity(id.clone()))
    }

    /// Identities by id, those after `after` that pass the filter, and the id to continue after; `None` on the last page.
    /// Reads a bounded number of identities, so a page may be short and not be the last.
    pub async fn identities(
        &self,
        collection: &CollectionId,
        after: Option<&IdentityId>,
        limit: u32,
        listed: &ListedIdentities,
    ) -> Result<(Vec<Identity>, Option<IdentityId>), Fault> {
        /// Rows per read, and the maximum reads per page.
        const READ: u32 = 1000;
        const READS_MAX: u32 = 20;
        let uid = self.replica.open(collection).await?.collection.uid;
        let now = self.clock.now();
        let mut passed = Vec::new();
        let mut after = after.cloned();
        let read = if listed.is_all() { limit } else { READ };
        for _ in 0..READS_MAX {
            let page = self.store.in_collection(uid).identities(after.as_ref(), read).await?;
            let last = page.len() < read as usize;
            for identity in page {
                after = Some(identity.id.clone());
                if !identity.is_expired(now) && listed.includes(&identity) {
                    passed.push(identity);
                }
                if passed.len() == limit as usize {
                    return Ok((passed, after));
                }
            }
            if last {
                return Ok((passed, None));
            }
        }
        Ok((passed, after))
    }

    pub async fn update_identity(
        &self,
        context: &Context,
        collection: &CollectionId,
        id: &IdentityId,
        patch: IdentityPatch,
    ) -> Result<Identity, Fault> {
        let id = id.clone();
        self.writes
            .change(context, collection, move |turn| {
                async move {
                    let mut identity = present(turn, &id, patch.expected).await?;
                    if identity.is_expired(turn.now()) {
                        return Err(Fault::NoIdentity(id));
                    }
                    if patch.provisional == Some(true) && !identity.provisional {
                        let problem = "an enrolled identity does not become provisional";
                        return Err(Fault::invalid("identity.provisional", problem));
                    }
                    if patch.provisional == Some(false) && identity.provisional {
                        identity.provisional = false;
                        identity.expire_time = turn.handle().collection.policy.expire_time(turn.now());
                    }
                    if let Some(labels) = patch.labels {
                        identity.labels = labels;
                    }
                    if let Some(expire_time) = patch.expire_time {
                        identity.expire_time = expire_time;
                    }
                    identity.revision = identity.revision.next();
                    identity.update_time = turn.now();
                    turn.append(&[Change::PutIdentity(identity.clone())]).await?;
                    Ok(identity)
                }
                .boxed()
            })
            .await
    }

    pub async fn delete_identity(
        &self,
        context: &Context,
        collection: &CollectionId,
        id: &IdentityId,
        expected: Option<Revision>,
    ) -> Result<Removal, Fault> {
        let id = id.clone();
        self.writes
            .change(context, collection, move |turn| {
                async move {
                    present(turn, &id, expected).await?;
                    turn.append(&[Change::ForgetIdentity(id)]).await
                }
                .boxed()
            })
            .await?;
        Ok(self.replica.removal())
    }
}

/// # Errors
/// [`Fault::NoIdentity`]; [`Fault::EtagMoved`] when the identity has another revision than expected.
async fn present(turn: &mut CollectionTurn, id: &IdentityId, expected: Option<Revision>) -> Result<Identity, Fault> {
    let identity = turn.store().identity(id).await?.ok_or_else(|| Fault::NoIdentity(id.clone()))?;
    if expected.is_some_and(|expected| expected != identity.revision) {
        return Err(Fault::EtagMoved);
    }
    Ok(identity)
}
