//! From messages to the house's words and back: what comes in is checked here, field by field, and what goes out is
//! named here.

mod answer;
mod calibration;
mod name;
mod operation;
mod page;
mod policy;
mod report;
mod review;
mod sample;
mod time;

pub(super) use answer::{
    collection, compared, enrolled, extracted, found, identity, model, resolved, template, verified,
};
pub(super) use calibration::calibrated;
pub(super) use name::{
    CalibrationName, CollectionName, DecisionName, IdentityName, ModelName, OperationName, ReviewCaseName, TemplateName,
};
pub(super) use operation::{operation, shown_operation};
pub(super) use page::{PageRequest, token};
pub(super) use policy::{half_life, open_set, pad, policy, pooling, quality, reranking, review};
pub(super) use review::{decided, replayed, review_case, reviewed, reviewer, stage, verdict};
pub(super) use sample::{Defaults, modality, samples};
pub(super) use time::{from_wire, to_wire};

use std::collections::BTreeMap;

use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Request;

use super::layers::Deadline;
use crate::matcher::{Context, Fault, IdempotentRequest, Principal, Urgency};
use domain::{Labels, Revision, Similarity};

/// The longest id that a client may give a request.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// What the layers found out about a request.
///
/// # Panics
/// When a request passed no access layer: a mistake in this program, not in a request.
pub(super) fn context<T>(request: &Request<T>) -> Context {
    let principal = request.extensions().get::<Principal>().expect("every request passes the access layer").clone();
    let deadline = request.extensions().get::<Deadline>().expect("every request passes the deadline layer").0;
    Context { principal, deadline, urgency: Urgency::Interactive, idempotent: None }
}

/// The same, for a request that must take effect at most once. `message` is the request without its id.
pub(super) fn context_once<T>(
    request: &Request<T>,
    method: &'static str,
    request_id: &str,
    message: &impl Message,
) -> Result<Context, Fault> {
    once(context(request), method, request_id, message)
}

/// The same, for a request that came within another.
pub(super) fn once(
    mut context: Context,
    method: &'static str,
    request_id: &str,
    message: &impl Message,
) -> Result<Context, Fault> {
    if request_id.is_empty() {
        return Ok(context);
    }
    if request_id.chars().count() > REQUEST_ID_CHARS_MAX || request_id.chars().any(char::is_control) {
        let problem = format!("a request id has at most {REQUEST_ID_CHARS_MAX} characters and no control characters");
        return Err(Fault::invalid("requestId", problem));
    }
    let body_hash = Sha256::digest(message.encode_to_vec()).into();
    context.idempotent = Some(IdempotentRequest { method, request_id: request_id.to_owned(), body_hash });
    Ok(context)
}

pub(super) fn labels(labels: BTreeMap<String, String>) -> Result<Labels, Fault> {
    Ok(Labels::try_from(labels)?)
}

/// The text form of a revision.
pub(super) fn etag(revision: Revision) -> String {
    format!("\"{}\"", revision.0)
}

/// The revision that a client expects; none when the field is empty.
pub(super) fn expected(etag: &str) -> Result<Option<Revision>, Fault> {
    if etag.is_empty() {
        return Ok(None);
    }
    let number =
        etag.trim_matches('"').parse().map_err(|_| Fault::invalid("etag", "this is no etag that a read answered"))?;
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

/// How many candidates to list; `fallback` when the field is absent.
pub(super) fn limit(top_k: i32, fallback: usize) -> Result<usize, Fault> {
    match usize::try_from(top_k) {
        Ok(0) => Ok(fallback),
        Ok(limit) => Ok(limit),
        Err(_) => Err(Fault::invalid("topK", "topK must not be negative")),
    }
}

/// Whether an update shall write this field: the mask names it, or there is no mask and the request carries it.
pub(super) fn writes(mask: Option<&prost_types::FieldMask>, field: &str, carried: bool) -> bool {
    match mask {
        Some(mask) if !mask.paths.is_empty() => mask.paths.iter().any(|p| p == field || p == "*"),
        _ => carried,
    }
}

/// Refuses a mask that names what an update cannot write.
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
