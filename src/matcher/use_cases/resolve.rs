//! Resolve: the open-set decision KNOWN, NEW or UNCERTAIN. A new person may be enrolled in the same request, once.

use std::sync::Arc;

use futures::FutureExt;

use crate::matcher::{
    Matcher,
    collection::{collection_handle::CollectionHandle, scan_batch::CandidateQuery},
    judging::{acceptance, usable_modalities::UsableModalities},
    recognition::probe::{Probe, ProbeView},
    request::consistency_token::ConsistencyToken,
    request::context::Context,
    request::fault::Fault,
    turn::collection_turn::CollectionTurn,
    use_cases::{
        resolve_result::{Evidence, ResolveMode, ResolveResult, StoredDecision},
        review_policy::AnswerInTurn,
        search::refuse_similarity_min,
        sightings::makes_provisional,
    },
};
use decision::{
    Decider,
    relations::{NEIGHBOURS_MAX, Relations},
};
use domain::{
    Assignment, Candidate, CollectionId, DecisionId, DecisionKind, IdentityId, Labels, OpenSetRule, Reason,
    ReviewPolicy, Sample, Similarity, UncertainRule,
};

/// A resolve request.
#[derive(Debug, Clone)]
pub struct Resolution {
    pub collection: CollectionId,
    pub samples: Vec<Sample>,
    pub mode: ResolveMode,
    /// The number of candidates to list.
    pub limit: usize,
    pub min_similarity: Option<Similarity>,
    /// For a new identity.
    pub labels: Labels,
    pub token: Option<ConsistencyToken>,
}

/// An answer and its evidence.
pub(crate) struct OpenSetAnswer {
    pub(crate) answer: ResolveResult,
    pub(crate) evidence: Evidence,
}

/// The input of both decisions of one resolve: the first without the turn, the second inside it.
#[derive(Clone)]
pub(crate) struct ResolveInput {
    pub(crate) probe: Probe,
    pub(crate) usable: UsableModalities,
    limit: usize,
    min_similarity: Option<Similarity>,
    mode: ResolveMode,
    pub(crate) labels: Labels,
}

/// The candidates of a resolve, and the posterior from them.
struct OpenSetSearch {
    candidates: Vec<Candidate>,
    posterior: Option<f64>,
}

impl Matcher {
    /// Decides first without the turn of the collection. Only an answer that changes something takes the turn, and is
    /// decided again inside it, so that simultaneous requests with one new person create one identity.
    pub async fn resolve(&self, context: &Context, resolution: Resolution) -> Result<ResolveResult, Fault> {
        let Resolution { collection, samples, mode, limit, min_similarity, labels, token } = resolution;
        self.scans.check_limit(limit)?;
        if let Some(answer) = self.writes.answered_before(context, &collection).await? {
            return Ok(answer);
        }
        let handle = self.replica.open_at(context, &collection, token).await?;
        let probe = self.recognition.probe(context, &handle.collection, samples).await?;
        if probe.is_fused() {
            refuse_similarity_min(min_similarity)?;
        }
        let mut usable = self.judging.usable_modalities(&handle, &probe).await;
        let by_posterior = handle.collection.policy.open_set == OpenSetRule::Posterior;
        if by_posterior && usable.fusion.is_none() && !usable.thresholds.are_of_package() {
            let posterior = self.judging.posterior_thresholds(&handle, usable.view.embedding.space()).await;
            usable.thresholds = usable.thresholds.by_posterior(posterior);
        }
        let input = ResolveInput { probe, usable, limit, min_similarity, mode, labels };
        let policy = &handle.collection.policy;
        let refusals = acceptance::refusals(policy, &input.probe.modalities(), &input.probe.reports());
        let first = if refusals.is_empty() {
            if mode == ResolveMode::EnrollIfNew {
                handle.review_budget.lock().count_resolve();
            }
            self.decide(&handle, &input).await?
        } else {
            self.rejected(&handle, &input, refusals)
        };
        let joined = self.seen_before(&handle, &input, &first.answer).await?;
        let changes = match first.answer.kind {
            DecisionKind::New => true,
            DecisionKind::Uncertain => policy.review != ReviewPolicy::Off || policy.uncertain != UncertainRule::Off,
            DecisionKind::Known | DecisionKind::Rejected => joined.is_some(),
        };
        if !changes || mode == ResolveMode::DryRun {
            let OpenSetAnswer { mut answer, evidence } = first;
            answer.provisional = joined;
            let decision = StoredDecision { mode, answer: answer.clone(), evidence };
            self.decision_log.push(handle.collection.uid, decision.record(self.clock.now())?);
            count(&answer);
            return self.writes.keep_first(context, &collection, answer).await;
        }
        let matcher = self.clone();
        let resolved = self
            .writes
            .change(context, &collection, move |turn| async move { matcher.resolve_in_turn(turn, input).await }.boxed())
            .await?;
        count(&resolved);
        Ok(resolved)
    }

    /// The answer when the policy refuses a sample: no search was made.
    fn rejected(&self, handle: &CollectionHandle, input: &ResolveInput, reasons: Vec<Reason>) -> OpenSetAnswer {
        let answer = ResolveResult {
            id: DecisionId(self.ids.fresh()),
            kind: DecisionKind::Rejected,
            reasons,
            identity: None,
            enrolled: false,
            candidates: Vec::new(),
            similarity: None,
            margin: None,
            operating_point: input.usable.thresholds.point,
            model: input.usable.view.model.clone(),
            modality: Some(input.usable.view.modality()),
            token: handle.token(),
            samples: input.probe.reports(),
            review_case: None,
            posterior: None,
            provisional: None,
            sightings: 1,
        };
        OpenSetAnswer { answer, evidence: input.evidence(handle, Vec::new(), None) }
    }

    pub(crate) async fn decide(&self, handle: &CollectionHandle, input: &ResolveInput) -> Result<OpenSetAnswer, Fault> {
        // The margin needs the second candidate, however few the caller lists.
        let listed = input.limit.max(2);
        let OpenSetSearch { mut candidates, posterior } = self.open_set_search(handle, input, listed).await?;
        candidates.truncate(listed);
        let evidence = input.evidence(handle, candidates.clone(), posterior);
        let decision = evidence.open_set();
        let best = candidates.first().map(|c| c.identity.clone());
        candidates.truncate(input.limit);
        candidates.retain(|c| input.min_similarity.is_none_or(|least| c.similarity >= least));
        let identity = best.filter(|_| decision.kind == DecisionKind::Known);
        let answer = ResolveResult {
            id: DecisionId(self.ids.fresh()),
            kind: decision.kind,
            reasons: decision.reasons,
            identity,
            enrolled: false,
            candidates,
            similarity: decision.similarity,
            margin: decision.margin,
            operating_point: input.usable.thresholds.point,
            model: input.usable.view.model.clone(),
            modality: Some(input.usable.view.modality()),
            token: handle.token(),
            samples: input.probe.reports(),
            review_case: None,
            posterior,
            provisional: None,
            sightings: 1,
        };
        Ok(OpenSetAnswer { answer, evidence })
    }

    /// At least `listed` candidates, as far as there are so many, and the posterior.
    async fn open_set_search(
        &self,
        handle: &CollectionHandle,
        input: &ResolveInput,
        listed: usize,
    ) -> Result<OpenSetSearch, Fault> {
        if let Some(fusion) = &input.usable.fusion {
            let weighed = self.judging.weigh(handle, fusion, listed, None).await?;
            return Ok(OpenSetSearch { candidates: weighed.candidates, posterior: weighed.posterior });
        }
        // The decider needs this many neighbours.
        let query = CandidateQuery::top(listed.max(NEIGHBOURS_MAX));
        let candidates = self.scans.nearest(handle, &input.usable.view.embedding, query).await?;
        let posterior = self.posterior(handle, &input.usable.view, &candidates).await?;
        Ok(OpenSetSearch { candidates, posterior })
    }

    /// The probability that the probe is of an enrolled identity, from the open-set decider on its nearest templates;
    /// `None` without candidates.
    async fn posterior(
        &self,
        handle: &CollectionHandle,
        probe: &ProbeView,
        nearest: &[Candidate],
    ) -> Result<Option<f64>, Fault> {
        if nearest.is_empty() {
            return Ok(None);
        }
        let identities: Vec<IdentityId> =
            nearest.iter().take(NEIGHBOURS_MAX).map(|candidate| candidate.identity.clone()).collect();
        let (index, probe) = (Arc::clone(&handle.index), probe.embedding.clone());
        let decide = move || {
            let (neighbours, surroundings) = index.neighbourhood(&probe, &identities, NEIGHBOURS_MAX)?;
            Some(Decider::shipped().probability(&Relations::new(&neighbours, &surroundings)))
        };
        self.scans.run(decide).await
    }

    /// The second decision, with no other writer, and its effects.
    async fn resolve_in_turn(
        &self,
        turn: &mut CollectionTurn,
        mut input: ResolveInput,
    ) -> Result<ResolveResult, Fault> {
        let handle = turn.handle().clone();
        input.probe.check_spaces(&handle.collection)?;
        if input.probe.is_fused() {
            // A modality without templates at the first decision may have some now.
            input.usable = self.judging.usable_modalities(&handle, &input.probe).await;
        }
        let mut decided = self.decide(&handle, &input).await?;
        let joined = self.seen_before(&handle, &input, &decided.answer).await?;
        if let Some(joined) = &joined {
            decided = self.decide_together(&handle, &input, decided, joined).await?;
        }
        let OpenSetAnswer { answer, evidence } = decided;
        let mut pending = AnswerInTurn { resolved: answer, evidence, probe: input.probe, labels: input.labels };
        if let Some(joined) = joined {
            self.join(turn, &mut pending, joined).await?;
        } else if pending.resolved.kind == DecisionKind::New {
            let id = IdentityId::new(&turn.fresh_id().to_string())?;
            let parts = std::mem::take(&mut pending.probe.parts);
            turn.admit(&id, &pending.labels, parts, &Assignment::Enrolled).await?;
            pending.resolved.identity = Some(id);
            pending.resolved.enrolled = true;
        } else if makes_provisional(&pending) {
            self.make_provisional(turn, &mut pending).await?;
        } else {
            self.reviews.follow_up(turn, &mut pending).await?;
        }
        let AnswerInTurn { resolved: mut answer, evidence, .. } = pending;
        answer.token = turn.token();
        let decision = StoredDecision { mode: input.mode, answer: answer.clone(), evidence };
        let record = decision.record(turn.now())?;
        turn.store().put_decision(&record).await?;
        Ok(answer)
    }
}

impl ResolveInput {
    fn evidence(&self, handle: &CollectionHandle, candidates: Vec<Candidate>, posterior: Option<f64>) -> Evidence {
        Evidence {
            policy: handle.collection.policy,
            modality: self.usable.view.modality(),
            modalities: self.probe.modalities(),
            thresholds: self.usable.thresholds.clone(),
            candidates,
            posterior,
            accept_level: None,
            sightings: Vec::new(),
        }
    }
}

fn count(resolved: &ResolveResult) {
    metrics::counter!(domain::metric::DECISIONS, "decision" => resolved.kind.as_str()).increment(1);
}
