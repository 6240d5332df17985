//! Carries out the review policy for UNCERTAIN answers: accept the best candidate, open a case, or leave it.
//!
//! The step is chosen in `decision`, from the review trials; here it is carried out, in the turn of the resolve. A later
//! verdict may take back an enrollment of the policy. Nothing takes back a template that a reviewer certified.

#[cfg(test)]
mod tests;

use crate::matcher::{
    recognition::probe::Probe,
    request::fault::Fault,
    turn::collection_turn::CollectionTurn,
    use_cases::{
        resolve_result::{Evidence, ResolveResult},
        review::{CaseDraft, Reviews, count},
    },
};
use decision::{AcceptanceLevels, ReviewAction, UncertainAnswer, uniform_from_id};
use domain::{Assignment, CandidateEvidence, CaseSelection, DecisionKind, Labels, OpenSetRule, Reason, ReviewPolicy};
use store::EnrolledIdentity;

/// The answer of a resolve inside its turn, and what its effects need.
pub(crate) struct AnswerInTurn {
    pub(crate) resolved: ResolveResult,
    pub(crate) evidence: Evidence,
    pub(crate) probe: Probe,
    pub(crate) labels: Labels,
}

impl Reviews {
    /// Carries out the policy of the collection for an UNCERTAIN answer; any other answer stays.
    pub(crate) async fn follow_up(&self, turn: &mut CollectionTurn, answer: &mut AnswerInTurn) -> Result<(), Fault> {
        if answer.resolved.kind != DecisionKind::Uncertain {
            return Ok(());
        }
        let policy = turn.handle().collection.policy;
        let space = answer.probe.first().embedding.space();
        let is_fused = answer.probe.is_fused();
        let step = match policy.review {
            ReviewPolicy::Off => return Ok(()),
            ReviewPolicy::Uncertain => ReviewAction::Ask(CaseSelection::Blind),
            ReviewPolicy::SelfPaced => {
                let trials = turn.store().review_trials().await?;
                let levels = AcceptanceLevels::of(trials.iter().filter(|trial| trial.doubt.space == space));
                // Trials of one modality do not apply to a fusion.
                let accept = levels.accept.filter(|_| !is_fused);
                answer.evidence.accept_level = accept;
                let uncertain =
                    UncertainAnswer { posterior: answer.resolved.posterior, margin: answer.resolved.margin };
                let (high, low) = answer.resolved.id.0.as_u64_pair();
                let drawn = uniform_from_id(high, low);
                turn.handle().review_budget.lock().decide(uncertain, accept, policy.review_share, drawn)
            }
        };
        match step {
            ReviewAction::Accept => self.accept(turn, answer).await,
            ReviewAction::Ask(drawn) => {
                // A posterior policy has already selected the answer by its posterior.
                let by_posterior = policy.open_set == OpenSetRule::Posterior;
                let best = answer.evidence.candidates.first().filter(|_| !is_fused);
                let doubt = best.map(|best| CandidateEvidence {
                    space,
                    pooling: policy.pooling,
                    similarity: best.similarity,
                    margin: answer.resolved.margin,
                    posterior: answer.resolved.posterior,
                    selection: if by_posterior { CaseSelection::ByPosterior } else { drawn },
                });
                let AnswerInTurn { resolved, evidence, probe, labels } = answer;
                let draft = CaseDraft { candidates: &evidence.candidates, doubt, probe, labels };
                self.open_case(turn, resolved, draft).await
            }
            ReviewAction::Leave => {
                answer.resolved.reasons.push(Reason::ReviewShareSpent);
                count("left");
                Ok(())
            }
        }
    }

    /// Accepts the best candidate as KNOWN, and adds the samples to its templates while the template limit allows.
    async fn accept(&self, turn: &mut CollectionTurn, answer: &mut AnswerInTurn) -> Result<(), Fault> {
        let (Some(best), Some(posterior)) = (answer.evidence.candidates.first(), answer.resolved.posterior) else {
            return Ok(());
        };
        let id = best.identity.clone();
        answer.resolved.kind = DecisionKind::Known;
        answer.resolved.reasons.push(Reason::AutoAccepted);
        answer.resolved.identity = Some(id.clone());
        let most = self.templates_per_identity_max();
        let now = turn.now();
        let enrolled = turn.store().enrolled_identities(std::slice::from_ref(&id)).await?;
        let parts = std::mem::take(&mut answer.probe.parts);
        let is_within_limit = enrolled.first().is_some_and(|EnrolledIdentity { identity, templates }| {
            !identity.is_expired(now) && templates + parts.len() as u64 <= most
        });
        if is_within_limit {
            turn.admit(&id, &Labels::default(), parts, &Assignment::Accepted { posterior }).await?;
            answer.resolved.enrolled = true;
        }
        count("accepted");
        Ok(())
    }
}
