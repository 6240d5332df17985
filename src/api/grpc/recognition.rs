//! Recognition over gRPC.

use tonic::{Request, Response, Status};

use super::{Services, respond};
use crate::{
    api::{
        proto::{self, recognition_service_server::RecognitionService},
        wire::{self, CollectionName, IdentityName, SampleDefaults},
    },
    matcher::{Fault, Resolution, ResolveMode, Search, Verification},
};
use domain::Modality;

/// The number of candidates of a search without `top_k`.
const SEARCH_CANDIDATES: usize = 10;
/// The number of candidates of a resolve without `top_k`.
const RESOLVE_CANDIDATES: usize = 5;

#[tonic::async_trait]
impl RecognitionService for Services {
    async fn verify(&self, request: Request<proto::VerifyRequest>) -> Result<Response<proto::VerifyResponse>, Status> {
        respond(self.answer_verify(request).await)
    }

    async fn search(&self, request: Request<proto::SearchRequest>) -> Result<Response<proto::SearchResponse>, Status> {
        respond(self.answer_search(request).await)
    }

    async fn resolve(
        &self,
        request: Request<proto::ResolveRequest>,
    ) -> Result<Response<proto::ResolveResponse>, Status> {
        respond(self.answer_resolve(request).await)
    }

    async fn extract(
        &self,
        request: Request<proto::ExtractRequest>,
    ) -> Result<Response<proto::ExtractResponse>, Status> {
        respond(self.answer_extract(request).await)
    }

    async fn compare(
        &self,
        request: Request<proto::CompareRequest>,
    ) -> Result<Response<proto::CompareResponse>, Status> {
        respond(self.answer_compare(request).await)
    }
}

impl Services {
    async fn answer_verify(&self, request: Request<proto::VerifyRequest>) -> Result<proto::VerifyResponse, Fault> {
        let context = wire::context(&request);
        let request = request.into_inner();
        let defaults = SampleDefaults::from(&request);
        let name = IdentityName::parse("name", &request.name)?;
        let verification = Verification {
            collection: name.collection.clone(),
            identity: name.identity.clone(),
            samples: wire::samples("samples", request.samples, &defaults)?,
            token: wire::consistency_token(&request.consistency_token)?,
        };
        Ok(wire::verified(&name, &self.matcher.verify(&context, verification).await?))
    }

    async fn answer_search(&self, request: Request<proto::SearchRequest>) -> Result<proto::SearchResponse, Fault> {
        let context = wire::context(&request);
        let request = request.into_inner();
        let CollectionName(collection) = CollectionName::parse("parent", &request.parent)?;
        let defaults = SampleDefaults::from(&request);
        let search = Search {
            collection: collection.clone(),
            samples: wire::samples("samples", request.samples, &defaults)?,
            limit: wire::limit(request.top_k, SEARCH_CANDIDATES)?,
            filter: wire::filter(&request.filter)?,
            min_similarity: wire::min_similarity(request.min_similarity)?,
            includes_provisional: request.include_provisional,
            token: wire::consistency_token(&request.consistency_token)?,
        };
        Ok(wire::found(&collection, &self.matcher.search(&context, search).await?))
    }

    async fn answer_resolve(&self, request: Request<proto::ResolveRequest>) -> Result<proto::ResolveResponse, Fault> {
        let (context, request) = self.once(request).await?;
        let CollectionName(collection) = CollectionName::parse("parent", &request.parent)?;
        let defaults = SampleDefaults::from(&request);
        let resolution = Resolution {
            collection: collection.clone(),
            samples: wire::samples("samples", request.samples, &defaults)?,
            mode: mode(request.mode)?,
            limit: wire::limit(request.top_k, RESOLVE_CANDIDATES)?,
            min_similarity: wire::min_similarity(request.min_similarity)?,
            labels: wire::labels(request.labels)?,
            token: wire::consistency_token(&request.consistency_token)?,
        };
        let probe = resolution.samples.first().map_or(Modality::Face, |sample| sample.modality);
        Ok(wire::resolved(&collection, &self.matcher.resolve(&context, resolution).await?, probe))
    }

    async fn answer_extract(&self, request: Request<proto::ExtractRequest>) -> Result<proto::ExtractResponse, Fault> {
        let context = wire::context(&request);
        let request = request.into_inner();
        let defaults = SampleDefaults::from(&request);
        let samples = wire::samples("samples", request.samples, &defaults)?;
        Ok(wire::extracted(&self.matcher.extract(&context, samples).await?))
    }

    async fn answer_compare(&self, request: Request<proto::CompareRequest>) -> Result<proto::CompareResponse, Fault> {
        let context = wire::context(&request);
        let request = request.into_inner();
        let defaults = SampleDefaults::from(&request);
        let probes = wire::samples("probes", request.probes, &defaults)?;
        let references = wire::samples("references", request.references, &defaults)?;
        Ok(wire::compared(&self.matcher.compare(&context, probes, references).await?))
    }
}

fn mode(mode: i32) -> Result<ResolveMode, Fault> {
    use proto::resolve_request::Mode;
    match Mode::try_from(mode) {
        Ok(Mode::Unspecified | Mode::DryRun) => Ok(ResolveMode::DryRun),
        Ok(Mode::EnrollIfNew) => Ok(ResolveMode::EnrollIfNew),
        Err(_) => Err(Fault::invalid("mode", "a mode is dry_run or enroll_if_new")),
    }
}
