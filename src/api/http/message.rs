//! From a REST request to its message, encoded as protobuf: the body, with the fields of path, query and headers written
//! over it.

use std::collections::BTreeSet;

use axum::extract::{Query, Request};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use prost_reflect::MessageDescriptor;
use serde::Deserialize;
use serde_json::{Map, Value};
use tonic::Status;

use super::{
    body::{Body, Part},
    json,
    routes::{BodyPart, RouteMatch},
    segments::Segments,
};
use crate::{
    api::{
        proto::{self, sample::Content, skeleton::Frame},
        status::status,
    },
    matcher::Fault,
};

/// The field that raw and multipart bodies fill.
const SAMPLES: &str = "samples";
/// The number of `Sample.image`.
const IMAGE_NUMBER: u32 = 2;
/// The number of `Image.data`.
const DATA_NUMBER: u32 = 1;

/// The fields that a request carries outside its body and its path.
#[derive(Debug, Default)]
pub(super) struct HeadFields {
    query: Vec<(String, String)>,
    /// `Idempotency-Key`
    request_id: Option<String>,
    /// `If-Match`
    etag: Option<String>,
}

impl HeadFields {
    /// # Errors
    /// When the query cannot be decoded, or a header is not ASCII text.
    pub(super) fn read(request: &Request) -> Result<Self, Status> {
        let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(request.uri())
            .map_err(|e| status(&Fault::invalid("query", e.body_text())))?;
        let request_id = header_text(request.headers(), "idempotency-key")?;
        Ok(Self { query, request_id, etag: header_text(request.headers(), "if-match")? })
    }
}

/// The text of a header; none when it is absent.
///
/// # Errors
/// When the header is not ASCII text.
pub(super) fn header_text(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Status> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| status(&Fault::invalid(name, "a header is read as plain ASCII text")))?;
    Ok(Some(text.to_owned()))
}

/// Encodes the message of a request. Pictures are not copied: their segments become part of the message.
///
/// # Errors
/// Names the field or the part of the body that is wrong.
pub(super) fn encode(matched: &RouteMatch, head: &HeadFields, body: Body) -> Result<Segments, Fault> {
    let input = matched.route.rpc.input();
    let samples = input.get_field_by_name(SAMPLES).filter(|_| matched.route.body == BodyPart::Whole);
    let (mut object, parts) = match body {
        Body::Json(json) => parse(matched, &input, json.into_bytes())?,
        Body::Samples(parts) if samples.is_some() => (Map::new(), parts),
        Body::Samples(_) => return Err(Fault::invalid("body", "this method reads JSON, not pictures")),
    };
    set_head_fields(matched, head, &mut object)?;
    let mut message = Segments::default();
    message.push(json::to_message(&input, Value::Object(object))?.encode_to_vec().into());
    if let Some(samples) = samples {
        parts.into_iter().try_for_each(|part| append_sample(&mut message, samples.number(), part))?;
    }
    Ok(message)
}

/// The JSON body as the request's own object. A list is the frames of one gait sample.
fn parse(
    matched: &RouteMatch,
    input: &MessageDescriptor,
    json: Bytes,
) -> Result<(Map<String, Value>, Vec<Part>), Fault> {
    if json.trim_ascii_start().starts_with(b"[") && input.get_field_by_name(SAMPLES).is_some() {
        let mut frames = Segments::default();
        frames.push(json);
        return Ok((Map::new(), vec![Part::Frames(frames)]));
    }
    let value = if json.is_empty() { Value::Object(Map::new()) } else { json::parse(&json)? };
    let object = match (&matched.route.body, value) {
        (BodyPart::Field(field), value) => {
            let field = input.get_field_by_name(field).expect("routes name fields that there are");
            Map::from_iter([(field.json_name().to_owned(), value)])
        }
        (BodyPart::Whole | BodyPart::None, Value::Object(object)) => object,
        (BodyPart::Whole | BodyPart::None, _) => return Err(Fault::invalid("body", "an object is expected here")),
    };
    Ok((object, Vec::new()))
}

/// Writes the fields of query, path and headers over those of the body.
fn set_head_fields(matched: &RouteMatch, head: &HeadFields, object: &mut Map<String, Value>) -> Result<(), Fault> {
    let (route, input) = (&matched.route, matched.route.rpc.input());
    let mut named = BTreeSet::new();
    for (key, text) in &head.query {
        let field = input.get_field_by_json_name(key).or_else(|| input.get_field_by_name(key));
        let field = field.filter(|f| !matches!(&route.body, BodyPart::Field(body) if body == f.name()));
        let Some(field) = field else {
            return Err(Fault::invalid(key, "there is no such query parameter"));
        };
        if !named.insert(field.number()) {
            return Err(Fault::invalid(key, "the query has this parameter twice"));
        }
        json::set(&input, object, field.name(), json::from_query(&field, text)?);
    }
    for (path, value) in matched.variables() {
        json::set(&input, object, path, Value::from(value));
    }
    if let (Some(request_id), true) = (&head.request_id, input.get_field_by_name("request_id").is_some()) {
        json::set(&input, object, "request_id", Value::from(request_id.as_str()));
    }
    if let Some(etag) = &head.etag {
        json::set(&input, object, &etag_path(&route.body, &input)?, Value::from(etag.as_str()));
    }
    Ok(())
}

/// The field for the etag of `If-Match`: of the request, or of the resource in its body.
fn etag_path(body: &BodyPart, input: &MessageDescriptor) -> Result<String, Fault> {
    if input.get_field_by_name("etag").is_some() {
        return Ok("etag".to_owned());
    }
    let BodyPart::Field(field) = body else {
        return Err(Fault::invalid("If-Match", "this method takes no etag; leave the header out"));
    };
    Ok(format!("{field}.etag"))
}

/// Appends a sample to the encoded message: an element of the repeated field `number`. In protobuf, elements of a
/// repeated field may follow the other fields.
fn append_sample(message: &mut Segments, number: u32, part: Part) -> Result<(), Fault> {
    match part {
        Part::Picture(picture) => append_picture(message, number, picture),
        Part::Frames(json) => {
            let sample = proto::Sample { content: Some(skeleton(&json.into_bytes())?), ..Default::default() };
            let mut encoded = BytesMut::new();
            prost::encoding::message::encode(number, &sample, &mut encoded);
            message.push(encoded.freeze());
        }
    }
    Ok(())
}

/// `Sample { image: Image { data } }` around segments that are not copied.
fn append_picture(message: &mut Segments, number: u32, picture: Segments) {
    let delimited = |number: u32, length: usize| key_len(number) + encoded_len_varint(length as u64) + length;
    let image_length = delimited(DATA_NUMBER, picture.len());
    let sample_length = delimited(IMAGE_NUMBER, image_length);
    let mut head = BytesMut::new();
    let mut begin = |number: u32, length: usize| {
        encode_key(number, WireType::LengthDelimited, &mut head);
        encode_varint(length as u64, &mut head);
    };
    begin(number, sample_length);
    begin(IMAGE_NUMBER, image_length);
    begin(DATA_NUMBER, picture.len());
    message.push(head.freeze());
    message.append(picture);
}

/// A frame as pose estimators write it: 51 numbers, and other fields that are ignored.
#[derive(Deserialize)]
struct PoseFrame {
    keypoints: Vec<f32>,
}

fn skeleton(json: &[u8]) -> Result<Content, Fault> {
    let frames: Vec<PoseFrame> = serde_json::from_slice(json).map_err(|problem| {
        let problem = format!("a list is read as the frames of a walk, each with its \"keypoints\": {problem}");
        Fault::invalid("body", problem)
    })?;
    let frames = frames.into_iter().map(|f| Frame { keypoints: f.keypoints }).collect();
    Ok(Content::Skeleton(proto::Skeleton { frames }))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::api::http::{contract, routes};

    fn segments(bytes: &[u8]) -> Segments {
        let mut segments = Segments::default();
        bytes.chunks(20_000).for_each(|chunk| segments.push(Bytes::copy_from_slice(chunk)));
        segments
    }

    fn encoded<M: Message + Default>(path: &str, head: &HeadFields, body: Body) -> Result<M, Fault> {
        let matched = routes::find(&routes::all(contract()), &Method::POST, path).expect("there is such a route");
        let message = encode(&matched, head, body)?.into_bytes();
        Ok(M::decode(message).expect("it is a message of its type"))
    }

    #[test]
    fn pictures_and_frames_become_samples_beside_path_query_and_headers() {
        let picture: Vec<u8> = (0..70_000_u32).map(|at| (at * 7).to_le_bytes()[0]).collect();
        let frames = br#"[{"keypoints": [1, 2, 0.5], "category_id": 1}]"#;
        let parts =
            vec![Part::Picture(segments(&picture)), Part::Frames(segments(frames)), Part::Picture(Segments::default())];
        let head = HeadFields {
            query: vec![("modality".to_owned(), "face".to_owned())],
            request_id: Some("once".to_owned()),
            etag: None,
        };
        let path = "/v1/collections/staff/identities/alice:enroll";
        let request: proto::EnrollRequest = encoded(path, &head, Body::Samples(parts)).expect("valid");
        let image = |data: Vec<u8>| Some(Content::Image(proto::Image { data: data.into() }));
        let skeleton = proto::Skeleton { frames: vec![Frame { keypoints: vec![1.0, 2.0, 0.5] }] };
        let contents: Vec<_> = request.samples.iter().map(|sample| sample.content.clone()).collect();
        assert_eq!(contents, [image(picture), Some(Content::Skeleton(skeleton)), image(Vec::new())]);
        assert_eq!(request.name, "collections/staff/identities/alice");
        assert_eq!(request.modality(), proto::Modality::Face);
        assert_eq!(request.request_id, "once");
    }

    #[test]
    fn a_key_or_parameter_that_stands_twice_is_refused_and_named() {
        let search = "/v1/collections/staff/identities:search";
        let refused = |query: &[(&str, &str)], json: &str| {
            let query = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let head = HeadFields { query, ..HeadFields::default() };
            let body = Body::Json(segments(json.as_bytes()));
            encoded::<proto::SearchRequest>(search, &head, body).map(|request| request.top_k).map_err(|f| f.to_string())
        };
        for json in [r#"{"topK": 1, "topK": 1}"#, r#"{"filter": "", "samples": [{"a": {"topK": 1, "topK": 2}}]}"#] {
            let said = refused(&[], json).expect_err("twice");
            assert!(said.contains("\"topK\" stands twice"), "{said}");
        }
        let said = refused(&[], r#"{"topK": 1, "top_k": 2}"#).expect_err("one field by two names");
        assert!(said.contains("topK") && said.contains("top_k"), "{said}");
        let said = refused(&[("topK", "1"), ("top_k", "2")], "{}").expect_err("one parameter by two names");
        assert!(said.starts_with("top_k: "), "{said}");
        assert_eq!(refused(&[("topK", "1")], r#"{"top_k": 2}"#), Ok(1), "the query is written over the body");
    }

    #[test]
    fn pictures_are_refused_where_json_is_read() {
        let body = Body::Samples(vec![Part::Picture(segments(b"picture"))]);
        let refused = encoded::<proto::CreateCollectionRequest>("/v1/collections", &HeadFields::default(), body);
        assert_eq!(refused.expect_err("no samples").to_string(), "body: this method reads JSON, not pictures");
    }
}
