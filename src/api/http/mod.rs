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
    extract::{Query, Request, State},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::PathAndQuery};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};
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
const LARGE_BODY_BYTES: usize = 128 * 1024;

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
}

/// The routes of REST under `/v1`, without the layers that stand before them.
pub(super) fn gateway(services: Router, gate: Arc<Gate>) -> Router {
    let gateway = Gateway { routes: routes::all(contract()).into(), services, gate };
    Router::new().fallback(handle).with_state(gateway)
}

/// What describes the API: needs no access.
pub(super) fn documents() -> Router {
    static OPENAPI: LazyLock<String> =
        LazyLock::new(|| openapi::document(&routes::all(contract()), contract()).to_string());
    Router::new()
        .route("/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], OPENAPI.as_str())))
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
        let request_id = header_text(request.headers(), "idempotency-key");
        let timeout = header_text(request.headers(), "request-timeout");
        let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(&uri)
            .map_err(|e| status(&Fault::invalid("query", e.body_text())))?;

        let body_bytes_max = self.gate.limits.body_bytes_max;
        let body = tokio::time::timeout(self.gate.limits.duration_max, body::read(request, body_bytes_max))
            .await
            .map_err(|_| status(&Fault::TooLate))??;
        let is_large = matches!(&body, body::Body::Json(bytes) if bytes.len() >= LARGE_BODY_BYTES);
        let routes = Arc::clone(&self.routes);
        let translate = move || {
            let found = routes::find(&routes, &verb, uri.path()).expect("it was found above");
            body::message(&found, &query, request_id.as_deref(), body)
        };
        let message = if is_large {
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
            call.set_timeout(seconds(&timeout)?);
        }
        let answer = self.call(&rpc, call).await?;
        let json = serde_json::to_vec(&json::Json(&answer)).map_err(|e| status(&Fault::internal(e)))?;
        Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
    }

    async fn call(&self, route: &Route, call: tonic::Request<DynamicMessage>) -> Result<DynamicMessage, Status> {
        let path: PathAndQuery = route.grpc_path().parse().expect("names make a path");
        let mut client = Grpc::new(self.services.clone()).max_decoding_message_size(usize::MAX);
        let Ok(()) = client.ready().await;
        Ok(client.unary(call, path, Dynamic(route.rpc.output())).await?.into_inner())
    }
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
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
