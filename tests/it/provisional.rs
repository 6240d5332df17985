//! Provisional identities over REST: made by an undecided sighting, listed, found only when asked for, enrolled or erased.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    rest::{embedding, enroll, make_collection},
    support::{Database, Home, Server, Start, eventually, on_both_databases},
};

const COLLECTION: &str = "/v1/collections/staff";

async fn resolve(server: &Server, values: [f32; 4]) -> Value {
    let body = json!({"samples": [embedding(values)], "labels": {"gate": "2"}, "topK": 1, "mode": "enroll_if_new"});
    server.expect(Method::POST, &format!("{COLLECTION}/identities:resolve"), Some(body)).await
}

async fn nearest(server: &Server, body: Value) -> Value {
    let found = server.expect(Method::POST, &format!("{COLLECTION}/identities:search"), Some(body)).await;
    found["candidates"][0]["identity"].clone()
}

async fn listed(server: &Server, query: &str) -> Vec<String> {
    let list = server.expect(Method::GET, &format!("{COLLECTION}/identities{query}"), None).await;
    let names = list["identities"].as_array().into_iter().flatten();
    names.filter_map(|identity| identity["name"].as_str().map(str::to_owned)).collect()
}

on_both_databases! {
    a_stranger_is_provisional_until_an_operator_enrolls_or_erases_him,
}

async fn a_stranger_is_provisional_until_an_operator_enrolls_or_erases_him(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    // Without a calibration, thresholds make every answer uncertain.
    let policy =
        json!({"policy": {"uncertain": "provisional", "openSet": "thresholds", "provisionalTtlSeconds": 3600}});
    let updated = server.expect(Method::PATCH, COLLECTION, Some(policy)).await;
    assert_eq!(
        (&updated["policy"]["uncertain"], &updated["policy"]["provisionalTtlSeconds"]),
        (&json!("provisional"), &json!(3600))
    );
    enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;

    let stranger = [0.3, 1.0, 0.0, 0.0];
    let answer = resolve(&server, stranger).await;
    assert_eq!(
        (&answer["decision"], &answer["enrolled"], &answer["sightingCount"]),
        (&json!("uncertain"), &json!(false), &json!(1)),
        "{answer}"
    );
    let name = answer["provisionalIdentity"].as_str().expect("a provisional identity").to_owned();
    let path = format!("/v1/{name}");
    let record = server.expect(Method::GET, &path, None).await;
    assert_eq!((&record["provisional"], &record["labels"]["gate"]), (&json!(true), &json!("2")), "{record}");
    assert!(record["expireTime"].is_string(), "{record}");

    let alice = "collections/staff/identities/alice";
    assert_eq!(listed(&server, "?provisional=true").await, [name.as_str()]);
    assert_eq!(listed(&server, "?provisional=false").await, [alice]);
    assert_eq!(listed(&server, "").await.len(), 2);
    let counts = server.expect(Method::GET, COLLECTION, None).await;
    assert_eq!((&counts["identityCount"], &counts["provisionalIdentityCount"]), (&json!(1), &json!(1)), "{counts}");
    assert_eq!(nearest(&server, json!({"samples": [embedding(stranger)], "topK": 1})).await, alice);
    let body = json!({"samples": [embedding(stranger)], "topK": 1, "includeProvisional": true});
    assert_eq!(nearest(&server, body).await, name);

    for refused in ["enroll", "verify"] {
        let body = json!({"samples": [embedding(stranger)]});
        let (status, problem) = server.ask(Method::POST, &format!("{path}:{refused}"), Some(body)).await;
        assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("IDENTITY_PROVISIONAL")), "{problem}");
    }
    let hidden = json!({"provisional": true});
    for (method, path) in [
        (Method::PATCH, format!("/v1/{alice}?updateMask=provisional")),
        (Method::POST, format!("{COLLECTION}/identities?identityId=hidden")),
    ] {
        let (status, problem) = server.ask(method, &path, Some(hidden.clone())).await;
        let field = &problem["violations"][0]["field"];
        assert_eq!((status, field), (StatusCode::BAD_REQUEST, &json!("identity.provisional")), "{problem}");
    }
    for (wrong, field) in [
        (json!({"provisionalTtlSeconds": 0}), "policy.provisionalTtlSeconds"),
        (json!({"provisionalTtlSeconds": -1}), "policy.provisionalTtlSeconds"),
        (json!({"review": "uncertain"}), "policy.uncertain"),
    ] {
        let (status, problem) = server.ask(Method::PATCH, COLLECTION, Some(json!({"policy": wrong}))).await;
        assert_eq!((status, &problem["violations"][0]["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
    }

    // After a restart it is still provisional; an operator who knows him enrolls him.
    server.kill();
    let server = Server::start(&home, &Start::default());
    assert_eq!(nearest(&server, json!({"samples": [embedding(stranger)], "topK": 1})).await, alice);
    let body = json!({"provisional": false, "labels": {"name": "carl"}});
    let enrolled = server.expect(Method::PATCH, &format!("{path}?updateMask=provisional,labels"), Some(body)).await;
    assert_eq!((enrolled["provisional"] == false, enrolled.get("expireTime")), (true, None), "{enrolled}");
    assert_eq!(nearest(&server, json!({"samples": [embedding(stranger)], "topK": 1})).await, name);

    let other = resolve(&server, [0.0, 0.0, 1.0, 0.2]).await;
    let other = other["provisionalIdentity"].as_str().expect("another").to_owned();
    server.expect(Method::DELETE, &format!("/v1/{other}"), None).await;
    assert_eq!(listed(&server, "?provisional=true").await, Vec::<String>::new());
    let erased = "SELECT identity_id FROM templates ORDER BY position";
    let left = home.rows(erased, erased).await;
    assert_eq!(left, ["alice", name.rsplit('/').next().expect("an id")], "the other is erased");

    let brief = json!({"policy": {"provisionalTtlSeconds": 1}});
    server.expect(Method::PATCH, COLLECTION, Some(brief)).await;
    let brief = resolve(&server, [0.0, 0.0, 0.2, 1.0]).await;
    let brief = brief["provisionalIdentity"].as_str().expect("a third").to_owned();
    let is_gone = async || server.ask(Method::GET, &format!("/v1/{brief}"), None).await.0 == StatusCode::NOT_FOUND;
    eventually("it expires", is_gone).await;
    drop(server);
    home.tidy().await;
}
