//! Recognition over gRPC.

use tonic::{Request, Response, Status};

use super::{Services, answer, identities::filter};
use crate::{
    api::{
        proto::{self, recognition_service_server::RecognitionService},
        wire::{self, CollectionName, Defaults, IdentityName},
    },
    matcher::{ConsistencyToken, Fault, Resolution, ResolveMode, Search, Verification},
};
use domain::{Modality, Sample};

/// Candidates listed when a search does not say how many.
const SEARCH_CANDIDATES: usize = 10;
/// Candidates listed when a resolve does not say how many.
const RESOLVE_CANDIDATES: usize = 5;

#[tonic::async_trait]
impl RecognitionService for Services {
    async fn verify(&self, request: Request<proto::VerifyRequest>) -> Result<Response<proto::VerifyResponse>, Status> {
        answer(self.verify(request).await)
    }

    async fn search(&self, request: Request<proto::SearchRequest>) -> Result<Response<proto::SearchResponse>, Status> {
        answer(self.search(request).await)
    }

    async fn resolve(
        &self,
        request: Request<proto::ResolveRequest>,
    ) -> Result<Response<proto::ResolveResponse>, Status> {
        answer(self.resolve(request).await)
    }

    async fn extract(
        &self,
        request: Request<proto::ExtractRequest>,
    ) -> Result<Response<proto::ExtractResponse>, Status> {
        answer(self.extract(request).await)
    }

    async fn compare(
        &self,
        request: Request<proto::CompareRequest>,
    ) -> Result<Response<proto::CompareResponse>, Status> {
        answer(self.compare(request).await)
    }
}

impl Services {
    async fn verify(&self, request: Request<proto::VerifyRequest>) -> Result<proto::VerifyResponse, Fault> {
        let context = wire::context(&request);
        let proto::VerifyRequest { name, samples, modality, alignment, face_selection, consistency_token } =
            request.into_inner();
        let name = IdentityName::parse("name", &name)?;
        let verification = Verification {
            collection: name.collection.clone(),
            identity: name.identity.clone(),
            samples: wire::samples("samples", samples, Defaults { modality, alignment, face_selection })?,
            token: token(&consistency_token)?,
        };
        Ok(wire::verified(&name, &self.0.verify(&context, verification).await?))
    }

    async fn search(&self, request: Request<proto::SearchRequest>) -> Result<proto::SearchResponse, Fault> {
        let context = wire::context(&request);
        let request = request.into_inner();
        let CollectionName(collection) = CollectionName::parse("parent", &request.parent)?;
        let defaults = Defaults {
            modality: request.modality,
            alignment: request.alignment,
            face_selection: request.face_selection,
        };
        let search = Search {
            collection: collection.clone(),
            samples: wire::samples("samples", request.samples, defaults)?,
            limit: wire::limit(request.top_k, SEARCH_CANDIDATES)?,
            filter: filter(&request.filter)?,
            min_similarity: wire::min_similarity(request.min_similarity)?,
            token: token(&request.consistency_token)?,
        };
        Ok(wire::found(&collection, &self.0.search(&context, search).await?))
    }

    async fn resolve(&self, mut request: Request<proto::ResolveRequest>) -> Result<proto::ResolveResponse, Fault> {
        let request_id = std::mem::take(&mut request.get_mut().request_id);
        let context = wire::context_once(&request, "Resolve", &request_id, request.get_ref())?;
        let request = request.into_inner();
        let CollectionName(collection) = CollectionName::parse("parent", &request.parent)?;
        let defaults = Defaults {
            modality: request.modality,
            alignment: request.alignment,
            face_selection: request.face_selection,
        };
        let resolution = Resolution {
            collection: collection.clone(),
            samples: wire::samples("samples", request.samples, defaults)?,
            mode: mode(request.mode)?,
            limit: wire::limit(request.top_k, RESOLVE_CANDIDATES)?,
            min_similarity: wire::min_similarity(request.min_similarity)?,
            labels: wire::labels(request.labels)?,
            token: token(&request.consistency_token)?,
        };
        let probe = shown(&resolution.samples);
        Ok(wire::resolved(&collection, &self.0.resolve(&context, resolution).await?, probe))
    }

    async fn extract(&self, request: Request<proto::ExtractRequest>) -> Result<proto::ExtractResponse, Fault> {
        let context = wire::context(&request);
        let proto::ExtractRequest { samples, modality, alignment, face_selection } = request.into_inner();
        let samples = wire::samples("samples", samples, Defaults { modality, alignment, face_selection })?;
        Ok(wire::extracted(&self.0.extract(&context, samples).await?))
    }

    async fn compare(&self, request: Request<proto::CompareRequest>) -> Result<proto::CompareResponse, Fault> {
        let context = wire::context(&request);
        let proto::CompareRequest { probes, references, modality, alignment, face_selection } = request.into_inner();
        let defaults = Defaults { modality, alignment, face_selection };
        let probes = wire::samples("probes", probes, defaults)?;
        let references = wire::samples("references", references, defaults)?;
        Ok(wire::compared(&self.0.compare(&context, probes, references).await?))
    }
}

/// What a probe shows, or its first sample.
fn shown(samples: &[Sample]) -> Modality {
    samples.first().map_or(Modality::Face, |s| s.modality)
}

fn token(text: &str) -> Result<Option<ConsistencyToken>, Fault> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

fn mode(mode: i32) -> Result<ResolveMode, Fault> {
    use proto::resolve_request::Mode;
    match Mode::try_from(mode) {
        Ok(Mode::Unspecified | Mode::DryRun) => Ok(ResolveMode::DryRun),
        Ok(Mode::EnrollIfNew) => Ok(ResolveMode::EnrollIfNew),
        Err(_) => Err(Fault::invalid("mode", "a mode is dry_run or enroll_if_new")),
    }
}
