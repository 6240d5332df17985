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

use ::http::{StatusCode, header};
use axum::{Router, middleware, routing::get};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

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
        self.health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    }

    /// The server is about to stop: load balancers should choose another. Requests are still served.
    pub async fn close(&self) {
        self.ready.store(false, Ordering::Release);
        self.health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    }

    /// Ends the calls that would otherwise never end: health watches, and streams, which take no more batches.
    pub async fn end(&mut self) {
        self.streams.end();
        self.health.clear_service_status("").await;
    }
}

impl Api {
    /// Joins services, layers and the gateway. Starts not ready.
    pub async fn new(parts: ApiParts) -> Self {
        let ApiParts { matcher, access, limits, memory, upload_pace, connections, body_threads, metrics } = parts;
        let gate = Arc::new(AccessGate::new(access, limits, memory, upload_pace));
        let pool = BodyPool::new(body_threads);
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
            .build_v1()
            .expect("the build wrote the descriptors");
        // Health needs no principal: a health probe has none.
        let grpc = Router::new()
            .merge(services.clone())
            .merge(Routes::new(reflection).into_axum_router().reset_fallback())
            .layer(middleware::from_fn_with_state(Arc::clone(&gate), layers::admit_grpc))
            .merge(Routes::new(health_service).into_axum_router().reset_fallback());

        let rest = http::gateway(services, Arc::clone(&gate), pool)
            .layer(middleware::from_fn_with_state(gate, layers::admit_rest))
            .merge(http::documents())
            .merge(operator_pages(readiness.clone(), replica, metrics));
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
