//! Verify: is this the person whom the claim names.

use std::sync::Arc;

use super::{ConsistencyToken, Context, Fault, Matcher, fusion::Heard, gate};
use domain::{Candidate, CollectionId, IdentityId, OperatingPoint, Reason, Sample, SampleReport};

/// A claim and its evidence.
#[derive(Debug, Clone)]
pub struct Verification {
    pub collection: CollectionId,
    pub identity: IdentityId,
    pub samples: Vec<Sample>,
    pub token: Option<ConsistencyToken>,
}

/// Whether the claim holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    pub matches: bool,
    /// The identity's most similar template; `None` when it has none in the searched space.
    pub best: Option<Candidate>,
    pub operating_point: OperatingPoint,
    pub reasons: Vec<Reason>,
    /// What was seen in each sample, in order.
    pub samples: Vec<SampleReport>,
}

impl Matcher {
    pub async fn verify(&self, context: &Context, verification: Verification) -> Result<Verified, Fault> {
        let Verification { collection, identity, samples, token } = verification;
        let open = self.open_at(context, &collection, token).await?;
        let probe = self.probe(context, &open.collection, samples).await?;
        let policy = open.collection.policy;
        let now = self.clock.now();
        let Heard { view, scales, terms } = self.heard(&open, &probe).await;
        // On the pool, because a look into the gallery may wait behind a change that waits for a search to end.
        let place = self.pool.place()?;
        let (shelf, id) = (Arc::clone(&open.shelf), identity.clone());
        let look = move || {
            let is_current = shelf.identity(&id).is_some_and(|i| i.expire_time.is_none_or(|at| at > now));
            is_current.then(|| match scales {
                Some(scales) => scales.weigh_one(&shelf, &id, (policy.pooling, now)),
                None => shelf.nearest_of(&view.embedding, &id, policy.pooling, now),
            })
        };
        let Some(best) = self.pool.run_in(place, look).await? else {
            return Err(Fault::NoIdentity(identity));
        };
        let refusals = gate::refusals(&policy, &probe.modalities(), &probe.reports());
        let is_alike = best.as_ref().is_some_and(|best| decision::verify(&terms.point, best));
        let conflict =
            best.as_ref().is_some_and(|best| decision::in_conflict(best, 1)).then_some(Reason::ModalityConflict);
        Ok(Verified {
            // A picture of the right person is not the person.
            matches: is_alike && refusals.is_empty(),
            best,
            operating_point: terms.point,
            reasons: refusals.into_iter().chain(terms.verify_reasons).chain(conflict).collect(),
            samples: probe.reports(),
        })
    }
}
