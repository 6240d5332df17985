//! Resolve: somebody we know, somebody new, or it cannot be told. Strangers may be enrolled on the spot, once each.

use std::sync::Arc;

use futures::FutureExt;
use serde::{Deserialize, Serialize};

use super::{
    ConsistencyToken, Context, Evidence, Fault, Matcher, decisions,
    directory::Open,
    fusion::Heard,
    gate,
    probe::{Probe, View},
    search::{Wanted, no_least},
    turn::Turn,
};
use decision::{
    Decider,
    relations::{NEIGHBOURS_MAX, Relations},
};
use domain::{
    Candidate, CollectionId, DecisionId, DecisionKind, IdentityId, Labels, Modality, OperatingPoint, Reason,
    ReviewCaseId, ReviewPolicy, Sample, SampleReport, Similarity, SpaceName,
};

/// Whether a stranger is enrolled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolveMode {
    /// Decide and change nothing.
    #[default]
    DryRun,
    /// Enroll the person if the decision is NEW; open a review case if it is UNCERTAIN and the policy wants one.
    EnrollIfNew,
}

/// Who might this be.
#[derive(Debug, Clone)]
pub struct Resolution {
    pub collection: CollectionId,
    pub samples: Vec<Sample>,
    pub mode: ResolveMode,
    /// How many candidates to list.
    pub limit: usize,
    pub min_similarity: Option<Similarity>,
    /// For the identity, should it be new.
    pub labels: Labels,
    pub token: Option<ConsistencyToken>,
}

/// The open-set answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    pub id: DecisionId,
    pub kind: DecisionKind,
    pub reasons: Vec<Reason>,
    /// The known identity, or the new one once it is enrolled.
    pub identity: Option<IdentityId>,
    pub enrolled: bool,
    pub candidates: Vec<Candidate>,
    pub similarity: Option<Similarity>,
    pub margin: Option<f32>,
    pub operating_point: OperatingPoint,
    pub model: SpaceName,
    /// That the candidates are of, where one speaks alone; `None` in answers from when a probe had no other.
    #[serde(default)]
    pub modality: Option<Modality>,
    pub token: ConsistencyToken,
    /// What was seen in each sample, in order.
    #[serde(default)]
    pub samples: Vec<SampleReport>,
    /// The question to a human that was opened about it.
    #[serde(default)]
    pub review_case: Option<ReviewCaseId>,
    /// How likely the probe is of somebody who is enrolled, where one probe of two is: by the learnt decision, or by the
    /// evidence of several modalities.
    #[serde(default)]
    pub posterior: Option<f64>,
}

/// An answer and what it was made from.
struct Look {
    answer: Resolved,
    evidence: Evidence,
}

/// What stays the same between the first look and the one inside the turn.
struct Question {
    probe: Probe,
    heard: Heard,
    limit: usize,
    min_similarity: Option<Similarity>,
    mode: ResolveMode,
    labels: Labels,
}

impl Matcher {
    /// Looks first; only a stranger to be enrolled takes the collection's turn, and is looked for again inside it, so
    /// that many sightings at once make one identity.
    pub async fn resolve(&self, context: &Context, resolution: Resolution) -> Result<Resolved, Fault> {
        let Resolution { collection, samples, mode, limit, min_similarity, labels, token } = resolution;
        self.check_limit(limit)?;
        if let Some(answer) = self.answered_before(context, &collection).await? {
            return Ok(answer);
        }
        let open = self.open_at(context, &collection, token).await?;
        let probe = self.probe(context, &open.collection, samples).await?;
        if probe.is_fused() {
            no_least(min_similarity)?;
        }
        let heard = self.heard(&open, &probe).await;
        let question = Question { probe, heard, limit, min_similarity, mode, labels };
        let policy = &open.collection.policy;
        let refusals = gate::refusals(policy, &question.probe.modalities(), &question.probe.reports());
        let first = if refusals.is_empty() {
            if mode == ResolveMode::EnrollIfNew {
                open.pace.lock().see();
            }
            self.look(&open, &question).await?
        } else {
            self.rejected(&open, &question, refusals)
        };
        let changes = match first.answer.kind {
            DecisionKind::New => true,
            DecisionKind::Uncertain => policy.review != ReviewPolicy::Off,
            DecisionKind::Known | DecisionKind::Rejected => false,
        };
        if !changes || mode == ResolveMode::DryRun {
            let Look { answer, evidence } = first;
            self.records.keep(open.collection.uid, decisions::record(&answer, evidence, mode, self.clock.now())?);
            count(&answer);
            return self.keep_first(context, &collection, answer).await;
        }
        let resolved =
            self.change(context, &collection, move |turn| async move { turn.resolve(question).await }.boxed()).await?;
        count(&resolved);
        Ok(resolved)
    }

    /// The answer when the policy refuses a sample: nobody was looked for.
    fn rejected(&self, open: &Open, question: &Question, reasons: Vec<Reason>) -> Look {
        let answer = Resolved {
            id: DecisionId(self.ids.fresh()),
            kind: DecisionKind::Rejected,
            reasons,
            identity: None,
            enrolled: false,
            candidates: Vec::new(),
            similarity: None,
            margin: None,
            operating_point: question.heard.terms.point,
            model: question.heard.view.model.clone(),
            modality: Some(question.heard.view.modality()),
            token: open.token(),
            samples: question.probe.reports(),
            review_case: None,
            posterior: None,
        };
        Look { answer, evidence: question.evidence(open, Vec::new(), None) }
    }

    async fn look(&self, open: &Open, question: &Question) -> Result<Look, Fault> {
        // The runner-up is needed for the margin and the neighbours for the posterior, whatever the caller wants listed.
        let listed = question.limit.max(2);
        let (mut candidates, posterior) = if let Some(scales) = &question.heard.scales {
            let weighed = self.weigh(open, scales, (listed, None)).await?;
            (weighed.candidates, weighed.posterior)
        } else {
            let wanted = Wanted { limit: listed.max(NEIGHBOURS_MAX), filter: None, min_similarity: None };
            let candidates = self.nearest(open, &question.heard.view, wanted).await?;
            let posterior = self.posterior(open, &question.heard.view, &candidates).await?;
            (candidates, posterior)
        };
        candidates.truncate(listed);
        let decision = decision::decide(&question.heard.terms, open.collection.policy.open_set, &candidates, posterior);
        let evidence = question.evidence(open, candidates.clone(), posterior);
        let best = candidates.first().map(|c| c.identity.clone());
        candidates.truncate(question.limit);
        candidates.retain(|c| question.min_similarity.is_none_or(|least| c.similarity >= least));
        let identity = best.filter(|_| decision.kind == DecisionKind::Known);
        let answer = Resolved {
            id: DecisionId(self.ids.fresh()),
            kind: decision.kind,
            reasons: decision.reasons,
            identity,
            enrolled: false,
            candidates,
            similarity: decision.similarity,
            margin: decision.margin,
            operating_point: question.heard.terms.point,
            model: question.heard.view.model.clone(),
            modality: Some(question.heard.view.modality()),
            token: open.token(),
            samples: question.probe.reports(),
            review_case: None,
            posterior,
        };
        Ok(Look { answer, evidence })
    }
}

impl Matcher {
    /// How likely the probe is of somebody who is enrolled, by how it stands to its nearest templates; `None` where nobody is
    /// found.
    async fn posterior(&self, open: &Open, probe: &View, nearest: &[Candidate]) -> Result<Option<f64>, Fault> {
        if nearest.is_empty() {
            return Ok(None);
        }
        let identities: Vec<IdentityId> =
            nearest.iter().take(NEIGHBOURS_MAX).map(|candidate| candidate.identity.clone()).collect();
        let (shelf, probe) = (Arc::clone(&open.shelf), probe.embedding.clone());
        let judge = move || {
            let (neighbours, surroundings) = shelf.neighbourhood(&probe, &identities, NEIGHBOURS_MAX)?;
            Some(Decider::shipped().probability(&Relations::new(&neighbours, &surroundings)))
        };
        self.pool.run_in(self.pool.place()?, judge).await
    }
}

impl Question {
    fn evidence(&self, open: &Open, candidates: Vec<Candidate>, posterior: Option<f64>) -> Evidence {
        let policy = open.collection.policy;
        let (modality, modalities, terms) =
            (self.heard.view.modality(), self.probe.modalities(), self.heard.terms.clone());
        Evidence { policy, modality, modalities, terms, candidates, posterior, accept_level: None }
    }
}

impl Turn {
    /// The second look, with nobody else writing, and what follows from it.
    async fn resolve(&mut self, mut question: Question) -> Result<Resolved, Fault> {
        let matcher = self.matcher().clone();
        let open = self.open().clone();
        question.probe.check_spaces(&open.collection)?;
        if question.probe.is_fused() {
            // A modality that nobody was enrolled with at the first look may have somebody by now.
            question.heard = matcher.heard(&open, &question.probe).await;
        }
        let Look { answer: mut resolved, mut evidence } = matcher.look(&open, &question).await?;
        if resolved.kind == DecisionKind::New {
            let id = IdentityId::new(&matcher.ids.fresh().to_string())?;
            self.admit(&id, &question.labels, question.probe.parts).await?;
            resolved.identity = Some(id);
            resolved.enrolled = true;
        } else {
            self.follow_up(&mut resolved, &mut evidence, (question.probe, question.labels)).await?;
        }
        resolved.token = self.token();
        let record = decisions::record(&resolved, evidence, question.mode, matcher.clock.now())?;
        self.store().keep_decision(&record).await?;
        Ok(resolved)
    }
}

fn count(resolved: &Resolved) {
    metrics::counter!(domain::metric::DECISIONS, "decision" => resolved.kind.as_str()).increment(1);
}
