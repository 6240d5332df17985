//! Decisions of the past: what resolve saw and said, shown and made again.

use serde::{Deserialize, Serialize};

use super::{Fault, Matcher, ResolveMode, Resolved, gate};
use decision::{Doubtful, Terms};
use domain::{Candidate, CollectionId, DecisionId, DecisionKind, Modality, Policy, Reason, SampleReport, Timestamp};
use store::DecisionRecord;

/// All that a decision was made from. No number of an embedding is among it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub policy: Policy,
    /// Of the first sample.
    pub modality: Modality,
    /// Of each sample; empty in records from when all samples were of one.
    #[serde(default)]
    pub modalities: Vec<Modality>,
    pub terms: Terms,
    /// Those that were weighed: the runner-up too where the caller wanted one listed, or none.
    pub candidates: Vec<Candidate>,
    /// What the learnt decision said, or the evidence of several modalities.
    pub posterior: Option<f64>,
    /// The posterior from which on self-paced review settled answers then.
    #[serde(default)]
    pub accept_level: Option<f64>,
}

/// A decision of the past.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    pub time: Timestamp,
    pub mode: ResolveMode,
    pub answer: Resolved,
    pub evidence: Evidence,
}

/// A decision made again from what it saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    pub kind: DecisionKind,
    pub reasons: Vec<Reason>,
    /// It is what was answered then. Where it is not, this server decides otherwise than the one that answered.
    pub same: bool,
}

/// What the store keeps of a decision.
#[derive(Debug, Serialize, Deserialize)]
struct Body {
    mode: ResolveMode,
    answer: Resolved,
    evidence: Evidence,
}

impl Evidence {
    /// The decision that follows from this and from what was seen in the samples, before review.
    fn judge(&self, samples: &[SampleReport]) -> (DecisionKind, Vec<Reason>) {
        let modalities = match &self.modalities[..] {
            [] => vec![self.modality; samples.len()],
            each => each.to_vec(),
        };
        let refusals = gate::refusals(&self.policy, &modalities, samples);
        if !refusals.is_empty() {
            return (DecisionKind::Rejected, refusals);
        }
        let decision = decision::decide(&self.terms, self.policy.open_set, &self.candidates, self.posterior);
        (decision.kind, decision.reasons)
    }
}

impl Decided {
    fn replay(&self) -> Replayed {
        let (mut kind, mut reasons) = self.evidence.judge(&self.answer.samples);
        // What could be settled is asked nevertheless now and then: only what was settled is settled again.
        let was_settled = self.answer.reasons.contains(&Reason::AutoAccepted);
        let doubtful = Doubtful { posterior: self.answer.posterior, margin: self.answer.margin };
        let may_be_settled = self.evidence.accept_level.is_some_and(|level| doubtful.reaches(level));
        if was_settled && may_be_settled && kind == DecisionKind::Uncertain {
            kind = DecisionKind::Known;
            reasons.push(Reason::AutoAccepted);
        }
        // Said after the decision, of what followed from it.
        let followed = |reason: &Reason| matches!(reason, Reason::ReviewFull | Reason::ReviewShareSpent);
        let said: Vec<Reason> = self.answer.reasons.iter().copied().filter(|reason| !followed(reason)).collect();
        Replayed { same: kind == self.answer.kind && reasons == said, kind, reasons }
    }
}

/// The record of an answer.
///
/// # Errors
/// When it cannot be written as JSON, which would be a mistake in this program.
pub(super) fn record(
    answer: &Resolved,
    evidence: Evidence,
    mode: ResolveMode,
    now: Timestamp,
) -> Result<DecisionRecord, Fault> {
    let body = serde_json::to_value(Body { mode, answer: answer.clone(), evidence }).map_err(Fault::internal)?;
    Ok(DecisionRecord { id: answer.id, time: now, body })
}

impl Matcher {
    /// What resolve saw and said. Where this replica answered, the record is there from the answer on.
    pub async fn decided(&self, collection: &CollectionId, id: DecisionId) -> Result<Decided, Fault> {
        let uid = self.open(collection).await?.collection.uid;
        let mut found = self.store.in_collection(uid).decision(id).await?;
        if found.is_none() {
            // It may wait to be written.
            self.records.written().await;
            found = self.store.in_collection(uid).decision(id).await?;
        }
        let record = found.ok_or(Fault::NoDecision(id))?;
        let Body { mode, answer, evidence } = serde_json::from_value(record.body).map_err(Fault::internal)?;
        Ok(Decided { time: record.time, mode, answer, evidence })
    }

    /// Makes a decision again from what it saw, with the rules of this server.
    pub async fn replay_decision(&self, collection: &CollectionId, id: DecisionId) -> Result<Replayed, Fault> {
        Ok(self.decided(collection, id).await?.replay())
    }
}
