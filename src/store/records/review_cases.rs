//! Review cases of a collection, and their samples.

use async_trait::async_trait;

use super::Page;
use crate::Result;
use domain::{Encoded, IdentityId, ReviewCase, ReviewCaseId, ReviewStage, Timestamp};

/// Which review cases a page holds.
#[derive(Debug, Clone, Copy)]
pub struct ReviewCasePage {
    /// Cases that are in this stage at `now`; all cases if `None`.
    pub stage: Option<ReviewStage>,
    /// A lease that has run out at this instant no longer counts.
    pub now: Timestamp,
    pub after: Option<ReviewCaseId>,
    pub limit: u32,
}

/// The review cases of one collection.
#[async_trait]
pub trait ReviewCases {
    async fn review_case(&mut self, id: ReviewCaseId) -> Result<Option<ReviewCase>>;

    /// A page of cases in the order in which they were opened.
    async fn review_cases(&mut self, page: ReviewCasePage) -> Result<Page<ReviewCase>>;

    /// How many cases are not decided.
    async fn count_undecided_review_cases(&mut self) -> Result<u64>;

    /// The cases that are not decided and have this identity among their candidates, in the order in which they were
    /// opened.
    async fn undecided_cases_naming(&mut self, identity: &IdentityId) -> Result<Vec<ReviewCase>>;

    /// The samples of a case, in order.
    async fn review_samples(&mut self, id: ReviewCaseId) -> Result<Vec<Encoded>>;

    /// Stores a new case with its samples.
    async fn open_review_case(&mut self, case: &ReviewCase, samples: &[Encoded]) -> Result<()>;

    /// Writes a case if the stored revision is the one before.
    ///
    /// # Errors
    /// [`RevisionMoved`](crate::StoreError::RevisionMoved), also if the case is gone.
    async fn put_review_case(&mut self, case: &ReviewCase) -> Result<()>;

    /// Deletes a case and its samples. Returns whether it existed.
    async fn delete_review_case(&mut self, id: ReviewCaseId) -> Result<bool>;
}
