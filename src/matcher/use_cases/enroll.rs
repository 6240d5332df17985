//! Enroll: samples become templates of an identity.

use crate::matcher::{
    Matcher,
    collection::group_commit::{EnrollResult, EnrollWrite},
    judging::acceptance,
    request::context::Context,
    request::fault::Fault,
};
use domain::{CollectionId, IdentityId, Labels, Sample};

/// An enroll request.
#[derive(Debug, Clone)]
pub struct Enrollment {
    pub collection: CollectionId,
    pub identity: IdentityId,
    pub samples: Vec<Sample>,
    /// Replace the identity's labels of the same keys.
    pub labels: Labels,
}

impl Matcher {
    /// Adds one template for each sample to the identity, and creates a missing identity. When it returns, the templates
    /// are durable and the next search finds them.
    pub async fn enroll(&self, context: &Context, enrollment: Enrollment) -> Result<EnrollResult, Fault> {
        let Enrollment { collection, identity, samples, labels } = enrollment;
        let handle = self.replica.open(&collection).await?;
        if let Some(answer) = self.writes.answered_before(context, &collection).await? {
            return Ok(answer);
        }
        let encoded = self.recognition.encode(context, Some(&handle.collection), samples).await?;
        acceptance::admit(&handle.collection.policy, &encoded)?;
        let samples = encoded.iter().map(|part| part.report.clone()).collect();
        self.writes.enroll(context, &collection, EnrollWrite { identity, labels, encoded, samples }).await
    }
}
