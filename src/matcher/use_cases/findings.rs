//! Findings of `findDuplicates`: a pair is applied, which merges it, or dismissed, which lasts.

use futures::FutureExt;

use super::regroup::{MergeDraft, MergedLabels, Regrouped, living, merge_in_turn};
use crate::matcher::{
    Matcher, request::context::Context, request::fault::Fault, turn::collection_turn::CollectionTurn,
};
use domain::{CollectionId, Identity, IdentityId, OperationId};

/// A pair that an operation found.
#[derive(Debug, Clone)]
pub struct FoundPair {
    pub operation: OperationId,
    pub identities: [IdentityId; 2],
}

impl Matcher {
    /// Merges a found pair into `target`, one of the two; into the one that was created first if `None`.
    ///
    /// # Errors
    /// [`Fault::NoOperation`], [`Fault::NoFinding`], and those of a merge.
    pub async fn apply_finding(
        &self,
        context: &Context,
        collection: &CollectionId,
        pair: FoundPair,
        target: Option<IdentityId>,
    ) -> Result<Regrouped, Fault> {
        if target.as_ref().is_some_and(|target| !pair.identities.contains(target)) {
            return Err(Fault::invalid("target", "the target is one of the two identities"));
        }
        let templates_max = self.writes.options().templates_per_identity_max;
        self.writes
            .change(context, collection, move |turn| {
                async move {
                    let [one, other] = living_pair(turn, &pair).await?;
                    let older = if other.create_time < one.create_time { other } else { one };
                    let target = target.unwrap_or(older.id);
                    let sources = pair.identities.iter().filter(|id| **id != target).cloned().collect();
                    let draft = MergeDraft { target, sources, labels: MergedLabels::Fill };
                    merge_in_turn(turn, &draft, templates_max).await
                }
                .boxed()
            })
            .await
    }

    /// Marks a found pair as two people, in this operation and in all others.
    ///
    /// # Errors
    /// [`Fault::NoOperation`], [`Fault::NoFinding`].
    pub async fn dismiss_finding(
        &self,
        context: &Context,
        collection: &CollectionId,
        pair: FoundPair,
    ) -> Result<(), Fault> {
        self.writes
            .change(context, collection, move |turn| {
                async move {
                    let [one, other] = living_pair(turn, &pair).await?;
                    Ok(turn.store().dismiss_pair([&one.id, &other.id]).await?)
                }
                .boxed()
            })
            .await
    }

    /// Takes a dismissal back. A pair that is not dismissed stays as it is.
    ///
    /// # Errors
    /// [`Fault::NoOperation`], [`Fault::NoFinding`].
    pub async fn restore_finding(
        &self,
        context: &Context,
        collection: &CollectionId,
        pair: FoundPair,
    ) -> Result<(), Fault> {
        self.writes
            .change(context, collection, move |turn| {
                async move {
                    found(turn, &pair).await?;
                    let [one, other] = &pair.identities;
                    turn.store().restore_pair([one, other]).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}

/// The two identities of a found pair.
///
/// # Errors
/// [`Fault::NoOperation`], [`Fault::NoFinding`], and those of [`living`].
async fn living_pair(turn: &mut CollectionTurn, pair: &FoundPair) -> Result<[Identity; 2], Fault> {
    found(turn, pair).await?;
    let [one, other] = &pair.identities;
    Ok([living(turn, one).await?, living(turn, other).await?])
}

/// # Errors
/// [`Fault::NoOperation`], [`Fault::NoFinding`].
async fn found(turn: &mut CollectionTurn, pair: &FoundPair) -> Result<(), Fault> {
    let (id, now) = (pair.operation, turn.now());
    let operation = turn.store().operation(id).await?.filter(|operation| operation.expire_time > now);
    operation.ok_or(Fault::NoOperation(id))?;
    let [one, other] = &pair.identities;
    if one != other && turn.store().finds_pair(id, [one, other]).await? {
        return Ok(());
    }
    Err(Fault::NoFinding { operation: id, identities: pair.identities.clone() })
}
