//! Templates of a collection.

use async_trait::async_trait;

use super::Page;
use crate::Result;
use domain::{EmbeddingSpace, IdentityId, Position, StoredTemplate, Template, TemplateId};

/// A template that the self-paced policy accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedTemplate {
    pub space: EmbeddingSpace,
    pub identity: IdentityId,
    pub template: TemplateId,
}

/// The templates of one collection. They change by [`Turn::append`](crate::Turn::append) alone.
#[async_trait]
pub trait Templates {
    /// The template without its embedding.
    async fn template(&mut self, id: TemplateId) -> Result<Option<Template>>;

    /// The templates of an identity after `after`, in id order, without their embeddings.
    async fn templates_of(
        &mut self,
        identity: &IdentityId,
        after: Option<TemplateId>,
        limit: u32,
    ) -> Result<Page<Template>>;

    /// Templates with their embeddings after a position, in position order. With [`Identities`](super::Identities) and
    /// [`Collections::heads`](super::Collections::heads) this is the state that the log leads to.
    async fn stored_templates(&mut self, after: Position, limit: u32) -> Result<Page<StoredTemplate>>;

    /// The templates of all spaces that the self-paced policy accepted below `posterior` (0 to 1), oldest first.
    /// Templates that are certified or that a client enrolled are not among them.
    async fn accepted_below(&mut self, posterior: f64) -> Result<Vec<AcceptedTemplate>>;
}
