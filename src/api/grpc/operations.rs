//! Operations over gRPC.

use tonic::{Request, Response, Status};

use super::{Services, answer, identities::filter};
use crate::{
    api::{
        proto::{self, operation_service_server::OperationService},
        wire::{self, CollectionName, OperationName, PageRequest},
    },
    matcher::{Context, Fault, Listing, SurveyDraft},
};
use domain::OperationKind;

#[tonic::async_trait]
impl OperationService for Services {
    async fn find_duplicates(
        &self,
        request: Request<proto::FindDuplicatesRequest>,
    ) -> Result<Response<proto::Operation>, Status> {
        answer(self.find_duplicates(request).await)
    }

    async fn cluster_templates(
        &self,
        request: Request<proto::ClusterTemplatesRequest>,
    ) -> Result<Response<proto::Operation>, Status> {
        answer(self.cluster_templates(request).await)
    }

    async fn get_operation(
        &self,
        request: Request<proto::GetOperationRequest>,
    ) -> Result<Response<proto::Operation>, Status> {
        answer(self.get_operation(&request.into_inner().name).await)
    }

    async fn list_operations(
        &self,
        request: Request<proto::ListOperationsRequest>,
    ) -> Result<Response<proto::ListOperationsResponse>, Status> {
        answer(self.list_operations(request.into_inner()).await)
    }

    async fn cancel_operation(
        &self,
        request: Request<proto::CancelOperationRequest>,
    ) -> Result<Response<proto::Operation>, Status> {
        answer(self.cancel_operation(&request.into_inner().name).await)
    }

    async fn delete_operation(&self, request: Request<proto::DeleteOperationRequest>) -> Result<Response<()>, Status> {
        answer(self.delete_operation(&request.into_inner().name).await)
    }
}

impl Services {
    async fn find_duplicates(
        &self,
        mut request: Request<proto::FindDuplicatesRequest>,
    ) -> Result<proto::Operation, Fault> {
        let request_id = std::mem::take(&mut request.get_mut().request_id);
        let context = wire::context_once(&request, "FindDuplicates", &request_id, request.get_ref())?;
        let proto::FindDuplicatesRequest { parent, modality, min_similarity, filter: text, .. } = request.into_inner();
        let draft = SurveyDraft {
            collection: CollectionName::parse("parent", &parent)?.0,
            kind: OperationKind::FindDuplicates,
            modality: wire::modality("modality", modality)?,
            similarity_min: wire::min_similarity(min_similarity)?,
            filter: filter(&text)?,
            listing: Listing::All,
        };
        self.begin(&context, draft).await
    }

    async fn cluster_templates(
        &self,
        mut request: Request<proto::ClusterTemplatesRequest>,
    ) -> Result<proto::Operation, Fault> {
        let request_id = std::mem::take(&mut request.get_mut().request_id);
        let context = wire::context_once(&request, "ClusterTemplates", &request_id, request.get_ref())?;
        let proto::ClusterTemplatesRequest { parent, modality, min_similarity, disagreeing_only, filter: text, .. } =
            request.into_inner();
        let draft = SurveyDraft {
            collection: CollectionName::parse("parent", &parent)?.0,
            kind: OperationKind::ClusterTemplates,
            modality: wire::modality("modality", modality)?,
            similarity_min: wire::min_similarity(min_similarity)?,
            filter: filter(&text)?,
            listing: if disagreeing_only { Listing::Disagreeing } else { Listing::All },
        };
        self.begin(&context, draft).await
    }

    async fn begin(&self, context: &Context, draft: SurveyDraft) -> Result<proto::Operation, Fault> {
        let collection = draft.collection.clone();
        Ok(wire::operation(&collection, &self.0.begin_survey(context, draft).await?))
    }

    async fn get_operation(&self, name: &str) -> Result<proto::Operation, Fault> {
        let OperationName { collection, operation } = OperationName::parse("name", name)?;
        let shown = self.0.operations.operation(&collection, operation).await?;
        // Names by the ten thousand: not for a thread that others wait for.
        let name_all = move || wire::shown_operation(&collection, &shown);
        tokio::task::spawn_blocking(name_all).await.map_err(Fault::internal)
    }

    async fn list_operations(
        &self,
        request: proto::ListOperationsRequest,
    ) -> Result<proto::ListOperationsResponse, Fault> {
        let parent = CollectionName::parse("parent", &request.parent)?;
        let list = format!("{parent} operations");
        let page = PageRequest::parse(request.page_size, &request.page_token, &list)?;
        let after = page.after.as_deref().map(str::parse).transpose()?;
        let found = self.0.operations.operations(&parent.0, after, page.limit).await?;
        let next = (found.len() == page.limit as usize).then(|| found.last().map(|last| last.id.to_string())).flatten();
        Ok(proto::ListOperationsResponse {
            operations: found.iter().map(|operation| wire::operation(&parent.0, operation)).collect(),
            next_page_token: wire::token(next, &list),
        })
    }

    async fn cancel_operation(&self, name: &str) -> Result<proto::Operation, Fault> {
        let OperationName { collection, operation } = OperationName::parse("name", name)?;
        Ok(wire::operation(&collection, &self.0.operations.cancel_operation(&collection, operation).await?))
    }

    async fn delete_operation(&self, name: &str) -> Result<(), Fault> {
        let OperationName { collection, operation } = OperationName::parse("name", name)?;
        self.0.operations.delete_operation(&collection, operation).await
    }
}
