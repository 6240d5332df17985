use std::future::poll_fn;

use axum::{
    body::Body,
    routing::{get, post},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, oneshot},
    task::JoinHandle,
};

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const NEVER: Duration = Duration::from_hours(1);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";
const LAST_GET: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn limits(connections_max: usize, header_max: Duration, idle_max: Duration) -> ConnectionLimits {
    ConnectionLimits { connections_max, header_max, idle_max, streams_max: 100 }
}

/// A listener on a port of its own.
struct Running {
    addr: SocketAddr,
    open: Arc<OpenConnections>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Running {
    async fn start(router: Router, wire: Wire, limits: ConnectionLimits) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = socket.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let open = Arc::new(OpenConnections::new(limits));
        let served = tokio::spawn(serve(socket, router, wire, Arc::clone(&open), async move {
            let _ = stopped.await;
        }));
        Self { addr, open, stop, served }
    }

    async fn rest(router: Router, limits: ConnectionLimits) -> Self {
        Self::start(router, Wire::Rest, limits).await
    }

    /// A connection that has sent `bytes`.
    async fn connect(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.expect("it listens");
        stream.write_all(bytes).await.expect("sent");
        stream
    }

    /// Returns when so many connections are open.
    async fn has_open(&self, count: usize) {
        while self.open.count() != count {
            tokio::task::yield_now().await;
        }
    }

    async fn stops(self) {
        drop(self.stop);
        self.served.await.expect("it ends");
    }
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

async fn read_status(stream: &mut TcpStream) {
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.expect("answered");
    assert_eq!(&begin, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_head_or_preface_that_does_not_end_closes_the_connection() {
    let rest = Running::rest(hello(), limits(8, SHORT, NEVER)).await;
    let grpc = Running::start(hello(), Wire::Grpc, limits(8, SHORT, NEVER)).await;
    for (running, sent) in [
        (&rest, &b""[..]),
        (&rest, b"GET / HTTP/1.1\r\nhost:"),
        (&rest, b"PRI * HTTP/2"),
        (&grpc, b""),
        (&grpc, b"PRI * HTTP/2"),
    ] {
        let mut stream = running.connect(sent).await;
        assert!(!read_to_end(&mut stream).await.contains("hello"));
    }
}

#[tokio::test]
async fn a_further_head_has_its_time_from_its_first_byte() {
    let running = Running::rest(hello(), limits(8, SHORT, NEVER)).await;
    let mut stream = running.connect(GET).await;
    read_status(&mut stream).await;
    // A second connection that the limit closes shows that the limit has passed for an idle one too.
    assert_eq!(read_to_end(&mut running.connect(b"").await).await, "");
    stream.write_all(GET).await.expect("an idle connection stays open");
    stream.write_all(b"GET / HT").await.expect("sent");
    let rest = read_to_end(&mut stream).await;
    assert_eq!(rest.matches("hello").count(), 2, "{rest}");
}

#[tokio::test]
async fn a_connection_is_closed_when_it_is_idle_and_not_while_a_request_is_in_progress() {
    let (router, begun, go_on) = slow_hello();
    let running = Running::rest(router, limits(4, NEVER, SHORT)).await;
    let mut slow = running.connect(GET).await;
    begun.notified().await;
    let mut idle = running.connect(b"").await;
    assert_eq!(read_to_end(&mut idle).await, "");
    go_on.notify_one();
    assert!(read_to_end(&mut slow).await.ends_with("hello"));
}

#[tokio::test]
async fn a_connection_whose_client_does_not_read_its_answer_is_closed() {
    let router = Router::new().route("/", get(async || vec![0_u8; 64 << 20]));
    let running = Running::rest(router, limits(4, NEVER, SHORT)).await;
    let _unread = running.connect(GET).await;
    running.has_open(1).await;
    running.has_open(0).await;
}

#[tokio::test]
async fn at_the_limit_the_connection_that_is_idle_for_longest_is_closed() {
    let running = Running::rest(hello(), limits(2, NEVER, NEVER)).await;
    let mut first = running.connect(GET).await;
    read_status(&mut first).await;
    let mut second = running.connect(b"GET / HT").await;
    running.has_open(2).await;
    // The first one was idle for longest, and then is not.
    first.write_all(GET).await.expect("sent");
    read_status(second_answer(&mut first).await).await;
    let mut third = running.connect(LAST_GET).await;
    assert!(read_to_end(&mut third).await.ends_with("hello"));
    assert!(!read_to_end(&mut second).await.contains("hello"));
    first.write_all(LAST_GET).await.expect("sent");
    assert!(read_to_end(&mut first).await.ends_with("hello"));
}

/// The stream behind the rest of its first answer.
async fn second_answer(stream: &mut TcpStream) -> &mut TcpStream {
    let mut last = [0; 5];
    while &last != b"hello" {
        last.rotate_left(1);
        stream.read_exact(&mut last[4..]).await.expect("answered");
    }
    stream
}

#[tokio::test]
async fn at_the_limit_a_new_connection_waits_while_all_have_requests_in_progress() {
    let (router, begun, go_on) = slow_hello();
    let running = Running::rest(router.route("/fast", get(async || "fast")), limits(1, NEVER, NEVER)).await;
    let mut first = running.connect(GET).await;
    begun.notified().await;
    let mut second = running.connect(b"GET /fast HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").await;
    let second = tokio::spawn(async move { read_to_end(&mut second).await });
    tokio::task::yield_now().await;
    assert!(!second.is_finished(), "the second one waits");
    go_on.notify_one();
    assert!(second.await.expect("no panic").ends_with("fast"));
    assert!(read_to_end(&mut first).await.ends_with("hello"), "the request in progress was answered");
}

#[tokio::test]
async fn a_stop_waits_for_the_request_in_progress_and_counts_it() {
    let (router, begun, go_on) = slow_hello();
    let running = Running::rest(router, limits(4, NEVER, NEVER)).await;
    let mut stream = running.connect(GET).await;
    begun.notified().await;
    let _silent = running.connect(b"").await;
    assert_eq!(running.open.requests_in_progress(), 1);
    go_on.notify_one();
    running.stops().await;
    assert!(read_to_end(&mut stream).await.ends_with("hello"));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_silent_connections() {
    let begun = Arc::new(Notify::new());
    let watch = post({
        let begun = Arc::clone(&begun);
        async move || {
            begun.notify_one();
            poll_fn::<Body, _>(|_| std::task::Poll::Pending).await
        }
    });
    let router = hello().route("/grpc.health.v1.Health/Watch", watch);
    let rest = Running::rest(router.clone(), limits(9, NEVER, NEVER)).await;
    let grpc = Running::start(router, Wire::Grpc, limits(9, NEVER, NEVER)).await;
    let mut kept = rest.connect(GET).await;
    read_status(&mut kept).await;
    let watched = b"POST /grpc.health.v1.Health/Watch HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n";
    let silent = [
        rest.connect(b"").await,
        rest.connect(b"GET / HTTP/1.1\r\nhost:").await,
        rest.connect(PREFACE).await,
        rest.connect(watched).await,
        grpc.connect(b"").await,
        grpc.connect(b"PRI * HT").await,
        grpc.connect(PREFACE).await,
    ];
    begun.notified().await;
    rest.has_open(5).await;
    grpc.has_open(3).await;
    assert_eq!((rest.open.requests_in_progress(), grpc.open.requests_in_progress()), (0, 0));
    rest.stops().await;
    grpc.stops().await;
    drop((kept, silent));
}
