//! What the fuzz targets `rest_body` and `protobuf` do with their bytes: from a request to the values of `matcher`, as the
//! services do it, without a server. Compiled for tests and for `make fuzz` alone.

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::{
    http, proto,
    wire::{self, CollectionName, IdentityName, PageRequest, SampleDefaults},
};
use crate::matcher::Fault;
use domain::Policy;

/// The body of a REST request: a byte that chooses the route, a byte that chooses the kind of body, the body.
///
/// # Panics
/// When the translation breaks a promise.
pub fn rest_body(bytes: &[u8]) {
    let Some(([route, kind], body)) = bytes.split_first_chunk() else { return };
    if let Ok((input, message)) = http::fuzzing::translate(usize::from(*route), *kind, body) {
        let _refused = check(input.name(), &message);
        show(&input, &message);
    }
}

/// A message of gRPC: a byte that chooses the method, the encoded message.
///
/// # Panics
/// When the translation breaks a promise.
pub fn protobuf(bytes: &[u8]) {
    let Some((method, message)) = bytes.split_first() else { return };
    let methods: Vec<_> =
        http::contract().services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    let input = methods[usize::from(*method) % methods.len()].input();
    let _refused = check(input.name(), message);
    show(&input, message);
}

/// Writes a message as JSON, as answers are.
fn show(descriptor: &MessageDescriptor, message: &[u8]) {
    if let Ok(message) = DynamicMessage::decode(descriptor.clone(), message)
        && let Ok(json) = http::fuzzing::written(&message)
    {
        serde_json::from_slice::<serde_json::Value>(&json).expect("what is written is JSON");
    }
}

/// Checks a request as its service does.
fn check(input: &str, bytes: &[u8]) -> Result<(), Fault> {
    match input {
        "EnrollRequest" => enroll(decode(bytes)?),
        "BatchEnrollRequest" => {
            let batch: proto::BatchEnrollRequest = decode(bytes)?;
            CollectionName::parse("parent", &batch.parent)?;
            batch.requests.into_iter().try_for_each(enroll)
        }
        "VerifyRequest" => {
            let request: proto::VerifyRequest = decode(bytes)?;
            let defaults = SampleDefaults::from(&request);
            IdentityName::parse("name", &request.name)?;
            wire::consistency_token(&request.consistency_token)?;
            samples(request.samples, &defaults)
        }
        "SearchRequest" => {
            let request: proto::SearchRequest = decode(bytes)?;
            let defaults = SampleDefaults::from(&request);
            CollectionName::parse("parent", &request.parent)?;
            wire::limit(request.top_k, 1)?;
            wire::min_similarity(request.min_similarity)?;
            wire::filter(&request.filter)?;
            samples(request.samples, &defaults)
        }
        "ResolveRequest" => {
            let request: proto::ResolveRequest = decode(bytes)?;
            let defaults = SampleDefaults::from(&request);
            wire::labels(request.labels)?;
            samples(request.samples, &defaults)
        }
        "CompareRequest" => {
            let request: proto::CompareRequest = decode(bytes)?;
            let defaults = SampleDefaults::from(&request);
            samples(request.probes, &defaults)?;
            samples(request.references, &defaults)
        }
        "MergeIdentitiesRequest" => wire::merge(&decode(bytes)?).map(drop),
        "SplitIdentityRequest" => wire::split(decode(bytes)?).map(drop),
        "RevertIdentityRequest" => wire::revert(&decode(bytes)?).map(drop),
        "CreateCollectionRequest" => {
            let request: proto::CreateCollectionRequest = decode(bytes)?;
            wire::check_request_id(&request.request_id)?;
            let asked = request.collection.unwrap_or_default().policy.unwrap_or_default();
            wire::policy(&asked, Policy::default()).map(drop)
        }
        "UpdateIdentityRequest" => {
            let request: proto::UpdateIdentityRequest = decode(bytes)?;
            wire::check_mask(request.update_mask.as_ref(), &["labels", "expire_time", "provisional"])?;
            let given = request.identity.unwrap_or_default();
            if let Some(time) = given.expire_time {
                let read = wire::from_wire("identity.expireTime", &time)?;
                assert_eq!(wire::to_wire(read), time, "a time that is taken is shown as it is");
            }
            wire::expected(&given.etag)?;
            wire::labels(given.labels).map(drop)
        }
        "ListIdentitiesRequest" => {
            let request: proto::ListIdentitiesRequest = decode(bytes)?;
            wire::filter(&request.filter)?;
            let page = PageRequest::parse(request.page_size, &request.page_token, &request.parent)?;
            let token = wire::token(page.after.clone(), &request.parent);
            let again = PageRequest::parse(request.page_size, &token, &request.parent)?;
            assert_eq!(again.after, page.after, "a page token leads to its page");
            Ok(())
        }
        _ => Ok(()),
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Fault> {
    M::decode(bytes).map_err(Fault::internal)
}

fn enroll(request: proto::EnrollRequest) -> Result<(), Fault> {
    wire::check_request_id(&request.request_id)?;
    wire::enrollment(request).map(drop)
}

fn samples(samples: Vec<proto::Sample>, defaults: &SampleDefaults) -> Result<(), Fault> {
    let given = samples.len();
    let read = wire::samples("samples", samples, defaults)?;
    assert_eq!(read.len(), given, "each sample is read");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Runs the kept inputs of a target.
    fn run(target: &str, read: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
        let inputs: Vec<_> = fs::read_dir(corpus).expect("the target has inputs").collect();
        assert!(!inputs.is_empty(), "{target} has no inputs");
        for input in inputs {
            read(&fs::read(input.expect("listed").path()).expect("readable"));
        }
    }

    #[test]
    fn no_kept_input_of_rest_bodies_breaks_the_translation() {
        run("rest_body", super::rest_body);
    }

    #[test]
    fn no_kept_input_of_messages_breaks_the_translation() {
        run("protobuf", super::protobuf);
    }
}
