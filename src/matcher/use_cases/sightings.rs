//! Sightings of persons that a resolve does not decide: they are kept as templates of a provisional identity, until all of
//! them together are known, new or expired.

use std::sync::Arc;

use crate::matcher::{
    Matcher,
    collection::{collection_handle::CollectionHandle, scan_batch::CandidateQuery},
    request::fault::Fault,
    turn::collection_turn::CollectionTurn,
    use_cases::{
        regroup::{MergeDraft, MergedLabels, living, merge_in_turn, template_count},
        resolve::{OpenSetAnswer, ResolveInput},
        resolve_result::{ResolveResult, SightingEvidence},
        review_policy::AnswerInTurn,
    },
};
use domain::{Change, DecisionKind, Embedding, Identity, IdentityId, Reason, Revision, UncertainRule};
use gallery::Searched;

impl Matcher {
    /// The provisional identity that a sighting joins, if there is one.
    pub(crate) async fn seen_before(
        &self,
        handle: &CollectionHandle,
        input: &ResolveInput,
        answer: &ResolveResult,
    ) -> Result<Option<IdentityId>, Fault> {
        let probe = &input.usable.view.embedding;
        let is_asked = handle.collection.policy.uncertain == UncertainRule::Provisional && !input.probe.is_fused();
        if !is_asked || answer.kind == DecisionKind::Rejected || handle.index.provisional_in(probe.space()) == 0 {
            return Ok(None);
        }
        let query = CandidateQuery { searched: Searched::Provisional, ..CandidateQuery::top(1) };
        let Some(nearest) = self.scans.nearest(handle, probe, query).await?.into_iter().next() else {
            return Ok(None);
        };
        let threshold = self.judging.provisional_threshold(handle, probe.space()).await;
        let joins = decision::joins(threshold, &nearest, answer.kind, answer.similarity);
        Ok(joins.then_some(nearest.identity))
    }

    /// The decision about a sighting together with those of the provisional identity that it joins.
    pub(crate) async fn decide_together(
        &self,
        handle: &CollectionHandle,
        input: &ResolveInput,
        alone: OpenSetAnswer,
        joined: &IdentityId,
    ) -> Result<OpenSetAnswer, Fault> {
        let probe = &input.usable.view.embedding;
        let (index, id, space) = (Arc::clone(&handle.index), joined.clone(), probe.space());
        let earlier = self.scans.run(move || index.provisional_embeddings(&id, space)).await?;
        let all: Vec<Embedding> = earlier.iter().chain([probe]).cloned().collect();
        let mean = self.decide(handle, &with_probe(input, Embedding::mean(&all)?)).await?;
        let OpenSetAnswer { mut answer, mut evidence } = mean;
        if answer.kind == DecisionKind::Known {
            for one in earlier {
                evidence.sightings.push(evidence_of(self.decide(handle, &with_probe(input, one)).await?));
            }
            evidence.sightings.push(evidence_of(alone));
            let decision = evidence.open_set();
            answer.kind = decision.kind;
            answer.reasons = decision.reasons;
            answer.identity = answer.identity.filter(|_| decision.kind == DecisionKind::Known);
        }
        answer.reasons.push(Reason::SeveralSightings);
        answer.sightings = all.len() as u64;
        Ok(OpenSetAnswer { answer, evidence })
    }

    /// Adds the sighting to its provisional identity. If all sightings are KNOWN, merges it into that identity; if they are
    /// NEW, enrolls it.
    pub(crate) async fn join(
        &self,
        turn: &mut CollectionTurn,
        pending: &mut AnswerInTurn,
        joined: IdentityId,
    ) -> Result<(), Fault> {
        let parts = std::mem::take(&mut pending.probe.parts);
        let record = living(turn, &joined).await?;
        let has_room = template_count(turn, &joined).await? + (parts.len() as u64) <= self.provisional_templates_max();
        let policy = turn.handle().collection.policy;
        let (now, is_new) = (turn.now(), pending.resolved.kind == DecisionKind::New);
        let expire_time = if is_new { policy.expire_time(now) } else { now.checked_add(policy.provisional_ttl).ok() };
        let revision = record.revision.next();
        let record = Identity { provisional: !is_new, expire_time, revision, update_time: now, ..record };
        turn.append(&[Change::PutIdentity(record)]).await?;
        if has_room {
            turn.admit_sighting(&joined, parts).await?;
        }
        match (pending.resolved.kind, pending.resolved.identity.clone()) {
            (DecisionKind::Known, Some(known)) => {
                let most = self.writes.options().templates_per_identity_max;
                let templates = template_count(turn, &known).await? + template_count(turn, &joined).await?;
                if templates <= most {
                    let sources = vec![joined];
                    merge_in_turn(turn, &MergeDraft { target: known, sources, labels: MergedLabels::Keep }, most)
                        .await?;
                    pending.resolved.enrolled = has_room;
                } else {
                    // The identity is full: the sightings stay provisional until they expire.
                    pending.resolved.provisional = Some(joined);
                }
            }
            (DecisionKind::New, _) => {
                pending.resolved.identity = Some(joined);
                pending.resolved.enrolled = true;
            }
            _ => pending.resolved.provisional = Some(joined),
        }
        Ok(())
    }

    /// Maximum number of templates of a provisional identity on this server.
    fn provisional_templates_max(&self) -> u64 {
        let options = self.writes.options();
        options.provisional_templates_max.min(options.templates_per_identity_max)
    }

    /// Makes a provisional identity of an undecided sighting.
    pub(crate) async fn make_provisional(
        &self,
        turn: &mut CollectionTurn,
        pending: &mut AnswerInTurn,
    ) -> Result<(), Fault> {
        let id = IdentityId::new(&turn.fresh_id().to_string())?;
        let now = turn.now();
        let record = Identity {
            id: id.clone(),
            labels: pending.labels.clone(),
            expire_time: now.checked_add(turn.handle().collection.policy.provisional_ttl).ok(),
            provisional: true,
            revision: Revision::FIRST,
            create_time: now,
            update_time: now,
        };
        turn.append(&[Change::PutIdentity(record)]).await?;
        let mut parts = std::mem::take(&mut pending.probe.parts);
        parts.truncate(usize::try_from(self.provisional_templates_max()).unwrap_or(usize::MAX));
        turn.admit_sighting(&id, parts).await?;
        pending.resolved.provisional = Some(id);
        Ok(())
    }
}

/// Whether the answer leaves a provisional identity.
pub(crate) fn makes_provisional(pending: &AnswerInTurn) -> bool {
    pending.resolved.kind == DecisionKind::Uncertain
        && pending.evidence.policy.uncertain == UncertainRule::Provisional
        && !pending.probe.is_fused()
}

/// The same input with another probe of the same space.
fn with_probe(input: &ResolveInput, embedding: Embedding) -> ResolveInput {
    let mut input = input.clone();
    input.usable.view.embedding = embedding;
    input
}

fn evidence_of(decided: OpenSetAnswer) -> SightingEvidence {
    let OpenSetAnswer { evidence, .. } = decided;
    SightingEvidence { candidates: evidence.candidates.into_iter().take(2).collect(), posterior: evidence.posterior }
}

#[cfg(test)]
mod tests;
