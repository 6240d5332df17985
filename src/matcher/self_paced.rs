//! What follows from answers that cannot be told, as the collection's policy wants: the best candidate, a question, or nothing.
//!
//! The choice is made in `decision`, from what verdicts have shown; here it is carried out, in the turn of the resolve.
//! What a policy enrolled by itself it may take back. What a human certified it never touches: there is no statement that would.

#[cfg(test)]
mod tests;

use super::{Evidence, Fault, Resolved, probe::Probe, review::count, turn::Turn};
use decision::{Doubtful, Levels, Step, lot};
use domain::{
    Assignment, Change, DecisionKind, Doubt, Encoded, IdentityId, Labels, OpenSetRule, Reason, ReviewPolicy,
    ReviewTrial, Selection, Template,
};

impl Turn {
    /// Does what the policy wants where the answer is UNCERTAIN.
    pub(super) async fn follow_up(
        &mut self,
        resolved: &mut Resolved,
        evidence: &mut Evidence,
        (probe, labels): (Probe, Labels),
    ) -> Result<(), Fault> {
        if resolved.kind != DecisionKind::Uncertain {
            return Ok(());
        }
        let policy = self.open().collection.policy;
        let space = probe.first().embedding.space();
        let step = match policy.review {
            ReviewPolicy::Off => return Ok(()),
            ReviewPolicy::Uncertain => Step::Ask(Selection::Blind),
            ReviewPolicy::SelfPaced => {
                let trials = self.store().review_trials().await?;
                let levels = Levels::of(trials.iter().filter(|trial| trial.doubt.space == space));
                // What verdicts showed of one modality says nothing of several.
                let accept = levels.accept.filter(|_| !probe.is_fused());
                evidence.accept_level = accept;
                let doubtful = Doubtful { posterior: resolved.posterior, margin: resolved.margin };
                let drawn = lot(resolved.id.0.as_u64_pair());
                self.open().pace.lock().step(doubtful, accept, policy.review_share, drawn)
            }
        };
        match step {
            Step::Accept => self.accept(resolved, evidence, probe).await,
            Step::Ask(drawn) => {
                // Where the posterior decides what cannot be told, it has selected already.
                let by_posterior = policy.open_set == OpenSetRule::Posterior;
                let best = evidence.candidates.first().filter(|_| !probe.is_fused());
                let doubt = best.map(|best| Doubt {
                    space,
                    pooling: policy.pooling,
                    similarity: best.similarity,
                    margin: resolved.margin,
                    posterior: resolved.posterior,
                    selection: if by_posterior { Selection::ByPosterior } else { drawn },
                });
                self.open_case(resolved, (&evidence.candidates, doubt), (probe, labels)).await
            }
            Step::Leave => {
                resolved.reasons.push(Reason::ReviewShareSpent);
                count("left");
                Ok(())
            }
        }
    }

    /// Settles the answer as its best candidate, who gets the samples as templates if they have room for more.
    async fn accept(&mut self, resolved: &mut Resolved, evidence: &Evidence, probe: Probe) -> Result<(), Fault> {
        let (Some(best), Some(posterior)) = (evidence.candidates.first(), resolved.posterior) else {
            return Ok(());
        };
        let id = best.identity.clone();
        resolved.kind = DecisionKind::Known;
        resolved.reasons.push(Reason::AutoAccepted);
        resolved.identity = Some(id.clone());
        let most = self.matcher().options.templates_per_identity_max;
        let now = self.matcher().clock.now();
        let enrolled = self.store().enrolled(std::slice::from_ref(&id)).await?;
        let has_room = enrolled.first().is_some_and(|(identity, templates)| {
            !identity.is_expired(now) && templates + probe.parts.len() as u64 <= most
        });
        if has_room {
            self.admit_as(&id, &Labels::default(), probe.parts, &Assignment::Accepted { posterior }).await?;
            resolved.enrolled = true;
        }
        count("accepted");
        Ok(())
    }

    /// Keeps what a verdict showed. Where it shows that a candidate was wrong, what was settled at a level that verdicts
    /// contradict now is taken back.
    pub(super) async fn learn(&mut self, trial: ReviewTrial) -> Result<(), Fault> {
        let most = self.matcher().options.review_trials_max;
        self.store().put_review_trial(&trial, most).await?;
        if trial.was_right {
            return Ok(());
        }
        let space = trial.doubt.space;
        let trials = self.store().review_trials().await?;
        let keep = Levels::of(trials.iter().filter(|trial| trial.doubt.space == space)).keep;
        let settled = self.store().accepted_below(keep).await?;
        let settled = settled.into_iter().filter(|(of, ..)| *of == space);
        let changes: Vec<Change> =
            settled.map(|(_, identity, template)| Change::ForgetTemplate { identity, template }).collect();
        if changes.is_empty() {
            return Ok(());
        }
        let (collection, templates) = (self.open().collection.uid, changes.len());
        tracing::warn!(%collection, templates, "verdicts contradict what was accepted without one; it is taken back");
        metrics::counter!(domain::metric::REVIEW_CASES, "event" => "revoked").increment(templates as u64);
        self.append(&changes).await
    }

    /// As [`Turn::admit`], with whose word it is that the samples are of that identity.
    pub(super) async fn admit_as(
        &mut self,
        id: &IdentityId,
        labels: &Labels,
        encoded: Vec<Encoded>,
        assignment: &Assignment,
    ) -> Result<Vec<Template>, Fault> {
        let mut plan = self.plan(std::slice::from_ref(id)).await?;
        let templates = plan.admit(self.matcher(), id, labels, encoded)?;
        plan.assign(assignment);
        self.carry_out(plan).await?;
        Ok(templates)
    }
}
