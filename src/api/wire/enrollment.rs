//! Enrollments in requests, single or in a batch.

use super::{IdentityName, SampleDefaults, labels, samples};
use crate::{
    api::proto,
    matcher::{Enrollment, Fault},
};

/// The identity of an enrollment, and what to enroll.
pub(in crate::api) fn enrollment(request: proto::EnrollRequest) -> Result<(IdentityName, Enrollment), Fault> {
    let defaults = SampleDefaults::from(&request);
    let name = IdentityName::parse("name", &request.name)?;
    let enrollment = Enrollment {
        collection: name.collection.clone(),
        identity: name.identity.clone(),
        samples: samples("samples", request.samples, &defaults)?,
        labels: labels(request.labels)?,
    };
    Ok((name, enrollment))
}
