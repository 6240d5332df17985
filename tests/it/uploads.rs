//! Uploads that stall, over both wires, and the memory that they may hold.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http_body_util::{StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio_stream::StreamExt;
use tonic::{Code, Status, body::Body};
use tower::ServiceExt;

use crate::{
    rest::{embedding, enroll, make_collection},
    support::{Database, Home, Server, Start, eventually},
};

const SEARCH: &str = "/v1/collections/staff/identities:search";
const KILOBYTE: usize = 1024;
/// Half of the memory is for bodies: three stalled ones of 900 KB, and some.
const LIMITS: [(&str, &str); 3] = [
    ("SEMBLANCE_BODY_BYTES_MAX", "1048576"),
    ("SEMBLANCE_JSON_VALUES_MAX", "5000"),
    ("SEMBLANCE_MEMORY_BYTES_MAX", "12582912"),
];

/// A REST upload that has sent so many bytes of a body of which more is to come.
fn stalled_upload(server: &Server, bytes: usize, is_chunked: bool) -> TcpStream {
    let mut stream = TcpStream::connect(server.http.trim_start_matches("http://")).expect("it listens");
    let length = if is_chunked { "transfer-encoding: chunked" } else { "content-length: 1048576" };
    let head =
        format!("POST {SEARCH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{length}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    if is_chunked {
        stream.write_all(format!("{bytes:x}\r\n").as_bytes()).expect("sent");
    }
    // A refusal may come before everything is sent.
    let _ = stream.write_all(&vec![b' '; bytes]);
    stream
}

fn status_line(mut stream: TcpStream) -> String {
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).expect("answered");
    String::from_utf8_lossy(&begin).into_owned()
}

/// A gRPC call that sends so many bytes of a longer message, and nothing more.
async fn stalled_call(server: &Server, bytes: usize) -> Status {
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(1_000_000);
    message.put_bytes(0, bytes);
    let body = stream::iter([Ok::<_, Status>(Frame::data(message.freeze()))]).chain(stream::pending());
    let body = UnsyncBoxBody::<Bytes, Status>::new(StreamBody::new(body));
    let request = http::Request::post(format!("{}/semblance.v1.RecognitionService/Search", server.grpc))
        .header("content-type", "application/grpc")
        .body(Body::new(body))
        .expect("a request");
    let response = server.channel().await.oneshot(request).await.expect("answered");
    Status::from_header_map(response.headers()).expect("it is refused")
}

async fn memory_taken(server: &Server) -> f64 {
    let page = server.request(Method::GET, "/metrics").send().await.expect("answered").text().await.expect("a page");
    let taken = page.lines().find_map(|line| line.strip_prefix("semblance_memory_taken_bytes ")?.parse().ok());
    taken.expect("it is on the page")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_uploads_of_both_wires_share_one_memory_and_small_requests_are_served() {
    let home = Home::new(&Database::Sqlite).await;
    let env = [&LIMITS[..], &[("SEMBLANCE_UPLOAD_WINDOW_SECONDS", "3600"), ("SEMBLANCE_REQUEST_SECONDS_MAX", "3600")]]
        .concat();
    let server = Server::start(&home, &Start { env: &env, ..Start::default() });
    make_collection(&server, "staff").await;
    enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    // An announced length takes nothing.
    let slow: Vec<TcpStream> = (0..32).map(|at| stalled_upload(&server, 1, at % 2 == 0)).collect();
    let held: Vec<TcpStream> = (0..3).map(|_| stalled_upload(&server, 900 * KILOBYTE, false)).collect();
    eventually("they are held", async || memory_taken(&server).await > 2.0 * 3.0 * 900.0 * 1024.0).await;
    assert_eq!(status_line(stalled_upload(&server, 900 * KILOBYTE, true)), "HTTP/1.1 429");
    assert_eq!(stalled_call(&server, 900 * KILOBYTE).await.code(), Code::ResourceExhausted);
    assert!(memory_taken(&server).await <= 6_291_456.0);
    let search = json!({"samples": [embedding([1.0, 0.0, 0.0, 0.0])]});
    let found = server.expect(Method::POST, SEARCH, Some(search)).await;
    assert_eq!(found["candidates"][0]["similarity"], 1.0);
    drop((slow, held));
    eventually("all is given back", async || memory_taken(&server).await == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_stalls_is_refused_on_both_wires() {
    let home = Home::new(&Database::Sqlite).await;
    let env = [("SEMBLANCE_UPLOAD_WINDOW_SECONDS", "1"), ("SEMBLANCE_REQUEST_SECONDS_MAX", "3600")];
    let server = Server::start(&home, &Start { env: &env, ..Start::default() });
    for (bytes, is_chunked) in [(0, false), (1, true), (100 * KILOBYTE, false)] {
        let status = status_line(stalled_upload(&server, bytes, is_chunked));
        assert_eq!(status, "HTTP/1.1 408", "{bytes} bytes");
    }
    for bytes in [0, 1, 100 * KILOBYTE] {
        let refused = stalled_call(&server, bytes).await;
        assert_eq!(refused.code(), Code::DeadlineExceeded, "{bytes} bytes: {refused}");
        assert!(refused.message().contains("the body stalled"), "{refused}");
    }
    let (status, _) = server.ask(Method::GET, "/v1/models", None).await;
    assert_eq!(status, StatusCode::OK);
}
