//! Serves one connection, and ends it when it is due.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{Router, body::Body, extract::ConnectInfo};
use futures::FutureExt;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulConnection},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    ConnectionLimits,
    activity::{Activity, AnswerBody, Ending, InProgress},
    open::Place,
};
use crate::api::{KEEPALIVE, layers::Wire};

/// Serves connections, one task each.
#[derive(Clone)]
pub(super) struct ConnectionServer {
    builder: Builder<TokioExecutor>,
    router: Router,
    limits: ConnectionLimits,
    stopping: CancellationToken,
}

impl ConnectionServer {
    pub(super) fn new(router: Router, wire: Wire, limits: ConnectionLimits) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        // The time of a head is measured here: hyper's own limit counts the time between two requests too.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE)
            .max_concurrent_streams(limits.streams_max);
        let builder = if wire == Wire::Grpc { builder.http2_only() } else { builder };
        Self { builder, router, limits, stopping: CancellationToken::new() }
    }

    /// Ends the connections: those with requests in progress after these.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    pub(super) async fn serve_one(self, stream: TcpStream, peer: SocketAddr, place: Place) {
        let Self { builder, router, limits, stopping } = self;
        // Nagle's algorithm holds an answer back until the peer's delayed acknowledgement, 40 ms later.
        let _ = stream.set_nodelay(true);
        let activity = place.activity();
        let service = service_fn(|request: Request<Incoming>| {
            let in_progress = InProgress::begin(activity, request.uri().path());
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer = router.clone().oneshot(request);
            async move { answer.await.map(|answer| answer.map(|body| AnswerBody::new(body, in_progress))) }
        });
        let io = TokioIo::new(Observed { stream, activity: Arc::clone(activity) });
        let connection = pin!(builder.serve_connection(io, service));
        let ended = Served { connection, place: &place, limits, stopping }.until_it_ends().await;
        match ended {
            Ended::ByItself(Ok(())) | Ended::ByServer(Ending::Farewell) => {}
            Ended::ByItself(Err(error)) => tracing::debug!(error, "a connection ended with an error"),
            Ended::ByServer(ending) => {
                let labels = [("transport", activity.wire().as_str()), ("reason", ending.as_str())];
                metrics::counter!(domain::metric::CONNECTIONS_CLOSED, &labels).increment(1);
                tracing::debug!(reason = ending.as_str(), "a connection was closed");
            }
        }
    }
}

enum Ended<E> {
    ByItself(Result<(), E>),
    ByServer(Ending),
}

/// A connection that is served.
struct Served<'c, C> {
    connection: Pin<&'c mut C>,
    place: &'c Place,
    limits: ConnectionLimits,
    stopping: CancellationToken,
}

impl<C: GracefulConnection> Served<'_, C> {
    async fn until_it_ends(mut self) -> Ended<C::Error> {
        let (activity, stopping) = (Arc::clone(self.place.activity()), self.stopping.clone());
        let mut timer = pin!(tokio::time::sleep(self.limits.header_max));
        let mut notice = None;
        loop {
            tokio::select! {
                biased;
                ended = self.until_due(timer.as_mut()) => match ended {
                    // Not cut off: a client of HTTP/2 is told which of its requests were not taken up.
                    Ended::ByServer(Ending::Idle) => notice = Some(Ending::Idle),
                    Ended::ByServer(Ending::Farewell) => return Ended::ByServer(notice.unwrap_or(Ending::Farewell)),
                    ended => return ended,
                },
                () = stopping.cancelled(), if notice.is_none() => notice = Some(Ending::Farewell),
                () = activity.asked_to_close() => {
                    self.connection.as_mut().graceful_shutdown();
                    // Once, so that the notice is sent; nobody waits for an answer.
                    let _ = self.connection.as_mut().now_or_never();
                    return Ended::ByServer(Ending::Crowded);
                }
            }
            activity.begin_ending();
            self.connection.as_mut().graceful_shutdown();
        }
    }

    /// Drives the connection until it ends or is due to end.
    async fn until_due(&mut self, mut timer: Pin<&mut Sleep>) -> Ended<C::Error> {
        poll_fn(move |cx| {
            let activity = self.place.activity();
            if let Poll::Ready(ended) = self.connection.as_mut().poll(cx) {
                return Poll::Ready(Ended::ByItself(ended));
            }
            loop {
                let Some((due, ending)) = activity.due(&self.limits) else {
                    return Poll::Pending;
                };
                if due <= Instant::now() {
                    return Poll::Ready(Ended::ByServer(ending));
                }
                if timer.deadline() != due {
                    timer.as_mut().reset(due);
                }
                ready!(timer.as_mut().poll(cx));
            }
        })
        .await
    }
}

/// A connection that notes what it reads and writes.
struct Observed {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl Observed {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.wrote(written.is_pending());
        written
    }
}

impl AsyncRead for Observed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.received(&buffer.filled()[before..]);
        }
        read
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
