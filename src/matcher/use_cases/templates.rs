//! Templates: get, list, delete. Embeddings never leave the server.

use futures::FutureExt;

use crate::matcher::{Matcher, replica::Removal, request::context::Context, request::fault::Fault};
use domain::{Change, CollectionId, IdentityId, Template, TemplateId};

impl Matcher {
    pub async fn template(
        &self,
        collection: &CollectionId,
        identity: &IdentityId,
        id: TemplateId,
    ) -> Result<Template, Fault> {
        self.identity(collection, identity).await?;
        let uid = self.replica.open(collection).await?.collection.uid;
        let found = self.store.in_collection(uid).template(id).await?;
        found.filter(|t| t.identity == *identity).ok_or(Fault::NoTemplate(id))
    }

    /// The templates of an identity, oldest first, those after `after`.
    pub async fn templates(
        &self,
        collection: &CollectionId,
        identity: &IdentityId,
        after: Option<TemplateId>,
        limit: u32,
    ) -> Result<Vec<Template>, Fault> {
        self.identity(collection, identity).await?;
        let uid = self.replica.open(collection).await?.collection.uid;
        Ok(self.store.in_collection(uid).templates_of(identity, after, limit).await?)
    }

    pub async fn delete_template(
        &self,
        context: &Context,
        collection: &CollectionId,
        identity: &IdentityId,
        id: TemplateId,
    ) -> Result<Removal, Fault> {
        let identity = identity.clone();
        self.writes
            .change(context, collection, move |turn| {
                async move {
                    if turn.store().template(id).await?.is_none_or(|t| t.identity != identity) {
                        return Err(Fault::NoTemplate(id));
                    }
                    turn.append(&[Change::ForgetTemplate { identity, template: id }]).await
                }
                .boxed()
            })
            .await?;
        Ok(self.replica.removal())
    }
}
