//! Several templates of one person: how they speak together, and what re-ranking makes of them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    rest::{embedding, enroll, make_collection},
    support::{Database, Home, Server, Start, program},
};

const PROBE: [f32; 4] = [1.0, 0.0, 0.0, 0.0];
/// At 40 degrees from the probe, beside each other.
const ALICE: [[f32; 4]; 4] = [
    [0.7660, 0.6428, 0.0, 0.0],
    [0.7660, 0.5265, 0.3687, 0.0],
    [0.7660, 0.2198, 0.6040, 0.0],
    [0.7660, -0.1664, 0.6209, 0.0],
];
/// One at 38 degrees, and three that it has nothing in common with.
const BOB: [[f32; 4]; 4] =
    [[0.7880, 0.0, 0.0, 0.6157], [-0.1736, 0.0, 0.0, 0.9848], [-0.1736, 0.1, 0.0, 0.98], [-0.1736, -0.1, 0.0, 0.98]];

async fn start() -> (Home, Server) {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    for (name, templates) in [("alice", ALICE), ("bob", BOB)] {
        for values in templates {
            enroll(&server, name, values, json!({})).await;
        }
    }
    (home, server)
}

async fn wish(server: &Server, policy: Value) {
    server.expect(Method::PATCH, "/v1/collections/staff", Some(json!({"policy": policy}))).await;
}

/// Who is listed in order, with their similarities, and what ordered them.
async fn search(server: &Server, more: Value) -> (Vec<(String, f64)>, String) {
    let mut body = json!({"samples": [embedding(PROBE)]});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let answer = server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(body)).await;
    let one = |candidate: &Value| {
        let name = candidate["identity"].as_str().expect("a name").rsplit('/').next().expect("a part").to_owned();
        (name, candidate["similarity"].as_f64().expect("a number"))
    };
    let candidates = answer["candidates"].as_array().map(|list| list.iter().map(one).collect());
    (candidates.unwrap_or_default(), answer["ranking"].as_str().unwrap_or_default().to_owned())
}

fn names(found: &[(String, f64)]) -> Vec<&str> {
    found.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn re_ranking_moves_places_and_neither_similarities_nor_decisions() {
    let (home, server) = start().await;
    let (plain, ranking) = search(&server, json!({})).await;
    assert_eq!((names(&plain), ranking.as_str()), (vec!["bob", "alice"], "similarity"));

    wish(&server, json!({"reranking": "neighbours"})).await;
    let (found, ranking) = search(&server, json!({})).await;
    assert_eq!((names(&found), ranking.as_str()), (vec!["alice", "bob"], "neighbours"));
    assert_eq!((&found[0], &found[1]), (&plain[1], &plain[0]), "similarities are what they were");
    // Whoever is not listed is a neighbour all the same, and a least similarity trims what was ordered.
    assert_eq!(names(&search(&server, json!({"topK": 1})).await.0), ["alice"]);
    assert_eq!(names(&search(&server, json!({"minSimilarity": 0.78})).await.0), ["bob"]);
    let body = json!({"samples": [embedding(PROBE)]});
    let resolved = server.expect(Method::POST, "/v1/collections/staff/identities:resolve", Some(body)).await;
    assert_eq!(resolved["candidates"][0]["identity"], "collections/staff/identities/bob", "{resolved}");

    wish(&server, json!({"reranking": "k_reciprocal"})).await;
    assert_eq!(search(&server, json!({})).await.1, "k_reciprocal");
    // Among people of one template each the order stays.
    for stranger in 0_u8..9 {
        let values = [-0.5, f32::from(stranger), 9.0 - f32::from(stranger), 0.3];
        enroll(&server, &format!("stranger{stranger}"), values, json!({})).await;
    }
    let (found, ranking) = search(&server, json!({"topK": 2})).await;
    assert_eq!((found, ranking.as_str()), (plain, "similarity"));

    wish(&server, json!({"reranking": "off"})).await;
    let wrong = json!({"policy": {"reranking": "backwards"}});
    let (status, problem) = server.ask(Method::PATCH, "/v1/collections/staff", Some(wrong)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    home.tidy().await;
}

#[tokio::test]
async fn a_template_that_its_own_people_disagree_with_hardly_counts() {
    let (home, server) = start().await;
    for mode in ["prototype", "centralised"] {
        wish(&server, json!({"pooling": {"mode": mode}})).await;
        let (found, _) = search(&server, json!({})).await;
        assert_eq!(names(&found), ["alice", "bob"], "{mode}");
        assert!(found[0].1 > 0.78 && found[1].1 < 0.5, "{mode}: {found:?}");
        let body = json!({"samples": [embedding(PROBE)]});
        let verified = server.expect(Method::POST, "/v1/collections/staff/identities/alice:verify", Some(body)).await;
        assert_eq!(verified["similarity"].as_f64(), Some(found[0].1), "verify and search agree: {verified}");
    }
    // What comes and goes is weighed at once: with the three others gone, Bob is his best template.
    let path = "/v1/collections/staff/identities/bob/templates";
    let listed = server.expect(Method::GET, path, None).await;
    for template in &listed["templates"].as_array().expect("templates")[1..] {
        let name = template["name"].as_str().expect("a name");
        server.expect(Method::DELETE, &format!("/v1/{name}"), None).await;
    }
    for mode in ["prototype", "centralised"] {
        wish(&server, json!({"pooling": {"mode": mode}})).await;
        let (found, _) = search(&server, json!({})).await;
        let bob = found.iter().find(|(name, _)| name == "bob").expect("he is enrolled");
        assert!((bob.1 - 0.788).abs() < 1e-3, "{mode}: {found:?}");
    }
    home.tidy().await;
}

#[test]
fn templates_of_simulated_people_are_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("report.json");
    let ended = program()
        .args(["evaluate", "--protocol", "templates", "--draws", "1", "--json"])
        .arg(&json)
        .output()
        .expect("the program runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(said.contains("one of 4 swapped") && said.contains("best + k-reciprocal"), "{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(json).expect("written")).expect("a report");
    let prototype = &report[0]["tables"][0]["rows"][3];
    assert_eq!(prototype["way"], "prototype");
    assert!(prototype["lost"]["of_plain_mean"]["value"].as_f64().is_some_and(|share| share <= 0.6), "{prototype}");
}
