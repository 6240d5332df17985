//! Connections that send nothing, little or nothing more, over both wires.

use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::{Method, StatusCode};
use tokio_stream::StreamExt;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::{
    rest::make_collection,
    support::{Database, Home, Server, Start, eventually},
};

/// A connection to `address` that has sent `bytes`.
fn connect(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).expect("it listens");
    stream.write_all(bytes).expect("sent");
    stream
}

async fn metric(server: &Server, sample: &str) -> Option<f64> {
    let page = server.request(Method::GET, "/metrics").send().await.expect("answered").text().await.expect("a page");
    page.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_silent_connections_and_endless_calls() {
    let home = Home::new(&Database::Sqlite).await;
    // A drain of an hour: a stop that waits for a connection does not end within the test's patience.
    let mut server = Server::start(&home, &Start { env: &[("SEMBLANCE_DRAIN_SECONDS", "3600")], ..Start::default() });
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let silent = [
        connect(&server.http, b""),
        connect(&server.http, b"GET /v1/models HTTP/1.1\r\nhost:"),
        connect(&server.http, preface),
        connect(&server.grpc, b""),
        connect(&server.grpc, b"PRI * HTTP"),
        connect(&server.grpc, preface),
    ];
    let mut health = HealthClient::new(server.channel().await);
    let mut watched = health.watch(HealthCheckRequest::default()).await.expect("watched").into_inner();
    assert!(watched.next().await.is_some());
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let questions = tokio_stream::once(question).chain(tokio_stream::pending());
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let mut answers = reflection.server_reflection_info(questions).await.expect("served").into_inner();
    assert!(answers.next().await.expect("an answer").is_ok());
    eventually("all are open", async || {
        metric(&server, "semblance_connections{transport=\"grpc\"}").await == Some(5.0)
    })
    .await;
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
    drop((silent, answers, watched));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_cuts_requests_off_says_how_many() {
    let home = Home::new(&Database::Sqlite).await;
    let mut server = Server::start(&home, &Start { env: &[("SEMBLANCE_DRAIN_SECONDS", "1")], ..Start::default() });
    make_collection(&server, "staff").await;
    let unfinished = b"POST /v1/collections HTTP/1.1\r\nhost: 127.0.0.1\r\nexpect: 100-continue\r\n\
        content-length: 100\r\ncontent-type: application/json\r\n\r\n";
    let mut stream = connect(&server.http, unfinished);
    // The server asks for the body: the request is in progress.
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).expect("answered");
    assert_eq!(&begin, b"HTTP/1.1 100");
    let _silent = connect(&server.http, b"");
    server.signal("TERM");
    assert!(!server.wait().success());
    let said = server.log();
    assert!(said.contains("1 request was still in flight after 1 s"), "{said}");
}

#[tokio::test]
async fn with_more_idle_connections_than_open_files_the_server_answers() {
    const FILES: u32 = 200;
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start { open_files_max: Some(FILES), ..Start::default() });
    let idle: Vec<TcpStream> =
        (0..FILES + 50).map(|at| connect(if at % 2 == 0 { &server.http } else { &server.grpc }, b"")).collect();
    for path in ["/livez", "/readyz", "/v1/models"] {
        // A connection of its own each time.
        let asked = reqwest::Client::new().get(format!("{}{path}", server.http)).send().await.expect("answered");
        assert_eq!(asked.status(), StatusCode::OK, "{path}");
    }
    // Which wire has the idlest ones depends on the order in which the listeners take them.
    let crowded = async |wire: &str| {
        let closed = format!("semblance_connections_closed_total{{transport=\"{wire}\",reason=\"crowded\"}}");
        metric(&server, &closed).await.unwrap_or_default()
    };
    let closed = async || crowded("rest").await + crowded("grpc").await;
    eventually("idle ones are closed", async || closed().await > 10.0).await;
    assert!(server.log().contains("limit of connections is reached"), "{}", server.log());
    drop(idle);
}
