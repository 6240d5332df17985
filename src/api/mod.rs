//! The wire and nothing else: gRPC and REST over one contract.
//!
//! `proto/` is the only source of both. The gRPC services check requests and name results; REST is read from the same
//! descriptors and calls those services in process. This module decides nothing about a person, and the generated types
//! never leave it.
//!
//! ```text
//! gRPC  ── admit ─────────────────────────┐
//!                                         ├─ serve (deadline, panics, metrics) ── services ── matcher
//! REST  ── admit ── gateway (JSON, paths) ┘
//! ```

mod access;
mod body_pool;
pub mod client;
mod compressed_body;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod grpc;
mod http;
mod layers;
mod listener;
mod metered_body;
mod problem;
pub mod proto;
mod status;
mod trace;
mod wire;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::{Router, middleware, routing::get};
use tokio::net::TcpListener;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::server::HealthReporter;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

pub use access::AccessRule;
pub use layers::RequestLimits;
pub use listener::{ConnectionLimits, OpenConnections};
pub use metered_body::UploadPace;

use crate::matcher::{Matcher, Replica};
use body_pool::BodyPool;
use domain::MemoryBudget;
use grpc::Streams;
use layers::{AccessGate, Wire};

/// The interval of HTTP/2 pings on an idle connection. A peer that does not answer is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long a browser may keep the answer to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_mins(10);
/// The largest message of a health probe: the name of a service.
const HEALTH_MESSAGE_BYTES_MAX: usize = 1024;

/// What the API is built from.
pub struct ApiParts {
    pub matcher: Matcher,
    pub access: AccessRule,
    pub limits: RequestLimits,
    /// What bodies take from.
    pub memory: MemoryBudget,
    pub upload_pace: UploadPace,
    pub connections: ConnectionLimits,
    /// The threads that work on large bodies at once.
    pub body_threads: usize,
    /// Origins of web pages that may use REST: `https://app.example`, or `*` for all. None by default.
    pub cors_origins: Vec<String>,
    /// Renders the metrics page.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Both wires, ready to be bound to their sockets.
pub struct Api {
    rest: Router,
    grpc: Router,
    connections: Arc<OpenConnections>,
    readiness: Readiness,
}

/// Whether the server wants requests. Shared by `/readyz` and gRPC health.
#[derive(Clone)]
pub struct Readiness {
    ready: Arc<AtomicBool>,
    health: HealthReporter,
    streams: Streams,
}

impl Readiness {
    /// The server is ready for requests.
    pub async fn open(&self) {
        self.ready.store(true, Ordering::Release);
        self.set_health(tonic_health::ServingStatus::Serving).await;
    }

    /// The server is about to stop: load balancers should choose another. Requests are still served.
    pub async fn close(&self) {
        self.ready.store(false, Ordering::Release);
        self.set_health(tonic_health::ServingStatus::NotServing).await;
    }

    /// The health of the whole server, which has no name, and of each service by its own.
    async fn set_health(&self, status: tonic_health::ServingStatus) {
        self.health.set_service_status("", status).await;
        for service in http::contract().services() {
            self.health.set_service_status(service.full_name(), status).await;
        }
    }

    /// Ends the calls that would otherwise never end: health watches, and streams, which take no more batches.
    pub async fn end(&mut self) {
        self.streams.end();
        self.health.clear_service_status("").await;
        for service in http::contract().services() {
            self.health.clear_service_status(service.full_name()).await;
        }
    }
}

impl Api {
    /// Joins services, layers and the gateway. Starts not ready.
    pub async fn new(parts: ApiParts) -> Self {
        let ApiParts { matcher, access, limits, memory, upload_pace, connections, body_threads, cors_origins, metrics } =
            parts;
        let pool = BodyPool::new(body_threads);
        let gate = Arc::new(AccessGate::new(access, limits, memory, upload_pace, pool.clone()));
        let (health, health_service) = tonic_health::server::health_reporter();
        let streams = Streams::default();
        let readiness = Readiness { ready: Arc::default(), health, streams: streams.clone() };
        readiness.close().await;

        let replica = matcher.replica.clone();
        let services = grpc::Services { matcher, streams, pool: pool.clone() }
            .into_router(limits.body_bytes_max)
            .layer(middleware::from_fn_with_state(Arc::clone(&gate), layers::serve));
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("the build wrote the descriptors");
        // Health needs no principal: a health probe has none. Its messages hold a name.
        let health_service = health_service
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(HEALTH_MESSAGE_BYTES_MAX);
        let grpc = Router::new()
            .merge(services.clone())
            .merge(Routes::new(reflection).into_axum_router().reset_fallback())
            .layer(middleware::from_fn_with_state(Arc::clone(&gate), layers::admit_grpc))
            .merge(Routes::new(health_service).into_axum_router().reset_fallback());

        let rest = http::gateway(services, Arc::clone(&gate), pool)
            .layer(middleware::from_fn_with_state(gate, layers::admit_rest))
            .merge(http::documents())
            .merge(operator_pages(readiness.clone(), replica, metrics));
        let rest = if cors_origins.is_empty() { rest } else { rest.layer(cors(&cors_origins)) };
        Self { rest, grpc, connections: Arc::new(OpenConnections::new(connections)), readiness }
    }

    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// The open connections of both wires.
    #[must_use]
    pub fn connections(&self) -> Arc<OpenConnections> {
        Arc::clone(&self.connections)
    }

    /// Serves REST until `stop`, then lets the requests in progress end.
    pub fn serve_rest<S: Future<Output = ()> + Send + 'static>(
        &self,
        socket: TcpListener,
        stop: S,
    ) -> impl Future<Output = ()> + Send + use<S> {
        listener::serve(socket, self.rest.clone(), Wire::Rest, self.connections(), stop)
    }

    /// Serves gRPC until `stop`, then lets the requests in progress end.
    pub fn serve_grpc<S: Future<Output = ()> + Send + 'static>(
        &self,
        socket: TcpListener,
        stop: S,
    ) -> impl Future<Output = ()> + Send + use<S> {
        listener::serve(socket, self.grpc.clone(), Wire::Grpc, self.connections(), stop)
    }
}

/// Lets pages of these origins use REST (Fetch standard, CORS protocol). Preflights need no key.
fn cors(origins: &[String]) -> CorsLayer {
    let origins = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::from(Any)
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let idempotency_key = HeaderName::from_static("idempotency-key");
    let request_timeout = HeaderName::from_static("request-timeout");
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::ACCEPT,
            header::IF_MATCH,
            idempotency_key,
            request_timeout,
        ])
        .expose_headers([header::RETRY_AFTER])
        .max_age(PREFLIGHT_AGE)
}

/// Pages for operators: liveness, readiness, metrics. They need no access and show nothing about a person.
fn operator_pages(readiness: Readiness, replica: Replica, metrics: Arc<dyn Fn() -> String + Send + Sync>) -> Router {
    const NOT_READY: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or shutting down\n");
    const NO_WRITES: &str = "ready for searches; writes fail, and the log says why\n";
    let state = {
        let (readiness, replica) = (readiness, replica);
        move |without_writes: StatusCode| match (readiness.ready.load(Ordering::Acquire), replica.write_outage()) {
            (false, _) => NOT_READY,
            (true, Some(_)) => (without_writes, NO_WRITES),
            (true, None) => (StatusCode::OK, "ready\n"),
        }
    };
    let ready = {
        let state = state.clone();
        async move || state(StatusCode::OK)
    };
    let writes = async move || state(StatusCode::SERVICE_UNAVAILABLE);
    // On a blocking thread: measures that are taken here may wait for a search to end.
    let metrics = async move || {
        let page = tokio::task::spawn_blocking(move || metrics()).await;
        let status = if page.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        (status, [(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page.unwrap_or_default())
    };
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/readyz/writes", get(writes))
        .route("/metrics", get(metrics))
}
