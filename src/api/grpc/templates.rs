//! Templates over gRPC.

use tonic::{Request, Response, Status};

use super::{Services, respond};
use crate::{
    api::{
        proto::{self, template_service_server::TemplateService},
        wire::{self, IdentityName, PageRequest, TemplateName},
    },
    matcher::{Fault, Removal},
};

#[tonic::async_trait]
impl TemplateService for Services {
    async fn get_template(
        &self,
        request: Request<proto::GetTemplateRequest>,
    ) -> Result<Response<proto::Template>, Status> {
        respond(self.answer_get_template(&request.into_inner().name).await)
    }

    async fn list_templates(
        &self,
        request: Request<proto::ListTemplatesRequest>,
    ) -> Result<Response<proto::ListTemplatesResponse>, Status> {
        respond(self.answer_list_templates(request.into_inner()).await)
    }

    async fn delete_template(
        &self,
        request: Request<proto::DeleteTemplateRequest>,
    ) -> Result<Response<proto::DeleteTemplateResponse>, Status> {
        respond(self.answer_delete_template(&request).await)
    }
}

impl Services {
    async fn answer_get_template(&self, name: &str) -> Result<proto::Template, Fault> {
        let TemplateName { identity, template } = TemplateName::parse("name", name)?;
        let found = self.matcher.template(&identity.collection, &identity.identity, template).await?;
        Ok(wire::template(&identity, &found))
    }

    async fn answer_list_templates(
        &self,
        request: proto::ListTemplatesRequest,
    ) -> Result<proto::ListTemplatesResponse, Fault> {
        let identity = IdentityName::parse("parent", &request.parent)?;
        let list = format!("{identity} templates");
        let page = PageRequest::parse(request.page_size, &request.page_token, &list)?;
        let after = page.after.as_deref().map(str::parse).transpose()?;
        let found = self.matcher.templates(&identity.collection, &identity.identity, after, page.limit).await?;
        let next = (found.len() == page.limit as usize).then(|| found.last().map(|t| t.id.to_string())).flatten();
        Ok(proto::ListTemplatesResponse {
            templates: found.iter().map(|t| wire::template(&identity, t)).collect(),
            next_page_token: wire::token(next, &list),
        })
    }

    async fn answer_delete_template(
        &self,
        request: &Request<proto::DeleteTemplateRequest>,
    ) -> Result<proto::DeleteTemplateResponse, Fault> {
        let context = wire::context(request);
        let TemplateName { identity, template } = TemplateName::parse("name", &request.get_ref().name)?;
        let removal =
            self.matcher.delete_template(&context, &identity.collection, &identity.identity, template).await?;
        Ok(proto::DeleteTemplateResponse { pending_removal: removal == Removal::Pending })
    }
}
