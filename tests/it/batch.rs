//! Many enrollments at once: a stream of batches over gRPC, one batch over REST, each entry with its own outcome.

use reqwest::{Method, StatusCode};
use semblance::api::proto::{
    BatchEnrollRequest, BatchEnrollResponse, Embedding, EnrollOutcome, EnrollRequest, Modality, Sample,
    enroll_outcome::Outcome, identity_service_client::IdentityServiceClient, sample::Content,
};
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::{
    rest::{embedding, make_collection},
    support::{Database, Home, Server, Start, answer, on_both_databases},
};

const BATCH: &str = "/v1/collections/staff/identities:batchEnroll";

fn entry(identity: &str, values: &[f32]) -> EnrollRequest {
    let embedding = Embedding { model: "mine".into(), values: values.to_vec() };
    let content = Some(Content::Embedding(embedding));
    EnrollRequest {
        name: format!("collections/staff/identities/{identity}"),
        samples: vec![Sample { modality: Modality::Face.into(), content, ..Sample::default() }],
        request_id: format!("row {identity}"),
        ..EnrollRequest::default()
    }
}

fn batch(requests: Vec<EnrollRequest>) -> BatchEnrollRequest {
    BatchEnrollRequest { parent: "collections/staff".into(), requests }
}

/// The identity or the code of each outcome.
fn words(answer: &BatchEnrollResponse) -> Vec<&str> {
    assert!(answer.outcomes.iter().zip(0..).all(|(outcome, at)| outcome.index == at), "{answer:?}");
    answer.outcomes.iter().map(word).collect()
}

fn word(outcome: &EnrollOutcome) -> &str {
    match outcome.outcome.as_ref().expect("an outcome") {
        Outcome::Enrolled(enrolled) => enrolled.identity.rsplit('/').next().expect("a name"),
        Outcome::Refusal(refusal) => {
            assert!(!refusal.detail.is_empty(), "entry {} says why", outcome.index);
            &refusal.code
        }
    }
}

async fn templates(server: &Server) -> Value {
    server.expect(Method::GET, "/v1/collections/staff", None).await["templateCount"].clone()
}

on_both_databases! {
    a_stream_is_answered_batch_by_batch_and_a_bad_entry_ends_nothing,
}

async fn a_stream_is_answered_batch_by_batch_and_a_bad_entry_ends_nothing(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start { env: &[("SEMBLANCE_REQUEST_SECONDS_MAX", "600")], ..Start::default() });
    make_collection(&server, "staff").await;
    let mut client = IdentityServiceClient::new(server.channel().await);
    let first = batch(vec![
        entry("a", &[1.0, 0.0, 0.0, 0.0]),
        entry("b", &[1.0, 0.0]),
        entry("no id", &[1.0; 4]),
        EnrollRequest { name: "collections/other/identities/x".into(), ..entry("x", &[1.0; 4]) },
        EnrollRequest { samples: Vec::new(), ..entry("empty", &[]) },
        entry("c", &[0.0, 1.0, 0.0, 0.0]),
    ]);
    let many = batch((0..80_u16).map(|n| entry(&format!("p{n}"), &[1.0, f32::from(n), 0.0, 1.0])).collect());
    let sent = [first.clone(), batch(Vec::new()), many, first];
    let answers = client.batch_enroll(tokio_stream::iter(sent)).await.expect("a stream").into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.expect("well")).collect().await;
    let said = ["a", "UNUSABLE_SAMPLE", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "c"];
    assert_eq!(words(&answers[0]), said);
    assert!(words(&answers[1]).is_empty());
    assert_eq!(words(&answers[2]), (0..80).map(|n| format!("p{n}")).collect::<Vec<_>>());
    // Sent again under the same ids, entries are answered as before and nothing is added.
    assert_eq!(answers[3], answers[0]);
    assert_eq!(answers.len(), 4);
    assert_eq!(templates(&server).await, 82);

    let senseless = [batch(vec![entry("d", &[1.0; 4])]), BatchEnrollRequest::default()];
    let mut answers = client.batch_enroll(tokio_stream::iter(senseless)).await.expect("a stream").into_inner();
    assert_eq!(words(&answers.next().await.expect("one").expect("well")), ["d"]);
    assert_eq!(answers.next().await.expect("an end").expect_err("no parent").code(), Code::InvalidArgument);
    drop(server);
    home.tidy().await;
}

#[tokio::test]
async fn rest_takes_one_batch_and_says_what_became_of_each_entry() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    let entry = |identity: &str, values: [f32; 4]| {
        json!({"name": format!("collections/staff/identities/{identity}"), "samples": [embedding(values)],
               "labels": {"site": "north"}})
    };
    let body =
        json!({"requests": [entry("a", [1.0, 0.0, 0.0, 0.0]), entry("b", [0.0; 4]), entry("c", [0.0, 1.0, 0.0, 0.0])]});
    let answered = server.expect(Method::POST, BATCH, Some(body)).await;
    let outcomes = answered["outcomes"].as_array().expect("a list");
    assert_eq!(outcomes.len(), 3);
    assert_eq!(outcomes[0]["enrolled"]["identity"], "collections/staff/identities/a");
    let refusal = json!({"status": 422, "code": "UNUSABLE_SAMPLE", "grpcCode": 3,
                         "detail": "the embedding has no direction: all its numbers are zero or smaller than 0.000001"});
    assert_eq!(outcomes[1], json!({"index": 1, "refusal": refusal}));
    assert_eq!(outcomes[2]["enrolled"]["templates"][0]["model"], "mine");
    let alice = server.expect(Method::GET, "/v1/collections/staff/identities/a", None).await;
    assert_eq!(alice["labels"]["site"], "north");

    let many = json!({"requests": vec![entry("a", [1.0; 4]); 1001]});
    for (body, says) in [
        (many, "a batch has at most 1000 entries, this one has 1001"),
        (json!({"requests": [{"nam": "x"}]}), "requests[0].nam: there is no such field"),
        (json!({"requests": 5}), "requests: a list is expected here"),
        (json!([1]), "an object is expected here"),
    ] {
        let (status, problem) = server.ask(Method::POST, BATCH, Some(body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
        assert!(problem["detail"].as_str().expect("a text").contains(says), "{problem}");
    }
    let picture = server.request(Method::POST, BATCH).header("content-type", "image/jpeg").body(vec![1, 2, 3]);
    assert_eq!(answer(picture).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(server.expect(Method::POST, BATCH, Some(json!({}))).await, json!({"outcomes": []}));
    let (status, answered) =
        server.ask(Method::POST, "/v1/collections/none/identities:batchEnroll", Some(json!({"requests": []}))).await;
    assert_eq!((status, answered), (StatusCode::OK, json!({"outcomes": []})));
}

// The client's own connection needs a thread while this one waits for the end of the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_have_places_and_give_them_back() {
    let home = Home::new(&Database::Sqlite).await;
    let mut server = Server::start(&home, &Start { env: &[("SEMBLANCE_BULK_IN_FLIGHT_MAX", "2")], ..Start::default() });
    make_collection(&server, "staff").await;
    let mut client = IdentityServiceClient::new(server.channel().await);
    let mut open = Vec::new();
    for _ in 0..8 {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let batches = tokio_stream::wrappers::ReceiverStream::new(receiver);
        open.push((sender, client.batch_enroll(batches).await.expect("a place").into_inner()));
    }
    let refused = client.batch_enroll(tokio_stream::iter([batch(Vec::new())])).await.expect_err("no place");
    assert_eq!(refused.code(), Code::ResourceExhausted);

    // One that ends gives its place back, also where fewer samples may be in flight than its batch has.
    let (sender, mut answers) = open.pop().expect("eight");
    let wide = EnrollRequest { samples: vec![entry("w", &[1.0; 4]).samples[0].clone(); 5], ..entry("w", &[]) };
    sender.send(batch(vec![wide, entry("v", &[1.0; 4])])).await.expect("open");
    drop(sender);
    assert_eq!(words(&answers.next().await.expect("one").expect("well")), ["w", "v"]);
    assert!(answers.next().await.is_none());
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let batches = tokio_stream::wrappers::ReceiverStream::new(receiver);
    open.push((sender, client.batch_enroll(batches).await.expect("the place that was given back").into_inner()));

    // The end of the server ends them: an open stream does not hold it up.
    server.signal("TERM");
    for (_sender, mut answers) in open {
        let end = answers.next().await.expect("an end").expect_err("the server goes");
        assert_eq!(end.code(), Code::Unavailable);
    }
    assert!(server.wait().success());
}
