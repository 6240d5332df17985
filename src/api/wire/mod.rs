//! Between messages and the types of `domain` and `matcher`. Requests are checked here, field by field; results get their
//! resource names here.

mod answer;
mod calibration;
mod enrollment;
mod idempotency;
mod name;
mod operation;
mod page;
mod policy;
mod regrouping;
mod report;
mod review;
mod sample;
mod time;

pub(super) use answer::{
    collection, compared, enrolled, extracted, found, identity, model, resolved, template, verified,
};
pub(super) use calibration::calibrated;
pub(super) use enrollment::enrollment;
pub(super) use idempotency::{Idempotent, body_hash, check_request_id};
pub(super) use name::{
    CalibrationName, CollectionName, DecisionName, IdentityName, ModelName, OperationName, RegroupingName,
    ReviewCaseName, TemplateName,
};
pub(super) use operation::{FindingsPage, found_pair, operation, shown_operation};
pub(super) use page::{PageRequest, token};
pub(super) use policy::{
    half_life, identity_ttl, open_set, pad, policy, pooling, provisional_ttl, quality, reranking, review, uncertain,
};
pub(super) use regrouping::{identity_in, merge, merged, regrouping, revert, split};
pub(super) use report::pose_layout;
pub(super) use review::{decided, replayed, review_case, reviewed, reviewer, stage, verdict};
pub(super) use sample::{SampleDefaults, modality, samples};
pub(super) use time::{from_wire, to_wire};

use std::collections::BTreeMap;

use tonic::Request;

use super::layers::Deadline;
use crate::matcher::{ConsistencyToken, Context, Fault, Principal, Urgency};
use domain::{Filter, Labels, Revision, Similarity};

/// The context of a request, from the layers that it passed.
///
/// # Panics
/// When a request passed no access layer: a mistake in this program, not in a request.
pub(super) fn context<T>(request: &Request<T>) -> Context {
    let principal = request.extensions().get::<Principal>().expect("every request passes the access layer").clone();
    let deadline = request.extensions().get::<Deadline>().expect("every request passes the deadline layer").0;
    Context { principal, deadline, urgency: Urgency::Interactive, idempotent: None }
}

/// A filter over labels; none when the text is empty.
pub(super) fn filter(text: &str) -> Result<Option<Filter>, Fault> {
    if text.trim().is_empty() { Ok(None) } else { Ok(Some(Filter::parse(text)?)) }
}

/// A consistency token; none when the text is empty.
pub(super) fn consistency_token(text: &str) -> Result<Option<ConsistencyToken>, Fault> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

pub(super) fn labels(labels: BTreeMap<String, String>) -> Result<Labels, Fault> {
    Ok(Labels::try_from(labels)?)
}

/// The text form of a revision.
pub(super) fn etag(revision: Revision) -> String {
    format!("\"{}\"", revision.0)
}

/// The revision that a client expects; none when the etag is empty.
pub(super) fn expected(etag: &str) -> Result<Option<Revision>, Fault> {
    if etag.is_empty() {
        return Ok(None);
    }
    let number = etag
        .trim_matches('"')
        .parse()
        .map_err(|_| Fault::invalid("etag", "this is not an etag of this server; read the resource again"))?;
    Ok(Some(Revision(number)))
}

pub(super) fn min_similarity(value: Option<f32>) -> Result<Option<Similarity>, Fault> {
    match value {
        Some(value) if !(-1.0..=1.0).contains(&value) => {
            Err(Fault::invalid("minSimilarity", "a similarity is between -1 and 1"))
        }
        value => Ok(value.map(Similarity)),
    }
}

/// The number of candidates to list; `fallback` when the field is absent.
pub(super) fn limit(top_k: i32, fallback: usize) -> Result<usize, Fault> {
    match usize::try_from(top_k) {
        Ok(0) => Ok(fallback),
        Ok(limit) => Ok(limit),
        Err(_) => Err(Fault::invalid("topK", "topK must not be negative")),
    }
}

/// Whether an update writes this field: the mask names it, or there is no mask and the request carries the field.
pub(super) fn writes(mask: Option<&prost_types::FieldMask>, field: &str, carried: bool) -> bool {
    match mask {
        Some(mask) if !mask.paths.is_empty() => mask.paths.iter().any(|p| p == field || p == "*"),
        _ => carried,
    }
}

/// Refuses a mask with a field that cannot be updated.
pub(super) fn check_mask(mask: Option<&prost_types::FieldMask>, fields: &[&str]) -> Result<(), Fault> {
    let unknown = mask.and_then(|m| m.paths.iter().find(|p| *p != "*" && !fields.contains(&p.as_str())));
    match unknown {
        None => Ok(()),
        Some(path) => {
            Err(Fault::invalid("updateMask", format!("{path:?} cannot be updated; these can: {}", fields.join(", "))))
        }
    }
}

/// A count as the wire carries it.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
