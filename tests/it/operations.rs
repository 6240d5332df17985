//! Looks at everybody, over REST: begun, asked about, cancelled, deleted, kept over a restart, and free of whoever was
//! erased since.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    rest::{embedding, enroll, make_collection},
    support::{Database, Home, Server, Start, answer, eventually, on_both_databases},
};

const OPERATIONS: &str = "/v1/collections/staff/operations";
const FIND: &str = "/v1/collections/staff/identities:findDuplicates";
const CLUSTER: &str = "/v1/collections/staff/templates:cluster";

/// Alice under two names, Bob, and Carol with a picture of Bob among hers.
async fn prepare(server: &Server) {
    make_collection(server, "staff").await;
    enroll(server, "alice", [1.0, 0.1, 0.0, 0.0], json!({"site": "north"})).await;
    enroll(server, "alicia", [1.0, 0.0, 0.1, 0.0], json!({"site": "north"})).await;
    enroll(server, "bob", [0.0, 1.0, 0.0, 0.0], json!({"site": "south"})).await;
    enroll(server, "carol", [0.0, 0.0, 0.0, 1.0], json!({"site": "south"})).await;
    enroll(server, "carol", [0.0, 1.0, 0.0, 0.0], json!({"site": "south"})).await;
}

async fn begin(server: &Server, path: &str, body: Value) -> String {
    let begun = server.expect(Method::POST, path, Some(body)).await;
    format!("/v1/{}", begun["name"].as_str().expect("a name"))
}

/// Asks until it is done.
async fn done(server: &Server, operation: &str) -> Value {
    let shown = async || server.expect(Method::GET, operation, None).await;
    eventually("the operation ends", async || shown().await["done"] == true).await;
    shown().await
}

fn identity(name: &str) -> Value {
    json!(format!("collections/staff/identities/{name}"))
}

async fn problem(server: &Server, path: &str, body: Value) -> (StatusCode, Value) {
    let (status, problem) = server.ask(Method::POST, path, Some(body)).await;
    (status, problem["code"].clone())
}

on_both_databases! {
    who_is_enrolled_twice_is_found_and_who_is_erased_goes_from_what_was_found,
    an_operation_of_a_server_that_is_gone_is_aborted_and_makes_room,
}

async fn who_is_enrolled_twice_is_found_and_who_is_erased_goes_from_what_was_found(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    prepare(&server).await;
    let find = begin(&server, FIND, json!({"modality": "face", "minSimilarity": 0.9})).await;
    let cluster = begin(&server, CLUSTER, json!({"modality": "face", "minSimilarity": 0.9})).await;
    let found = done(&server, &find).await;
    assert_eq!((&found["kind"], &found["progress"]), (&json!("find_duplicates"), &json!({"done": 10, "total": 10})));
    let survey = &found["duplicates"]["survey"];
    assert_eq!((&survey["identityCount"], &survey["templateCount"]), (&json!(4), &json!(5)), "{survey}");
    assert_eq!((&survey["reasons"], &survey["model"]), (&json!(["no_calibration"]), &json!("models/mine")));
    assert_eq!(survey.get("expectedFalsePairs"), None);
    let pairs = found["duplicates"]["pairs"].as_array().expect("a list");
    assert_eq!(pairs.len(), 2, "{pairs:?}");
    assert_eq!(pairs[0]["identities"], json!([identity("bob"), identity("carol")]));
    assert_eq!((&pairs[0]["sameImage"], &pairs[1]["sameImage"]), (&json!(true), &json!(false)));
    assert_eq!(pairs[1]["identities"], json!([identity("alice"), identity("alicia")]));
    let template = pairs[1]["templates"][1].as_str().expect("a name");
    assert!(template.starts_with("collections/staff/identities/alicia/templates/"), "{template}");

    // Page by page it is the same.
    let first = server.expect(Method::GET, &format!("{find}?pageSize=1"), None).await;
    assert_eq!(first["duplicates"]["pairs"], json!([pairs[0]]));
    let token = first["nextPageToken"].as_str().expect("there is another page");
    let last = server.expect(Method::GET, &format!("{find}?pageSize=1&pageToken={token}"), None).await;
    assert_eq!((&last["duplicates"]["pairs"], &last["nextPageToken"]), (&json!([pairs[1]]), &json!("")));
    let (status, _) = server.ask(Method::GET, &format!("{cluster}?pageToken={token}"), None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "the token is of another operation");

    let clustered = done(&server, &cluster).await;
    let clusters = &clustered["clusters"];
    let sizes: Vec<usize> = clusters["clusters"].as_array().expect("a list").iter().map(members).collect();
    assert_eq!((sizes, &clusters["aloneCount"]), (vec![2, 2, 1], &json!(0)), "{clusters}");
    assert_eq!(clusters["mixedClusters"], json!([0, 1]));
    assert_eq!(clusters["splitIdentities"], json!([{"identity": identity("carol"), "clusters": [1, 2]}]));

    // Both are kept over a restart, and neither names who is erased.
    server.kill();
    let server = Server::start(&home, &Start::default());
    assert_eq!(server.expect(Method::GET, &find, None).await, found);
    server.expect(Method::DELETE, "/v1/collections/staff/identities/alicia", None).await;
    for (operation, names) in [(&find, "bob"), (&cluster, "alice")] {
        let shown = server.expect(Method::GET, operation, None).await.to_string();
        assert!(!shown.contains("alicia") && shown.contains(names), "{shown}");
    }
    let clusters = server.expect(Method::GET, &cluster, None).await["clusters"].clone();
    assert_eq!(clusters["mixedClusters"], json!([1]), "Alice has no other name any more");
    let picture = clusters["clusters"][2]["members"][0]["template"].as_str().expect("a name").to_owned();
    server.expect(Method::DELETE, &format!("/v1/{picture}"), None).await;
    assert_eq!(server.expect(Method::GET, &cluster, None).await["clusters"]["splitIdentities"], json!([]));

    let listed = server.expect(Method::GET, OPERATIONS, None).await;
    assert_eq!(listed["operations"].as_array().map(Vec::len), Some(2));
    assert!(!listed.to_string().contains("identities/"), "a list tells nothing of what was found");
    server.expect(Method::DELETE, &find, None).await;
    assert_eq!(server.ask(Method::GET, &find, None).await.0, StatusCode::NOT_FOUND);
    server.expect(Method::DELETE, "/v1/collections/staff", None).await;
    assert_eq!(server.ask(Method::GET, &cluster, None).await.0, StatusCode::NOT_FOUND);
    drop(server);
    home.tidy().await;
}

fn members(cluster: &Value) -> usize {
    cluster["members"].as_array().map_or(0, Vec::len)
}

/// Makes an operation look as if another server worked at it.
async fn as_if_running(home: &Home, heard: &str) {
    let statement = format!("UPDATE operations SET running = TRUE, outcome = NULL, update_time = {heard}");
    home.execute(&statement).await;
}

async fn an_operation_of_a_server_that_is_gone_is_aborted_and_makes_room(database: &Database) {
    let home = Home::new(database).await;
    let one = [("SEMBLANCE_OPERATIONS_RUNNING_MAX", "1")];
    let server = Server::start(&home, &Start { env: &one, ..Start::default() });
    prepare(&server).await;
    let body = json!({"modality": "face", "minSimilarity": 0.9});
    let operation = begin(&server, FIND, body.clone()).await;
    done(&server, &operation).await;
    // A server that was killed half way, heard of just now.
    server.kill();
    // The turn of the century, so that no machine is too slow for the minute.
    as_if_running(&home, "4102444800000000").await;
    let server = Server::start(&home, &Start { env: &one, ..Start::default() });
    let shown = server.expect(Method::GET, &operation, None).await;
    assert_eq!((&shown["done"], shown.get("duplicates")), (&json!(false), None), "{shown}");
    assert_eq!(
        problem(&server, FIND, body.clone()).await,
        (StatusCode::TOO_MANY_REQUESTS, json!("TOO_MANY_OPERATIONS"))
    );
    let cancelled = server.expect(Method::POST, &format!("{operation}:cancel"), Some(json!({}))).await;
    assert_eq!((&cancelled["done"], &cancelled["cancelRequested"]), (&json!(false), &json!(true)));

    // And a minute later.
    as_if_running(&home, "0").await;
    let aborted = server.expect(Method::GET, &operation, None).await;
    assert_eq!(aborted["done"], true);
    assert_eq!((&aborted["error"]["code"], &aborted["error"]["reason"]), (&json!(10), &json!("SERVER_STOPPED")));
    let next = begin(&server, FIND, body).await;
    assert_eq!(done(&server, &next).await.get("error"), None);
    drop(server);
    home.tidy().await;
}

#[tokio::test]
async fn what_cannot_be_looked_for_is_refused() {
    let home = Home::new(&Database::Sqlite).await;
    let few = [("SEMBLANCE_OPERATION_FINDINGS_MAX", "1"), ("SEMBLANCE_OPERATION_PAIRS_MAX", "4")];
    let server = Server::start(&home, &Start { env: &few, ..Start::default() });
    let face = json!({"modality": "face"});
    assert_eq!(problem(&server, FIND, face.clone()).await, (StatusCode::NOT_FOUND, json!("COLLECTION_NOT_FOUND")));
    make_collection(&server, "staff").await;
    assert_eq!(problem(&server, FIND, face.clone()).await, (StatusCode::CONFLICT, json!("EMPTY_GALLERY")));
    server.expect(Method::DELETE, "/v1/collections/staff", None).await;
    prepare(&server).await;
    assert_eq!(problem(&server, FIND, face).await, (StatusCode::CONFLICT, json!("NO_CALIBRATION")));
    for (field, wrong) in [
        ("modality", json!({})),
        ("minSimilarity", json!({"modality": "face", "minSimilarity": 1.5})),
        ("filter", json!({"modality": "face", "filter": "site north"})),
    ] {
        let (status, refused) = server.ask(Method::POST, CLUSTER, Some(wrong)).await;
        assert_eq!((status, &refused["violations"][0]["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{refused}");
    }
    for (level, sentence) in [(0.9, "keeps at most 1 pairs"), (-1.0, "more than 4 pairs of templates")] {
        let body = json!({"modality": "face", "minSimilarity": level});
        let refused = done(&server, &begin(&server, FIND, body).await).await;
        assert_eq!((&refused["error"]["code"], &refused["error"]["reason"]), (&json!(8), &json!("TOO_MUCH_FOUND")));
        assert!(refused["error"]["message"].as_str().is_some_and(|said| said.contains(sentence)), "{refused}");
    }
    // Among the others there is one pair.
    let filter = json!({"modality": "face", "minSimilarity": 0.9, "filter": "labels.site = \"north\""});
    let once = || answer(server.request(Method::POST, FIND).header("idempotency-key", "once").json(&filter));
    let (status, begun) = once().await;
    assert_eq!(status, StatusCode::OK, "{begun}");
    assert_eq!(once().await.1["name"], begun["name"], "asked again, begun once");
    let found = done(&server, &format!("/v1/{}", begun["name"].as_str().expect("a name"))).await;
    assert_eq!(found["duplicates"]["pairs"][0]["identities"], json!([identity("alice"), identity("alicia")]));
    let nothing = server.ask(Method::GET, &format!("{OPERATIONS}/01890a5d-ac96-774b-bcce-b302099a8057"), None).await;
    assert_eq!((nothing.0, &nothing.1["code"]), (StatusCode::NOT_FOUND, &json!("OPERATION_NOT_FOUND")));
    let metrics = server.request(Method::GET, "/metrics").send().await.expect("answered").text().await.expect("text");
    let line = "semblance_operations_total{kind=\"find_duplicates\",outcome=\"too_much_found\"} 2";
    assert!(metrics.contains(line), "{metrics}");
    assert!(metrics.contains("semblance_operations_running{kind=\"find_duplicates\"} 0"), "{metrics}");
}

/// Whoever was enrolled twice among hundreds, by the level that follows from the gallery's own calibration.
#[tokio::test]
async fn a_calibrated_gallery_chooses_its_level() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    // All around on a sphere, as far from each other as so many can be.
    let person = |number: u16| {
        let (a, b) = (f32::from(number) * 2.399_963, f32::from(number) / 160.0 - 1.0);
        let ring = (1.0 - b * b).max(0.0).sqrt();
        [ring * a.cos(), ring * a.sin(), b, 0.2]
    };
    let requests: Vec<Value> = (0..320_u16)
        .map(|number| json!({"name": format!("collections/staff/identities/p{number}"), "samples": [embedding(person(number))]}))
        .collect();
    let body = json!({"requests": requests});
    let enrolled = server.expect(Method::POST, "/v1/collections/staff/identities:batchEnroll", Some(body)).await;
    assert_eq!(enrolled["outcomes"].as_array().map(Vec::len), Some(320));
    let operation = begin(&server, FIND, json!({"modality": "face"})).await;
    let found = done(&server, &operation).await;
    let survey = &found["duplicates"]["survey"];
    assert_eq!(survey["source"], "rehearsal", "{found}");
    assert_eq!(survey["reasons"], json!(["unsupported"]));
    assert!(survey["level"].as_f64().is_some_and(|level| level > 0.9), "{survey}");
    // Four numbers can hardly tell hundreds apart at any level, and that is said.
    assert!(survey["expectedFalsePairs"].as_f64().is_some_and(|pairs| pairs > 0.5), "{survey}");
}
