//! Resolve: somebody we know, somebody new, or it cannot be told. Strangers may be enrolled on the spot, once each.

use futures::FutureExt;
use serde::{Deserialize, Serialize};

use super::{
    ConsistencyToken, Context, Fault, Matcher, directory::Open, gate, probe::Probe, records, search::Wanted, turn::Turn,
};
use crate::{
    decision::{self, Terms},
    domain::{
        Candidate, CollectionId, DecisionId, DecisionKind, IdentityId, Labels, OperatingPoint, Reason, Sample,
        SampleReport, Similarity, SpaceName,
    },
};

/// Whether a stranger is enrolled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolveMode {
    /// Decide and change nothing.
    #[default]
    DryRun,
    /// Enroll the person if the decision is NEW.
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
    pub token: ConsistencyToken,
    /// What was seen in each sample, in order.
    #[serde(default)]
    pub samples: Vec<SampleReport>,
}

/// What stays the same between the first look and the one inside the turn.
struct Question {
    probe: Probe,
    terms: Terms,
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
        let terms = self.terms(&open, probe.embedding.space()).await;
        let question = Question { probe, terms, limit, min_similarity, mode, labels };
        let refusals = gate::refusals(&open.collection.policy, &question.probe.parts);
        let first = if refusals.is_empty() {
            self.look(&open, &question).await?
        } else {
            self.rejected(&open, &question, refusals)
        };
        if first.kind != DecisionKind::New || mode == ResolveMode::DryRun {
            self.records.keep(open.collection.uid, records::of(&first, mode, self.clock.now()));
            count(&first);
            return self.keep_first(context, &collection, first).await;
        }
        let resolved =
            self.change(context, &collection, move |turn| async move { turn.resolve(question).await }.boxed()).await?;
        count(&resolved);
        Ok(resolved)
    }

    /// The answer when the policy refuses a sample: nobody was looked for.
    fn rejected(&self, open: &Open, question: &Question, reasons: Vec<Reason>) -> Resolved {
        Resolved {
            id: DecisionId(self.ids.fresh()),
            kind: DecisionKind::Rejected,
            reasons,
            identity: None,
            enrolled: false,
            candidates: Vec::new(),
            similarity: None,
            margin: None,
            operating_point: question.terms.point,
            model: question.probe.model.clone(),
            token: open.token(),
            samples: question.probe.reports(),
        }
    }

    async fn look(&self, open: &Open, question: &Question) -> Result<Resolved, Fault> {
        // The runner-up is needed for the margin, whatever the caller wants listed.
        let wanted = Wanted { limit: question.limit.max(2), filter: None, min_similarity: None };
        let mut candidates = self.nearest(open, &question.probe, wanted).await?;
        let decision = decision::decide(&question.terms, &candidates);
        let best = candidates.first().map(|c| c.identity.clone());
        candidates.truncate(question.limit);
        candidates.retain(|c| question.min_similarity.is_none_or(|least| c.similarity >= least));
        let identity = best.filter(|_| decision.kind == DecisionKind::Known);
        Ok(Resolved {
            id: DecisionId(self.ids.fresh()),
            kind: decision.kind,
            reasons: decision.reasons,
            identity,
            enrolled: false,
            candidates,
            similarity: decision.similarity,
            margin: decision.margin,
            operating_point: question.terms.point,
            model: question.probe.model.clone(),
            token: open.token(),
            samples: question.probe.reports(),
        })
    }
}

impl Turn {
    /// The second look, with nobody else writing, and what follows from it.
    async fn resolve(&mut self, question: Question) -> Result<Resolved, Fault> {
        let matcher = self.matcher().clone();
        let open = self.open().clone();
        if let Some(active) = open.collection.active_space(question.probe.embedding.space().modality)
            && active.space != question.probe.embedding.space()
        {
            let (active, given) = (active.name.clone(), question.probe.model);
            return Err(Fault::OtherSpace { modality: question.probe.embedding.space().modality, active, given });
        }
        let mut resolved = matcher.look(&open, &question).await?;
        if resolved.kind == DecisionKind::New {
            let id = IdentityId::new(&matcher.ids.fresh().to_string())?;
            self.admit(&id, &question.labels, question.probe.parts).await?;
            resolved.identity = Some(id);
            resolved.enrolled = true;
        }
        resolved.token = self.token();
        let record = records::of(&resolved, question.mode, matcher.clock.now());
        self.store().keep_decision(&record).await?;
        Ok(resolved)
    }
}

fn count(resolved: &Resolved) {
    metrics::counter!("semblance_decisions_total", "decision" => resolved.kind.as_str()).increment(1);
}
