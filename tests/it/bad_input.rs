//! What must be refused, with a sentence that says what to do, while the server goes on.

use std::path::Path;

use reqwest::{Method, StatusCode};
use semblance::api::proto::{SearchRequest, recognition_service_client::RecognitionServiceClient};
use serde_json::{Value, json};
use tonic_types::StatusExt;

use crate::{
    rest::{embedding, enroll, make_collection},
    support::{Database, Home, Server, Start, answer, models},
};

const SEARCH: &str = "/v1/collections/staff/identities:search";

/// A body, where it goes, and what must come back: the status, and a word of the sentence.
struct Wrong {
    path: &'static str,
    body: Value,
    status: u16,
    says: &'static str,
}

fn wrong(path: &'static str, body: Value, status: u16, says: &'static str) -> Wrong {
    Wrong { path, body, status, says }
}

async fn check(server: &Server, cases: Vec<Wrong>) {
    for Wrong { path, body, status, says } in cases {
        let (found, problem) = server.ask(Method::POST, path, Some(body.clone())).await;
        let shown: String = body.to_string().chars().take(120).collect();
        assert_eq!(found.as_u16(), status, "{path} {shown}: {problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(says), "{path} {shown}: {detail:?} does not say {says:?}");
        assert_eq!(problem["status"], found.as_u16());
    }
}

/// What is wrong with an embedding, a sample, a search, a name.
fn wrong_requests() -> Vec<Wrong> {
    let sample = |content: Value| json!({"samples": [content]});
    let of = |values: Value| sample(json!({"modality": "face", "embedding": {"model": "mine", "values": values}}));
    let huge: Vec<f32> = vec![0.5; 5000];
    let frames = |count: usize| vec![json!({"keypoints": vec![1.0; 51]}); count];
    vec![
        wrong(SEARCH, of(json!([0, 0, 0, 0])), 422, "zero or smaller than 0.000001"),
        wrong(SEARCH, of(json!([2e-20, 0, 0, 0])), 422, "zero or smaller than 0.000001"),
        wrong(SEARCH, of(json!([1, 2])), 422, "has 4 numbers, this one has 2"),
        wrong(SEARCH, of(json!(huge)), 422, "has 4 numbers, this one has 5000"),
        wrong(SEARCH, of(json!([1, 2, "NaN", 4])), 422, "number 2 of the embedding is not finite"),
        wrong(SEARCH, of(json!([1, 2, {}, 4])), 400, "a number is expected here"),
        wrong(
            SEARCH,
            sample(json!({"modality": "face", "embedding": {"model": "yours", "values": [1]}})),
            400,
            "yours is unknown",
        ),
        wrong(
            SEARCH,
            sample(json!({"modality": "person", "embedding": {"model": "mine", "values": [1, 0, 0, 0]}})),
            400,
            "space of face",
        ),
        wrong(
            SEARCH,
            sample(json!({"embedding": {"model": "mine", "values": [1, 0, 0, 0]}})),
            400,
            "modality is needed",
        ),
        wrong(SEARCH, sample(json!({"modality": "face"})), 400, "this one is empty"),
        wrong(SEARCH, json!({}), 400, "at least one sample"),
        wrong(SEARCH, json!({"samples": vec![embedding([1.0, 0.0, 0.0, 0.0]); 33]}), 400, "at most 32 samples"),
        wrong(
            SEARCH,
            sample(json!({"modality": "face", "image": {"data": "AAAA"}})),
            409,
            "send embeddings of that space",
        ),
        wrong(SEARCH, sample(json!({"modality": "gait", "skeleton": {"frames": []}})), 409, "no gait model is loaded"),
        wrong(
            SEARCH,
            sample(json!({"modality": "gait", "skeleton": {"frames": [{"keypoints": [1, 2]}]}})),
            400,
            "51 numbers",
        ),
        wrong(SEARCH, sample(json!({"modality": "face", "skeleton": {"frames": frames(2)}})), 400, "not a skeleton"),
        wrong(SEARCH, json!({"samples": [embedding([1.0; 4])], "topK": -1}), 400, "must not be negative"),
        wrong(SEARCH, json!({"samples": [embedding([1.0; 4])], "topK": 100_000}), 400, "topK is 1 to 1000"),
        wrong(SEARCH, json!({"samples": [embedding([1.0; 4])], "minSimilarity": 7}), 400, "between -1 and 1"),
        wrong(SEARCH, json!({"samples": [embedding([1.0; 4])], "filter": "site = north"}), 400, "labels.<key>"),
        wrong(SEARCH, json!({"samples": [embedding([1.0; 4])], "consistencyToken": "zzz"}), 400, "not a token"),
        wrong(SEARCH, json!({"sampels": []}), 400, "no such field"),
        wrong(
            "/v1/collections/nobody/identities:search",
            json!({"samples": [embedding([1.0; 4])]}),
            404,
            "no collection nobody",
        ),
        wrong(
            "/v1/collections/staff/identities/bob:verify",
            json!({"samples": [embedding([1.0; 4])]}),
            404,
            "no identity bob",
        ),
        wrong(
            "/v1/collections/staff/identities/a%20b:enroll",
            json!({"samples": [embedding([1.0; 4])]}),
            400,
            "letters, digits",
        ),
        wrong(
            "/v1/collections/staff/identities:resolve",
            json!({"samples": [embedding([1.0; 4])], "mode": "maybe"}),
            400,
            "dry_run, enroll_if_new",
        ),
        wrong(
            "/v1/collections/staff/identities/alice:enroll",
            json!({"samples": [embedding([1.0; 4])], "labels": {"no spaces": "x"}}),
            400,
            "label key",
        ),
        wrong("/v1/collections/staff/identities?identityId=alice", json!({}), 409, "identity alice already exists"),
        wrong("/v1/collections?collectionId=no/slash", json!({}), 400, "letters, digits"),
        wrong("/v1/nothing", json!({}), 404, "/openapi.json"),
    ]
}

#[tokio::test]
async fn wrong_embeddings_names_and_json_are_refused() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    check(&server, wrong_requests()).await;
    // After all of that it serves as before.
    let found = server.expect(Method::POST, SEARCH, Some(json!({"samples": [embedding([1.0, 0.0, 0.0, 0.0])]}))).await;
    assert_eq!(found["candidates"][0]["similarity"], 1.0);
    assert!(!server.log().contains("alice"), "nothing in the log tells of a person: {}", server.log());
}

#[tokio::test]
async fn wrong_bodies_and_types_are_refused() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    let post = |kind: &str, body: Vec<u8>| server.request(Method::POST, SEARCH).header("content-type", kind).body(body);
    for (kind, body, status) in [
        ("application/json", b"{\"samples\":".to_vec(), 400),
        ("application/json", vec![0xff; 100], 400),
        ("application/json", "[".repeat(100_000).into_bytes(), 400),
        ("application/json", b"\"text\"".to_vec(), 400),
        ("text/plain", b"hello".to_vec(), 415),
        ("application/x-www-form-urlencoded", b"{}".to_vec(), 415),
        ("application/xml", b"<a/>".to_vec(), 415),
        ("multipart/form-data", b"no boundary".to_vec(), 400),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\ncontent-disposition: form-data; name=\"other\"\r\n\r\n1\r\n--x--".to_vec(),
            400,
        ),
    ] {
        let (found, problem) = answer(post(kind, body)).await;
        assert_eq!(found.as_u16(), status, "{kind}: {problem}");
    }
    // 100 MB are refused by their announced length, before they are read.
    let large = server
        .request(Method::POST, SEARCH)
        .header("content-type", "application/json")
        .body(vec![b' '; 100 << 20])
        .send()
        .await;
    match large {
        Ok(response) => assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE),
        // The server closed while the client was still sending: refused as well.
        Err(error) => assert!(error.is_request() || error.is_body(), "{error}"),
    }
    let (status, problem) = server.ask(Method::PUT, "/v1/collections/staff", Some(json!({}))).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{problem}");
    let (status, problem) = server.ask(Method::GET, "/v1/collections?pageSize=many", None).await;
    assert_eq!((status, problem["violations"][0]["field"].as_str()), (StatusCode::BAD_REQUEST, Some("pageSize")));
    let (status, _) = server.ask(Method::GET, "/v1/collections?color=red", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(server.expect(Method::GET, "/v1/models", None).await["models"].is_array());
}

#[tokio::test]
async fn repeated_keys_deep_nesting_and_times_of_zero_are_refused() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    let post =
        |body: String| server.request(Method::POST, SEARCH).header("content-type", "application/json").body(body);
    let nested = format!("{{\"filter\":{}0{}}}", "{\"\":".repeat(120), "}".repeat(120));
    let row = format!("{}0{}", "{\"\":".repeat(20), "}".repeat(20));
    for (body, says) in [
        (r#"{"topK":1,"topK":2}"#.to_owned(), "\"topK\" stands twice"),
        (r#"{"topK":1,"top_k":2}"#.to_owned(), "\"top_k\""),
        (nested, "nests deeper than 32"),
        (format!("{{\"filter\":[{}]}}", vec![row; 10_000].join(",")), "at most 500000 values"),
    ] {
        let (status, problem) = answer(post(body)).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("INVALID_ARGUMENT")), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{problem}");
    }
    for timeout in ["0", "0.0", "1e-12", "-1", "NaN", "inf", "-inf", "1e300", "soon", ""] {
        let asked = server.request(Method::GET, "/v1/models").header("request-timeout", timeout);
        let (status, problem) = answer(asked).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{timeout:?}: {problem}");
        assert_eq!(problem["violations"][0]["field"], "Request-Timeout", "{timeout:?}: {problem}");
    }
}

#[tokio::test]
async fn wrong_protobuf_is_refused() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    let garbage = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    for body in [
        vec![0, 0, 0, 0, 3, 0xff, 0xff, 0xff],
        vec![1, 2, 3],
        vec![0; 4],
        vec![0, 0, 0, 0, 9, 1],
        vec![1, 0, 0, 0, 1, 7],
        vec![0, 0xff, 0xff, 0xff, 0xff],
    ] {
        let response = garbage
            .post(format!("{}/semblance.v1.RecognitionService/Search", server.grpc))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body.clone())
            .send()
            .await
            .expect("answered");
        let code = response.headers().get("grpc-status").map(|c| c.to_str().expect("ascii").to_owned());
        // gRPC wants INTERNAL, 13, for a frame that says to be compressed and names no compression. 3: INVALID_ARGUMENT.
        let is_compressed = body.first() == Some(&1) && body.len() >= 5;
        let expected = if is_compressed {
            "13"
        } else if body.len() == 5 {
            "11"
        } else {
            "3"
        };
        assert_eq!(code.as_deref(), Some(expected), "{body:?}");
    }
    let mut client = RecognitionServiceClient::new(server.channel().await);
    let refused =
        client.search(SearchRequest { parent: "nonsense".into(), ..Default::default() }).await.expect_err("no name");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let violation = refused.get_details_bad_request().expect("details").field_violations.remove(0);
    assert_eq!(violation.field, "parent");
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
async fn wrong_pictures_and_walks_are_refused_on_real_data() {
    let photo = std::fs::read(testing::data().join("face/sets/antispoof_samples/image_T1.jpg"));
    refuses_wrong_pictures_and_walks(models(), &photo.expect("it is in the data")).await;
}

/// `jpeg` is a whole photo.
pub(crate) async fn refuses_wrong_pictures_and_walks(models: &Path, jpeg: &[u8]) {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(
        &home,
        &Start { models: Some(models), env: &[("SEMBLANCE_IMAGE_PIXELS_MAX", "1000000")], ..Start::default() },
    );
    server.expect(Method::POST, "/v1/collections?collectionId=staff", None).await;
    let png = |width: u32, height: u32| {
        // Only the header: whoever believes it before checking allocates the picture.
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    };
    let walk = |frames: usize| serde_json::to_vec(&vec![json!({"keypoints": vec![100.0; 51]}); frames]).expect("json");
    for (what, query, kind, body) in [
        ("nothing", "face&alignment=aligned", "image/jpeg", Vec::new()),
        ("noise", "face&alignment=aligned", "image/jpeg", vec![7; 1000]),
        ("a text", "face&alignment=aligned", "image/png", b"not a picture".to_vec()),
        ("a whole photo said to be aligned", "face&alignment=aligned", "image/jpeg", jpeg.to_vec()),
        ("frames beyond all reason", "gait", "application/json", walk(100_000)),
        ("half a picture", "face&alignment=aligned", "image/jpeg", jpeg[..jpeg.len() / 2].to_vec()),
        ("a bomb", "face&alignment=aligned", "image/png", png(30_000, 30_000)),
        ("a header alone", "person", "image/png", png(64, 64)),
        ("no face", "face", "image/png", png(64, 64)),
        ("no landmarks", "face&alignment=landmarks", "image/jpeg", jpeg.to_vec()),
        ("another size", "face&alignment=lfw_funneled", "image/jpeg", jpeg.to_vec()),
        ("a picture of a walk", "gait", "image/jpeg", jpeg.to_vec()),
        ("no frames", "gait", "application/json", b"[]".to_vec()),
        ("one frame", "gait", "application/json", walk(1)),
        ("too many frames", "gait", "application/json", walk(4000)),
        ("one point for all joints", "gait", "application/json", walk(10)),
        ("no keypoints", "gait", "application/json", b"[{\"points\": []}]".to_vec()),
    ] {
        let request =
            server.request(Method::POST, &format!("{SEARCH}?modality={query}")).header("content-type", kind).body(body);
        let (status, problem) = answer(request).await;
        assert!(
            status == StatusCode::UNPROCESSABLE_ENTITY || status == StatusCode::BAD_REQUEST,
            "{what}: {status} {problem}"
        );
        assert!(problem["detail"].as_str().is_some_and(|d| d.len() > 10), "{what}: {problem}");
    }
    assert!(server.expect(Method::GET, "/v1/models", None).await["models"].as_array().is_some_and(|m| m.len() == 5));
}
