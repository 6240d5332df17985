//! The use cases, one file each: what a request asks of the matcher. They join recognition, judging, the replica and writes,
//! and never name a wire format, a status code, a database or a tensor.

pub(crate) mod bulk;
pub(crate) mod calibrations;
pub(crate) mod collections;
pub(crate) mod compare;
pub(crate) mod decision_log;
pub(crate) mod decisions;
pub(crate) mod enroll;
pub(crate) mod findings;
pub(crate) mod housekeeping;
pub(crate) mod identities;
pub(crate) mod models;
pub(crate) mod operations;
pub(crate) mod regroup;
pub(crate) mod resolve;
pub(crate) mod resolve_result;
pub(crate) mod revert;
pub(crate) mod review;
pub(crate) mod review_policy;
pub(crate) mod search;
pub(crate) mod sightings;
pub(crate) mod survey;
pub(crate) mod templates;
#[cfg(test)]
mod tests;
pub(crate) mod verify;
