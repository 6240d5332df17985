//! The wire and nothing else: gRPC and REST over one contract.
//!
//! `proto/` is the only source of both. The gRPC services check and name what comes in and out; REST is read from the
//! same descriptors and calls those services in process. This room never decides anything about a person, and the
//! generated types never leave it.
//!
//! ```text
//! gRPC  ── admit ─────────────────────────┐
//!                                         ├─ serve (deadline, panics, metrics) ── services ── matcher
//! REST  ── admit ── gateway (JSON, paths) ┘
//! ```

mod access;
pub mod client;
mod grpc;
mod http;
mod layers;
pub mod proto;
mod status;
mod trace;
mod wire;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::http::{StatusCode, header};
use axum::{Router, middleware, routing::get, serve::ListenerExt};
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::server::HealthReporter;

pub use access::AccessOptions;
pub use layers::RequestLimits;

use crate::matcher::Matcher;
use grpc::Streams;
use layers::Gate;

/// How often an idle gRPC connection is asked whether its other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What the wire is made of.
pub struct Parts {
    pub matcher: Matcher,
    pub access: AccessOptions,
    pub limits: RequestLimits,
    /// Renders the metrics page.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Both wires, ready to be bound to their sockets.
pub struct Api {
    rest: Router,
    grpc: Routes,
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
    /// Requests are welcome.
    pub async fn open(&self) {
        self.ready.store(true, Ordering::Release);
        self.health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    }

    /// The server is about to go: balancers shall look elsewhere. Requests that come all the same are still served.
    pub async fn close(&self) {
        self.ready.store(false, Ordering::Release);
        self.health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    }

    /// Ends what has no end of its own and would hold up the stop: the calls of those who watch the health, and streams,
    /// which take no more batches.
    pub async fn end(&mut self) {
        self.streams.end();
        self.health.clear_service_status("").await;
    }
}

impl Api {
    /// Joins services, layers and the gateway. Starts not ready.
    pub async fn new(parts: Parts) -> Self {
        let Parts { matcher, access, limits, metrics } = parts;
        let gate = Arc::new(Gate::new(access, limits));
        let (health, health_service) = tonic_health::server::health_reporter();
        let streams = Streams::default();
        let readiness = Readiness { ready: Arc::default(), health, streams: streams.clone() };
        readiness.close().await;

        let services = grpc::services(&matcher, limits.body_bytes_max, &streams)
            .layer(middleware::from_fn_with_state(Arc::clone(&gate), layers::serve));
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("the build wrote the descriptors");
        // Health needs no principal: a probe has none to show.
        let grpc = Router::new()
            .merge(services.clone())
            .merge(Routes::new(reflection).into_axum_router().reset_fallback())
            .layer(middleware::from_fn_with_state(Arc::clone(&gate), layers::admit_grpc))
            .merge(Routes::new(health_service).into_axum_router().reset_fallback());

        let rest = http::gateway(services, Arc::clone(&gate))
            .layer(middleware::from_fn_with_state(gate, layers::admit_rest))
            .merge(http::documents())
            .merge(operations(readiness.clone(), metrics));
        Self { rest, grpc: grpc.into(), readiness }
    }

    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Serves REST until `stop`, then lets the requests in flight end.
    ///
    /// # Errors
    /// When the listener fails.
    pub fn serve_rest<S: Future<Output = ()> + Send + 'static>(
        &self,
        listener: TcpListener,
        stop: S,
    ) -> impl Future<Output = std::io::Result<()>> + Send + use<S> {
        let service = self.rest.clone().into_make_service_with_connect_info::<SocketAddr>();
        // An answer is sent at once: held back for company, it waits 40 ms for the other side's delayed acknowledgement.
        let listener = listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true);
        });
        async move { axum::serve(listener, service).with_graceful_shutdown(stop).await }
    }

    /// Serves gRPC until `stop`, then lets the requests in flight end.
    ///
    /// # Errors
    /// When the listener fails.
    pub fn serve_grpc<S: Future<Output = ()> + Send + 'static>(
        &self,
        listener: TcpListener,
        stop: S,
    ) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<S> {
        let server = Server::builder().http2_keepalive_interval(Some(KEEPALIVE)).add_routes(self.grpc.clone());
        // The server's own `tcp_nodelay` is for connections that it accepts by itself.
        server.serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop)
    }
}

/// What operators ask: is it alive, does it want requests, what has it measured. These need no access and show nothing
/// of anybody.
fn operations(readiness: Readiness, metrics: Arc<dyn Fn() -> String + Send + Sync>) -> Router {
    let ready = async move || -> Result<(StatusCode, &'static str), Infallible> {
        Ok(if readiness.ready.load(Ordering::Acquire) {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or shutting down\n")
        })
    };
    // On a thread of its own: what is measured only when it is asked for may wait behind a search.
    let metrics = async move || {
        let page = tokio::task::spawn_blocking(move || metrics()).await;
        let status = if page.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        (status, [(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page.unwrap_or_default())
    };
    Router::new().route("/livez", get(async || "alive\n")).route("/readyz", get(ready)).route("/metrics", get(metrics))
}
