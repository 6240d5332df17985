//! REST: the same contract, read from its descriptors. No method has a handler of its own here: a request is matched to
//! its RPC, translated into its message, and answered by the gRPC services in process.

mod body;
mod call;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod json;
mod json_scan;
mod message;
mod openapi;
mod pose_body;
mod routes;
mod segments;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use tonic::Status;

use super::{
    body_pool::BodyPool,
    layers::AccessGate,
    metered_body::RequestMemory,
    problem::problem,
    proto,
    status::{WireFault, status},
};
use crate::matcher::{Fault, Principal};
use body::Body;
use call::Call;
use json::EnumForm;
use json_scan::JsonScan;
use message::HeadFields;
use routes::{NoRoute, Route, RouteMatch};
use segments::Segments;

/// From this many bytes of JSON on, a body is translated on the pool: the reactor must not work for more than 0.5 ms.
const LARGE_JSON_BYTES: usize = 32 * KILOBYTE;
/// From this many encoded bytes on, an answer becomes JSON on the pool.
const LARGE_ANSWER_BYTES: usize = 16 * KILOBYTE;
const KILOBYTE: usize = 1024;

/// The contract's descriptors.
pub(super) fn contract() -> &'static DescriptorPool {
    static CONTRACT: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).expect("the build wrote them"));
    &CONTRACT
}

/// Translates between REST and the gRPC services.
#[derive(Debug, Clone)]
struct Gateway {
    routes: Arc<[Arc<Route>]>,
    /// The gRPC services, in process.
    services: Router,
    gate: Arc<AccessGate>,
    pool: BodyPool,
}

/// The routes of REST under `/v1`, without the layers before them.
pub(super) fn gateway(services: Router, gate: Arc<AccessGate>, pool: BodyPool) -> Router {
    let gateway = Gateway { routes: routes::all(contract()), services, gate, pool };
    // axum's own limit of 2 MB for forms would come before ours.
    Router::new().fallback(handle).layer(DefaultBodyLimit::disable()).with_state(gateway)
}

/// The documents that describe the API. They need no access.
pub(super) fn documents() -> Router {
    static OPENAPI: LazyLock<String> =
        LazyLock::new(|| openapi::document(&routes::all(contract()), contract()).to_string());
    Router::new()
        .route("/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], OPENAPI.as_str())))
        .route("/", get(async || Redirect::to("docs")))
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
        let uri = request.uri();
        // hyper sends no body in answer to HEAD.
        let verb = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let matched = routes::find(&self.routes, verb, uri.path()).map_err(|none| no_route(none, uri))?;
        let enums = EnumForm::asked(request.headers());
        let route = Arc::clone(&matched.route);
        let head = HeadFields::read(&request)?;
        let timeout = self.timeout(request.headers())?;
        let principal = request.extensions().get::<Principal>().cloned();
        let memory = request.extensions().get::<RequestMemory>().cloned().expect("each admitted request has it");
        let body = self.read(request).await?;
        let message = self.translate(matched, head, body, memory).await?;
        let path = route.grpc_path().parse().expect("names make a path");
        let answer = Call { path, message, principal, timeout }.send(self.services.clone()).await?;
        let json = self.json(answer, route.rpc.output(), enums).await?;
        Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
    }

    /// The header `Request-Timeout`, in seconds, as gRPC's own header.
    fn timeout(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Status> {
        let Some(text) = message::header_text(headers, "request-timeout")? else {
            return Ok(None);
        };
        let mut call = tonic::Request::new(());
        call.set_timeout(seconds(&text)?.min(self.gate.limits.duration_max));
        Ok(call.metadata().clone().into_headers().remove("grpc-timeout"))
    }

    async fn read(&self, request: Request) -> Result<Body, Status> {
        let limits = self.gate.limits;
        let read = tokio::time::timeout(limits.duration_max, body::read(request, limits.body_bytes_max)).await;
        let too_slow = "the body did not arrive in time; send it faster, or a smaller one";
        read.map_err(|_| WireFault::BodyTooSlow.status(too_slow))?
    }

    /// The encoded message of the request. The values of its JSON take memory meanwhile.
    async fn translate(
        &self,
        matched: RouteMatch,
        head: HeadFields,
        body: Body,
        memory: RequestMemory,
    ) -> Result<Segments, Status> {
        let json_values_max = self.gate.limits.json_values_max;
        let is_large = body.json_bytes() >= LARGE_JSON_BYTES;
        let translate = move || {
            let mut scan = JsonScan::new(json_values_max);
            body.json().try_for_each(|piece| scan.read(piece)).map_err(|fault| status(&fault))?;
            memory.take(scan.bytes())?;
            let message = message::encode(&matched, &head, body);
            memory.give_back(scan.bytes());
            message.map_err(|fault| status(&fault))
        };
        if is_large { self.pool.run(translate).await.map_err(|fault| status(&fault))? } else { translate() }
    }

    /// An encoded answer as JSON.
    async fn json(&self, answer: Bytes, descriptor: MessageDescriptor, enums: EnumForm) -> Result<Vec<u8>, Status> {
        let is_large = answer.len() >= LARGE_ANSWER_BYTES;
        let write = move || {
            let answer = DynamicMessage::decode(descriptor, answer).map_err(Fault::internal)?;
            serde_json::to_vec(&json::Json(&answer, enums)).map_err(Fault::internal)
        };
        let json = if is_large { self.pool.run(write).await.and_then(|json| json) } else { write() };
        json.map_err(|fault| status(&fault))
    }
}

fn seconds(text: &str) -> Result<Duration, Status> {
    let problem =
        || status(&Fault::invalid("Request-Timeout", "a timeout is a number of seconds above 0, such as 2.5"));
    let seconds: f64 = text.parse().map_err(|_| problem())?;
    Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero()).ok_or_else(problem)
}

fn no_route(none: NoRoute, uri: &Uri) -> Status {
    match none {
        NoRoute::Path => {
            WireFault::NoSuchRoute.status(format!("there is no {}; /openapi.json lists what there is", uri.path()))
        }
        NoRoute::Method(methods) => {
            let methods: Vec<&str> = methods.iter().map(http::Method::as_str).collect();
            WireFault::MethodNotAllowed.status(format!("{} takes {} only", uri.path(), methods.join(", ")))
        }
    }
}
