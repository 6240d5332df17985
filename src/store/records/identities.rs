//! Identities of a collection.

use async_trait::async_trait;

use super::Page;
use crate::Result;
use domain::{Identity, IdentityId};

/// An identity and how many templates it has.
#[derive(Debug, Clone, PartialEq)]
pub struct EnrolledIdentity {
    pub identity: Identity,
    pub templates: u64,
}

/// The identities of one collection. They change by [`Turn::append`](crate::Turn::append) alone.
#[async_trait]
pub trait Identities {
    async fn identity(&mut self, id: &IdentityId) -> Result<Option<Identity>>;

    /// Identities after `after`, in id order.
    async fn identities(&mut self, after: Option<&IdentityId>, limit: u32) -> Result<Page<Identity>>;

    /// The identities among `ids` that exist, in no order.
    async fn enrolled_identities(&mut self, ids: &[IdentityId]) -> Result<Vec<EnrolledIdentity>>;
}
