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
use prost_reflect::{FieldDescriptor, MessageDescriptor};
use serde_json::{Map, Value};
use tonic::Status;

use super::{
    body::{Body, Part},
    json, pose_body,
    routes::{BodyPart, RouteMatch},
    segments::Segments,
};
use crate::{api::status::status, matcher::Fault};

/// The field that raw and multipart bodies fill.
const SAMPLES: &str = "samples";
/// The number of `Sample.image`.
const IMAGE_NUMBER: u32 = 2;
/// The number of `Sample.poses`.
const POSES_NUMBER: u32 = 11;
/// The number of `Image.data` and of `PoseFile.data`.
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
        for part in joined_frames(parts) {
            append_sample(&mut message, samples.number(), part);
        }
    }
    Ok(message)
}

/// The JSON body as the request's own object, or the pose file that it is instead.
fn parse(
    matched: &RouteMatch,
    input: &MessageDescriptor,
    json: Bytes,
) -> Result<(Map<String, Value>, Vec<Part>), Fault> {
    if input.get_field_by_name(SAMPLES).is_some() && pose_body::is_pose_file(&json, input) {
        let mut file = Segments::default();
        file.push(json);
        return Ok((Map::new(), vec![Part::Poses(file)]));
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

/// The field that a query parameter sets: its path of field names, and the last one.
struct QueryPlace {
    path: String,
    field: FieldDescriptor,
}

impl QueryPlace {
    fn starts_in(&self, field: &str) -> bool {
        self.path.split('.').next() == Some(field)
    }
}

/// Reads a parameter's name: a field, or a field of a message after a dot (`pose.track`). Each has two spellings.
fn query_place(input: &MessageDescriptor, key: &str) -> Option<QueryPlace> {
    let named = |message: &MessageDescriptor, name: &str| {
        message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name))
    };
    let Some((outer, inner)) = key.split_once('.') else {
        let field = named(input, key)?;
        return Some(QueryPlace { path: field.name().to_owned(), field });
    };
    let outer = named(input, outer).filter(|field| !field.is_list() && !field.is_map())?;
    let field = named(outer.kind().as_message()?, inner)?;
    Some(QueryPlace { path: format!("{}.{}", outer.name(), field.name()), field })
}

/// Writes the fields of query, path and headers over those of the body.
fn set_head_fields(matched: &RouteMatch, head: &HeadFields, object: &mut Map<String, Value>) -> Result<(), Fault> {
    let (route, input) = (&matched.route, matched.route.rpc.input());
    let mut named = BTreeSet::new();
    for (key, text) in &head.query {
        let place = query_place(&input, key);
        let place = place.filter(|place| !matches!(&route.body, BodyPart::Field(body) if place.starts_in(body)));
        let Some(QueryPlace { path, field }) = place else {
            return Err(Fault::invalid(key, "there is no such query parameter"));
        };
        json::set(&input, object, &path, json::from_query(&field, text)?);
        if !named.insert(path) {
            return Err(Fault::invalid(key, "the query has this parameter twice"));
        }
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
fn append_sample(message: &mut Segments, number: u32, part: Part) {
    match part {
        Part::Picture(picture) => append_data(message, [number, IMAGE_NUMBER], picture),
        Part::Poses(json) => append_data(message, [number, POSES_NUMBER], json),
    }
}

/// `Sample { image: Image { data } }` or `Sample { poses: PoseFile { data } }` around segments that are not copied; the
/// numbers of the sample and of its content.
fn append_data(message: &mut Segments, [number, content]: [u32; 2], data: Segments) {
    let delimited = |number: u32, length: usize| key_len(number) + encoded_len_varint(length as u64) + length;
    let content_length = delimited(DATA_NUMBER, data.len());
    let sample_length = delimited(content, content_length);
    let mut head = BytesMut::new();
    let mut begin = |number: u32, length: usize| {
        encode_key(number, WireType::LengthDelimited, &mut head);
        encode_varint(length as u64, &mut head);
    };
    begin(number, sample_length);
    begin(content, content_length);
    begin(DATA_NUMBER, data.len());
    message.push(head.freeze());
    message.append(data);
}

/// Parts that hold one frame each, as OpenPose writes its files, become one walk in the order of the parts.
fn joined_frames(parts: Vec<Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    let mut is_frame_before = false;
    for part in parts {
        let is_frame = matches!(&part, Part::Poses(json) if pose_body::is_one_frame(json.pieces()));
        match (joined.last_mut(), part) {
            (Some(Part::Poses(walk)), Part::Poses(frame)) if is_frame && is_frame_before => {
                walk.push(Bytes::from_static(b"\n"));
                walk.append(frame);
            }
            (_, part) => joined.push(part),
        }
        is_frame_before = is_frame;
    }
    joined
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::api::{
        http::{contract, routes},
        proto::{self, sample::Content},
    };

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
            vec![Part::Picture(segments(&picture)), Part::Poses(segments(frames)), Part::Picture(Segments::default())];
        let head = HeadFields {
            query: vec![("modality".to_owned(), "face".to_owned())],
            request_id: Some("once".to_owned()),
            etag: None,
        };
        let path = "/v1/collections/staff/identities/alice:enroll";
        let request: proto::EnrollRequest = encoded(path, &head, Body::Samples(parts)).expect("valid");
        let image = |data: Vec<u8>| Some(Content::Image(proto::Image { data: data.into() }));
        let poses = proto::PoseFile { data: Bytes::from_static(frames), options: None };
        let contents: Vec<_> = request.samples.iter().map(|sample| sample.content.clone()).collect();
        assert_eq!(contents, [image(picture), Some(Content::Poses(poses)), image(Vec::new())]);
        assert_eq!(request.name, "collections/staff/identities/alice");
        assert_eq!(request.modality(), proto::Modality::Face);
        assert_eq!(request.request_id, "once");
    }

    #[test]
    fn a_body_is_a_pose_file_where_the_request_has_no_such_field() {
        let path = "/v1/collections/staff/identities:search";
        let sent = |json: &'static str, query: &[(&str, &str)]| {
            let query = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let head = HeadFields { query, ..HeadFields::default() };
            encoded::<proto::SearchRequest>(path, &head, Body::Json(segments(json.as_bytes())))
        };
        for json in [
            "[[1, 2, 3]]",
            r#"{"people": []}"#,
            r#"{"meta_info": {}, "instance_info": []}"#,
            r#"{"0.jpg": {"people": []}}"#,
            "{\"keypoints\": []}\n{\"keypoints\": []}",
        ] {
            let request = sent(json, &[("pose.track", "7"), ("pose.width", "640")]).expect(json);
            let Some(Content::Poses(file)) = &request.samples[0].content else { panic!("{json}") };
            assert_eq!(file.data, json.as_bytes());
            let pose = request.pose.expect("options of the query");
            assert_eq!((pose.track.as_str(), pose.width), ("7", 640));
        }
        let request = sent(r#"{"samples": [{"skeleton": {"frames": []}}]}"#, &[]).expect("a request");
        assert!(matches!(request.samples[0].content, Some(Content::Skeleton(_))));
        for (json, query) in [(r#"{"peoples": []}"#, "modality"), ("[]", "pose.person"), ("[]", "modality.x")] {
            sent(json, &[(query, "gait")]).map(|_| ()).expect_err(query);
        }
    }

    #[test]
    fn a_file_for_each_frame_becomes_one_walk() {
        let frame = br#"{"version": 1.3, "people": [{"pose_keypoints_2d": []}]}"#;
        let parts = vec![Part::Poses(segments(frame)), Part::Poses(segments(frame)), Part::Poses(segments(b"[]"))];
        let path = "/v1/collections/staff/identities:search";
        let request: proto::SearchRequest = encoded(path, &HeadFields::default(), Body::Samples(parts)).expect("valid");
        let lengths = request.samples.iter().map(|sample| match &sample.content {
            Some(Content::Poses(file)) => file.data.len(),
            _ => 0,
        });
        assert_eq!(lengths.collect::<Vec<_>>(), [2 * frame.len() + 1, 2]);
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
