//! Probes of several modalities: searched, verified, resolved, enrolled, shown again and put to a human by the evidence of all.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Database, Home, Server, Start, direction, eventually, on_both_databases};

const PEOPLE: u64 = 200;
const COLLECTION: &str = "/v1/collections/staff";

/// What a modality shows of a person, blurred by so much; bodies are other numbers than faces.
fn sample(modality: &str, person: u64, number: u64, noise: f32) -> Value {
    let kind = if modality == "face" { 0 } else { 50_000_000 };
    let blur = direction(kind + 1_000_000 + person * 100 + number);
    let values: Vec<f32> = direction(kind + person).iter().zip(blur).map(|(own, blur)| own + noise * blur).collect();
    json!({"modality": modality, "embedding": {"model": format!("{modality}-model"), "values": values}})
}

fn face(person: u64, number: u64) -> Value {
    sample("face", person, number, 0.45)
}

fn body(person: u64, number: u64) -> Value {
    sample("person", person, number, 0.55)
}

async fn make(server: &Server, policy: Value) {
    let spaces = json!([
        {"model": "face-model", "modality": "face", "dimension": 16, "external": true},
        {"model": "person-model", "modality": "person", "dimension": 16, "external": true},
        {"model": "gait-model", "modality": "gait", "dimension": 16, "external": true},
    ]);
    let asked = json!({"spaces": spaces, "policy": policy});
    server.expect(Method::POST, "/v1/collections?collectionId=staff", Some(asked)).await;
}

async fn enroll(server: &Server) {
    let one = async |person: u64| {
        // The last ten were seen by a camera that shows no face.
        let faces = if person < PEOPLE - 10 { vec![face(person, 0), face(person, 1)] } else { Vec::new() };
        let samples: Vec<Value> = faces.into_iter().chain([body(person, 0), body(person, 1)]).collect();
        let path = format!("{COLLECTION}/identities/p{person}:enroll");
        server.expect(Method::POST, &path, Some(json!({"samples": samples}))).await;
    };
    for some in (0..PEOPLE).collect::<Vec<u64>>().chunks(20) {
        futures::future::join_all(some.iter().map(|person| one(*person))).await;
    }
}

async fn ask(server: &Server, method: &str, body: Value) -> Value {
    server.expect(Method::POST, &format!("{COLLECTION}/identities{method}"), Some(body)).await
}

fn reasons(answer: &Value) -> Vec<&str> {
    answer["reasons"].as_array().expect("reasons").iter().filter_map(Value::as_str).collect()
}

fn ratio(fused: &Value) -> f64 {
    fused["logLikelihoodRatio"].as_f64().unwrap_or_else(|| panic!("no ratio in {fused}"))
}

/// Of people whom one modality alone would often mistake: how many are first in a list.
async fn found_first(server: &Server, probe: impl Fn(u64) -> Vec<Value>) -> usize {
    let mut found = 0;
    for person in 0..60 {
        let answer = ask(server, ":search", json!({"samples": probe(person), "topK": 3})).await;
        found += usize::from(answer["candidates"][0]["identity"] == format!("collections/staff/identities/p{person}"));
    }
    found
}

fn start(home: &Home) -> Server {
    Server::start(home, &Start { env: &[("SEMBLANCE_CALIBRATION_WAIT_MS_MAX", "30000")], ..Start::default() })
}

on_both_databases! {
    a_face_and_a_body_together_say_more_than_either,
}

async fn a_face_and_a_body_together_say_more_than_either(database: &Database) {
    let home = Home::new(database).await;
    let server = start(&home);
    make(&server, json!({"review": "uncertain"})).await;

    // Nobody is enrolled: whoever comes is new, with all that was seen of him, and of many sightings at once one is.
    let sighting = async |number: u64| {
        let samples = [face(900, number), body(900, number)];
        ask(&server, ":resolve", json!({"samples": samples, "mode": "enroll_if_new"})).await
    };
    let sightings = futures::future::join_all((0..8).map(sighting)).await;
    let enrolled: Vec<&Value> = sightings.iter().filter(|answer| answer["enrolled"] == true).collect();
    assert_eq!(enrolled.len(), 1, "{sightings:?}");
    let first = enrolled[0];
    assert_eq!(first["decision"], "new");
    let path = format!("/v1/{}/templates", first["identity"].as_str().expect("an identity"));
    let kept = server.expect(Method::GET, &path, None).await;
    let kept: Vec<&str> =
        kept["templates"].as_array().expect("a list").iter().filter_map(|t| t["modality"].as_str()).collect();
    assert_eq!(kept, ["face", "person"]);

    // One person shows nothing of what similarities are worth.
    let unknown = ask(&server, ":resolve", json!({"samples": [face(1, 9), body(1, 9)]})).await;
    assert_eq!(unknown["decision"], "uncertain");
    assert!(reasons(&unknown).contains(&"no_calibration"), "{unknown}");
    let search = server.request(Method::POST, &format!("{COLLECTION}/identities:search"));
    let refused = search.json(&json!({"samples": [face(1, 9), body(1, 9)]})).send().await.expect("answered");
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let refused: Value = refused.json().await.expect("JSON");
    assert_eq!(refused["code"], "TOO_FEW_TRIALS", "{refused}");

    enroll(&server).await;
    let blurred = |modality: &'static str| move |person| vec![sample(modality, person, 7, 1.1)];
    let (by_face, by_body) =
        (found_first(&server, blurred("face")).await, found_first(&server, blurred("person")).await);
    let both = |person| vec![sample("face", person, 7, 1.1), sample("person", person, 7, 1.1)];
    let by_both = found_first(&server, both).await;
    assert!(by_both > by_face.max(by_body) + 5, "face {by_face}, body {by_body}, both {by_both} of 60");

    let found = ask(&server, ":search", json!({"samples": [face(5, 9), body(5, 9)], "topK": 4})).await;
    let candidates = found["candidates"].as_array().expect("candidates");
    assert_eq!((candidates.len(), found["gallerySize"].as_i64()), (4, Some(201)));
    let ratios: Vec<f64> = candidates.iter().map(|candidate| ratio(&candidate["fused"])).collect();
    assert!(ratios.is_sorted_by(|one, other| one >= other), "{ratios:?}");
    let modalities = candidates[0]["fused"]["modalities"].as_array().expect("evidence");
    assert_eq!((&modalities[0]["modality"], &modalities[1]["modality"]), (&json!("face"), &json!("person")));
    let scores: Vec<&Value> = modalities.iter().map(|evidence| &evidence["similarity"]).collect();
    assert_eq!([&candidates[0]["scores"]["face"], &candidates[0]["scores"]["person"]], scores[..]);

    // Whoever has no face here is found by his body, and the face that is missing says nothing.
    let faceless = PEOPLE - 3;
    let probe = json!([face(faceless, 9), sample("person", faceless, 9, 0.2)]);
    let missing = ask(&server, ":search", json!({"samples": probe, "topK": 1})).await;
    let best = &missing["candidates"][0];
    assert_eq!(best["identity"], format!("collections/staff/identities/p{faceless}"), "{missing}");
    assert_eq!(best["fused"]["modalities"].as_array().map(Vec::len), Some(1));
    let alone = &best["fused"]["modalities"][0]["logLikelihoodRatio"];
    assert_eq!(&best["fused"]["logLikelihoodRatio"], alone, "who speaks alone counts in full");

    // A walk, of which there is none here, changes nothing: the face is held against its thresholds.
    let walk = json!({"modality": "gait", "embedding": {"model": "gait-model", "values": direction(77)}});
    let alone = ask(&server, ":resolve", json!({"samples": [face(8, 9)]})).await;
    let beside = ask(&server, ":resolve", json!({"samples": [walk, face(8, 9)]})).await;
    for field in ["decision", "reasons", "candidates", "operatingPoint", "model", "similarity"] {
        assert_eq!(beside[field], alone[field], "{field}");
    }

    resolves(&server).await;
    verifies(&server).await;
    drop(server);
    home.tidy().await;
}

async fn resolves(server: &Server) {
    let known = ask(server, ":resolve", json!({"samples": [face(8, 9), body(8, 9)]})).await;
    assert_eq!(
        (&known["decision"], &known["identity"]),
        (&json!("known"), &json!("collections/staff/identities/p8")),
        "{known}"
    );
    let (asked, point) = (known["operatingPoint"]["evidenceKnown"].as_f64().expect("a bar"), &known["operatingPoint"]);
    assert!(ratio(&known["candidates"][0]["fused"]) >= asked && point["thresholdKnown"].is_null(), "{known}");
    assert!(known["posterior"].as_f64().is_some_and(|posterior| posterior > 0.99), "{known}");

    let stranger = ask(server, ":resolve", json!({"samples": [face(700, 9), body(700, 9)]})).await;
    assert_ne!(stranger["decision"], "known", "{stranger}");

    // The face of one person and the body of another, as they are enrolled: a face that is only similar does not always
    // make odds of ten to one among 200 identities, because the calibration differs with the ids of the templates.
    let mixed = ask(server, ":resolve", json!({"samples": [face(20, 0), body(21, 0)], "mode": "enroll_if_new"})).await;
    assert_ne!(mixed["decision"], "known", "{mixed}");
    assert!(reasons(&mixed).contains(&"modality_conflict"), "{mixed}");
    assert_eq!(mixed["decision"], "uncertain", "{mixed}");

    // What was decided is shown and decided again from what was seen; a human enrolls both modalities.
    let decision = format!("{COLLECTION}/decisions/{}", mixed["decisionId"].as_str().expect("an id"));
    let shown = server.expect(Method::GET, &decision, None).await;
    assert_eq!(shown["answer"]["reasons"], mixed["reasons"]);
    let replayed = server.expect(Method::POST, &format!("{decision}:replay"), Some(json!({}))).await;
    assert_eq!((&replayed["same"], &replayed["decision"]), (&json!(true), &json!("uncertain")), "{replayed}");
    let case = format!("/v1/{}", mixed["reviewCase"].as_str().expect("a case"));
    let verdict = json!({"verdict": "new", "identity": "twentyish", "reviewer": "ada"});
    let decided = server.expect(Method::POST, &format!("{case}:decide"), Some(verdict)).await;
    assert_eq!(decided["reviewCase"]["outcome"]["templates"].as_array().map(Vec::len), Some(2), "{decided}");

    let least = server.request(Method::POST, &format!("{COLLECTION}/identities:resolve"));
    let least = least.json(&json!({"samples": [face(8, 9), body(8, 9)], "minSimilarity": 0.5}));
    assert_eq!(least.send().await.expect("answered").status(), StatusCode::BAD_REQUEST);
}

async fn verifies(server: &Server) {
    let claim = |face_of: u64, body_of: u64| json!({"samples": [face(face_of, 9), body(body_of, 9)]});
    let own = ask(server, "/p8:verify", claim(8, 8)).await;
    assert_eq!(own["match"], true, "{own}");
    assert!(ratio(&own["fused"]) >= own["operatingPoint"]["evidenceVerify"].as_f64().expect("a bar"));
    let other = ask(server, "/p9:verify", claim(8, 8)).await;
    assert_eq!(other["match"], false, "{other}");
    let mixed = ask(server, "/p8:verify", claim(8, 9)).await;
    assert!(reasons(&mixed).contains(&"modality_conflict"), "{mixed}");
    assert!(ratio(&mixed["fused"]) < ratio(&own["fused"]));
}

#[tokio::test]
async fn what_a_body_says_fades() {
    let home = Home::new(&Database::Sqlite).await;
    let server = start(&home);
    make(&server, json!({"personHalfLifeSeconds": 1})).await;
    enroll(&server).await;
    let probe = json!({"samples": [face(5, 9), body(5, 9)], "topK": 1});
    let evidence = async || {
        let found = ask(&server, ":search", probe.clone()).await;
        let modalities = found["candidates"][0]["fused"]["modalities"].clone();
        [0, 1].map(|of| ratio(&modalities[of]))
    };
    // After some half-lives of a second nearly nothing is left of it, and of the face everything.
    eventually("the body's evidence fades", async || evidence().await[1].abs() < 0.05).await;
    assert!(evidence().await[0] > 1.0);
    let path = format!("{COLLECTION}?updateMask=policy.personHalfLifeSeconds");
    let asked = json!({"policy": {"personHalfLifeSeconds": 0}});
    let updated = server.expect(Method::PATCH, &path, Some(asked)).await;
    assert_eq!(updated["policy"]["personHalfLifeSeconds"], 0);
    let kept = evidence().await;
    assert!(kept[1] > 1.0, "{kept:?}");
    let refused = server.request(Method::PATCH, &path).json(&json!({"policy": {"personHalfLifeSeconds": -1}}));
    assert_eq!(refused.send().await.expect("answered").status(), StatusCode::BAD_REQUEST);
    drop(server);
    home.tidy().await;
}
