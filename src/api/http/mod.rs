//! REST: the same contract, read from its descriptors. There is no handler for any one method here: a request is
//! matched to its RPC, translated into its message, and answered by the gRPC services in process.

mod body;
mod json;
mod openapi;
mod routes;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Query, Request, State},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::PathAndQuery};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{
    Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_types::StatusExt;

use super::{
    layers::{Gate, Wire},
    proto,
    status::{self, WireFault, status},
};
use crate::matcher::{Fault, Principal};
use routes::{NotFound, Route};

/// Bodies from this size on are read on a thread of their own: base64 and JSON of megabytes would hold up the reactor.
const LARGE_BODY_BYTES: usize = 128 * KILOBYTE;
const KILOBYTE: usize = 1024;

/// The contract's descriptors.
pub(super) fn contract() -> &'static DescriptorPool {
    static CONTRACT: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).expect("the build wrote them"));
    &CONTRACT
}

/// What the gateway knows.
#[derive(Debug, Clone)]
struct Gateway {
    routes: Arc<[Route]>,
    /// The gRPC services, in process.
    services: Router,
    gate: Arc<Gate>,
    /// Room for the bodies that are in hand, in kilobytes.
    bodies: Arc<Semaphore>,
    /// Large bodies that are translated at once.
    translations: Arc<Semaphore>,
}

/// The routes of REST under `/v1`, without the layers that stand before them.
pub(super) fn gateway(services: Router, gate: Arc<Gate>) -> Router {
    let bodies = Arc::new(Semaphore::new(gate.limits.bodies_bytes_max.div_ceil(KILOBYTE).min(Semaphore::MAX_PERMITS)));
    let translations = Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)));
    let gateway = Gateway { routes: routes::all(contract()).into(), services, gate, bodies, translations };
    // axum's own limit of 2 MB for forms would come before ours.
    Router::new().fallback(handle).layer(DefaultBodyLimit::disable()).with_state(gateway)
}

/// What describes the API: needs no access.
pub(super) fn documents() -> Router {
    static OPENAPI: LazyLock<String> =
        LazyLock::new(|| openapi::document(&routes::all(contract()), contract()).to_string());
    Router::new()
        .route("/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], OPENAPI.as_str())))
        .route("/", get(async || Redirect::to("/docs")))
        .route("/docs", get(async || Html(include_str!("docs.html"))))
}

async fn handle(State(gateway): State<Gateway>, request: Request) -> Response {
    let instance = request.uri().path().to_owned();
    match gateway.answer(request).await {
        Ok(response) => response,
        Err(refused) => problem(&refused, &instance),
    }
}

impl Gateway {
    async fn answer(&self, request: Request) -> Result<Response, Status> {
        let (verb, uri) = (request.method().clone(), request.uri().clone());
        let rpc = routes::find(&self.routes, &verb, uri.path()).map_err(|none| no_route(none, &uri))?.route.clone();
        let principal = request.extensions().get::<Principal>().cloned();
        let said = body::Headers {
            idempotency_key: header_text(request.headers(), "idempotency-key")?,
            if_match: header_text(request.headers(), "if-match")?,
        };
        let timeout = header_text(request.headers(), "request-timeout")?;
        let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(&uri)
            .map_err(|e| status(&Fault::invalid("query", e.body_text())))?;

        let body_bytes_max = self.gate.limits.body_bytes_max;
        let room = self.room_for(request.headers())?;
        let body =
            tokio::time::timeout(self.gate.limits.duration_max, body::read(request, body_bytes_max)).await.map_err(
                |_| WireFault::BodyTooSlow.status("the body did not arrive in time; send it faster, or a smaller one"),
            )??;
        let is_large = matches!(&body, body::Body::Json(bytes) if bytes.len() >= LARGE_BODY_BYTES);
        let routes = Arc::clone(&self.routes);
        let json_values_max = self.gate.limits.json_values_max;
        let translate = move || {
            let found = routes::find(&routes, &verb, uri.path()).expect("it was found above");
            body::message(&found, &query, &said, body, json_values_max)
        };
        let message = if is_large {
            let _turn = self.translations.acquire().await.map_err(|e| status(&Fault::internal(e)))?;
            tokio::task::spawn_blocking(translate).await.map_err(|e| status(&Fault::internal(e)))?
        } else {
            translate()
        };

        let mut call = tonic::Request::new(message.map_err(|f| status(&f))?);
        call.extensions_mut().insert(Wire::Rest);
        if let Some(principal) = principal {
            call.extensions_mut().insert(principal);
        }
        if let Some(timeout) = timeout {
            call.set_timeout(seconds(&timeout)?.min(self.gate.limits.duration_max));
        }
        let answer = self.call(&rpc, call).await?;
        drop(room);
        let json = serde_json::to_vec(&json::Json(&answer)).map_err(|e| status(&Fault::internal(e)))?;
        Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
    }

    /// Room for a body of the announced length, or of the largest when none is announced.
    fn room_for(&self, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, Status> {
        let most = self.gate.limits.body_bytes_max;
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
        let is_chunked = headers.contains_key(header::TRANSFER_ENCODING);
        let bytes: usize = announced.unwrap_or(if is_chunked { most } else { 0 }).min(most);
        let kilobytes = u32::try_from(bytes.div_ceil(KILOBYTE)).unwrap_or(u32::MAX);
        let busy = |_| status(&Fault::busy());
        Arc::clone(&self.bodies).try_acquire_many_owned(kilobytes).map_err(busy)
    }

    async fn call(&self, route: &Route, call: tonic::Request<DynamicMessage>) -> Result<DynamicMessage, Status> {
        let path: PathAndQuery = route.grpc_path().parse().expect("names make a path");
        let mut client = Grpc::new(self.services.clone()).max_decoding_message_size(usize::MAX);
        let Ok(()) = client.ready().await;
        Ok(client.unary(call, path, Dynamic(route.rpc.output())).await?.into_inner())
    }
}

fn header_text(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Status> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| status(&Fault::invalid(name, "a header is read as plain ASCII text")))?;
    Ok(Some(text.to_owned()))
}

fn seconds(text: &str) -> Result<Duration, Status> {
    let problem = || status(&Fault::invalid("Request-Timeout", "a timeout is a number of seconds, such as 2.5"));
    let seconds: f64 = text.parse().map_err(|_| problem())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| problem())
}

fn no_route(none: NotFound, uri: &Uri) -> Status {
    match none {
        NotFound::Path => {
            WireFault::NoSuchRoute.status(format!("there is no {}; /openapi.json lists what there is", uri.path()))
        }
        NotFound::Method(methods) => {
            let methods: Vec<&str> = methods.iter().map(http::Method::as_str).collect();
            WireFault::MethodNotAllowed.status(format!("{} takes {} only", uri.path(), methods.join(", ")))
        }
    }
}

/// A status in the form of RFC 9457.
pub(super) fn problem(refused: &Status, instance: &str) -> Response {
    let code = status::http(refused);
    let details = refused.get_error_details();
    let reason =
        details.error_info().map_or_else(|| status::word(refused.code()).to_owned(), |info| info.reason.clone());
    let violations: Vec<Value> = details
        .bad_request()
        .map(|b| b.field_violations.iter().map(|v| json!({"field": v.field, "description": v.description})).collect())
        .unwrap_or_default();
    let mut body = json!({
        "type": format!("urn:semblance:problem:{}", reason.to_ascii_lowercase().replace('_', "-")),
        "title": code.canonical_reason().unwrap_or("Client Closed Request"),
        "status": code.as_u16(),
        "detail": refused.message(),
        "instance": instance,
        "code": reason,
    });
    if !violations.is_empty() {
        body["violations"] = Value::Array(violations);
    }
    let mut response = (code, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
    if let Some(wait) = details.retry_info().and_then(|r| r.retry_delay) {
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
    }
    if code == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Messages by their descriptors, for calls in process.
#[derive(Debug, Clone)]
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|e| status(&Fault::internal(e)))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), buffer).map_err(|e| status(&Fault::internal(e)))?;
        Ok(Some(message))
    }
}
