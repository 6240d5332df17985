//! Decisions of the past, and what a human says of those that could not be told. Without a calibration nothing can be
//! told, so every resolve here is a question.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    rest::{embedding, enroll, make_collection},
    support::{Database, Home, Server, Start, answer, on_both_databases},
};

const CASES: &str = "/v1/collections/staff/reviewCases";

/// A collection that asks humans, with Alice in it.
async fn prepare(server: &Server) {
    make_collection(server, "staff").await;
    // Without a calibration, thresholds make every answer uncertain.
    let asks = json!({"policy": {"review": "uncertain", "openSet": "thresholds"}});
    let updated = server.expect(Method::PATCH, "/v1/collections/staff", Some(asks)).await;
    assert_eq!(updated["policy"]["review"], "uncertain");
    enroll(server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
}

async fn resolve(server: &Server, values: [f32; 4], mode: &str) -> Value {
    let body = json!({"samples": [embedding(values)], "labels": {"gate": "2"}, "topK": 1});
    let path = format!("/v1/collections/staff/identities:resolve?mode={mode}");
    server.expect(Method::POST, &path, Some(body)).await
}

/// The case that a sighting opens.
async fn case_of(server: &Server, values: [f32; 4]) -> String {
    let answer = resolve(server, values, "enroll_if_new").await;
    assert_eq!((&answer["decision"], &answer["enrolled"]), (&json!("uncertain"), &json!(false)), "{answer}");
    format!("/v1/{}", answer["reviewCase"].as_str().expect("a case was opened"))
}

async fn nearest(server: &Server, values: [f32; 4]) -> Value {
    let body = json!({"samples": [embedding(values)], "topK": 1});
    server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(body)).await["candidates"][0].clone()
}

async fn count(server: &Server, state: &str) -> usize {
    let list = server.expect(Method::GET, &format!("{CASES}?state={state}"), None).await;
    list["reviewCases"].as_array().map_or(0, Vec::len)
}

on_both_databases! {
    a_review_leads_from_uncertain_to_a_certified_identity_and_back,
    self_paced_review_asks_within_its_share_and_says_when_it_is_spent,
}

async fn a_review_leads_from_uncertain_to_a_certified_identity_and_back(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    prepare(&server).await;
    let stranger = [0.3, 1.0, 0.0, 0.0];
    let case = case_of(&server, stranger).await;

    let shown = server.expect(Method::GET, &case, None).await;
    assert_eq!((&shown["state"], &shown["labels"]["gate"]), (&json!("open"), &json!("2")));
    assert_eq!(shown["candidates"][0]["identity"], "collections/staff/identities/alice");
    assert_eq!(shown["reasons"], json!(["no_calibration"]));

    // What is acknowledged survives: the case and its samples too.
    server.kill();
    let server = Server::start(&home, &Start::default());
    assert_eq!(count(&server, "open").await, 1);
    let claim = json!({"reviewer": "ann", "leaseSeconds": 600});
    let claimed = server.expect(Method::POST, &format!("{case}:claim"), Some(claim)).await;
    assert_eq!((&claimed["state"], &claimed["reviewer"]), (&json!("claimed"), &json!("ann")));
    assert_eq!((count(&server, "open").await, count(&server, "claimed").await), (0, 1));
    for (verb, body) in
        [("claim", json!({"reviewer": "ben"})), ("decide", json!({"reviewer": "ben", "verdict": "discard"}))]
    {
        let (status, problem) = server.ask(Method::POST, &format!("{case}:{verb}"), Some(body)).await;
        assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("REVIEW_CASE_HELD")), "{problem}");
    }

    let verdict = json!({"reviewer": "ann", "verdict": "new", "identity": "carol", "etag": claimed["etag"]});
    let decide = || {
        let request = server.request(Method::POST, &format!("{case}:decide"));
        answer(request.header("idempotency-key", "once").json(&verdict))
    };
    let (status, decided) = decide().await;
    assert_eq!(status, StatusCode::OK, "{decided}");
    let outcome = &decided["reviewCase"]["outcome"];
    assert_eq!((&outcome["verdict"], &outcome["reviewer"]), (&json!("new"), &json!("ann")));
    assert_eq!(outcome["identity"], "collections/staff/identities/carol");
    assert_eq!(decide().await.1, decided, "asking again answers the same and enrolls nobody twice");
    let best = nearest(&server, stranger).await;
    assert_eq!(best["template"], outcome["templates"][0]);
    let path = format!("/v1/{}", outcome["templates"][0].as_str().expect("a name"));
    let template = server.expect(Method::GET, &path, None).await;
    assert_eq!((&template["assignment"], &template["certificate"]["reviewer"]), (&json!("certified"), &json!("ann")));
    assert_eq!(template["certificate"]["principal"], "loopback");
    assert_eq!(format!("/v1/{}", template["certificate"]["reviewCase"].as_str().expect("a name")), case);
    let others = server.expect(Method::GET, "/v1/collections/staff/identities/alice/templates", None).await;
    let other = &others["templates"][0];
    assert_eq!((&other["assignment"], &other["certificate"]), (&json!("enrolled"), &Value::Null), "{other}");
    let carol = server.expect(Method::GET, "/v1/collections/staff/identities/carol", None).await;
    assert_eq!(carol["labels"]["gate"], "2");

    // A verdict is never overwritten.
    let other = json!({"reviewer": "ann", "verdict": "same_as", "identity": "alice"});
    let (status, problem) = server.ask(Method::POST, &format!("{case}:decide"), Some(other.clone())).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("REVIEW_CASE_DECIDED")), "{problem}");
    let (status, problem) = server.ask(Method::POST, &format!("{case}:claim"), Some(json!({"reviewer": "ann"}))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("REVIEW_CASE_DECIDED")), "{problem}");

    // It is taken back instead, with what followed from it, and another one given.
    let reopened = server.expect(Method::POST, &format!("{case}:reopen"), Some(json!({}))).await;
    assert_eq!(reopened["reviewCase"]["state"], "open");
    let (status, _) = server.ask(Method::GET, "/v1/collections/staff/identities/carol", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(nearest(&server, stranger).await["identity"], "collections/staff/identities/alice");
    server.expect(Method::POST, &format!("{case}:decide"), Some(other)).await;
    let best = nearest(&server, stranger).await;
    assert!(best["similarity"].as_f64().is_some_and(|s| s > 0.999), "{best}");
    assert_eq!(best["identity"], "collections/staff/identities/alice");

    // Who is erased takes along the cases that are theirs.
    server.expect(Method::DELETE, "/v1/collections/staff/identities/alice", None).await;
    let (status, problem) = server.ask(Method::GET, &case, None).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("REVIEW_CASE_NOT_FOUND")));
    drop(server);
    home.tidy().await;
}

#[tokio::test]
async fn a_decision_shows_what_it_saw_and_is_made_again() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    prepare(&server).await;
    enroll(&server, "bob", [0.0, 1.0, 0.0, 0.0], json!({})).await;
    for mode in ["dry_run", "enroll_if_new"] {
        let given = resolve(&server, [1.0, 0.5, 0.0, 0.0], mode).await;
        let path = format!("/v1/collections/staff/decisions/{}", given["decisionId"].as_str().expect("an id"));
        let shown = server.expect(Method::GET, &path, None).await;
        assert_eq!((&shown["answer"], &shown["mode"]), (&given, &json!(mode)));
        assert_eq!(given["candidates"].as_array().map(Vec::len), Some(1), "the caller wanted one listed");
        assert_eq!(shown["candidates"][1]["identity"], "collections/staff/identities/bob", "and the margin took two");
        // What happened since changes nothing: a decision is made again from what it saw.
        server.expect(Method::PATCH, "/v1/collections/staff", Some(json!({"policy": {"targetFpir": 0.5}}))).await;
        let again = server.expect(Method::POST, &format!("{path}:replay"), Some(json!({}))).await;
        assert_eq!(again, json!({"decision": given["decision"], "reasons": given["reasons"], "same": true}));
    }
    assert_eq!(count(&server, "open").await, 1, "a dry run changes nothing");
    for (name, code) in [("00000000-0000-0000-0000-000000000001", "DECISION_NOT_FOUND"), ("x", "INVALID_ARGUMENT")] {
        let (_, problem) = server.ask(Method::GET, &format!("/v1/collections/staff/decisions/{name}"), None).await;
        assert_eq!(problem["code"], code, "{problem}");
    }
}

#[tokio::test]
async fn cases_have_a_limit_an_end_and_no_traces() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start { env: &[("SEMBLANCE_REVIEW_CASES_MAX", "1")], ..Start::default() });
    prepare(&server).await;
    let values = [0.123, 0.456, -0.789, 0.321];
    let case = case_of(&server, values).await;
    let full = resolve(&server, values, "enroll_if_new").await;
    assert_eq!(full["reasons"], json!(["no_calibration", "review_full"]));
    assert_eq!(full["reviewCase"], "");
    let path = format!("/v1/collections/staff/decisions/{}:replay", full["decisionId"].as_str().expect("an id"));
    assert_eq!(server.expect(Method::POST, &path, Some(json!({}))).await["same"], true);

    for (body, code) in [
        (json!({"reviewer": "ann"}), "INVALID_ARGUMENT"),
        (json!({"verdict": "discard"}), "INVALID_ARGUMENT"),
        (json!({"reviewer": "ann", "verdict": "discard", "identity": "alice"}), "INVALID_ARGUMENT"),
        (json!({"reviewer": "ann", "verdict": "same_as", "identity": "nobody"}), "IDENTITY_NOT_FOUND"),
        (json!({"reviewer": "ann", "verdict": "new", "identity": "alice"}), "ALREADY_EXISTS"),
        (json!({"reviewer": "ann", "verdict": "discard", "etag": "\"7\""}), "ETAG_MOVED"),
    ] {
        let (_, problem) = server.ask(Method::POST, &format!("{case}:decide"), Some(body)).await;
        assert_eq!(problem["code"], code, "{problem}");
    }
    let (_, problem) = server.ask(Method::POST, &format!("{case}:reopen"), Some(json!({}))).await;
    assert_eq!(problem["code"], "REVIEW_CASE_UNDECIDED");

    let discard = json!({"reviewer": "ann", "verdict": "discard"});
    server.expect(Method::POST, &format!("{case}:decide"), Some(discard)).await;
    assert_eq!(nearest(&server, values).await["identity"], "collections/staff/identities/alice");
    let is_on_disk = || {
        let space = domain::EmbeddingSpace::whole(domain::Modality::Face, domain::ModelDigest([0; 32]), 4);
        let kept = domain::Embedding::new(space, &values).expect("valid");
        let bytes: Vec<u8> = kept.values().iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::read_dir(home.path()).expect("readable").any(|file| {
            let path = file.expect("readable").path();
            path.is_file() && std::fs::read(path).expect("readable").windows(bytes.len()).any(|w| w == bytes)
        })
    };
    assert!(is_on_disk(), "a case keeps its samples, so that it can be reopened");
    server.expect(Method::DELETE, &case, None).await;
    assert!(!is_on_disk(), "and a deleted one leaves nothing behind");
    assert_eq!(count(&server, "decided").await, 0);
}

async fn self_paced_review_asks_within_its_share_and_says_when_it_is_spent(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    prepare(&server).await;
    let paced = json!({"policy": {"review": "self_paced", "reviewShare": 0.4}});
    let updated = server.expect(Method::PATCH, "/v1/collections/staff", Some(paced)).await;
    assert_eq!((&updated["policy"]["review"], &updated["policy"]["reviewShare"]), (&json!("self_paced"), &json!(0.4)));
    let mut cases = Vec::new();
    for number in 1..=10 {
        let answer = resolve(&server, [0.3, 1.0, 0.0, 0.0], "enroll_if_new").await;
        assert_eq!(answer["decision"], "uncertain", "verdicts have shown nothing yet: {answer}");
        // Four of ten, and never more of those so far.
        if [3, 5, 8, 10].contains(&number) {
            assert_eq!(answer["reasons"], json!(["no_calibration"]), "{number}: {answer}");
            cases.push(format!("/v1/{}", answer["reviewCase"].as_str().expect("a case was opened")));
        } else {
            assert_eq!(answer["reasons"], json!(["no_calibration", "review_share_spent"]), "{number}: {answer}");
            assert_eq!(answer["reviewCase"], "");
        }
        let decision = format!("/v1/collections/staff/decisions/{}", answer["decisionId"].as_str().expect("an id"));
        let again = server.expect(Method::POST, &format!("{decision}:replay"), Some(json!({}))).await;
        assert_eq!(again["same"], true, "{again}");
    }
    // A dry run changes nothing, and makes no room.
    for _ in 0..10 {
        assert_eq!(resolve(&server, [0.3, 1.0, 0.0, 0.0], "dry_run").await["reasons"], json!(["no_calibration"]));
    }
    let answer = resolve(&server, [0.3, 1.0, 0.0, 0.0], "enroll_if_new").await;
    assert_eq!(answer["reasons"], json!(["no_calibration", "review_share_spent"]));

    let verdict = json!({"reviewer": "ann", "verdict": "new", "identity": "carol"});
    server.expect(Method::POST, &format!("{}:decide", cases[0]), Some(verdict)).await;
    let templates = server.expect(Method::GET, "/v1/collections/staff/identities/carol/templates", None).await;
    assert_eq!(templates["templates"][0]["assignment"], "certified");

    for wrong in [json!({"policy": {"reviewShare": 1.5}}), json!({"policy": {"review": "sometimes"}})] {
        let (status, problem) = server.ask(Method::PATCH, "/v1/collections/staff", Some(wrong)).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("INVALID_ARGUMENT")), "{problem}");
    }
    drop(server);
    home.tidy().await;
}
