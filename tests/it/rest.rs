//! REST as an operator with curl sees it. Embeddings of a space of the client's own: no model is needed.

use reqwest::{Method, StatusCode};
use semblance::api::proto::{ListModelsRequest, model_service_client::ModelServiceClient};
use serde_json::{Value, json};

use crate::support::{Database, Home, Server, Start, answer, eventually, on_both_databases, postgres, program};

/// A client's own space of 4 numbers.
pub(crate) async fn make_collection(server: &Server, id: &str) -> Value {
    let spaces = json!([{"model": "mine", "modality": "face", "dimension": 4, "external": true}]);
    server.expect(Method::POST, &format!("/v1/collections?collectionId={id}"), Some(json!({"spaces": spaces}))).await
}

pub(crate) fn embedding(values: [f32; 4]) -> Value {
    json!({"modality": "face", "embedding": {"model": "mine", "values": values}})
}

pub(crate) async fn enroll(server: &Server, identity: &str, values: [f32; 4], labels: Value) -> Value {
    let body = json!({"samples": [embedding(values)], "labels": labels});
    server.expect(Method::POST, &format!("/v1/collections/staff/identities/{identity}:enroll"), Some(body)).await
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|i| i["name"].as_str().expect("a name")).collect()
}

on_both_databases! {
    enroll_search_verify_delete,
    asking_again_under_one_key_changes_nothing,
    a_restart_loses_nothing_and_a_deleted_collection_comes_back_empty,
}

async fn enroll_search_verify_delete(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    let made = make_collection(&server, "staff").await;
    assert_eq!(made["name"], "collections/staff");
    let standard = json!({"targetFpir": 0.01, "targetFmr": 0.001, "quality": {"atypicalityMax": 1.0}, "pad": {"mode": "off", "scoreMin": 0.5}, "pooling": {"mode": "best"}, "review": "off", "targetDuplicates": 0.05, "reviewShare": 0.2, "openSet": "posterior", "reranking": "off", "personHalfLifeSeconds": 43200, "uncertain": "off", "provisionalTtlSeconds": 2_592_000});
    assert_eq!(made["policy"], standard);
    assert_eq!(made["spaces"][0]["active"], false);

    let alice = enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({"site": "north"})).await;
    assert_eq!(alice["identity"], "collections/staff/identities/alice");
    assert_eq!(alice["templates"][0]["origin"], "embedding");
    enroll(&server, "bob", [0.0, 2.0, 0.0, 0.0], json!({"site": "south"})).await;

    let probe = json!({"samples": [embedding([0.9, 0.1, 0.0, 0.0])], "consistencyToken": alice["consistencyToken"]});
    let found = server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(probe.clone())).await;
    assert_eq!(found["gallerySize"], 2);
    assert_eq!(found["candidates"][0]["rank"], 1);
    assert_eq!(found["candidates"][0]["identity"], "collections/staff/identities/alice");
    let similarity = found["candidates"][0]["similarity"].as_f64().expect("a number");
    assert!((similarity - 0.9 / 0.82_f64.sqrt()).abs() < 1e-5, "{similarity}");

    let mut filtered = probe.clone();
    filtered["filter"] = json!("labels.site != \"north\"");
    let found = server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(filtered)).await;
    assert_eq!(found["candidates"].as_array().expect("a list").len(), 1);
    assert_eq!(found["candidates"][0]["identity"], "collections/staff/identities/bob");

    // Nobody knows how similar strangers are in this space: verify says the similarity and does not pretend.
    let verified =
        server.expect(Method::POST, "/v1/collections/staff/identities/alice:verify", Some(probe.clone())).await;
    assert_eq!(verified["match"], false);
    assert_eq!(verified["reasons"], json!(["no_calibration"]));
    assert_eq!(verified["operatingPoint"]["source"], "none");
    let resolved = server.expect(Method::POST, "/v1/collections/staff/identities:resolve", Some(probe.clone())).await;
    assert_eq!((&resolved["decision"], &resolved["enrolled"]), (&json!("known"), &json!(false)), "{resolved}");
    assert_eq!(resolved["reasons"], json!(["learnt_decision", "unsupported"]));

    let template = alice["templates"][0]["name"].as_str().expect("a name");
    assert_eq!(server.expect(Method::GET, &format!("/v1/{template}"), None).await["name"], template);
    server.expect(Method::DELETE, "/v1/collections/staff/identities/alice", None).await;
    assert_eq!(server.ask(Method::GET, &format!("/v1/{template}"), None).await.0, StatusCode::NOT_FOUND);
    let found = server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(probe)).await;
    assert_eq!(found["candidates"][0]["identity"], "collections/staff/identities/bob");
    assert_eq!(found["gallerySize"], 1);
    drop(server);
    home.tidy().await;
}

#[tokio::test]
async fn lists_come_in_pages_in_order_and_tokens_are_bound_to_their_filter() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    for number in 0..25 {
        let body = json!({"labels": {"site": if number % 5 == 0 { "north" } else { "south" }}});
        let path = format!("/v1/collections/staff/identities?identityId=p{number:02}");
        server.expect(Method::POST, &path, Some(body)).await;
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/collections/staff/identities?pageSize=10&pageToken={token}");
        let page = server.expect(Method::GET, &path, None).await;
        seen.extend(names(&page["identities"]).into_iter().map(str::to_owned));
        token = page["nextPageToken"].as_str().expect("a token").to_owned();
        if token.is_empty() {
            break;
        }
    }
    let expected: Vec<String> = (0..25).map(|n| format!("collections/staff/identities/p{n:02}")).collect();
    assert_eq!(seen, expected);

    let filter = "filter=labels.site%20%3D%20%22north%22";
    let page = server.expect(Method::GET, &format!("/v1/collections/staff/identities?pageSize=3&{filter}"), None).await;
    assert_eq!(names(&page["identities"]).len(), 3);
    let token = page["nextPageToken"].as_str().expect("a token");
    let rest =
        server.expect(Method::GET, &format!("/v1/collections/staff/identities?pageToken={token}&{filter}"), None).await;
    assert_eq!(names(&rest["identities"]), ["collections/staff/identities/p15", "collections/staff/identities/p20"]);
    let (status, problem) =
        server.ask(Method::GET, &format!("/v1/collections/staff/identities?pageToken={token}"), None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(problem["violations"][0]["field"], "pageToken");
}

#[tokio::test]
async fn etags_masks_and_conflicts() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    let (status, problem) = server.ask(Method::POST, "/v1/collections?collectionId=staff", Some(json!({}))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("ALREADY_EXISTS")));

    let path = "/v1/collections/staff/identities/alice";
    let made = server
        .expect(Method::POST, "/v1/collections/staff/identities?identityId=alice", Some(json!({"labels": {"a": "1"}})))
        .await;
    let moved = server.expect(Method::PATCH, path, Some(json!({"labels": {"a": "2"}, "etag": made["etag"]}))).await;
    assert_ne!(moved["etag"], made["etag"]);
    let (status, problem) = server.ask(Method::PATCH, path, Some(json!({"labels": {}, "etag": made["etag"]}))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("ETAG_MOVED")));
    // A mask that names a field which the body leaves out clears it.
    let cleared = server.expect(Method::PATCH, &format!("{path}?updateMask=labels"), Some(json!({}))).await;
    assert_eq!(cleared["labels"], json!({}));
    let (status, _) = server.ask(Method::PATCH, &format!("{path}?updateMask=name"), Some(json!({}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    let policy = json!({"policy": {"targetFpir": 0.05}});
    let updated = server.expect(Method::PATCH, "/v1/collections/staff", Some(policy)).await;
    assert_eq!((&updated["policy"]["targetFpir"], &updated["policy"]["targetFmr"]), (&json!(0.05), &json!(0.001)));
    let (status, _) =
        server.ask(Method::PATCH, "/v1/collections/staff", Some(json!({"policy": {"targetFmr": 7}}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

async fn asking_again_under_one_key_changes_nothing(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    let ask = async |key: &str, values: [f32; 4]| {
        let request = server
            .request(Method::POST, "/v1/collections/staff/identities/alice:enroll")
            .header("idempotency-key", key)
            .json(&json!({"samples": [embedding(values)], "labels": {"b": "2", "a": "1"}}));
        answer(request).await
    };
    let (status, first) = ask("one", [1.0, 0.0, 0.0, 0.0]).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    assert_eq!(ask("one", [1.0, 0.0, 0.0, 0.0]).await.1, first);
    let (status, problem) = ask("one", [0.0, 1.0, 0.0, 0.0]).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("REQUEST_ID_REUSED")));
    assert_ne!(ask("two", [1.0, 0.0, 0.0, 0.0]).await.1, first);
    let templates = server.expect(Method::GET, "/v1/collections/staff/identities/alice/templates", None).await;
    assert_eq!(names(&templates["templates"]).len(), 2);
    drop(server);
    home.tidy().await;
}

#[tokio::test]
async fn a_decision_is_given_once_for_a_key_and_collections_are_made_once() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    let thresholds = json!({"policy": {"openSet": "thresholds"}});
    server.expect(Method::PATCH, "/v1/collections/staff", Some(thresholds)).await;
    enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    let resolve = async |values: [f32; 4]| {
        let request = server
            .request(Method::POST, "/v1/collections/staff/identities:resolve?mode=enroll_if_new")
            .header("idempotency-key", "r")
            .json(&json!({"samples": [embedding(values)]}));
        answer(request).await
    };
    let (status, first) = resolve([0.5, 0.5, 0.0, 0.0]).await;
    assert_eq!((status, &first["decision"]), (StatusCode::OK, &json!("uncertain")), "{first}");
    // Were it decided anew, an empty gallery would now make it a new person.
    server.expect(Method::DELETE, "/v1/collections/staff/identities/alice", None).await;
    assert_eq!(resolve([0.5, 0.5, 0.0, 0.0]).await.1, first);
    assert_eq!(resolve([0.0, 0.5, 0.5, 0.0]).await.1["code"], "REQUEST_ID_REUSED");

    let make = async |_: usize| {
        let request = server.request(Method::POST, "/v1/collections").header("idempotency-key", "c").json(&json!({}));
        answer(request).await
    };
    let made = futures::future::join_all((0..16).map(make)).await;
    assert!(made.iter().all(|(status, made)| *status == StatusCode::OK && made["uid"].is_string()), "{made:?}");
    let uids: std::collections::BTreeSet<_> = made.iter().map(|(_, made)| made["uid"].to_string()).collect();
    assert_eq!(uids.len(), 1, "one collection, however often it is asked for");
    let unreadable =
        server.request(Method::POST, "/v1/collections").header("idempotency-key", "schön").json(&json!({}));
    assert_eq!(answer(unreadable).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn if_match_guards_and_large_forms_are_read() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    let path = "/v1/collections/staff/identities/alice";
    let guarded = |method: Method, etag: &str| server.request(method, path).header("if-match", etag);
    let (status, problem) = answer(guarded(Method::PATCH, "\"9\"").json(&json!({"labels": {"a": "1"}}))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("ETAG_MOVED")));
    let (status, moved) = answer(guarded(Method::PATCH, "\"1\"").json(&json!({"labels": {"a": "1"}}))).await;
    assert_eq!(status, StatusCode::OK, "{moved}");
    assert_eq!(answer(guarded(Method::DELETE, "\"1\"")).await.0, StatusCode::CONFLICT);
    let search = server.request(Method::POST, "/v1/collections/staff/identities:search").header("if-match", "\"1\"");
    assert_eq!(answer(search).await.0, StatusCode::BAD_REQUEST);

    // 3 MB in a form: no model is there to encode it, and it is read all the same.
    let part = reqwest::multipart::Part::bytes(vec![7; 3 << 20]).mime_str("image/jpeg").expect("a type");
    let form = reqwest::multipart::Form::new().part("sample", part);
    let request = server.request(Method::POST, "/v1/collections/staff/identities:search?modality=face").multipart(form);
    let (status, problem) = answer(request).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("OTHER_EMBEDDING_SPACE")), "{problem}");

    // Of several samples, the bad one is named.
    let samples = json!({"samples": [embedding([1.0; 4]), embedding([0.0; 4])]});
    let (_, problem) = server.ask(Method::POST, "/v1/collections/staff/identities:search", Some(samples)).await;
    assert!(problem["detail"].as_str().is_some_and(|d| d.starts_with("samples[1]: ")), "{problem}");
}

#[tokio::test]
async fn a_deleted_person_is_in_no_file_of_the_embedded_database() {
    use domain::{Embedding, EmbeddingSpace, Modality, ModelDigest};
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    let values = [0.123, 0.456, -0.789, 0.321];
    let space = EmbeddingSpace::whole(Modality::Face, ModelDigest([0; 32]), 4);
    let kept = Embedding::new(space, &values).expect("valid");
    let bytes: Vec<u8> = kept.values().iter().flat_map(|v| v.to_le_bytes()).collect();
    let is_on_disk = || {
        std::fs::read_dir(home.path()).expect("readable").any(|file| {
            let path = file.expect("readable").path();
            path.is_file() && std::fs::read(path).expect("readable").windows(bytes.len()).any(|w| w == bytes)
        })
    };
    enroll(&server, "alice", values, json!({})).await;
    assert!(is_on_disk(), "an acknowledged write is on the disk");
    server.expect(Method::DELETE, "/v1/collections/staff/identities/alice", None).await;
    assert!(!is_on_disk(), "and an acknowledged deletion has removed it, from the write-ahead log too");
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn replicas_follow_each_other_on_postgres() {
    let home = Home::new(&postgres()).await;
    let env = [("SEMBLANCE_FOLLOW_INTERVAL_MS", "100")];
    let (one, other) = (
        Server::start(&home, &Start { env: &env, ..Start::default() }),
        Server::start(&home, &Start { env: &env, ..Start::default() }),
    );
    make_collection(&one, "staff").await;
    let enrolled = enroll(&one, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    // With the token there is nothing to wait for.
    let probe = json!({"samples": [embedding([1.0, 0.0, 0.0, 0.0])], "consistencyToken": enrolled["consistencyToken"]});
    let path = "/v1/collections/staff/identities:search";
    let found = other.expect(Method::POST, path, Some(probe)).await;
    assert_eq!(found["candidates"][0]["identity"], "collections/staff/identities/alice");
    one.expect(Method::DELETE, "/v1/collections/staff/identities/alice", None).await;
    let is_gone = async || {
        let probe = json!({"samples": [embedding([1.0, 0.0, 0.0, 0.0])]});
        other.expect(Method::POST, path, Some(probe)).await["candidates"] == json!([])
    };
    eventually("the deletion reaches the other replica", is_gone).await;
    drop((one, other));
    home.tidy().await;
}

#[tokio::test]
async fn what_operators_ask_is_answered_without_a_key_and_everything_else_is_not() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start { env: &[("SEMBLANCE_API_KEY", "open-sesame")], ..Start::default() });
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs"] {
        let response = server.request(Method::GET, path).send().await.expect("answered");
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    let (status, problem) = server.ask(Method::GET, "/v1/models", None).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNAUTHORIZED, &json!("UNAUTHENTICATED")));
    let with_key = server.request(Method::GET, "/v1/models").bearer_auth("open-sesame");
    assert_eq!(answer(with_key).await, (StatusCode::OK, json!({"models": [], "nextPageToken": ""})));
    let metrics = server.request(Method::GET, "/metrics").send().await.expect("answered").text().await.expect("text");
    assert!(
        metrics.contains("semblance_requests_total{transport=\"rest\",method=\"ListModels\",code=\"OK\"} 1"),
        "{metrics}"
    );

    let mut client = ModelServiceClient::new(server.channel().await);
    let refused = client.list_models(ListModelsRequest::default()).await.expect_err("no key");
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
}

async fn a_restart_loses_nothing_and_a_deleted_collection_comes_back_empty(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    enroll(&server, "alice", [0.9, 0.1, 0.0, 0.0], json!({})).await;
    enroll(&server, "bob", [0.0, 1.0, 0.0, 0.0], json!({})).await;
    server.kill();

    let server = Server::start(&home, &Start::default());
    assert!(server.greeting().contains("1 collections, 2 identities, 3 templates"), "{}", server.greeting());
    let probe = json!({"samples": [embedding([1.0, 0.0, 0.0, 0.0])]});
    let found = server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(probe.clone())).await;
    assert_eq!(found["candidates"][0]["identity"], "collections/staff/identities/alice");
    assert_eq!(found["candidates"][0]["similarity"], 1.0);

    server.expect(Method::DELETE, "/v1/collections/staff", None).await;
    let (status, _) = server.ask(Method::POST, "/v1/collections/staff/identities:search", Some(probe.clone())).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    make_collection(&server, "staff").await;
    let found = server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(probe)).await;
    assert_eq!(found["candidates"], json!([]));
    drop(server);
    home.tidy().await;
}

/// Nothing sweeps here: what an expired identity was is gone from the answers by itself.
#[tokio::test]
async fn an_expired_identity_is_gone_at_once_and_not_only_after_the_sweep() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start { env: &[("SEMBLANCE_SWEEP_INTERVAL_SECONDS", "0")], ..Start::default() });
    make_collection(&server, "staff").await;
    let guest = enroll(&server, "guest", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    enroll(&server, "twin", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    let (path, template) = ("/v1/collections/staff/identities/guest", guest["templates"][0]["name"].clone());
    let template = format!("/v1/{}", template.as_str().expect("a name"));
    server.expect(Method::PATCH, path, Some(json!({"expireTime": "2020-01-01T00:00:00Z"}))).await;

    let probe = json!({"samples": [embedding([1.0, 0.0, 0.0, 0.0])]});
    for request in ["search", "resolve"] {
        let asked = format!("/v1/collections/staff/identities:{request}");
        let found = server.expect(Method::POST, &asked, Some(probe.clone())).await;
        let candidates = found["candidates"].as_array().expect("a list");
        assert_eq!(candidates.len(), 1, "{request}: {found}");
        assert_eq!(candidates[0]["identity"], "collections/staff/identities/twin");
    }
    let listed = server.expect(Method::GET, "/v1/collections/staff/identities", None).await;
    assert_eq!(names(&listed["identities"]), ["collections/staff/identities/twin"]);
    for (method, path, body) in [
        (Method::GET, path.to_owned(), None),
        (Method::GET, format!("{path}/templates"), None),
        (Method::GET, template, None),
        (Method::PATCH, path.to_owned(), Some(json!({"labels": {"site": "north"}}))),
        (Method::POST, format!("{path}:verify"), Some(probe)),
        (Method::POST, format!("{path}:split"), Some(json!({"templates": [guest["templates"][0]["name"]]}))),
    ] {
        let (status, problem) = server.ask(method.clone(), &path, body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}: {problem}");
    }
    let find = json!({"modality": "face", "minSimilarity": 0.9});
    let begun = server.expect(Method::POST, "/v1/collections/staff/identities:findDuplicates", Some(find)).await;
    let operation = format!("/v1/{}", begun["name"].as_str().expect("a name"));
    let shown = async || server.expect(Method::GET, &operation, None).await;
    eventually("the operation ends", async || shown().await["done"] == true).await;
    let duplicates = &shown().await["duplicates"];
    assert_eq!((&duplicates["pairs"], &duplicates["survey"]["identityCount"]), (&json!([]), &json!(1)));

    let exported = home.path().join("people.jsonl");
    let export = program()
        .args(["export", "--collection", "staff", "--embeddings", "--out"])
        .arg(&exported)
        .env("DATABASE_URL", &home.database_url)
        .output()
        .expect("the program runs");
    assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
    let lines = std::fs::read_to_string(&exported).expect("written");
    assert!(lines.contains("twin") && !lines.contains("guest"), "{lines}");
    // Whoever wants it gone now need not wait.
    server.expect(Method::DELETE, path, None).await;
    assert_eq!(server.expect(Method::GET, "/v1/collections/staff", None).await["identityCount"], 1);
}

#[tokio::test]
async fn identities_expire_by_the_time_to_live_of_their_collection() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start { env: &[("SEMBLANCE_SWEEP_INTERVAL_SECONDS", "1")], ..Start::default() });
    make_collection(&server, "staff").await;
    let (collection, identities) = ("/v1/collections/staff", "/v1/collections/staff/identities");
    for wrong in [-1, 1_000_000_000_000_i64] {
        let body = json!({"policy": {"identityTtlSeconds": wrong}});
        let (status, problem) = server.ask(Method::PATCH, collection, Some(body)).await;
        let field = &problem["violations"][0]["field"];
        assert_eq!((status, field), (StatusCode::BAD_REQUEST, &json!("policy.identityTtlSeconds")), "{problem}");
    }
    enroll(&server, "before", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    let updated =
        server.expect(Method::PATCH, collection, Some(json!({"policy": {"identityTtlSeconds": 86400}}))).await;
    assert_eq!(updated["policy"]["identityTtlSeconds"], 86400, "{updated}");

    let shown = async |id: &str| server.expect(Method::GET, &format!("{identities}/{id}"), None).await;
    let seconds = |time: &Value| -> String { time.as_str().expect("a time")[11..].to_owned() };
    let lives_a_day = |identity: &Value| {
        // The same time of another day.
        let (made, expires) = (&identity["createTime"], &identity["expireTime"]);
        made != expires && seconds(made) == seconds(expires)
    };
    server.expect(Method::POST, &format!("{identities}?identityId=made"), Some(json!({}))).await;
    enroll(&server, "enrolled", [0.0, 1.0, 0.0, 0.0], json!({})).await;
    let first = shown("enrolled").await;
    assert!(lives_a_day(&first) && lives_a_day(&shown("made").await), "{first}");
    assert_eq!(shown("before").await.get("expireTime"), None, "it was there before the limit");
    enroll(&server, "enrolled", [0.0, 1.0, 0.1, 0.0], json!({})).await;
    assert_eq!(shown("enrolled").await, first, "a template prolongs nothing");
    let own = json!({"expireTime": "2100-01-01T00:00:00Z"});
    let own = server.expect(Method::POST, &format!("{identities}?identityId=own"), Some(own)).await;
    assert_eq!(own["expireTime"], "2100-01-01T00:00:00Z");

    server.expect(Method::PATCH, collection, Some(json!({"policy": {"identityTtlSeconds": 1}}))).await;
    enroll(&server, "brief", [0.0, 0.0, 1.0, 0.0], json!({})).await;
    let is_gone =
        async || server.ask(Method::GET, &format!("{identities}/brief"), None).await.0 == StatusCode::NOT_FOUND;
    eventually("it expires", is_gone).await;
    let is_swept = async || server.expect(Method::GET, collection, None).await["identityCount"] == 4;
    eventually("the sweep removes it", is_swept).await;
    let log = home.rows("SELECT kind FROM log_entries WHERE identity_id = 'brief' ORDER BY position", "").await;
    assert_eq!(log, ["label", "admit", "expire"]);
    let off = server.expect(Method::PATCH, collection, Some(json!({"policy": {"identityTtlSeconds": 0}}))).await;
    assert_eq!(off["policy"].get("identityTtlSeconds"), None);
}

#[tokio::test]
async fn an_expired_identity_is_nobody() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start { env: &[("SEMBLANCE_SWEEP_INTERVAL_SECONDS", "1")], ..Start::default() });
    make_collection(&server, "staff").await;
    enroll(&server, "guest", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    let body = json!({"expireTime": "2020-01-01T00:00:00Z"});
    server.expect(Method::PATCH, "/v1/collections/staff/identities/guest", Some(body)).await;
    let probe = json!({"samples": [embedding([1.0, 0.0, 0.0, 0.0])]});
    let found = server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(probe.clone())).await;
    assert_eq!(found["candidates"], json!([]));
    // Who comes again under that id is somebody new, whom the sweep lets be.
    enroll(&server, "again", [0.0, 1.0, 0.0, 0.0], json!({"old": "yes"})).await;
    server
        .expect(
            Method::PATCH,
            "/v1/collections/staff/identities/again",
            Some(json!({"expireTime": "2020-01-01T00:00:00Z"})),
        )
        .await;
    enroll(&server, "again", [0.0, 0.0, 1.0, 0.0], json!({})).await;
    let anew = server.expect(Method::GET, "/v1/collections/staff/identities/again", None).await;
    assert_eq!((&anew["labels"], anew.get("expireTime")), (&json!({}), None), "{anew}");
    // The sweep removes the record too; it runs every second here.
    let is_swept = async || server.expect(Method::GET, "/v1/collections/staff", None).await["identityCount"] == 1;
    eventually("the sweep removes the expired identity", is_swept).await;
    let found = server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(probe)).await;
    assert_eq!(found["candidates"][0]["identity"], "collections/staff/identities/again");
}

#[tokio::test]
async fn pages_of_listed_origins_may_use_rest_and_others_may_not() {
    let home = Home::new(&Database::Sqlite).await;
    let env = [("SEMBLANCE_API_KEY", "a long key"), ("SEMBLANCE_CORS_ORIGINS", "https://app.example")];
    let server = Server::start(&home, &Start { env: &env, ..Start::default() });
    let preflight = async |origin: &str| {
        let request = server.request(Method::OPTIONS, "/v1/templates:extract").header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        request.header("access-control-request-headers", "authorization,content-type").send().await.expect("answered")
    };
    let allowed = preflight("https://app.example").await;
    assert_eq!(allowed.status(), StatusCode::OK);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://app.example");
    assert!(allowed.headers()["access-control-allow-headers"].to_str().expect("text").contains("authorization"));
    let other = preflight("https://evil.example").await;
    assert_eq!(other.headers().get("access-control-allow-origin"), None);
    let models = server.request(Method::GET, "/v1/models").header("origin", "https://app.example");
    let models = models.bearer_auth("a long key").send().await.expect("answered");
    assert_eq!(
        (models.status(), models.headers()["access-control-allow-origin"].as_bytes()),
        (StatusCode::OK, &b"https://app.example"[..])
    );
}

#[tokio::test]
async fn documents_work_behind_a_path_prefix_and_head_is_answered_as_get() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    let page = server.request(Method::GET, "/docs").send().await.expect("answered").text().await.expect("a page");
    assert!(page.contains("fetch(\"openapi.json\")") && !page.contains("\"/openapi.json\""), "relative addresses");
    let openapi = server.expect(Method::GET, "/openapi.json", None).await;
    assert_eq!(openapi["servers"], json!([{"url": "."}]));
    let root = server.request(Method::GET, "/").send().await.expect("answered");
    assert_eq!((root.status(), root.url().path()), (StatusCode::OK, "/docs"), "redirected");
    let head = server.request(Method::HEAD, "/v1/models").send().await.expect("answered");
    assert_eq!(head.status(), StatusCode::OK);
    let asked = server.request(Method::GET, "/v1/models").header("accept", "application/json; enum=name");
    assert_eq!(answer(asked).await.0, StatusCode::OK);
}
