//! Identities over gRPC.

use tonic::{Request, Response, Status, Streaming};

use super::{Services, answer, batch::Outcomes};
use crate::{
    api::{
        proto::{self, identity_service_server::IdentityService},
        wire::{self, CollectionName, Defaults, IdentityName, PageRequest},
    },
    matcher::{Enrollment, Fault, IdentityDraft, IdentityPatch},
};
use domain::{Filter, IdentityId};

#[tonic::async_trait]
impl IdentityService for Services {
    async fn create_identity(
        &self,
        request: Request<proto::CreateIdentityRequest>,
    ) -> Result<Response<proto::Identity>, Status> {
        answer(self.create_identity(request).await)
    }

    async fn get_identity(
        &self,
        request: Request<proto::GetIdentityRequest>,
    ) -> Result<Response<proto::Identity>, Status> {
        answer(self.get_identity(&request.into_inner().name).await)
    }

    async fn list_identities(
        &self,
        request: Request<proto::ListIdentitiesRequest>,
    ) -> Result<Response<proto::ListIdentitiesResponse>, Status> {
        answer(self.list_identities(request.into_inner()).await)
    }

    async fn update_identity(
        &self,
        request: Request<proto::UpdateIdentityRequest>,
    ) -> Result<Response<proto::Identity>, Status> {
        answer(self.update_identity(request).await)
    }

    async fn delete_identity(&self, request: Request<proto::DeleteIdentityRequest>) -> Result<Response<()>, Status> {
        answer(self.delete_identity(&request).await)
    }

    async fn enroll(&self, request: Request<proto::EnrollRequest>) -> Result<Response<proto::EnrollResponse>, Status> {
        answer(self.enroll(request).await)
    }

    type BatchEnrollStream = Outcomes;

    async fn batch_enroll(
        &self,
        request: Request<Streaming<proto::BatchEnrollRequest>>,
    ) -> Result<Response<Outcomes>, Status> {
        answer(self.batch_enroll(request))
    }
}

impl Services {
    async fn create_identity(
        &self,
        mut request: Request<proto::CreateIdentityRequest>,
    ) -> Result<proto::Identity, Fault> {
        let request_id = std::mem::take(&mut request.get_mut().request_id);
        let context = wire::context_once(&request, "CreateIdentity", &request_id, request.get_ref())?;
        let proto::CreateIdentityRequest { parent, identity_id, identity, .. } = request.into_inner();
        let CollectionName(collection) = CollectionName::parse("parent", &parent)?;
        let given = identity.unwrap_or_default();
        let id = match identity_id.as_str() {
            "" => None,
            id => Some(IdentityId::new(id).map_err(|e| Fault::invalid("identityId", e))?),
        };
        let expire_time = given.expire_time.map(|t| wire::from_wire("identity.expireTime", &t)).transpose()?;
        let draft = IdentityDraft { id, labels: wire::labels(given.labels)?, expire_time };
        let made = self.0.create_identity(&context, &collection, draft).await?;
        Ok(wire::identity(&collection, &made))
    }

    async fn get_identity(&self, name: &str) -> Result<proto::Identity, Fault> {
        let name = IdentityName::parse("name", name)?;
        let identity = self.0.identity(&name.collection, &name.identity).await?;
        Ok(wire::identity(&name.collection, &identity))
    }

    async fn list_identities(
        &self,
        request: proto::ListIdentitiesRequest,
    ) -> Result<proto::ListIdentitiesResponse, Fault> {
        let CollectionName(collection) = CollectionName::parse("parent", &request.parent)?;
        let filter = filter(&request.filter)?;
        let list = match &filter {
            Some(filter) => format!("{} identities {filter}", request.parent),
            None => format!("{} identities", request.parent),
        };
        let page = PageRequest::parse(request.page_size, &request.page_token, &list)?;
        let after = page.after.as_deref().map(IdentityId::new).transpose()?;
        let (found, next) = self.0.identities(&collection, after.as_ref(), page.limit, filter.as_ref()).await?;
        Ok(proto::ListIdentitiesResponse {
            identities: found.iter().map(|i| wire::identity(&collection, i)).collect(),
            next_page_token: wire::token(next.map(|id| id.to_string()), &list),
        })
    }

    async fn update_identity(
        &self,
        mut request: Request<proto::UpdateIdentityRequest>,
    ) -> Result<proto::Identity, Fault> {
        let request_id = std::mem::take(&mut request.get_mut().request_id);
        let context = wire::context_once(&request, "UpdateIdentity", &request_id, request.get_ref())?;
        let proto::UpdateIdentityRequest { identity, update_mask, .. } = request.into_inner();
        let given = identity.unwrap_or_default();
        let mask = update_mask.as_ref();
        wire::check_mask(mask, &["labels", "expire_time"])?;
        let name = IdentityName::parse("identity.name", &given.name)?;
        let expire_time = given.expire_time.map(|t| wire::from_wire("identity.expireTime", &t)).transpose()?;
        let patch = IdentityPatch {
            expire_time: wire::writes(mask, "expire_time", expire_time.is_some()).then_some(expire_time),
            labels: if wire::writes(mask, "labels", !given.labels.is_empty()) {
                Some(wire::labels(given.labels)?)
            } else {
                None
            },
            expected: wire::expected(&given.etag)?,
        };
        let updated = self.0.update_identity(&context, &name.collection, &name.identity, patch).await?;
        Ok(wire::identity(&name.collection, &updated))
    }

    async fn delete_identity(&self, request: &Request<proto::DeleteIdentityRequest>) -> Result<(), Fault> {
        let context = wire::context(request);
        let proto::DeleteIdentityRequest { name, etag } = request.get_ref();
        let name = IdentityName::parse("name", name)?;
        self.0.delete_identity(&context, &name.collection, &name.identity, wire::expected(etag)?).await
    }

    async fn enroll(&self, mut request: Request<proto::EnrollRequest>) -> Result<proto::EnrollResponse, Fault> {
        let request_id = std::mem::take(&mut request.get_mut().request_id);
        let context = wire::context_once(&request, "Enroll", &request_id, request.get_ref())?;
        let (name, enrollment) = enrollment(request.into_inner())?;
        Ok(wire::enrolled(&name, &self.0.enroll(&context, enrollment).await?))
    }
}

/// Whom to enroll, from what.
pub(super) fn enrollment(request: proto::EnrollRequest) -> Result<(IdentityName, Enrollment), Fault> {
    let proto::EnrollRequest { name, samples, labels, modality, alignment, face_selection, .. } = request;
    let name = IdentityName::parse("name", &name)?;
    let enrollment = Enrollment {
        collection: name.collection.clone(),
        identity: name.identity.clone(),
        samples: wire::samples("samples", samples, Defaults { modality, alignment, face_selection })?,
        labels: wire::labels(labels)?,
    };
    Ok((name, enrollment))
}

pub(super) fn filter(text: &str) -> Result<Option<Filter>, Fault> {
    if text.trim().is_empty() { Ok(None) } else { Ok(Some(Filter::parse(text)?)) }
}
