//! Decisions of the past over gRPC.

use tonic::{Request, Response, Status};

use super::{Services, respond};
use crate::{
    api::{
        proto::{self, decision_service_server::DecisionService},
        wire::{self, DecisionName},
    },
    matcher::Fault,
};

#[tonic::async_trait]
impl DecisionService for Services {
    async fn get_decision(
        &self,
        request: Request<proto::GetDecisionRequest>,
    ) -> Result<Response<proto::Decision>, Status> {
        respond(self.answer_get_decision(&request.into_inner().name).await)
    }

    async fn replay_decision(
        &self,
        request: Request<proto::ReplayDecisionRequest>,
    ) -> Result<Response<proto::ReplayDecisionResponse>, Status> {
        respond(self.answer_replay_decision(&request.into_inner().name).await)
    }
}

impl Services {
    async fn answer_get_decision(&self, name: &str) -> Result<proto::Decision, Fault> {
        let DecisionName { collection, decision } = DecisionName::parse("name", name)?;
        Ok(wire::decided(&collection, &self.matcher.past_decision(&collection, decision).await?))
    }

    async fn answer_replay_decision(&self, name: &str) -> Result<proto::ReplayDecisionResponse, Fault> {
        let DecisionName { collection, decision } = DecisionName::parse("name", name)?;
        Ok(wire::replayed(&self.matcher.replay_decision(&collection, decision).await?))
    }
}
