//! What every request passes on its way in: a place among those in flight, access, a deadline, a measure of what it
//! took, and a net for panics.

use std::{
    any::Any,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use futures::FutureExt;
use http::HeaderMap;
use tokio::sync::Semaphore;
use tonic::{Code, Status, transport::server::TcpConnectInfo};
use tracing::{Instrument, Span, field::Empty};

use super::{
    access::AccessOptions,
    status::{self, status},
    trace,
};
use crate::matcher::Fault;

/// Until when the caller waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(pub Instant);

/// Which wire a request came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Grpc,
    Rest,
}

impl Wire {
    fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
        }
    }
}

/// The limits of requests; filled from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// The most requests in flight, both wires together.
    pub in_flight_max: usize,
    /// The longest that a request may take, and how long it may when it does not say.
    pub duration_max: Duration,
    /// The largest body.
    pub body_bytes_max: usize,
    /// The most bytes of REST bodies that are in hand at once.
    pub bodies_bytes_max: usize,
    /// The most values of a JSON body: each costs many times its bytes while it is read.
    pub json_values_max: usize,
}

/// What the layers know.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) access: AccessOptions,
    pub(super) limits: RequestLimits,
    places: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(access: AccessOptions, limits: RequestLimits) -> Self {
        Self { access, limits, places: Arc::new(Semaphore::new(limits.in_flight_max)) }
    }
}

/// Admits a gRPC call: a place, a principal, a wire.
pub(super) async fn admit_grpc(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    match admitted(&gate, request, Wire::Grpc) {
        Ok((request, _place)) => {
            let span = span(Wire::Grpc, &request);
            next.run(request).instrument(span).await
        }
        Err(refused) => refused.into_http(),
    }
}

/// Admits a REST request: the same, refused in the form of REST.
pub(super) async fn admit_rest(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let instance = request.uri().path().to_owned();
    match admitted(&gate, request, Wire::Rest) {
        Ok((request, _place)) => {
            let span = span(Wire::Rest, &request);
            match AssertUnwindSafe(next.run(request).instrument(span)).catch_unwind().await {
                Ok(response) => response,
                Err(panic) => super::http::problem(&status(&Fault::internal(said(&*panic))), &instance),
            }
        }
        Err(refused) => super::http::problem(&refused, &instance),
    }
}

/// The span of a request, from its admission to its answer; [`serve`] adds the method. It names the caller's trace, and
/// everything that is done for the request stands below it.
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

fn admitted(gate: &Gate, mut request: Request, wire: Wire) -> Result<(Request, impl Drop + use<>), Status> {
    let peer = peer(&request);
    let principal = gate
        .access
        .admit(peer, request.uri(), request.headers())
        .map_err(|(fault, sentence)| fault.status(sentence))?;
    let busy = |_| status(&Fault::Busy { retry_after: Duration::from_secs(1) });
    let place = Arc::clone(&gate.places).try_acquire_owned().map_err(busy)?;
    request.extensions_mut().insert(principal);
    request.extensions_mut().insert(wire);
    Ok((request, place))
}

fn peer(request: &Request) -> Option<SocketAddr> {
    let extensions = request.extensions();
    let rest = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    rest.or_else(|| extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr))
}

/// Bounds a call in time, catches its panics and measures it. Stands directly before the services, under both wires.
pub(super) async fn serve(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let wire = request.extensions().get::<Wire>().copied().unwrap_or(Wire::Grpc);
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let allowed = timeout(request.headers()).unwrap_or(gate.limits.duration_max).min(gate.limits.duration_max);
    let deadline = began + allowed;
    request.extensions_mut().insert(Deadline(deadline));

    Span::current().record("method", &method);
    let served = AssertUnwindSafe(next.run(request)).catch_unwind();
    let response = match tokio::time::timeout_at(deadline.into(), served).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => status(&Fault::internal(said(&*panic))).into_http(),
        Err(_) => status(&Fault::TooLate).into_http(),
    };
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |s| s.code());
    // A method that does not exist must not make a metric of its own.
    let method = if code == Code::Unimplemented { "unknown".to_owned() } else { method };
    let labels = [("transport", wire.as_str().to_owned()), ("method", method), ("code", status::word(code).to_owned())];
    metrics::counter!(domain::metric::REQUESTS, &labels).increment(1);
    metrics::histogram!(domain::metric::REQUEST_DURATION, &labels[..2]).record(began.elapsed().as_secs_f64());
    response
}

fn said(panic: &(dyn Any + Send)) -> String {
    let words =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", words.unwrap_or_default())
}

/// How long the caller waits: the header `grpc-timeout`, digits and a unit.
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
    fn timeouts_are_read_and_nonsense_is_not() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", value.parse().expect("a header"));
            timeout(&headers)
        };
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        for nonsense in ["", "S", "-3S", "3", "3x", "123456789S", "é"] {
            if let Ok(_header) = http::HeaderValue::from_str(nonsense) {
                assert_eq!(read(nonsense), None, "{nonsense}");
            }
        }
    }
}
