//! Identities over gRPC.

use tonic::{Request, Response, Status, Streaming};

use super::{Services, batch::Outcomes, respond};
use crate::{
    api::{
        proto::{self, identity_service_server::IdentityService},
        wire::{self, CollectionName, IdentityName, PageRequest},
    },
    matcher::{Fault, IdentityDraft, IdentityPatch, ListedIdentities, Removal},
};
use domain::IdentityId;

#[tonic::async_trait]
impl IdentityService for Services {
    async fn create_identity(
        &self,
        request: Request<proto::CreateIdentityRequest>,
    ) -> Result<Response<proto::Identity>, Status> {
        respond(self.answer_create_identity(request).await)
    }

    async fn get_identity(
        &self,
        request: Request<proto::GetIdentityRequest>,
    ) -> Result<Response<proto::Identity>, Status> {
        respond(self.answer_get_identity(&request.into_inner().name).await)
    }

    async fn list_identities(
        &self,
        request: Request<proto::ListIdentitiesRequest>,
    ) -> Result<Response<proto::ListIdentitiesResponse>, Status> {
        respond(self.answer_list_identities(request.into_inner()).await)
    }

    async fn update_identity(
        &self,
        request: Request<proto::UpdateIdentityRequest>,
    ) -> Result<Response<proto::Identity>, Status> {
        respond(self.answer_update_identity(request).await)
    }

    async fn delete_identity(
        &self,
        request: Request<proto::DeleteIdentityRequest>,
    ) -> Result<Response<proto::DeleteIdentityResponse>, Status> {
        respond(self.answer_delete_identity(&request).await)
    }

    async fn enroll(&self, request: Request<proto::EnrollRequest>) -> Result<Response<proto::EnrollResponse>, Status> {
        respond(self.answer_enroll(request).await)
    }

    async fn merge_identities(
        &self,
        request: Request<proto::MergeIdentitiesRequest>,
    ) -> Result<Response<proto::MergeIdentitiesResponse>, Status> {
        respond(self.answer_merge_identities(request).await)
    }

    async fn split_identity(
        &self,
        request: Request<proto::SplitIdentityRequest>,
    ) -> Result<Response<proto::SplitIdentityResponse>, Status> {
        respond(self.answer_split_identity(request).await)
    }

    async fn revert_identity(
        &self,
        request: Request<proto::RevertIdentityRequest>,
    ) -> Result<Response<proto::RevertIdentityResponse>, Status> {
        respond(self.answer_revert_identity(request).await)
    }

    type BatchEnrollStream = Outcomes;

    async fn batch_enroll(
        &self,
        request: Request<Streaming<proto::BatchEnrollRequest>>,
    ) -> Result<Response<Outcomes>, Status> {
        respond(self.open_stream(request))
    }

    async fn enroll_batch(
        &self,
        request: Request<proto::BatchEnrollRequest>,
    ) -> Result<Response<proto::BatchEnrollResponse>, Status> {
        self.answer_one_batch(request).await.map(Response::new)
    }
}

impl Services {
    async fn answer_create_identity(
        &self,
        request: Request<proto::CreateIdentityRequest>,
    ) -> Result<proto::Identity, Fault> {
        let (context, request) = self.once(request).await?;
        let proto::CreateIdentityRequest { parent, identity_id, identity, .. } = request;
        let CollectionName(collection) = CollectionName::parse("parent", &parent)?;
        let given = identity.unwrap_or_default();
        if given.provisional {
            return Err(Fault::invalid("identity.provisional", "only resolve makes provisional identities"));
        }
        let id = match identity_id.as_str() {
            "" => None,
            id => Some(IdentityId::new(id).map_err(|e| Fault::invalid("identityId", e))?),
        };
        let expire_time = given.expire_time.map(|t| wire::from_wire("identity.expireTime", &t)).transpose()?;
        let draft = IdentityDraft { id, labels: wire::labels(given.labels)?, expire_time };
        let made = self.matcher.create_identity(&context, &collection, draft).await?;
        Ok(wire::identity(&collection, &made))
    }

    async fn answer_get_identity(&self, name: &str) -> Result<proto::Identity, Fault> {
        let name = IdentityName::parse("name", name)?;
        let identity = self.matcher.identity(&name.collection, &name.identity).await?;
        Ok(wire::identity(&name.collection, &identity))
    }

    async fn answer_list_identities(
        &self,
        request: proto::ListIdentitiesRequest,
    ) -> Result<proto::ListIdentitiesResponse, Fault> {
        let CollectionName(collection) = CollectionName::parse("parent", &request.parent)?;
        let filter = wire::filter(&request.filter)?;
        let kind = match request.provisional {
            None => "",
            Some(true) => " provisional",
            Some(false) => " enrolled",
        };
        let list = match &filter {
            Some(filter) => format!("{}{kind} identities {filter}", request.parent),
            None => format!("{}{kind} identities", request.parent),
        };
        let page = PageRequest::parse(request.page_size, &request.page_token, &list)?;
        let after = page.after.as_deref().map(IdentityId::new).transpose()?;
        let listed = ListedIdentities { filter, provisional: request.provisional };
        let (found, next) = self.matcher.identities(&collection, after.as_ref(), page.limit, &listed).await?;
        Ok(proto::ListIdentitiesResponse {
            identities: found.iter().map(|i| wire::identity(&collection, i)).collect(),
            next_page_token: wire::token(next.map(|id| id.to_string()), &list),
        })
    }

    async fn answer_update_identity(
        &self,
        request: Request<proto::UpdateIdentityRequest>,
    ) -> Result<proto::Identity, Fault> {
        let (context, request) = self.once(request).await?;
        let proto::UpdateIdentityRequest { identity, update_mask, .. } = request;
        let given = identity.unwrap_or_default();
        let mask = update_mask.as_ref();
        wire::check_mask(mask, &["labels", "expire_time", "provisional"])?;
        let name = IdentityName::parse("identity.name", &given.name)?;
        let expire_time = given.expire_time.map(|t| wire::from_wire("identity.expireTime", &t)).transpose()?;
        let patch = IdentityPatch {
            expire_time: wire::writes(mask, "expire_time", expire_time.is_some()).then_some(expire_time),
            provisional: wire::writes(mask, "provisional", given.provisional).then_some(given.provisional),
            labels: if wire::writes(mask, "labels", !given.labels.is_empty()) {
                Some(wire::labels(given.labels)?)
            } else {
                None
            },
            expected: wire::expected(&given.etag)?,
        };
        let updated = self.matcher.update_identity(&context, &name.collection, &name.identity, patch).await?;
        Ok(wire::identity(&name.collection, &updated))
    }

    async fn answer_delete_identity(
        &self,
        request: &Request<proto::DeleteIdentityRequest>,
    ) -> Result<proto::DeleteIdentityResponse, Fault> {
        let context = wire::context(request);
        let proto::DeleteIdentityRequest { name, etag } = request.get_ref();
        let name = IdentityName::parse("name", name)?;
        let removal =
            self.matcher.delete_identity(&context, &name.collection, &name.identity, wire::expected(etag)?).await?;
        Ok(proto::DeleteIdentityResponse { pending_removal: removal == Removal::Pending })
    }

    async fn answer_merge_identities(
        &self,
        request: Request<proto::MergeIdentitiesRequest>,
    ) -> Result<proto::MergeIdentitiesResponse, Fault> {
        let (context, request) = self.once(request).await?;
        let (collection, draft) = wire::merge(&request)?;
        let merged = self.matcher.merge_identities(&context, &collection, draft).await?;
        Ok(wire::merged(&collection, &merged))
    }

    async fn answer_split_identity(
        &self,
        request: Request<proto::SplitIdentityRequest>,
    ) -> Result<proto::SplitIdentityResponse, Fault> {
        let (context, request) = self.once(request).await?;
        let (collection, draft) = wire::split(request)?;
        let split = self.matcher.split_identity(&context, &collection, draft).await?;
        Ok(proto::SplitIdentityResponse {
            regrouping: Some(wire::regrouping(&collection, &split.regrouping)),
            identity: split.identities.first().map(|made| wire::identity(&collection, made)),
            consistency_token: split.token.to_string(),
        })
    }

    async fn answer_revert_identity(
        &self,
        request: Request<proto::RevertIdentityRequest>,
    ) -> Result<proto::RevertIdentityResponse, Fault> {
        let (context, request) = self.once(request).await?;
        let (collection, draft) = wire::revert(&request)?;
        let reverted = self.matcher.revert_regrouping(&context, &collection, draft).await?;
        Ok(proto::RevertIdentityResponse {
            regrouping: Some(wire::regrouping(&collection, &reverted.regrouping)),
            identities: reverted.identities.iter().map(|one| wire::identity(&collection, one)).collect(),
            consistency_token: reverted.token.to_string(),
        })
    }

    async fn answer_enroll(&self, request: Request<proto::EnrollRequest>) -> Result<proto::EnrollResponse, Fault> {
        let (context, request) = self.once(request).await?;
        let (name, enrollment) = wire::enrollment(request)?;
        Ok(wire::enrolled(&name, &self.matcher.enroll(&context, enrollment).await?))
    }
}
