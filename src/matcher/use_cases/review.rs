//! Review: a human decides UNCERTAIN answers.
//!
//! A case is opened in the turn of its resolve and decided in a turn of its own: the verdict, its templates and the case are
//! one commit. A verdict is never overwritten; reopening the case takes back its effects.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use serde::{Deserialize, Serialize};

use crate::matcher::{
    options::ReviewOptions,
    recognition::probe::Probe,
    replica::{Removal, Replica},
    request::consistency_token::ConsistencyToken,
    request::context::Context,
    request::fault::Fault,
    turn::{Writes, collection_turn::CollectionTurn},
    use_cases::resolve_result::ResolveResult,
};
use decision::AcceptanceLevels;
use domain::{
    Assignment, Candidate, CandidateEvidence, Certificate, Change, Clock, CollectionId, IdentityId, Labels, Reason,
    ReviewCase, ReviewCaseId, ReviewOutcome, ReviewStage, ReviewState, ReviewTrial, Revision, Timestamp, Verdict,
};
use store::{AcceptedTemplate, ReviewCasePage, Store};

/// The default lease of a claim.
pub const LEASE: Duration = Duration::from_mins(10);
/// The longest lease of a claim.
pub const LEASE_MAX: Duration = Duration::from_hours(24);

/// A reviewer's claim of a case.
#[derive(Debug, Clone)]
pub struct ReviewClaim {
    pub collection: CollectionId,
    pub case: ReviewCaseId,
    pub reviewer: String,
    pub lease: Duration,
}

/// A reviewer's verdict on a case.
#[derive(Debug, Clone)]
pub struct ReviewVerdict {
    pub collection: CollectionId,
    pub case: ReviewCaseId,
    pub reviewer: String,
    pub verdict: Verdict,
    pub learning: Learning,
    /// Decide only if the case still has this revision.
    pub expected: Option<Revision>,
}

/// Whether the samples of a case become templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learning {
    /// They become templates of the identity of the verdict.
    Enroll,
    /// The case names the identity and the gallery does not change. A new identity is enrolled in any case: it would have no
    /// template.
    Link,
}

/// A case after a change, and the token of that write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewedCase {
    pub case: ReviewCase,
    pub token: ConsistencyToken,
}

/// The review cases of all collections. Clones share all state.
#[derive(Debug, Clone)]
pub struct Reviews {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    replica: Replica,
    writes: Writes,
    options: ReviewOptions,
}

/// The content of a new case.
pub(crate) struct CaseDraft<'d> {
    pub(crate) candidates: &'d [Candidate],
    pub(crate) doubt: Option<CandidateEvidence>,
    pub(crate) probe: &'d Probe,
    pub(crate) labels: &'d Labels,
}

impl Reviews {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, writes: Writes, options: ReviewOptions) -> Self {
        let replica = writes.replica().clone();
        Self { store, clock, replica, writes, options }
    }

    pub(crate) fn templates_per_identity_max(&self) -> u64 {
        self.writes.options().templates_per_identity_max
    }

    /// # Errors
    /// [`Fault::NoReviewCase`].
    pub async fn review_case(&self, collection: &CollectionId, id: ReviewCaseId) -> Result<ReviewCase, Fault> {
        let uid = self.replica.open(collection).await?.collection.uid;
        self.store.in_collection(uid).review_case(id).await?.ok_or(Fault::NoReviewCase(id))
    }

    /// Cases of a stage, or all, oldest first; those after `after`.
    pub async fn review_cases(
        &self,
        collection: &CollectionId,
        stage: Option<ReviewStage>,
        after: Option<ReviewCaseId>,
        limit: u32,
    ) -> Result<Vec<ReviewCase>, Fault> {
        let uid = self.replica.open(collection).await?.collection.uid;
        let page = ReviewCasePage { stage, now: self.clock.now(), after, limit };
        Ok(self.store.in_collection(uid).review_cases(page).await?)
    }

    /// Holds a case for a reviewer until the lease ends. Its holder may extend the lease.
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
        let claimed = case.with_state(ReviewState::Claimed { reviewer, until }, now);
        let uid = self.replica.open(&collection).await?.collection.uid;
        self.store.in_collection(uid).put_review_case(&claimed).await?;
        Ok(claimed)
    }

    /// Decides a case. When it returns, the effects of the verdict are durable and the next search finds them.
    ///
    /// # Errors
    /// [`Fault::CaseHeld`], [`Fault::CaseDecided`], [`Fault::NoIdentity`], [`Fault::IdentityExists`].
    pub async fn decide_review_case(&self, context: &Context, verdict: ReviewVerdict) -> Result<ReviewedCase, Fault> {
        let (collection, principal) = (verdict.collection.clone(), context.principal.to_string());
        let reviews = self.clone();
        let reviewed: ReviewedCase = self
            .writes
            .change(context, &collection, move |turn| {
                async move { reviews.decide_in_turn(turn, verdict, principal).await }.boxed()
            })
            .await?;
        count("decided");
        Ok(reviewed)
    }

    /// Takes a verdict back: removes the templates that it enrolled, and the identity that it created unless it has others
    /// now.
    ///
    /// # Errors
    /// [`Fault::CaseUndecided`].
    pub async fn reopen_review_case(
        &self,
        context: &Context,
        collection: &CollectionId,
        case: ReviewCaseId,
        expected: Option<Revision>,
    ) -> Result<ReviewedCase, Fault> {
        let reviewed: ReviewedCase = self
            .writes
            .change(context, collection, move |turn| async move { reopen_in_turn(turn, case, expected).await }.boxed())
            .await?;
        count("reopened");
        Ok(reviewed)
    }

    /// Removes a case with its samples. The templates of its verdict stay.
    pub async fn delete_review_case(&self, collection: &CollectionId, id: ReviewCaseId) -> Result<Removal, Fault> {
        let uid = self.replica.open(collection).await?.collection.uid;
        if !self.store.in_collection(uid).delete_review_case(id).await? {
            return Err(Fault::NoReviewCase(id));
        }
        Ok(self.replica.scrub().await)
    }
}

impl Reviews {
    /// Opens a case about an answer, unless the collection has the maximum of undecided cases.
    pub(crate) async fn open_case(
        &self,
        turn: &mut CollectionTurn,
        resolved: &mut ResolveResult,
        draft: CaseDraft<'_>,
    ) -> Result<(), Fault> {
        let CaseDraft { candidates, doubt, probe, labels } = draft;
        if turn.store().count_undecided_review_cases().await? >= self.options.cases_max {
            resolved.reasons.push(Reason::ReviewFull);
            return Ok(());
        }
        let now = turn.now();
        let case = ReviewCase {
            id: ReviewCaseId(turn.fresh_id()),
            decision: resolved.id,
            reasons: resolved.reasons.clone(),
            candidates: candidates.to_vec(),
            operating_point: resolved.operating_point,
            doubt,
            modality: probe.first().embedding.space().modality,
            model: resolved.model.clone(),
            labels: labels.clone(),
            samples: resolved.samples.clone(),
            state: ReviewState::Open,
            revision: Revision::FIRST,
            create_time: now,
            update_time: now,
            expire_time: now.checked_add(self.options.cases_kept).map_err(Fault::internal)?,
        };
        turn.store().open_review_case(&case, &probe.parts).await?;
        resolved.review_case = Some(case.id);
        count("opened");
        Ok(())
    }

    async fn decide_in_turn(
        &self,
        turn: &mut CollectionTurn,
        request: ReviewVerdict,
        principal: String,
    ) -> Result<ReviewedCase, Fault> {
        let now = turn.now();
        let case = case_in_turn(turn, request.case, request.expected).await?;
        undecided(&case)?;
        if case.held_by_another(&request.reviewer, now) {
            return Err(Fault::CaseHeld(case.id));
        }
        let (identity, made) = match &request.verdict {
            Verdict::Discard => (None, false),
            Verdict::SameAs(id) => {
                if !is_present(turn, id, now).await? {
                    return Err(Fault::NoIdentity(id.clone()));
                }
                (Some(id.clone()), false)
            }
            Verdict::New(chosen) => {
                let fresh = || IdentityId::new(&turn.fresh_id().to_string());
                let id = chosen.clone().map_or_else(fresh, Ok)?;
                if is_present(turn, &id, now).await? {
                    return Err(Fault::IdentityExists(id));
                }
                (Some(id), true)
            }
        };
        let mut templates = Vec::new();
        if let Some(id) = identity.as_ref().filter(|_| made || request.learning == Learning::Enroll) {
            let samples = turn.store().review_samples(case.id).await?;
            let labels = if made { case.labels.clone() } else { Labels::default() };
            let certificate = Certificate { reviewer: request.reviewer.clone(), principal, case: case.id, time: now };
            let admitted = turn.admit(id, &labels, samples, &Assignment::Certified(certificate)).await?;
            templates = admitted.into_iter().map(|template| template.id).collect();
        }
        if let Some((doubt, was_right)) = case.doubt.zip(case.was_right(&request.verdict)) {
            self.learn(turn, ReviewTrial { case: case.id, doubt, was_right, time: now }).await?;
        }
        let outcome = ReviewOutcome {
            verdict: request.verdict,
            identity,
            made,
            templates,
            reviewer: request.reviewer,
            time: now,
        };
        let decided = case.with_state(ReviewState::Decided(outcome), now);
        turn.store().put_review_case(&decided).await?;
        Ok(ReviewedCase { case: decided, token: turn.token() })
    }

    /// Keeps the trial of a verdict. If the verdict shows that a candidate was wrong, templates that the policy accepted below
    /// the new keep level are removed.
    pub(crate) async fn learn(&self, turn: &mut CollectionTurn, trial: ReviewTrial) -> Result<(), Fault> {
        turn.store().put_review_trial(&trial, self.options.trials_max).await?;
        if trial.was_right {
            return Ok(());
        }
        let space = trial.doubt.space;
        let trials = turn.store().review_trials().await?;
        let keep = AcceptanceLevels::of(trials.iter().filter(|trial| trial.doubt.space == space)).keep;
        let accepted = turn.store().accepted_below(keep).await?;
        let accepted = accepted.into_iter().filter(|accepted| accepted.space == space);
        let forget = |AcceptedTemplate { identity, template, .. }| Change::ForgetTemplate { identity, template };
        let changes: Vec<Change> = accepted.map(forget).collect();
        if changes.is_empty() {
            return Ok(());
        }
        let (collection, templates) = (turn.handle().collection.uid, changes.len());
        tracing::warn!(%collection, templates, "verdicts contradict accepted answers; their templates are removed");
        metrics::counter!(domain::metric::REVIEW_CASES, "event" => "revoked").increment(templates as u64);
        turn.append(&changes).await
    }
}

async fn reopen_in_turn(
    turn: &mut CollectionTurn,
    id: ReviewCaseId,
    expected: Option<Revision>,
) -> Result<ReviewedCase, Fault> {
    let case = case_in_turn(turn, id, expected).await?;
    let ReviewState::Decided(outcome) = case.state.clone() else {
        return Err(Fault::CaseUndecided(id));
    };
    let reopened = case.with_state(ReviewState::Open, turn.now());
    // Before the identity is removed: that also removes the cases that name it.
    turn.store().put_review_case(&reopened).await?;
    turn.store().delete_review_trial(id).await?;
    if let Some(identity) = outcome.identity {
        let enrolled = turn.store().enrolled_identities(std::slice::from_ref(&identity)).await?;
        let (mut own, mut changes) = (0, Vec::new());
        for template in outcome.templates {
            // A merge or a split may have moved it to another identity since.
            if let Some(kept) = turn.store().template(template).await? {
                own += u64::from(kept.identity == identity);
                changes.push(Change::ForgetTemplate { identity: kept.identity, template });
            }
        }
        if outcome.made && enrolled.first().is_some_and(|enrolled| enrolled.templates <= own) {
            changes.retain(|one| !matches!(one, Change::ForgetTemplate { identity: of, .. } if *of == identity));
            changes.push(Change::ForgetIdentity(identity));
        }
        turn.append(&changes).await?;
    }
    Ok(ReviewedCase { case: reopened, token: turn.token() })
}

/// # Errors
/// [`Fault::NoReviewCase`], [`Fault::EtagMoved`].
async fn case_in_turn(
    turn: &mut CollectionTurn,
    id: ReviewCaseId,
    expected: Option<Revision>,
) -> Result<ReviewCase, Fault> {
    let case = turn.store().review_case(id).await?.ok_or(Fault::NoReviewCase(id))?;
    if expected.is_some_and(|expected| expected != case.revision) {
        return Err(Fault::EtagMoved);
    }
    Ok(case)
}

async fn is_present(turn: &mut CollectionTurn, id: &IdentityId, now: Timestamp) -> Result<bool, Fault> {
    let identity = turn.store().identity(id).await?;
    Ok(identity.is_some_and(|identity| !identity.is_expired(now)))
}

/// # Errors
/// [`Fault::CaseDecided`].
fn undecided(case: &ReviewCase) -> Result<(), Fault> {
    match case.state {
        ReviewState::Decided(_) => Err(Fault::CaseDecided(case.id)),
        ReviewState::Open | ReviewState::Claimed { .. } => Ok(()),
    }
}

pub(crate) fn count(event: &'static str) {
    metrics::counter!(domain::metric::REVIEW_CASES, "event" => event).increment(1);
}
