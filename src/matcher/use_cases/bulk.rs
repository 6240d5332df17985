//! Bulk enroll: one of many enrolls that run behind interactive requests.

use crate::matcher::{
    Matcher,
    collection::group_commit::EnrollResult,
    request::context::{Context, Urgency},
    request::fault::Fault,
    use_cases::enroll::Enrollment,
};

impl Matcher {
    /// As [`Matcher::enroll`], behind interactive work: it waits for a permit of the bulk limit, and its samples use the
    /// second lane of the queues. In the turn of the collection it has the same priority as others.
    ///
    /// # Errors
    /// As [`Matcher::enroll`]; [`Fault::TooLate`] when no permit is free before the deadline.
    pub async fn enroll_in_bulk(&self, context: &Context, enrollment: Enrollment) -> Result<EnrollResult, Fault> {
        let context = Context { urgency: Urgency::Bulk, ..context.clone() };
        let work = async {
            let _permits = self.writes.bulk_permits(enrollment.samples.len()).await?;
            self.enroll(&context, enrollment).await
        };
        tokio::time::timeout_at(context.deadline.into(), work).await.map_err(|_| Fault::TooLate)?
    }
}
