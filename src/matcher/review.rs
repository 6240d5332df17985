//! Review: what resolve could not tell, a human says.
//!
//! A case is opened in the turn of the resolve that could not tell, and decided in a turn of its own: the verdict, the
//! templates that follow from it and the case are one commit. No verdict is ever overwritten; who erred reopens the case,
//! which takes back what followed from it.

use std::time::Duration;

use futures::FutureExt;
use serde::{Deserialize, Serialize};

use super::{ConsistencyToken, Context, Fault, Matcher, Resolved, probe::Probe, turn::Turn};
use domain::{
    Assignment, Candidate, Certificate, Change, CollectionId, Doubt, IdentityId, Labels, Outcome, Reason, ReviewCase,
    ReviewCaseId, ReviewStage, ReviewState, ReviewTrial, Revision, Timestamp, Verdict,
};

/// How long a claim holds when the reviewer does not say.
pub const LEASE: Duration = Duration::from_mins(10);
/// The longest that a claim may hold.
pub const LEASE_MAX: Duration = Duration::from_hours(24);

/// Who wants to look at a case, and for how long.
#[derive(Debug, Clone)]
pub struct ReviewClaim {
    pub collection: CollectionId,
    pub case: ReviewCaseId,
    pub reviewer: String,
    pub lease: Duration,
}

/// What a human says.
#[derive(Debug, Clone)]
pub struct ReviewVerdict {
    pub collection: CollectionId,
    pub case: ReviewCaseId,
    pub reviewer: String,
    pub verdict: Verdict,
    pub learning: Learning,
    /// Decide only if the case is still this one.
    pub expected: Option<Revision>,
}

/// Whether the samples of a case become templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learning {
    /// They are enrolled with the identity of the verdict.
    Enroll,
    /// The case names the identity, and the gallery stays as it is. A new identity is enrolled all the same: it would have
    /// no template.
    Link,
}

/// A case after a change, and the write to wait for elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reviewed {
    pub case: ReviewCase,
    pub token: ConsistencyToken,
}

impl Matcher {
    pub async fn review_case(&self, collection: &CollectionId, id: ReviewCaseId) -> Result<ReviewCase, Fault> {
        let uid = self.open(collection).await?.collection.uid;
        self.store.review_case(uid, id).await?.ok_or(Fault::NoReviewCase(id))
    }

    /// Cases of a stage, or all, in the order in which they were opened; those after `after`.
    pub async fn review_cases(
        &self,
        collection: &CollectionId,
        stage: Option<ReviewStage>,
        after: Option<ReviewCaseId>,
        limit: u32,
    ) -> Result<Vec<ReviewCase>, Fault> {
        let uid = self.open(collection).await?.collection.uid;
        Ok(self.store.review_cases(uid, (stage, self.clock.now()), after, limit).await?)
    }

    /// Holds a case for a reviewer until the lease runs out. Who holds it already holds it for longer.
    ///
    /// # Errors
    /// [`Fault::CaseHeld`], [`Fault::CaseDecided`].
    pub async fn claim_review_case(&self, claim: ReviewClaim) -> Result<ReviewCase, Fault> {
        let ReviewClaim { collection, case, reviewer, lease } = claim;
        let case = self.review_case(&collection, case).await?;
        let now = self.clock.now();
        undecided(&case)?;
        if case.held_by_another(&reviewer, now) {
            return Err(Fault::CaseHeld(case.id));
        }
        let until = now.checked_add(lease).map_err(Fault::internal)?;
        let claimed = case.moved(ReviewState::Claimed { reviewer, until }, now);
        let uid = self.open(&collection).await?.collection.uid;
        self.store.put_review_case(uid, &claimed).await?;
        Ok(claimed)
    }

    /// Says who it is. What follows from that is durable, and found by the next search, once this has answered.
    ///
    /// # Errors
    /// [`Fault::CaseHeld`], [`Fault::CaseDecided`], [`Fault::NoIdentity`], [`Fault::IdentityExists`].
    pub async fn decide_review_case(&self, context: &Context, said: ReviewVerdict) -> Result<Reviewed, Fault> {
        let (collection, principal) = (said.collection.clone(), context.principal.to_string());
        let reviewed: Reviewed = self
            .change(context, &collection, move |turn| async move { turn.decide_case(said, principal).await }.boxed())
            .await?;
        count("decided");
        Ok(reviewed)
    }

    /// Takes a verdict back: the templates that it enrolled are forgotten, and so is the identity that it made, unless it
    /// has others by now.
    ///
    /// # Errors
    /// [`Fault::CaseUndecided`].
    pub async fn reopen_review_case(
        &self,
        context: &Context,
        collection: &CollectionId,
        case: ReviewCaseId,
        expected: Option<Revision>,
    ) -> Result<Reviewed, Fault> {
        let reviewed: Reviewed = self
            .change(context, collection, move |turn| async move { turn.reopen_case(case, expected).await }.boxed())
            .await?;
        count("reopened");
        Ok(reviewed)
    }

    /// Removes a case with its samples. Templates that followed from its verdict stay.
    pub async fn delete_review_case(&self, collection: &CollectionId, id: ReviewCaseId) -> Result<(), Fault> {
        let uid = self.open(collection).await?.collection.uid;
        if !self.store.delete_review_case(uid, id).await? {
            return Err(Fault::NoReviewCase(id));
        }
        self.scrub().await;
        Ok(())
    }
}

impl Turn {
    /// Opens a case about this answer if there is room for one.
    pub(super) async fn open_case(
        &mut self,
        resolved: &mut Resolved,
        (weighed, doubt): (&[Candidate], Option<Doubt>),
        (probe, labels): (Probe, Labels),
    ) -> Result<(), Fault> {
        let matcher = self.matcher().clone();
        if self.store().review_cases_undecided().await? >= matcher.options.review_cases_max {
            resolved.reasons.push(Reason::ReviewFull);
            return Ok(());
        }
        let now = matcher.clock.now();
        let case = ReviewCase {
            id: ReviewCaseId(matcher.ids.fresh()),
            decision: resolved.id,
            reasons: resolved.reasons.clone(),
            candidates: weighed.to_vec(),
            operating_point: resolved.operating_point,
            doubt,
            modality: probe.first().embedding.space().modality,
            model: resolved.model.clone(),
            labels,
            samples: resolved.samples.clone(),
            state: ReviewState::Open,
            revision: Revision::FIRST,
            create_time: now,
            update_time: now,
            expire_time: now.checked_add(matcher.options.review_cases_kept).map_err(Fault::internal)?,
        };
        self.store().open_review_case(&case, &probe.parts).await?;
        resolved.review_case = Some(case.id);
        count("opened");
        Ok(())
    }

    async fn decide_case(&mut self, said: ReviewVerdict, principal: String) -> Result<Reviewed, Fault> {
        let now = self.matcher().clock.now();
        let case = self.case(said.case, said.expected).await?;
        undecided(&case)?;
        if case.held_by_another(&said.reviewer, now) {
            return Err(Fault::CaseHeld(case.id));
        }
        let (identity, made) = match &said.verdict {
            Verdict::Discard => (None, false),
            Verdict::SameAs(id) => {
                self.present(id, now).await?.ok_or_else(|| Fault::NoIdentity(id.clone()))?;
                (Some(id.clone()), false)
            }
            Verdict::New(chosen) => {
                let fresh = || IdentityId::new(&self.matcher().ids.fresh().to_string());
                let id = chosen.clone().map_or_else(fresh, Ok)?;
                if self.present(&id, now).await?.is_some() {
                    return Err(Fault::IdentityExists(id));
                }
                (Some(id), true)
            }
        };
        let mut templates = Vec::new();
        if let Some(id) = identity.as_ref().filter(|_| made || said.learning == Learning::Enroll) {
            let samples = self.store().review_samples(case.id).await?;
            let labels = if made { case.labels.clone() } else { Labels::default() };
            let certificate = Certificate { reviewer: said.reviewer.clone(), principal, case: case.id, time: now };
            let admitted = self.admit_as(id, &labels, samples, &Assignment::Certified(certificate)).await?;
            templates = admitted.into_iter().map(|template| template.id).collect();
        }
        if let Some((doubt, was_right)) = case.doubt.zip(case.was_right(&said.verdict)) {
            self.learn(ReviewTrial { case: case.id, doubt, was_right, time: now }).await?;
        }
        let outcome = Outcome { verdict: said.verdict, identity, made, templates, reviewer: said.reviewer, time: now };
        self.put_case(case.moved(ReviewState::Decided(outcome), now)).await
    }

    async fn reopen_case(&mut self, id: ReviewCaseId, expected: Option<Revision>) -> Result<Reviewed, Fault> {
        let case = self.case(id, expected).await?;
        let ReviewState::Decided(outcome) = case.state.clone() else {
            return Err(Fault::CaseUndecided(id));
        };
        let reopened = case.moved(ReviewState::Open, self.matcher().clock.now());
        // Before the identity goes: a case goes with the identity that it names.
        self.store().put_review_case(&reopened).await?;
        self.store().delete_review_trial(id).await?;
        if let Some(identity) = outcome.identity {
            let enrolled = self.store().enrolled(std::slice::from_ref(&identity)).await?;
            let mut own = Vec::new();
            for template in outcome.templates {
                if self.store().template(template).await?.is_some_and(|kept| kept.identity == identity) {
                    own.push(template);
                }
            }
            let has_others = enrolled.first().is_some_and(|(_, templates)| *templates > own.len() as u64);
            let changes: Vec<Change> = if outcome.made && !has_others && !enrolled.is_empty() {
                vec![Change::ForgetIdentity(identity)]
            } else {
                let forget = |template| Change::ForgetTemplate { identity: identity.clone(), template };
                own.into_iter().map(forget).collect()
            };
            self.append(&changes).await?;
        }
        Ok(Reviewed { case: reopened, token: self.token() })
    }

    /// # Errors
    /// [`Fault::NoReviewCase`], [`Fault::EtagMoved`].
    async fn case(&mut self, id: ReviewCaseId, expected: Option<Revision>) -> Result<ReviewCase, Fault> {
        let case = self.store().review_case(id).await?.ok_or(Fault::NoReviewCase(id))?;
        if expected.is_some_and(|expected| expected != case.revision) {
            return Err(Fault::EtagMoved);
        }
        Ok(case)
    }

    async fn present(&mut self, id: &IdentityId, now: Timestamp) -> Result<Option<()>, Fault> {
        let identity = self.store().identity(id).await?;
        Ok(identity.filter(|identity| !identity.is_expired(now)).map(|_| ()))
    }

    async fn put_case(&mut self, case: ReviewCase) -> Result<Reviewed, Fault> {
        self.store().put_review_case(&case).await?;
        Ok(Reviewed { case, token: self.token() })
    }
}

/// # Errors
/// [`Fault::CaseDecided`].
fn undecided(case: &ReviewCase) -> Result<(), Fault> {
    match case.state {
        ReviewState::Decided(_) => Err(Fault::CaseDecided(case.id)),
        ReviewState::Open | ReviewState::Claimed { .. } => Ok(()),
    }
}

pub(super) fn count(event: &'static str) {
    metrics::counter!(domain::metric::REVIEW_CASES, "event" => event).increment(1);
}
