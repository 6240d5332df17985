//! The layers before the services: access, the limit of requests in flight, the deadline, metrics, and the catching of
//! panics.

use std::{
    any::Any,
    collections::BTreeSet,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, HttpBody},
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use futures::FutureExt;
use http::HeaderMap;
use prost_reflect::MethodDescriptor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};
use tracing::{Instrument, Span, field::Empty};

use super::{
    access::{AccessRule, Caller},
    body_pool::BodyPool,
    compressed_body::{ACCEPTED_ENCODINGS, Compression, Decompressor, ENCODING},
    http::contract,
    metered_body::{MeteredBody, RequestMemory, UploadPace},
    problem::problem,
    status::{self, status},
    trace,
};
use crate::matcher::Fault;
use domain::MemoryBudget;

/// The time until which the caller waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(pub Instant);

/// The wire of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Grpc,
    Rest,
}

impl Wire {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
        }
    }
}

/// The limits of requests; filled from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// The largest number of requests in flight, both wires together.
    pub in_flight_max: usize,
    /// The longest duration of a request, and the duration of one that does not set its own.
    pub duration_max: Duration,
    /// The largest body.
    pub body_bytes_max: usize,
    /// The largest number of values of a JSON body: each costs many times its bytes while it is read.
    pub json_values_max: usize,
}

/// Access rules and the limits of requests in flight.
#[derive(Debug)]
pub(super) struct AccessGate {
    pub(super) access: AccessRule,
    pub(super) limits: RequestLimits,
    memory: MemoryBudget,
    upload_pace: UploadPace,
    pool: BodyPool,
    free: Arc<Semaphore>,
}

/// What an admitted request holds until its answer.
struct Admitted {
    _place: OwnedSemaphorePermit,
    _memory: RequestMemory,
}

impl AccessGate {
    pub(super) fn new(
        access: AccessRule,
        limits: RequestLimits,
        memory: MemoryBudget,
        upload_pace: UploadPace,
        pool: BodyPool,
    ) -> Self {
        Self { access, limits, memory, upload_pace, pool, free: Arc::new(Semaphore::new(limits.in_flight_max)) }
    }

    /// Lets the messages of an admitted call be decompressed. A client that sends plain messages gets plain answers:
    /// compressing costs more time than a network of one machine or one rack.
    fn decompress(&self, request: &mut Request) -> Result<(), Status> {
        let Some(compression) = Compression::of(request.headers())? else {
            request.headers_mut().remove(ACCEPTED_ENCODINGS);
            return Ok(());
        };
        request.headers_mut().remove(ENCODING);
        let memory = request.extensions().get::<RequestMemory>().cloned().expect("each admitted request has it");
        let bytes_max = self.limits.body_bytes_max;
        let decompressor = Decompressor { compression, memory, pool: self.pool.clone(), bytes_max };
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = decompressor.body(body);
        Ok(())
    }

    /// Sets the principal and the wire of a request, and lets its body take memory as it arrives.
    fn admit(&self, request: &mut Request, wire: Wire) -> Result<Admitted, Status> {
        let caller =
            Caller { peer: peer(request), version: request.version(), uri: request.uri(), headers: request.headers() };
        let principal = self.access.admit(&caller).map_err(|denied| denied.fault.status(denied.sentence))?;
        let busy = |_| status(&Fault::busy());
        let place = Arc::clone(&self.free).try_acquire_owned().map_err(busy)?;
        let memory = RequestMemory::new(&self.memory);
        let pace = (!is_stream(request.uri().path())).then_some(self.upload_pace);
        let body = std::mem::take(request.body_mut());
        if !body.is_end_stream() {
            *request.body_mut() = Body::new(MeteredBody::new(body, memory.clone(), pace));
        }
        request.extensions_mut().insert(principal);
        request.extensions_mut().insert(wire);
        request.extensions_mut().insert(memory.clone());
        Ok(Admitted { _place: place, _memory: memory })
    }
}

/// Whether a call takes a stream of messages: its client may pause between two of them.
fn is_stream(path: &str) -> bool {
    static STREAMS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let methods = contract().services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let streams = methods.filter(MethodDescriptor::is_client_streaming);
        streams.map(|rpc| format!("/{}/{}", rpc.parent_service().full_name(), rpc.name())).collect()
    });
    STREAMS.contains(path) || path.starts_with("/grpc.")
}

/// Admits a gRPC call.
pub(super) async fn admit_grpc(State(gate): State<Arc<AccessGate>>, mut request: Request, next: Next) -> Response {
    match gate.admit(&mut request, Wire::Grpc).and_then(|held| gate.decompress(&mut request).map(|()| held)) {
        Ok(_admitted) => {
            let span = span(Wire::Grpc, &request);
            next.run(request).instrument(span).await
        }
        Err(refused) => refused.into_http(),
    }
}

/// Admits a REST request. A refusal is a problem document.
pub(super) async fn admit_rest(State(gate): State<Arc<AccessGate>>, mut request: Request, next: Next) -> Response {
    let instance = request.uri().path().to_owned();
    match gate.admit(&mut request, Wire::Rest) {
        Ok(_admitted) => {
            let span = span(Wire::Rest, &request);
            match AssertUnwindSafe(next.run(request).instrument(span)).catch_unwind().await {
                Ok(response) => response,
                Err(panic) => problem(&status(&panicked(&*panic)), &instance),
            }
        }
        Err(refused) => problem(&refused, &instance),
    }
}

/// The span of a request, from its admission to its answer; [`serve`] adds the method. It has the caller's trace as parent.
fn span(wire: Wire, request: &Request) -> Span {
    let span = tracing::info_span!(
        "request",
        transport = wire.as_str(),
        method = Empty,
        trace_id = Empty,
        parent_span_id = Empty
    );
    trace::record_parent(&span, request.headers());
    span
}

fn peer(request: &Request) -> Option<SocketAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0)
}

/// Sets the deadline of a call, catches its panics and records its metrics. The last layer before the services, for both
/// wires.
pub(super) async fn serve(State(gate): State<Arc<AccessGate>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let wire = request.extensions().get::<Wire>().copied().unwrap_or(Wire::Grpc);
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let allowed = timeout(request.headers()).unwrap_or(gate.limits.duration_max).min(gate.limits.duration_max);
    let deadline = began + allowed;
    request.extensions_mut().insert(Deadline(deadline));

    Span::current().record("method", &method);
    let served = AssertUnwindSafe(next.run(request)).catch_unwind();
    let response = match tokio::time::timeout_at(deadline.into(), served).await {
        Ok(Ok(response)) if wire == Wire::Grpc => with_the_callers_faults(response),
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => status(&panicked(&*panic)).into_http(),
        Err(_) => status(&Fault::TooLate).into_http(),
    };
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |s| s.code());
    // Clients choose the names of methods that do not exist; those must not become labels.
    let method = if code == Code::Unimplemented { "unknown".to_owned() } else { method };
    let labels = [("transport", wire.as_str().to_owned()), ("method", method), ("code", status::word(code).to_owned())];
    metrics::counter!(domain::metric::REQUESTS, &labels).increment(1);
    metrics::histogram!(domain::metric::REQUEST_DURATION, &labels[..2]).record(began.elapsed().as_secs_f64());
    response
}

/// tonic answers INTERNAL to a message that it cannot decode.
fn with_the_callers_faults(response: Response) -> Response {
    match Status::from_header_map(response.headers()).and_then(|refused| status::malformed_message(&refused)) {
        Some(malformed) => malformed.into_http(),
        None => response,
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Fault {
    let message =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    Fault::internal(format!("panicked: {}", message.unwrap_or_default()))
}

/// The header `grpc-timeout`: digits and a unit. None when it is absent or cannot be read.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_hours(number)),
        "M" => Some(Duration::from_mins(number)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_and_malformed_ones_are_ignored() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", value.parse().expect("a header"));
            timeout(&headers)
        };
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        for malformed in ["", "S", "-3S", "3", "3x", "123456789S"] {
            assert_eq!(read(malformed), None, "{malformed}");
        }
        let mut not_ascii = HeaderMap::new();
        not_ascii.insert("grpc-timeout", http::HeaderValue::from_bytes("3é".as_bytes()).expect("a header"));
        assert_eq!(timeout(&not_ascii), None);
    }
}
