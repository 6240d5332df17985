//! The translation of REST requests, for the fuzz targets.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::{
    body::{Body, Part},
    contract,
    json::{EnumForm, Json},
    json_scan::JsonScan,
    message::{self, HeadFields},
    routes::{self, Route, Segment},
    segments::Segments,
};
use crate::matcher::Fault;

/// Values in the JSON of one request; fewer than a server's default, so that much is tried soon.
const JSON_VALUES_MAX: usize = 10_000;

/// The message of a request on a route, by the route's number, and its type. `kind` chooses JSON, a picture, or frames.
pub(in crate::api) fn translate(route: usize, kind: u8, body: &[u8]) -> Result<(MessageDescriptor, Bytes), Fault> {
    static ROUTES: LazyLock<Arc<[Arc<Route>]>> = LazyLock::new(|| routes::all(contract()));
    let route = &ROUTES[route % ROUTES.len()];
    let matched = routes::find(&ROUTES, &route.verb, &path(route)).expect("each route is found by its own path");
    let mut segments = Segments::default();
    // In two pieces, as a network may cut it.
    let (first, second) = body.split_at(body.len() / 2);
    segments.push(Bytes::copy_from_slice(first));
    segments.push(Bytes::copy_from_slice(second));
    let body = match kind % 4 {
        0 | 1 => Body::Json(segments),
        2 => Body::Samples(vec![Part::Picture(segments)]),
        _ => Body::Samples(vec![Part::Poses(segments)]),
    };
    let mut scan = JsonScan::new(JSON_VALUES_MAX);
    body.json().try_for_each(|piece| scan.read(piece))?;
    let message = message::encode(&matched, &HeadFields::default(), body)?.into_bytes();
    Ok((route.rpc.input(), message))
}

/// A path of the route.
fn path(route: &Route) -> String {
    let segments: Vec<&str> = route
        .segments
        .iter()
        .map(|segment| match segment {
            Segment::Literal(literal) | Segment::Named { literal, .. } => literal,
            Segment::Any { .. } => "a",
        })
        .collect();
    let action = route.action.as_deref().map(|action| format!(":{action}")).unwrap_or_default();
    format!("/{}{action}", segments.join("/"))
}

/// A message as answers show it.
pub(in crate::api) fn written(message: &DynamicMessage) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Json(message, EnumForm::Word))
}
