//! Past decisions: show what resolve saw and answered, and decide it again.

use crate::matcher::{
    Matcher,
    judging::acceptance,
    request::fault::Fault,
    use_cases::resolve_result::{Evidence, ResolveMode, ResolveResult, StoredDecision},
};
use decision::UncertainAnswer;
use domain::{CollectionId, DecisionId, DecisionKind, Reason, SampleReport, Timestamp};

/// A past decision.
#[derive(Debug, Clone, PartialEq)]
pub struct PastDecision {
    pub time: Timestamp,
    pub mode: ResolveMode,
    pub answer: ResolveResult,
    pub evidence: Evidence,
}

/// A past decision, made again from its evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionReplay {
    pub kind: DecisionKind,
    pub reasons: Vec<Reason>,
    /// Whether the decision equals the past one. If not, this server decides by other rules than the one that answered.
    pub same: bool,
}

impl Evidence {
    /// The decision from this evidence and the sample reports, before review.
    fn decide(&self, samples: &[SampleReport]) -> (DecisionKind, Vec<Reason>) {
        let modalities = match &self.modalities[..] {
            [] => vec![self.modality; samples.len()],
            each => each.to_vec(),
        };
        let refusals = acceptance::refusals(&self.policy, &modalities, samples);
        if !refusals.is_empty() {
            return (DecisionKind::Rejected, refusals);
        }
        let decision = self.open_set();
        (decision.kind, decision.reasons)
    }
}

impl PastDecision {
    fn replay(&self) -> DecisionReplay {
        let (mut kind, mut reasons) = self.evidence.decide(&self.answer.samples);
        // Self-paced review also opens some cases above the accept level: only an accepted answer is accepted again.
        let was_accepted = self.answer.reasons.contains(&Reason::AutoAccepted);
        let uncertain = UncertainAnswer { posterior: self.answer.posterior, margin: self.answer.margin };
        let may_be_accepted = self.evidence.accept_level.is_some_and(|level| uncertain.reaches(level));
        if was_accepted && may_be_accepted && kind == DecisionKind::Uncertain {
            kind = DecisionKind::Known;
            reasons.push(Reason::AutoAccepted);
        }
        // These reasons were added after the decision.
        let is_effect = |reason: &Reason| {
            matches!(reason, Reason::ReviewFull | Reason::ReviewShareSpent | Reason::SeveralSightings)
        };
        let past: Vec<Reason> = self.answer.reasons.iter().copied().filter(|reason| !is_effect(reason)).collect();
        DecisionReplay { same: kind == self.answer.kind && reasons == past, kind, reasons }
    }
}

impl Matcher {
    /// A past decision. On the replica that answered, its record is available from the answer on.
    ///
    /// # Errors
    /// [`Fault::NoDecision`].
    pub async fn past_decision(&self, collection: &CollectionId, id: DecisionId) -> Result<PastDecision, Fault> {
        let uid = self.replica.open(collection).await?.collection.uid;
        let mut found = self.store.in_collection(uid).decision(id).await?;
        if found.is_none() {
            // It may be in the queue.
            self.decision_log.written().await;
            found = self.store.in_collection(uid).decision(id).await?;
        }
        let record = found.ok_or(Fault::NoDecision(id))?;
        let StoredDecision { mode, answer, evidence } = serde_json::from_value(record.body).map_err(Fault::internal)?;
        Ok(PastDecision { time: record.time, mode, answer, evidence })
    }

    /// Makes a past decision again from its evidence, with the rules of this server.
    pub async fn replay_decision(&self, collection: &CollectionId, id: DecisionId) -> Result<DecisionReplay, Fault> {
        Ok(self.past_decision(collection, id).await?.replay())
    }
}
