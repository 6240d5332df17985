//! Results in responses.

use std::collections::BTreeMap;

use super::{
    CalibrationName, CollectionName, IdentityName, ModelName, ReviewCaseName, count, etag, policy,
    report::{report, reports, track},
    to_wire,
};
use crate::{
    api::proto,
    matcher::{
        CompareResult, EnrollResult, ExtractedEmbedding, Model, ModelTask, ResolveResult, SearchResult, VerifyResult,
    },
};
use domain::{
    Assignment, Candidate, Certificate, Collection, CollectionCounts, CollectionId, DecisionKind, FusedEvidence,
    Identity, Modality, ModalityEvidence, OperatingPoint, Ranking, Reason, Similarity, SpaceBinding, SpaceRole,
    Template, TemplateOrigin, ThresholdSource,
};

pub(super) fn modality(modality: Modality) -> i32 {
    let wire = match modality {
        Modality::Face => proto::Modality::Face,
        Modality::Person => proto::Modality::Person,
        Modality::Gait => proto::Modality::Gait,
    };
    wire.into()
}

fn dimension(dimension: u32) -> i32 {
    i32::try_from(dimension).expect("a dimension is bounded far below")
}

fn embedding_space(binding: &SpaceBinding) -> proto::EmbeddingSpace {
    proto::EmbeddingSpace {
        model: binding.name.to_string(),
        modality: modality(binding.space.modality),
        dimension: dimension(binding.space.dimension),
        digest: binding.space.digest.to_string(),
        active: binding.role == SpaceRole::Active,
        external: binding.external,
        parts: dimension(binding.space.parts),
    }
}

pub(in crate::api) fn collection(collection: &Collection, stats: CollectionCounts) -> proto::Collection {
    proto::Collection {
        name: CollectionName(collection.id.clone()).to_string(),
        uid: collection.uid.to_string(),
        display_name: collection.display_name.clone(),
        policy: Some(policy::to_wire(&collection.policy)),
        spaces: collection.spaces.iter().map(embedding_space).collect(),
        identity_count: count(stats.enrolled.identities),
        template_count: count(stats.enrolled.templates),
        provisional_identity_count: count(stats.provisional.identities),
        etag: etag(collection.revision),
        create_time: Some(to_wire(collection.create_time)),
        update_time: Some(to_wire(collection.update_time)),
    }
}

pub(in crate::api) fn identity(of: &CollectionId, identity: &Identity) -> proto::Identity {
    proto::Identity {
        name: CollectionName(of.clone()).identity(&identity.id).to_string(),
        labels: identity.labels.clone().into(),
        expire_time: identity.expire_time.map(to_wire),
        provisional: identity.provisional,
        etag: etag(identity.revision),
        create_time: Some(to_wire(identity.create_time)),
        update_time: Some(to_wire(identity.update_time)),
    }
}

pub(in crate::api) fn template(of: &IdentityName, template: &Template) -> proto::Template {
    proto::Template {
        name: of.template(template.id).to_string(),
        modality: modality(template.space.modality),
        model: template.model.to_string(),
        model_digest: template.space.digest.to_string(),
        dimension: dimension(template.space.dimension),
        origin: match template.origin {
            TemplateOrigin::Sample => proto::template::Origin::Sample,
            TemplateOrigin::Embedding => proto::template::Origin::Embedding,
        }
        .into(),
        create_time: Some(to_wire(template.create_time)),
        quality: template.quality,
        track: template.track.as_ref().map(track),
        assignment: match template.assignment {
            Assignment::Enrolled => proto::template::Assignment::Enrolled,
            Assignment::Accepted { .. } => proto::template::Assignment::Accepted,
            Assignment::Certified(_) => proto::template::Assignment::Certified,
        }
        .into(),
        certificate: match &template.assignment {
            Assignment::Certified(by) => Some(certificate(&of.collection, by)),
            Assignment::Enrolled | Assignment::Accepted { .. } => None,
        },
        accepted_posterior: match template.assignment {
            Assignment::Accepted { posterior } => Some(posterior),
            Assignment::Enrolled | Assignment::Certified(_) => None,
        },
    }
}

fn certificate(of: &CollectionId, certificate: &Certificate) -> proto::template::Certificate {
    proto::template::Certificate {
        reviewer: certificate.reviewer.clone(),
        principal: certificate.principal.clone(),
        review_case: ReviewCaseName { collection: of.clone(), case: certificate.case }.to_string(),
        time: Some(to_wire(certificate.time)),
    }
}

pub(in crate::api) fn enrolled(of: &IdentityName, enrolled: &EnrollResult) -> proto::EnrollResponse {
    proto::EnrollResponse {
        identity: of.to_string(),
        templates: enrolled.templates.iter().map(|t| template(of, t)).collect(),
        consistency_token: enrolled.token.to_string(),
        samples: reports(&enrolled.samples),
    }
}

fn fused(of: &IdentityName, fused: &FusedEvidence) -> proto::FusedEvidence {
    let one = |evidence: &ModalityEvidence| proto::ModalityEvidence {
        modality: modality(evidence.modality),
        model: ModelName(evidence.model.clone()).to_string(),
        template: of.template(evidence.template).to_string(),
        similarity: evidence.similarity.0,
        log_likelihood_ratio: evidence.log_likelihood_ratio,
    };
    proto::FusedEvidence {
        log_likelihood_ratio: fused.log_likelihood_ratio,
        posterior: fused.posterior,
        modalities: fused.evidence.iter().map(one).collect(),
    }
}

fn candidate(of: &CollectionId, rank: usize, candidate: &Candidate, probe: Modality) -> proto::Candidate {
    let name = CollectionName(of.clone()).identity(&candidate.identity);
    let scores = match &candidate.fused {
        None => BTreeMap::from([(probe.as_str().to_owned(), candidate.similarity.0)]),
        Some(fused) => fused.evidence.iter().map(|one| (one.modality.as_str().to_owned(), one.similarity.0)).collect(),
    };
    proto::Candidate {
        rank: i32::try_from(rank).expect("lists are short"),
        identity: name.to_string(),
        similarity: candidate.similarity.0,
        scores,
        template: name.template(candidate.template).to_string(),
        fused: candidate.fused.as_ref().map(|evidence| fused(&name, evidence)),
    }
}

pub(super) fn candidates(of: &CollectionId, candidates: &[Candidate], probe: Modality) -> Vec<proto::Candidate> {
    candidates.iter().zip(1..).map(|(c, rank)| candidate(of, rank, c, probe)).collect()
}

pub(in crate::api) fn found(of: &CollectionId, found: &SearchResult) -> proto::SearchResponse {
    proto::SearchResponse {
        candidates: candidates(of, &found.candidates, found.modality),
        gallery_size: count(found.gallery_identities),
        model: ModelName(found.model.clone()).to_string(),
        samples: reports(&found.samples),
        ranking: match found.ranking {
            Ranking::Similarity => proto::search_response::Ranking::Similarity,
            Ranking::Neighbours => proto::search_response::Ranking::Neighbours,
            Ranking::KReciprocal => proto::search_response::Ranking::KReciprocal,
        }
        .into(),
    }
}

/// The source of thresholds.
pub(super) fn source(source: ThresholdSource) -> i32 {
    use proto::operating_point::Source;
    let wire = match source {
        ThresholdSource::Rehearsal => Source::Rehearsal,
        ThresholdSource::Outsiders => Source::Outsiders,
        ThresholdSource::Package => Source::Package,
        ThresholdSource::None => Source::None,
    };
    wire.into()
}

pub(super) fn operating_point(of: &CollectionId, point: &OperatingPoint) -> proto::OperatingPoint {
    let name = |calibration| CalibrationName { collection: of.clone(), calibration }.to_string();
    let value = |similarity: Option<Similarity>| similarity.map(|s| s.0);
    proto::OperatingPoint {
        target_fpir: point.target_fpir,
        target_duplicates: point.target_duplicates,
        target_fmr: point.target_fmr,
        threshold_known: value(point.threshold_known),
        threshold_new: value(point.threshold_new),
        threshold_verify: value(point.threshold_verify),
        posterior_known: point.posterior_known,
        posterior_new: point.posterior_new,
        evidence_known: point.evidence_known,
        evidence_new: point.evidence_new,
        evidence_verify: point.evidence_verify,
        expected_fnir: point.expected_fnir,
        expected_uncertain_mated: point.expected_uncertain_mated,
        expected_uncertain_nonmated: point.expected_uncertain_nonmated,
        fpir_upper_bound: point.fpir_upper_bound,
        fmr_upper_bound: point.fmr_upper_bound,
        impostor_trials: count(point.impostor_trials),
        source: source(point.source),
        calibration: point.calibration.map(name).unwrap_or_default(),
        trials: count(point.trials),
        gallery_size: count(point.gallery_identities),
    }
}

pub(super) fn reasons(reasons: &[Reason]) -> Vec<i32> {
    let wire = |reason: &Reason| match reason {
        Reason::EmptyGallery => proto::Reason::EmptyGallery,
        Reason::PackageCalibration => proto::Reason::PackageCalibration,
        Reason::NoCalibration => proto::Reason::NoCalibration,
        Reason::CalibrationStale => proto::Reason::CalibrationStale,
        Reason::Extrapolated => proto::Reason::Extrapolated,
        Reason::Unsupported => proto::Reason::Unsupported,
        Reason::BetweenThresholds => proto::Reason::BetweenThresholds,
        Reason::SmallMargin => proto::Reason::SmallMargin,
        Reason::PadFailed => proto::Reason::PadFailed,
        Reason::PadNotEvaluated => proto::Reason::PadNotEvaluated,
        Reason::FaceTooSmall => proto::Reason::FaceTooSmall,
        Reason::BodyTooSmall => proto::Reason::BodyTooSmall,
        Reason::Blurred => proto::Reason::Blurred,
        Reason::TooNoisy => proto::Reason::TooNoisy,
        Reason::TooDark => proto::Reason::TooDark,
        Reason::TooBright => proto::Reason::TooBright,
        Reason::TurnedAway => proto::Reason::TurnedAway,
        Reason::DetectionWeak => proto::Reason::DetectionWeak,
        Reason::EmbeddingWeak => proto::Reason::EmbeddingWeak,
        Reason::TooFewFrames => proto::Reason::TooFewFrames,
        Reason::TooFewJoints => proto::Reason::TooFewJoints,
        Reason::LowQuality => proto::Reason::LowQuality,
        Reason::OutsideCalibration => proto::Reason::OutsideCalibration,
        Reason::ReviewFull => proto::Reason::ReviewFull,
        Reason::LearntDecision => proto::Reason::LearntDecision,
        Reason::ModalityConflict => proto::Reason::ModalityConflict,
        Reason::ModalityUncalibrated => proto::Reason::ModalityUncalibrated,
        Reason::AutoAccepted => proto::Reason::AutoAccepted,
        Reason::ReviewShareSpent => proto::Reason::ReviewShareSpent,
        Reason::SeveralSightings => proto::Reason::SeveralSightings,
        Reason::SightingsDisagree => proto::Reason::SightingsDisagree,
    };
    reasons.iter().map(|r| wire(r).into()).collect()
}

pub(in crate::api) fn verified(of: &IdentityName, verified: &VerifyResult) -> proto::VerifyResponse {
    proto::VerifyResponse {
        r#match: verified.matches,
        similarity: verified.best.as_ref().map(|b| b.similarity.0),
        template: verified.best.as_ref().map(|b| of.template(b.template).to_string()).unwrap_or_default(),
        operating_point: Some(operating_point(&of.collection, &verified.operating_point)),
        reasons: reasons(&verified.reasons),
        samples: reports(&verified.samples),
        fused: verified.best.as_ref().and_then(|best| Some(fused(of, best.fused.as_ref()?))),
    }
}

pub(super) fn decision_kind(kind: DecisionKind) -> i32 {
    use proto::resolve_response::Decision;
    let wire = match kind {
        DecisionKind::Known => Decision::Known,
        DecisionKind::New => Decision::New,
        DecisionKind::Uncertain => Decision::Uncertain,
        DecisionKind::Rejected => Decision::Rejected,
    };
    wire.into()
}

pub(in crate::api) fn resolved(of: &CollectionId, resolved: &ResolveResult, probe: Modality) -> proto::ResolveResponse {
    let name = |id| CollectionName(of.clone()).identity(id).to_string();
    proto::ResolveResponse {
        decision: decision_kind(resolved.kind),
        reasons: reasons(&resolved.reasons),
        identity: resolved.identity.as_ref().map(name).unwrap_or_default(),
        enrolled: resolved.enrolled,
        candidates: candidates(of, &resolved.candidates, resolved.modality.unwrap_or(probe)),
        similarity: resolved.similarity.map(|s| s.0),
        margin: resolved.margin,
        operating_point: Some(operating_point(of, &resolved.operating_point)),
        model: ModelName(resolved.model.clone()).to_string(),
        decision_id: resolved.id.to_string(),
        consistency_token: resolved.token.to_string(),
        samples: reports(&resolved.samples),
        review_case: resolved
            .review_case
            .map(|case| ReviewCaseName { collection: of.clone(), case }.to_string())
            .unwrap_or_default(),
        posterior: resolved.posterior,
        provisional_identity: resolved.provisional.as_ref().map(name).unwrap_or_default(),
        sighting_count: i32::try_from(resolved.sightings).unwrap_or(i32::MAX),
    }
}

pub(in crate::api) fn extracted(extracted: &[ExtractedEmbedding]) -> proto::ExtractResponse {
    let one = |e: &ExtractedEmbedding| proto::ExtractedTemplate {
        modality: modality(e.embedding.space().modality),
        embedding: Some(proto::Embedding { model: e.model.to_string(), values: e.embedding.values().to_vec() }),
        model_digest: e.embedding.space().digest.to_string(),
        sample: i32::try_from(e.sample).expect("a request has few samples"),
        report: Some(report(&e.report)),
    };
    proto::ExtractResponse { templates: extracted.iter().map(one).collect() }
}

pub(in crate::api) fn compared(compared: &CompareResult) -> proto::CompareResponse {
    let row = |row: &Vec<Similarity>| proto::compare_response::Row { similarities: row.iter().map(|s| s.0).collect() };
    proto::CompareResponse {
        rows: compared.rows.iter().map(row).collect(),
        probes: reports(&compared.probes),
        references: reports(&compared.references),
    }
}

pub(in crate::api) fn model(model: &Model) -> proto::Model {
    proto::Model {
        name: ModelName(model.name.clone()).to_string(),
        version: model.card.version.clone(),
        modality: modality(model.modality),
        architecture: model.card.architecture.clone(),
        dimension: model.space.map_or(0, |space| dimension(space.dimension)),
        digest: model.digest.to_string(),
        licence: model.card.licence.clone(),
        provenance: model.card.provenance.clone(),
        intended_use: model.card.intended_use.clone(),
        not_for: model.card.not_for.clone(),
        serving: model.serving,
        task: match model.task {
            ModelTask::Encoder => proto::model::Task::Encoder,
            ModelTask::Detector => proto::model::Task::Detector,
            ModelTask::Pad => proto::model::Task::Pad,
        }
        .into(),
        parts: model.space.map_or(0, |space| dimension(space.parts)),
        device: model.device.to_string(),
    }
}
