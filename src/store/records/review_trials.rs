//! Review trials of a collection.

use async_trait::async_trait;

use crate::Result;
use domain::{ReviewCaseId, ReviewTrial};

/// What the verdicts of reviewers showed about answers of one collection.
#[async_trait]
pub trait ReviewTrials {
    /// All trials, in the order of their verdicts.
    async fn review_trials(&mut self) -> Result<Vec<ReviewTrial>>;

    /// Stores a trial as the latest, and deletes all but the latest `trials_max`. Takes the collection's lock.
    async fn put_review_trial(&mut self, trial: &ReviewTrial, trials_max: u64) -> Result<()>;

    /// Deletes the trial of a case, if there is one.
    async fn delete_review_trial(&mut self, case: ReviewCaseId) -> Result<()>;
}
