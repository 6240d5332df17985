//! Reads an HTTP body as it arrives: JSON, a raw picture, or multipart parts. Interprets nothing.

use axum::extract::{FromRequest, Multipart, Request, multipart::MultipartError};
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tonic::Status;

use super::segments::Segments;
use crate::{
    api::status::{WireFault, status},
    matcher::Fault,
};
use domain::ErrorChain;

/// The name of each multipart part.
const PART: &str = "sample";
/// The largest number of multipart parts that are pictures.
const PARTS_MAX: usize = 64;
/// The largest number of multipart parts that are JSON: OpenPose writes a file for each frame.
const FRAME_PARTS_MAX: usize = 3600;

/// A body by its content type.
pub(super) enum Body {
    Json(Segments),
    Samples(Vec<Part>),
}

/// One sample of a raw or multipart body.
pub(super) enum Part {
    /// An encoded picture.
    Picture(Segments),
    /// A pose file: JSON of a pose estimator.
    Poses(Segments),
}

impl Body {
    /// The bytes of JSON in the body: what translating it costs.
    pub(super) fn json_bytes(&self) -> usize {
        match self {
            Self::Json(json) => json.len(),
            Self::Samples(parts) => parts.iter().map(Part::json_bytes).sum(),
        }
    }
}

impl Body {
    /// The pieces of its JSON, in order.
    pub(super) fn json(&self) -> impl Iterator<Item = &[u8]> {
        let (whole, parts) = match self {
            Self::Json(json) => (Some(json), &[][..]),
            Self::Samples(parts) => (None, parts.as_slice()),
        };
        let of_parts = parts.iter().filter_map(|part| match part {
            Part::Picture(_) => None,
            Part::Poses(json) => Some(json),
        });
        whole.into_iter().chain(of_parts).flat_map(Segments::pieces)
    }
}

impl Part {
    fn json_bytes(&self) -> usize {
        match self {
            Self::Picture(_) => 0,
            Self::Poses(json) => json.len(),
        }
    }
}

/// Reads the body of a request.
///
/// # Errors
/// When the body is larger than `bytes_max`, breaks off, or has a content type that the server does not read.
pub(super) async fn read(request: Request, bytes_max: usize) -> Result<Body, Status> {
    let kind = content_type(request.headers());
    if kind == "multipart/form-data" {
        return read_parts(request, bytes_max).await.map(Body::Samples);
    }
    let is_json = kind.is_empty() || kind == "application/json" || kind.ends_with("+json");
    let is_raw = kind.starts_with("image/") || kind == "application/octet-stream";
    let bytes = read_whole(request, bytes_max).await?;
    match kind.as_str() {
        _ if is_json || bytes.is_empty() => Ok(Body::Json(bytes)),
        _ if is_raw => Ok(Body::Samples(vec![Part::Picture(bytes)])),
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

/// The length that a request announces in `Content-Length`.
fn announced_bytes(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(bytes_max: usize) -> Status {
    WireFault::BodyTooLarge.status(format!("the body is larger than the {bytes_max} bytes that this server reads"))
}

async fn read_whole(request: Request, bytes_max: usize) -> Result<Segments, Status> {
    if announced_bytes(request.headers()).is_some_and(|length| length > bytes_max) {
        return Err(too_large(bytes_max));
    }
    let mut body = Limited::new(request.into_body(), bytes_max);
    let mut segments = Segments::default();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => frame.into_data().into_iter().for_each(|chunk| segments.push(chunk)),
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large(bytes_max)),
            Err(error) => {
                return Err(refusal(&*error).unwrap_or_else(|| status(&Fault::invalid("body", "the body broke off"))));
            }
        }
    }
    Ok(segments)
}

async fn read_parts(request: Request, bytes_max: usize) -> Result<Vec<Part>, Status> {
    let invalid = |problem: &dyn std::fmt::Display| status(&Fault::invalid("body", problem));
    let request = request.map(|body| axum::body::Body::new(Limited::new(body, bytes_max)));
    let mut multipart = Multipart::from_request(request, &()).await.map_err(|e| invalid(&e.body_text()))?;
    let mut parts = Vec::new();
    let (mut pictures, mut frames) = (0, 0);
    while let Some(mut field) = multipart.next_field().await.map_err(|e| part_fault(&e, bytes_max))? {
        if field.name() != Some(PART) {
            return Err(invalid(&format!("parts are named {PART:?}; everything else goes into the query")));
        }
        let is_json = field.content_type().is_some_and(|kind| kind.starts_with("application/json"));
        let (counted, most) = if is_json { (&mut frames, FRAME_PARTS_MAX) } else { (&mut pictures, PARTS_MAX) };
        *counted += 1;
        if *counted > most {
            return Err(invalid(&format!(
                "a body has at most {PARTS_MAX} pictures and {FRAME_PARTS_MAX} parts of JSON"
            )));
        }
        let mut segments = Segments::default();
        while let Some(chunk) = field.chunk().await.map_err(|e| part_fault(&e, bytes_max))? {
            segments.push(chunk);
        }
        parts.push(if is_json { Part::Poses(segments) } else { Part::Picture(segments) });
    }
    Ok(parts)
}

/// The refusal of a metered body, which is the cause of `error`.
fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<Status> {
    ErrorChain(error).errors().find_map(|cause| cause.downcast_ref::<Status>().cloned())
}

fn part_fault(error: &MultipartError, bytes_max: usize) -> Status {
    if ErrorChain(error).errors().any(<dyn std::error::Error>::is::<LengthLimitError>) {
        return too_large(bytes_max);
    }
    if let Some(refused) = refusal(error) {
        return refused;
    }
    status(&Fault::invalid("body", error.body_text()))
}
