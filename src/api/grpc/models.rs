//! Models over gRPC.

use tonic::{Request, Response, Status};

use super::{Services, respond};
use crate::{
    api::{
        proto::{self, model_service_server::ModelService},
        wire::{self, ModelName, PageRequest},
    },
    matcher::Fault,
};

const LIST: &str = "models";

#[tonic::async_trait]
impl ModelService for Services {
    async fn get_model(&self, request: Request<proto::GetModelRequest>) -> Result<Response<proto::Model>, Status> {
        respond(self.answer_get_model(&request.into_inner().name))
    }

    async fn list_models(
        &self,
        request: Request<proto::ListModelsRequest>,
    ) -> Result<Response<proto::ListModelsResponse>, Status> {
        respond(self.answer_list_models(&request.into_inner()))
    }
}

impl Services {
    fn answer_get_model(&self, name: &str) -> Result<proto::Model, Fault> {
        let ModelName(name) = ModelName::parse("name", name)?;
        Ok(wire::model(&self.matcher.model(&name)?))
    }

    fn answer_list_models(&self, request: &proto::ListModelsRequest) -> Result<proto::ListModelsResponse, Fault> {
        let page = PageRequest::parse(request.page_size, &request.page_token, LIST)?;
        let models = self.matcher.models();
        let mut rest = models.iter().filter(|m| page.after.as_deref().is_none_or(|after| m.name.as_str() > after));
        let found: Vec<_> = rest.by_ref().take(page.limit as usize).collect();
        let next = rest.next().and(found.last()).map(|m| m.name.to_string());
        Ok(proto::ListModelsResponse {
            models: found.into_iter().map(wire::model).collect(),
            next_page_token: wire::token(next, LIST),
        })
    }
}
