//! Operations over gRPC.

use tonic::{Request, Response, Status};

use super::{Services, respond};
use crate::{
    api::{
        proto::{self, operation_service_server::OperationService},
        wire::{self, CollectionName, FindingsPage, OperationName, PageRequest},
    },
    matcher::{Context, Fault, Listing, Removal, SurveyDraft},
};
use domain::OperationKind;

#[tonic::async_trait]
impl OperationService for Services {
    async fn find_duplicates(
        &self,
        request: Request<proto::FindDuplicatesRequest>,
    ) -> Result<Response<proto::Operation>, Status> {
        respond(self.answer_find_duplicates(request).await)
    }

    async fn cluster_templates(
        &self,
        request: Request<proto::ClusterTemplatesRequest>,
    ) -> Result<Response<proto::Operation>, Status> {
        respond(self.answer_cluster_templates(request).await)
    }

    async fn get_operation(
        &self,
        request: Request<proto::GetOperationRequest>,
    ) -> Result<Response<proto::Operation>, Status> {
        respond(self.answer_get_operation(request.into_inner()).await)
    }

    async fn list_operations(
        &self,
        request: Request<proto::ListOperationsRequest>,
    ) -> Result<Response<proto::ListOperationsResponse>, Status> {
        respond(self.answer_list_operations(request.into_inner()).await)
    }

    async fn cancel_operation(
        &self,
        request: Request<proto::CancelOperationRequest>,
    ) -> Result<Response<proto::Operation>, Status> {
        respond(self.answer_cancel_operation(&request.into_inner().name).await)
    }

    async fn apply_finding(
        &self,
        request: Request<proto::ApplyFindingRequest>,
    ) -> Result<Response<proto::MergeIdentitiesResponse>, Status> {
        respond(self.answer_apply_finding(request).await)
    }

    async fn dismiss_finding(&self, request: Request<proto::DismissFindingRequest>) -> Result<Response<()>, Status> {
        respond(self.answer_dismiss_finding(&request).await)
    }

    async fn restore_finding(&self, request: Request<proto::RestoreFindingRequest>) -> Result<Response<()>, Status> {
        respond(self.answer_restore_finding(&request).await)
    }

    async fn delete_operation(
        &self,
        request: Request<proto::DeleteOperationRequest>,
    ) -> Result<Response<proto::DeleteOperationResponse>, Status> {
        respond(self.answer_delete_operation(&request.into_inner().name).await)
    }
}

impl Services {
    async fn answer_find_duplicates(
        &self,
        request: Request<proto::FindDuplicatesRequest>,
    ) -> Result<proto::Operation, Fault> {
        let (context, request) = self.once(request).await?;
        let draft = SurveyDraft {
            collection: CollectionName::parse("parent", &request.parent)?.0,
            kind: OperationKind::FindDuplicates,
            modality: wire::modality("modality", request.modality)?,
            similarity_min: wire::min_similarity(request.min_similarity)?,
            filter: wire::filter(&request.filter)?,
            listing: Listing::All,
        };
        self.begin(&context, draft).await
    }

    async fn answer_cluster_templates(
        &self,
        request: Request<proto::ClusterTemplatesRequest>,
    ) -> Result<proto::Operation, Fault> {
        let (context, request) = self.once(request).await?;
        let draft = SurveyDraft {
            collection: CollectionName::parse("parent", &request.parent)?.0,
            kind: OperationKind::ClusterTemplates,
            modality: wire::modality("modality", request.modality)?,
            similarity_min: wire::min_similarity(request.min_similarity)?,
            filter: wire::filter(&request.filter)?,
            listing: if request.disagreeing_only { Listing::Disagreeing } else { Listing::All },
        };
        self.begin(&context, draft).await
    }

    async fn begin(&self, context: &Context, draft: SurveyDraft) -> Result<proto::Operation, Fault> {
        let collection = draft.collection.clone();
        Ok(wire::operation(&collection, &self.matcher.begin_survey(context, draft).await?))
    }

    async fn answer_get_operation(&self, request: proto::GetOperationRequest) -> Result<proto::Operation, Fault> {
        let OperationName { collection, operation } = OperationName::parse("name", &request.name)?;
        let list = format!("{} findings", request.name);
        let asked = PageRequest::parse(request.page_size, &request.page_token, &list)?;
        let skipped = asked.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or_default();
        let limit = if request.page_size == 0 { usize::MAX } else { asked.limit as usize };
        let page = FindingsPage { skipped, limit };
        let shown = self.matcher.operations.operation(&collection, operation).await?;
        // An operation may hold 20,000 findings, each with two names: too much work for the reactor.
        let show = move || {
            let mut shown = wire::shown_operation(&collection, &shown);
            let next = page.cut(&mut shown).map(|before| before.to_string());
            shown.next_page_token = wire::token(next, &list);
            shown
        };
        self.pool.run(show).await
    }

    async fn answer_list_operations(
        &self,
        request: proto::ListOperationsRequest,
    ) -> Result<proto::ListOperationsResponse, Fault> {
        let parent = CollectionName::parse("parent", &request.parent)?;
        let list = format!("{parent} operations");
        let page = PageRequest::parse(request.page_size, &request.page_token, &list)?;
        let after = page.after.as_deref().map(str::parse).transpose()?;
        let found = self.matcher.operations.operations(&parent.0, after, page.limit).await?;
        let next = (found.len() == page.limit as usize).then(|| found.last().map(|last| last.id.to_string())).flatten();
        Ok(proto::ListOperationsResponse {
            operations: found.iter().map(|operation| wire::operation(&parent.0, operation)).collect(),
            next_page_token: wire::token(next, &list),
        })
    }

    async fn answer_cancel_operation(&self, name: &str) -> Result<proto::Operation, Fault> {
        let OperationName { collection, operation } = OperationName::parse("name", name)?;
        Ok(wire::operation(&collection, &self.matcher.operations.cancel_operation(&collection, operation).await?))
    }

    async fn answer_apply_finding(
        &self,
        request: Request<proto::ApplyFindingRequest>,
    ) -> Result<proto::MergeIdentitiesResponse, Fault> {
        let (context, request) = self.once(request).await?;
        let (collection, pair) = wire::found_pair(&request.name, &request.identities)?;
        let target = match request.target.as_str() {
            "" => None,
            name => Some(wire::identity_in(&collection, "target", name)?),
        };
        let merged = self.matcher.apply_finding(&context, &collection, pair, target).await?;
        Ok(wire::merged(&collection, &merged))
    }

    async fn answer_dismiss_finding(&self, request: &Request<proto::DismissFindingRequest>) -> Result<(), Fault> {
        let context = wire::context(request);
        let proto::DismissFindingRequest { name, identities } = request.get_ref();
        let (collection, pair) = wire::found_pair(name, identities)?;
        self.matcher.dismiss_finding(&context, &collection, pair).await
    }

    async fn answer_restore_finding(&self, request: &Request<proto::RestoreFindingRequest>) -> Result<(), Fault> {
        let context = wire::context(request);
        let proto::RestoreFindingRequest { name, identities } = request.get_ref();
        let (collection, pair) = wire::found_pair(name, identities)?;
        self.matcher.restore_finding(&context, &collection, pair).await
    }

    async fn answer_delete_operation(&self, name: &str) -> Result<proto::DeleteOperationResponse, Fault> {
        let OperationName { collection, operation } = OperationName::parse("name", name)?;
        let removal = self.matcher.operations.delete_operation(&collection, operation).await?;
        Ok(proto::DeleteOperationResponse { pending_removal: removal == Removal::Pending })
    }
}
