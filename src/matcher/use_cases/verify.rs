//! Verify: whether the probe is of the claimed identity.

use std::sync::Arc;

use crate::matcher::{
    Matcher,
    judging::{acceptance, fusion::WeighingSettings, usable_modalities::UsableModalities},
    request::consistency_token::ConsistencyToken,
    request::context::Context,
    request::fault::Fault,
};
use domain::{Candidate, CollectionId, IdentityId, OperatingPoint, Reason, Sample, SampleReport};

/// A claim and its samples.
#[derive(Debug, Clone)]
pub struct Verification {
    pub collection: CollectionId,
    pub identity: IdentityId,
    pub samples: Vec<Sample>,
    pub token: Option<ConsistencyToken>,
}

/// The answer of a verification.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifyResult {
    pub matches: bool,
    /// The most similar template of the identity; `None` when it has none in the searched space.
    pub best: Option<Candidate>,
    pub operating_point: OperatingPoint,
    pub reasons: Vec<Reason>,
    /// One report per sample, in order.
    pub samples: Vec<SampleReport>,
}

impl Matcher {
    /// Compares the samples with one identity. Samples that the policy refuses never match.
    ///
    /// # Errors
    /// [`Fault::NoIdentity`], [`Fault::IdentityProvisional`].
    pub async fn verify(&self, context: &Context, verification: Verification) -> Result<VerifyResult, Fault> {
        let Verification { collection, identity, samples, token } = verification;
        let handle = self.replica.open_at(context, &collection, token).await?;
        let probe = self.recognition.probe(context, &handle.collection, samples).await?;
        let policy = handle.collection.policy;
        let now = self.clock.now();
        let UsableModalities { view, fusion, thresholds } = self.judging.usable_modalities(&handle, &probe).await;
        // On the pool: reading the gallery may wait behind a change that waits for a search to end.
        let index = Arc::clone(&handle.index);
        let compare = move || {
            let known = index.identity(&identity).filter(|known| known.expire_time.is_none_or(|at| at > now));
            match known {
                None => Err(Fault::NoIdentity(identity)),
                Some(known) if known.provisional => Err(Fault::IdentityProvisional(identity)),
                Some(_) => Ok(match fusion {
                    Some(fusion) => {
                        fusion.weigh_one(&index, &identity, WeighingSettings { pooling: policy.pooling, now })
                    }
                    None => index.nearest_of(&view.embedding, &identity, policy.pooling, now),
                }),
            }
        };
        let best = self.scans.run(compare).await??;
        let refusals = acceptance::refusals(&policy, &probe.modalities(), &probe.reports());
        let is_similar = best.as_ref().is_some_and(|best| decision::verify(&thresholds.point, best));
        let conflict =
            best.as_ref().is_some_and(|best| decision::in_conflict(best, 1)).then_some(Reason::ModalityConflict);
        Ok(VerifyResult {
            // A presentation attack with the right face must not match.
            matches: is_similar && refusals.is_empty(),
            best,
            operating_point: thresholds.point,
            reasons: refusals.into_iter().chain(thresholds.verify_reasons).chain(conflict).collect(),
            samples: probe.reports(),
        })
    }
}
