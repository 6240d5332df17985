//! REST's connections: how many there are, how long a header may take, and how long a connection may stay idle.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tower::ServiceExt;

/// The wait after an error of the listener, such as no free file descriptor.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// The limits of REST's connections; filled from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Further connections wait in the backlog of the operating system.
    pub connections_max: usize,
    /// From the last answer, or the start of the connection, to the end of the next header. HTTP/1 only.
    pub header_max: Duration,
    /// A connection without a request in progress is closed when it moves no byte for so long.
    pub idle_max: Duration,
}

/// Serves `router` until `stop`, then lets the requests in flight end.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_max);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(super::KEEPALIVE);
    let server = ConnectionServer { builder, router, idle_max: limits.idle_max };
    let open = GracefulShutdown::new();
    let free = Arc::new(Semaphore::new(limits.connections_max));
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &free) => accepted,
        };
        tokio::spawn(server.clone().serve_one(accepted, open.watcher()));
    }
    drop(listener);
    open.shutdown().await;
}

/// A connection, with its place among those that may be open.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
}

async fn accept(listener: &TcpListener, free: &Arc<Semaphore>) -> Accepted {
    let place = Arc::clone(free).acquire_owned().await.expect("nobody closes the semaphore");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Accepted { stream, peer, place },
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "REST cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves connections, one task each.
#[derive(Clone)]
struct ConnectionServer {
    builder: Builder<TokioExecutor>,
    router: Router,
    idle_max: Duration,
}

impl ConnectionServer {
    async fn serve_one(self, accepted: Accepted, watcher: Watcher) {
        let Accepted { stream, peer, place } = accepted;
        // Nagle's algorithm holds an answer back until the peer's delayed acknowledgement, 40 ms later.
        let _ = stream.set_nodelay(true);
        let activity = Arc::new(Activity::default());
        let service = service_fn({
            let (router, activity) = (self.router, Arc::clone(&activity));
            move |request: Request<Incoming>| {
                let answering = Answering::begin(&activity);
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                let answer = router.clone().oneshot(request);
                async move {
                    let answer = answer.await;
                    drop(answering);
                    answer
                }
            }
        });
        let io = TokioIo::new(Observed { stream, activity: Arc::clone(&activity) });
        let connection = watcher.watch(self.builder.serve_connection(io, service).into_owned());
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                tracing::debug!(error, "a REST connection ended with an error");
            },
            () = activity.idle_for(self.idle_max) => tracing::debug!("a REST connection was idle for too long"),
        }
        drop(place);
    }
}

/// When a connection last moved a byte, and how many of its requests are in progress.
#[derive(Debug)]
struct Activity {
    began: Instant,
    /// Milliseconds from `began` to the last byte.
    moved_ms: AtomicU64,
    requests: AtomicUsize,
}

impl Default for Activity {
    fn default() -> Self {
        Self { began: Instant::now(), moved_ms: AtomicU64::new(0), requests: AtomicUsize::new(0) }
    }
}

impl Activity {
    fn moved(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(ms, Ordering::Relaxed);
    }

    /// Ends when the connection is idle for so long.
    async fn idle_for(&self, idle_max: Duration) {
        loop {
            let moved = self.began + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
            let is_answering = self.requests.load(Ordering::Relaxed) > 0;
            let due = if is_answering { Instant::now() + idle_max } else { moved + idle_max };
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// A request in progress.
struct Answering(Arc<Activity>);

impl Answering {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.moved();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that notes when it moves bytes.
struct Observed {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl Observed {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.activity.moved();
        }
        written
    }
}

impl AsyncRead for Observed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.moved();
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::{Notify, oneshot},
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const NEVER: Duration = Duration::from_hours(1);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

    /// A server on a port of its own, that stops when its sender is dropped.
    async fn start(router: Router, limits: ConnectionLimits) -> (SocketAddr, oneshot::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(serve(listener, router, limits, async move {
            let _ = stopped.await;
        }));
        (addr, stop)
    }

    fn hello() -> Router {
        Router::new().route("/", get(async || "hello"))
    }

    /// Answers hello after `go_on`; notifies `begun` when a request arrives.
    fn slow_hello() -> (Router, Arc<Notify>, Arc<Notify>) {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = get({
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            async move || {
                begun.notify_one();
                go_on.notified().await;
                "hello"
            }
        });
        (Router::new().route("/", handler), begun, go_on)
    }

    /// Everything up to the end of the connection.
    async fn read_to_end(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        // A connection that is closed with unread bytes may end with a reset.
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn a_header_that_does_not_end_closes_the_connection() {
        let limits = ConnectionLimits { connections_max: 4, header_max: SHORT, idle_max: NEVER };
        let (addr, _stop) = start(hello(), limits).await;
        let mut stream = TcpStream::connect(addr).await.expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.expect("sent");
        assert!(!read_to_end(&mut stream).await.contains("hello"));
    }

    #[tokio::test]
    async fn a_connection_that_sends_nothing_or_part_of_the_http2_preface_is_closed() {
        let limits = ConnectionLimits { connections_max: 4, header_max: NEVER, idle_max: SHORT };
        let (addr, _stop) = start(hello(), limits).await;
        for sent in [&b""[..], b"PRI * HTTP/2"] {
            let mut stream = TcpStream::connect(addr).await.expect("it listens");
            stream.write_all(sent).await.expect("sent");
            assert_eq!(read_to_end(&mut stream).await, "");
        }
    }

    #[tokio::test]
    async fn a_connection_is_closed_when_it_is_idle_and_not_while_a_request_is_in_progress() {
        let (router, begun, go_on) = slow_hello();
        let limits = ConnectionLimits { connections_max: 4, header_max: NEVER, idle_max: SHORT };
        let (addr, _stop) = start(router, limits).await;
        let mut slow = TcpStream::connect(addr).await.expect("it listens");
        slow.write_all(GET).await.expect("sent");
        begun.notified().await;
        // A second connection that the limit closes shows that the limit has passed for the first one too.
        let mut idle = TcpStream::connect(addr).await.expect("it listens");
        assert_eq!(read_to_end(&mut idle).await, "");
        go_on.notify_one();
        assert!(read_to_end(&mut slow).await.ends_with("hello"));
    }

    #[tokio::test]
    async fn a_connection_above_the_limit_waits_for_one_to_end() {
        let limits = ConnectionLimits { connections_max: 1, header_max: NEVER, idle_max: NEVER };
        let (addr, _stop) = start(hello(), limits).await;
        let mut first = TcpStream::connect(addr).await.expect("it listens");
        first.write_all(GET).await.expect("sent");
        let mut begin = [0; 12];
        first.read_exact(&mut begin).await.expect("answered");
        assert_eq!(&begin, b"HTTP/1.1 200");
        let mut second = TcpStream::connect(addr).await.expect("the backlog takes it");
        second.write_all(b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").await.expect("sent");
        let second = tokio::spawn(async move { read_to_end(&mut second).await });
        first.write_all(GET).await.expect("sent");
        first.read_exact(&mut begin).await.expect("the first one is still served");
        assert!(!second.is_finished(), "the second one waits");
        drop(first);
        assert!(second.await.expect("no panic").ends_with("hello"));
    }

    #[tokio::test]
    async fn a_stop_lets_the_request_in_progress_end() {
        let (router, begun, go_on) = slow_hello();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let limits = ConnectionLimits { connections_max: 4, header_max: NEVER, idle_max: NEVER };
        let served = tokio::spawn(serve(listener, router, limits, async move {
            let _ = stopped.await;
        }));
        let mut stream = TcpStream::connect(addr).await.expect("it listens");
        stream.write_all(GET).await.expect("sent");
        begun.notified().await;
        drop(stop);
        go_on.notify_one();
        assert!(read_to_end(&mut stream).await.ends_with("hello"));
        served.await.expect("it ends");
    }
}
