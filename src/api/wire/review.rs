//! Decision records and review cases in responses; verdicts in requests.

use super::{
    CollectionName, DecisionName, ModelName, ReviewCaseName,
    answer::{candidates, decision_kind, modality, operating_point, reasons, resolved},
    etag, policy,
    report::reports,
    to_wire,
};
use crate::{
    api::proto::{self, review_case},
    matcher::{DecisionReplay, Fault, PastDecision, ResolveMode, ReviewedCase},
};
use domain::{CollectionId, IdentityId, ReviewCase, ReviewOutcome, ReviewStage, ReviewState, Timestamp, Verdict};

/// The longest name of a reviewer.
const REVIEWER_CHARS_MAX: usize = 128;

pub(in crate::api) fn decided(of: &CollectionId, decided: &PastDecision) -> proto::Decision {
    use proto::resolve_request::Mode;
    let modality = decided.evidence.modality;
    proto::Decision {
        name: DecisionName { collection: of.clone(), decision: decided.answer.id }.to_string(),
        create_time: Some(to_wire(decided.time)),
        mode: match decided.mode {
            ResolveMode::DryRun => Mode::DryRun,
            ResolveMode::EnrollIfNew => Mode::EnrollIfNew,
        }
        .into(),
        answer: Some(resolved(of, &decided.answer, modality)),
        candidates: candidates(of, &decided.evidence.candidates, modality),
        policy: Some(policy::to_wire(&decided.evidence.policy)),
    }
}

pub(in crate::api) fn replayed(replayed: &DecisionReplay) -> proto::ReplayDecisionResponse {
    proto::ReplayDecisionResponse {
        decision: decision_kind(replayed.kind),
        reasons: reasons(&replayed.reasons),
        same: replayed.same,
    }
}

/// `now` decides whether a claim has expired.
pub(in crate::api) fn review_case(of: &CollectionId, case: &ReviewCase, now: Timestamp) -> proto::ReviewCase {
    use review_case::State;
    let state = match case.stage(now) {
        ReviewStage::Open => State::Open,
        ReviewStage::Claimed => State::Claimed,
        ReviewStage::Decided => State::Decided,
    };
    let (reviewer, until) = match &case.state {
        ReviewState::Claimed { reviewer, until } if *until > now => (reviewer.clone(), Some(to_wire(*until))),
        ReviewState::Open | ReviewState::Claimed { .. } | ReviewState::Decided(_) => (String::new(), None),
    };
    let outcome = match &case.state {
        ReviewState::Decided(decided) => Some(outcome(of, decided)),
        ReviewState::Open | ReviewState::Claimed { .. } => None,
    };
    proto::ReviewCase {
        name: ReviewCaseName { collection: of.clone(), case: case.id }.to_string(),
        state: state.into(),
        decision: DecisionName { collection: of.clone(), decision: case.decision }.to_string(),
        reasons: reasons(&case.reasons),
        candidates: candidates(of, &case.candidates, case.modality),
        operating_point: Some(operating_point(of, &case.operating_point)),
        modality: modality(case.modality),
        model: ModelName(case.model.clone()).to_string(),
        labels: case.labels.clone().into(),
        samples: reports(&case.samples),
        reviewer,
        lease_expire_time: until,
        outcome,
        etag: etag(case.revision),
        create_time: Some(to_wire(case.create_time)),
        update_time: Some(to_wire(case.update_time)),
        expire_time: Some(to_wire(case.expire_time)),
    }
}

fn outcome(of: &CollectionId, outcome: &ReviewOutcome) -> review_case::Outcome {
    let identity = outcome.identity.as_ref().map(|id| CollectionName(of.clone()).identity(id));
    let verdict = match outcome.verdict {
        Verdict::SameAs(_) => review_case::Verdict::SameAs,
        Verdict::New(_) => review_case::Verdict::New,
        Verdict::Discard => review_case::Verdict::Discard,
    };
    review_case::Outcome {
        verdict: verdict.into(),
        templates: identity
            .iter()
            .flat_map(|name| outcome.templates.iter().map(|template| name.template(*template).to_string()))
            .collect(),
        identity: identity.map(|name| name.to_string()).unwrap_or_default(),
        reviewer: outcome.reviewer.clone(),
        decide_time: Some(to_wire(outcome.time)),
    }
}

pub(in crate::api) fn reviewed(
    of: &CollectionId,
    reviewed: &ReviewedCase,
    now: Timestamp,
) -> proto::DecideReviewCaseResponse {
    proto::DecideReviewCaseResponse {
        review_case: Some(review_case(of, &reviewed.case, now)),
        consistency_token: reviewed.token.to_string(),
    }
}

/// The stage to list; none for all.
pub(in crate::api) fn stage(state: i32) -> Result<Option<ReviewStage>, Fault> {
    use review_case::State;
    match State::try_from(state) {
        Ok(State::Unspecified) => Ok(None),
        Ok(State::Open) => Ok(Some(ReviewStage::Open)),
        Ok(State::Claimed) => Ok(Some(ReviewStage::Claimed)),
        Ok(State::Decided) => Ok(Some(ReviewStage::Decided)),
        Err(_) => Err(Fault::invalid("state", "a state is open, claimed or decided")),
    }
}

pub(in crate::api) fn reviewer(name: String) -> Result<String, Fault> {
    let chars = name.chars().count();
    if chars == 0 || chars > REVIEWER_CHARS_MAX || name.chars().any(char::is_control) {
        let problem = format!("a reviewer's name has 1 to {REVIEWER_CHARS_MAX} characters and no control characters");
        return Err(Fault::invalid("reviewer", problem));
    }
    Ok(name)
}

pub(in crate::api) fn verdict(verdict: i32, identity: &str) -> Result<Verdict, Fault> {
    use review_case::Verdict as Wire;
    // A candidate's resource name or its id.
    let id = identity.rsplit_once("/identities/").map_or(identity, |(_, id)| id);
    let id = || IdentityId::new(id).map_err(|problem| Fault::invalid("identity", problem));
    match Wire::try_from(verdict) {
        Ok(Wire::SameAs) => Ok(Verdict::SameAs(id()?)),
        Ok(Wire::New) if identity.is_empty() => Ok(Verdict::New(None)),
        Ok(Wire::New) => Ok(Verdict::New(Some(id()?))),
        Ok(Wire::Discard) if identity.is_empty() => Ok(Verdict::Discard),
        Ok(Wire::Discard) => Err(Fault::invalid("identity", "a discarded sample has no identity; leave the field out")),
        Ok(Wire::Unspecified) | Err(_) => Err(Fault::invalid("verdict", "a verdict is same_as, new or discard")),
    }
}
