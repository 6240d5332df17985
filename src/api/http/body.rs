//! From an HTTP body to a request message: JSON, a raw picture, multipart parts, or a walk as pose estimators write it.

use axum::extract::{FromRequest, Multipart, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage};
use serde::Deserialize;
use serde_json::{Map, Value};
use tonic::Status;

use super::{
    json,
    routes::{BodyPart, Found},
};
use crate::{
    api::{
        proto::{self, sample::Content, skeleton::Frame},
        status::{WireFault, status},
    },
    matcher::Fault,
};
use domain::ErrorChain;

/// The field that raw and multipart bodies fill.
const SAMPLES: &str = "samples";
/// What the parts of a multipart body are called.
const PART: &str = "sample";
/// The most parts of a multipart body.
const PARTS_MAX: usize = 64;

/// What came in, by its content type.
pub(super) enum Body {
    Json(Bytes),
    Samples(Vec<Content>),
}

/// Reads the body of a request.
pub(super) async fn read(request: Request, bytes_max: usize) -> Result<Body, Status> {
    let kind = content_type(request.headers());
    if kind == "multipart/form-data" {
        return parts(request, bytes_max).await.map(Body::Samples);
    }
    let is_json = kind.is_empty() || kind == "application/json" || kind.ends_with("+json");
    let is_raw = kind.starts_with("image/") || kind == "application/octet-stream";
    let bytes = collect(request, bytes_max).await?;
    match kind.as_str() {
        _ if is_json || bytes.is_empty() => Ok(Body::Json(bytes)),
        _ if is_raw => Ok(Body::Samples(vec![Content::Image(proto::Image { data: bytes })])),
        other => Err(WireFault::UnsupportedMediaType.status(format!(
            "a body of type {other:?} is not read here; send application/json, image/jpeg, image/png, image/webp, \
             application/octet-stream or multipart/form-data with parts named {PART:?}"
        ))),
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn too_large(bytes_max: usize) -> Status {
    WireFault::BodyTooLarge.status(format!("the body is larger than the {bytes_max} bytes that this server reads"))
}

async fn collect(request: Request, bytes_max: usize) -> Result<Bytes, Status> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(too_large(bytes_max));
    }
    match Limited::new(request.into_body(), bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large(bytes_max)),
        Err(_) => Err(status(&Fault::invalid("body", "the body broke off"))),
    }
}

async fn parts(request: Request, bytes_max: usize) -> Result<Vec<Content>, Status> {
    let broken = |problem: &dyn std::fmt::Display| status(&Fault::invalid("body", problem));
    let request = request.map(|body| axum::body::Body::new(Limited::new(body, bytes_max)));
    let mut multipart = Multipart::from_request(request, &()).await.map_err(|e| broken(&e.body_text()))?;
    let mut samples = Vec::new();
    loop {
        let part = multipart.next_field().await.map_err(|e| part_fault(&e, bytes_max))?;
        let Some(part) = part else {
            return Ok(samples);
        };
        if part.name() != Some(PART) {
            return Err(broken(&format!("parts are named {PART:?}; everything else goes into the query")));
        }
        if samples.len() == PARTS_MAX {
            return Err(broken(&format!("a body has at most {PARTS_MAX} parts")));
        }
        let is_json = part.content_type().is_some_and(|kind| kind.starts_with("application/json"));
        let data = part.bytes().await.map_err(|e| part_fault(&e, bytes_max))?;
        samples.push(if is_json {
            walk(&data).map_err(|f| status(&f))?
        } else {
            Content::Image(proto::Image { data })
        });
    }
}

fn part_fault(error: &axum::extract::multipart::MultipartError, bytes_max: usize) -> Status {
    if ErrorChain(error).errors().any(|cause| cause.is::<LengthLimitError>()) {
        return too_large(bytes_max);
    }
    status(&Fault::invalid("body", error.body_text()))
}

/// A frame as pose estimators write it: 51 numbers, and more that is not needed.
#[derive(Deserialize)]
struct PoseFrame {
    keypoints: Vec<f32>,
}

/// A walk: a list of frames.
fn walk(json: &[u8]) -> Result<Content, Fault> {
    let frames: Vec<PoseFrame> = serde_json::from_slice(json).map_err(|problem| {
        Fault::invalid("body", format!("a list is read as a walk, each frame with its \"keypoints\": {problem}"))
    })?;
    let frames = frames.into_iter().map(|f| Frame { keypoints: f.keypoints }).collect();
    Ok(Content::Skeleton(proto::Skeleton { frames }))
}

/// The request message: the body, with what path, query and headers say written over it.
pub(super) fn message(
    found: &Found<'_>,
    query: &[(String, String)],
    headers: &Headers,
    body: Body,
    json_values_max: usize,
) -> Result<DynamicMessage, Fault> {
    let input = found.route.rpc.input();
    let (mut object, samples) = match body {
        Body::Samples(samples) => {
            let takes_samples = found.route.body == BodyPart::Whole && input.get_field_by_name(SAMPLES).is_some();
            if !takes_samples {
                return Err(Fault::invalid("body", "this method reads JSON, not pictures"));
            }
            (Map::new(), samples)
        }
        Body::Json(bytes) => {
            // Counted before anything is made of it: a comma stands before every value but the first of its list.
            if bytes.split(|byte| *byte == b',').nth(json_values_max).is_some() {
                let problem = format!("a body of JSON has at most {json_values_max} values; send less at once");
                return Err(Fault::invalid("body", problem));
            }
            parse(found, &input, &bytes)?
        }
    };
    for (key, text) in query {
        let field = input.get_field_by_json_name(key).or_else(|| input.get_field_by_name(key));
        let field = field.filter(|f| !matches!(&found.route.body, BodyPart::Field(body) if body == f.name()));
        let Some(field) = field else {
            return Err(Fault::invalid(key, "there is no such query parameter"));
        };
        let value = json::from_query(&field, text)?;
        json::set(&input, &mut object, field.name(), value);
    }
    for (path, value) in &found.variables {
        json::set(&input, &mut object, path, Value::from(value.as_str()));
    }
    if let (Some(request_id), true) = (&headers.idempotency_key, input.get_field_by_name("request_id").is_some()) {
        json::set(&input, &mut object, "request_id", Value::from(request_id.as_str()));
    }
    if let Some(etag) = &headers.if_match {
        let path = etag_field(found, &input)?;
        json::set(&input, &mut object, &path, Value::from(etag.as_str()));
    }
    let mut message = json::to_message(&input, Value::Object(object))?;
    for content in samples {
        add_sample(&mut message, content);
    }
    Ok(message)
}

/// What headers say of a request.
#[derive(Debug, Default)]
pub(super) struct Headers {
    pub(super) idempotency_key: Option<String>,
    pub(super) if_match: Option<String>,
}

/// Where a request carries the etag that `If-Match` names: in itself, or in the resource that its body is.
fn etag_field(found: &Found<'_>, input: &MessageDescriptor) -> Result<String, Fault> {
    if input.get_field_by_name("etag").is_some() {
        return Ok("etag".to_owned());
    }
    let BodyPart::Field(field) = &found.route.body else {
        return Err(Fault::invalid("If-Match", "this method guards nothing by an etag; leave the header away"));
    };
    Ok(format!("{field}.etag"))
}

/// The JSON body as the request's own object. A list is a walk.
fn parse(
    found: &Found<'_>,
    input: &MessageDescriptor,
    bytes: &Bytes,
) -> Result<(Map<String, Value>, Vec<Content>), Fault> {
    if bytes.trim_ascii_start().starts_with(b"[") && input.get_field_by_name(SAMPLES).is_some() {
        return Ok((Map::new(), vec![walk(bytes)?]));
    }
    let value = if bytes.is_empty() {
        Value::Object(Map::new())
    } else {
        serde_json::from_slice(bytes)
            .map_err(|problem| Fault::invalid("body", format!("this is not JSON: {problem}")))?
    };
    let object = match (&found.route.body, value) {
        (BodyPart::Field(field), value) => {
            let field = input.get_field_by_name(field).expect("routes name fields that there are");
            Map::from_iter([(field.json_name().to_owned(), value)])
        }
        (BodyPart::Whole | BodyPart::None, Value::Object(object)) => object,
        (BodyPart::Whole | BodyPart::None, _) => return Err(Fault::invalid("body", "an object is expected here")),
    };
    Ok((object, Vec::new()))
}

fn add_sample(message: &mut DynamicMessage, content: Content) {
    let field = message.descriptor().get_field_by_name(SAMPLES).expect("checked before");
    let kind = field.kind();
    let mut sample = DynamicMessage::new(kind.as_message().expect("a sample is a message").clone());
    sample
        .transcode_from(&proto::Sample { content: Some(content), ..Default::default() })
        .expect("the generated type and its descriptor are one");
    let samples = message.get_field_mut(&field).as_list_mut().expect("samples are a list");
    samples.push(prost_reflect::Value::Message(sample));
}
