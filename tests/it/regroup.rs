//! Merges, splits and reverts over REST: random sequences that are undone to the byte, over a restart and on another
//! replica, and what is refused.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    rest::{embedding, enroll, make_collection},
    support::{Database, Home, Server, Start, answer, eventually, on_both_databases, postgres, program},
};

const IDENTITIES: &str = "/v1/collections/staff/identities";
const MERGE: &str = "/v1/collections/staff/identities:merge";
const SEARCH: &str = "/v1/collections/staff/identities:search";
const PEOPLE: u16 = 6;

fn name(id: &str) -> String {
    format!("collections/staff/identities/{id}")
}

fn values(number: u16) -> [f32; 4] {
    let angle = f32::from(number) * 0.37;
    [angle.cos(), angle.sin(), (angle * 1.7).cos(), (angle * 2.3).sin()]
}

/// People with one to three templates and labels.
async fn people(server: &Server) {
    make_collection(server, "staff").await;
    for person in 0..PEOPLE {
        for template in 0..=person % 3 {
            let labels = json!({"name": format!("Größe {person}"), format!("only-{person}"): "\"yes\""});
            enroll(server, &format!("p{person}"), values(person * 3 + template), labels).await;
        }
    }
    let expires = json!({"expireTime": "2100-01-01T00:00:00.123456Z"});
    server.expect(Method::PATCH, &format!("{IDENTITIES}/p1"), Some(expires)).await;
}

/// All that a revert restores: the records without their revisions, the templates and their embeddings.
async fn stored(home: &Home) -> Vec<String> {
    let identities = home
        .rows(
            "SELECT id || ' ' || labels || ' ' || coalesce(expire_time, '') || ' ' || create_time || ' ' || update_time
             FROM identities ORDER BY id",
            "SELECT id || ' ' || labels::text || ' ' || coalesce(expire_time::text, '') || ' ' || create_time || ' ' || update_time
             FROM identities ORDER BY id",
        )
        .await;
    let templates = home
        .rows(
            "SELECT hex(t.id) || ' ' || t.identity_id || ' ' || t.modality || t.model || t.origin || ' ' || t.position
                    || ' ' || t.create_time || ' ' || coalesce(t.quality, '') || ' ' || p.crc32 || ' ' || hex(p.bytes)
             FROM templates AS t JOIN template_payloads AS p ON p.template_id = t.id ORDER BY t.position",
            "SELECT t.id::text || ' ' || t.identity_id || ' ' || t.modality || t.model || t.origin || ' ' || t.position
                    || ' ' || t.create_time || ' ' || coalesce(t.quality::text, '') || ' ' || p.crc32 || ' '
                    || encode(p.bytes, 'hex')
             FROM templates AS t JOIN template_payloads AS p ON p.template_id = t.id ORDER BY t.position",
        )
        .await;
    identities.into_iter().chain(templates).collect()
}

async fn answers(server: &Server, token: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for number in 0..PEOPLE * 3 {
        let mut asked = json!({"samples": [embedding(values(number))], "topK": 9});
        if token.is_string() {
            asked["consistencyToken"] = token.clone();
        }
        all.push(server.expect(Method::POST, SEARCH, Some(asked)).await["candidates"].clone());
    }
    all
}

async fn ids(server: &Server) -> Vec<String> {
    let list = server.expect(Method::GET, IDENTITIES, None).await;
    let list = list["identities"].as_array().expect("a list").clone();
    list.iter().map(|one| one["name"].as_str().expect("a name").rsplit('/').next().expect("an id").to_owned()).collect()
}

async fn templates(server: &Server, id: &str) -> Vec<String> {
    let list = server.expect(Method::GET, &format!("{IDENTITIES}/{id}/templates"), None).await;
    let list = list["templates"].as_array().expect("a list").clone();
    list.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

async fn merge(server: &Server, target: &str, sources: &[&str]) -> Value {
    let sources: Vec<String> = sources.iter().map(|id| name(id)).collect();
    server.expect(Method::POST, MERGE, Some(json!({"target": name(target), "sources": sources}))).await
}

async fn split(server: &Server, id: &str, moved: &[String]) -> Value {
    server.expect(Method::POST, &format!("{IDENTITIES}/{id}:split"), Some(json!({"templates": moved}))).await
}

async fn revert(server: &Server, id: &str) -> Value {
    server.expect(Method::POST, &format!("{IDENTITIES}/{id}:revert"), Some(json!({}))).await
}

/// A random merge or split of what there is. Returns the identity to revert.
async fn regroup(server: &Server, draw: &mut impl FnMut(usize) -> usize) -> String {
    loop {
        let all = ids(server).await;
        let first = all[draw(all.len())].clone();
        let owned = templates(server, &first).await;
        if draw(2) == 0 && owned.len() > 1 {
            let moved = 1 + draw(owned.len() - 1);
            split(server, &first, &owned[..moved]).await;
            return first;
        }
        let sources: Vec<&str> = all.iter().map(String::as_str).filter(|id| *id != first).take(1 + draw(2)).collect();
        if !sources.is_empty() {
            merge(server, &first, &sources).await;
            return first;
        }
    }
}

on_both_databases! {
    reverts_in_reverse_order_restore_the_store_to_the_byte_also_after_a_restart,
    what_is_refused_says_why_and_changes_nothing,
    findings_are_applied_or_dismissed_and_stay_so,
}

async fn reverts_in_reverse_order_restore_the_store_to_the_byte_also_after_a_restart(database: &Database) {
    const STEPS: usize = 6;
    let home = Home::new(database).await;
    let mut server = Server::start(&home, &Start::default());
    people(&server).await;
    let mut state = 11_u64;
    let mut draw = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    for round in 0..testing::number("SEMBLANCE_TEST_ROUNDS", 4) {
        let mut before = vec![(stored(&home).await, answers(&server, &Value::Null).await)];
        let mut done = Vec::new();
        for _ in 0..STEPS {
            done.push(regroup(&server, &mut draw).await);
            before.push((stored(&home).await, answers(&server, &Value::Null).await));
        }
        // A start from the store, or from a snapshot and the log since.
        if round % 2 == 0 {
            server.kill();
        } else {
            server.signal("TERM");
            assert!(server.wait().success(), "{}", server.log());
        }
        assert_sound(&home);
        server = Server::start(&home, &Start::default());
        let now = (stored(&home).await, answers(&server, &Value::Null).await);
        assert_eq!(&now, before.last().expect("the last state"), "round {round}: a restart changes nothing");
        while let Some(identity) = done.pop() {
            before.pop();
            revert(&server, &identity).await;
            let now = (stored(&home).await, answers(&server, &Value::Null).await);
            assert_eq!(&now, before.last().expect("one more than done"), "round {round}, {} left", done.len());
        }
    }
    server.kill();
    assert_sound(&home);
    home.tidy().await;
}

/// The doctor finds nothing in the database, nor in a snapshot from before the latest moves.
fn assert_sound(home: &Home) {
    let mut doctor = program();
    doctor.arg("doctor").env("DATABASE_URL", &home.database_url).env("SEMBLANCE_DATA_DIR", home.path());
    let output = doctor.output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

async fn what_is_refused_says_why_and_changes_nothing(database: &Database) {
    let home = Home::new(database).await;
    let server =
        Server::start(&home, &Start { env: &[("SEMBLANCE_TEMPLATES_PER_IDENTITY_MAX", "4")], ..Start::default() });
    people(&server).await;
    make_collection(&server, "guests").await;
    let before = stored(&home).await;
    let asked = async |path: &str, body: Value| {
        let (status, problem) = server.ask(Method::POST, path, Some(body)).await;
        let field = problem["violations"][0]["field"].clone();
        (status, problem["code"].as_str().expect("a code").to_owned(), field)
    };
    let bad = |field: &str| (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT".to_owned(), json!(field));
    let other = |status, code: &str| (status, code.to_owned(), Value::Null);
    let merged = |target: &str, sources: &[&str]| json!({"target": target, "sources": sources});
    let (p0, p1, p2) = (name("p0"), name("p1"), name("p2"));
    let guest = "collections/guests/identities/p1";
    assert_eq!(asked(MERGE, merged(&p0, &[&p0])).await, bad("sources[0]"));
    assert_eq!(asked(MERGE, merged(&p0, &[&p1, &p1])).await, bad("sources[1]"));
    assert_eq!(asked(MERGE, merged(&p0, &[&p1, guest])).await, bad("sources[1]"));
    assert_eq!(asked(MERGE, merged(guest, &[&p1])).await, bad("target"));
    assert_eq!(asked(MERGE, merged(&p0, &[])).await, bad("sources"));
    assert_eq!(asked(MERGE, merged(&p0, &["p1"])).await, bad("sources[0]"));
    assert_eq!(asked(MERGE, merged(&p0, &[&name("x")])).await, other(StatusCode::NOT_FOUND, "IDENTITY_NOT_FOUND"));
    assert_eq!(asked(MERGE, merged(&p0, &[&p1, &p2])).await, other(StatusCode::CONFLICT, "TOO_MANY_TEMPLATES"));
    let splitting = |id: &str| format!("{IDENTITIES}/{id}:split");
    let (owned, foreign) = (templates(&server, "p2").await, templates(&server, "p1").await);
    assert_eq!(
        asked(&splitting("p2"), json!({"templates": owned})).await,
        other(StatusCode::CONFLICT, "SPLIT_LEAVES_NOTHING")
    );
    assert_eq!(asked(&splitting("p2"), json!({"templates": [foreign[0]]})).await, bad("templates[0]"));
    let unknown = format!("{p2}/templates/01890a5d-ac96-774b-bcce-b302099a8057");
    assert_eq!(
        asked(&splitting("p2"), json!({"templates": [unknown]})).await,
        other(StatusCode::NOT_FOUND, "TEMPLATE_NOT_FOUND")
    );
    let taken = json!({"templates": [owned[0]], "identityId": "p1"});
    assert_eq!(asked(&splitting("p2"), taken).await, other(StatusCode::CONFLICT, "ALREADY_EXISTS"));
    let reverting = format!("{IDENTITIES}/p0:revert");
    assert_eq!(asked(&reverting, json!({})).await, other(StatusCode::CONFLICT, "NOTHING_TO_REVERT"));
    let elsewhere = "collections/guests/regroupings/01890a5d-ac96-774b-bcce-b302099a8057";
    assert_eq!(asked(&reverting, json!({"regrouping": elsewhere})).await, bad("regrouping"));
    assert_eq!(stored(&home).await, before);

    // Once under one key, and reverted once.
    let body = merged(&p0, &[&p1]);
    let once = || answer(server.request(Method::POST, MERGE).header("idempotency-key", "once").json(&body));
    let (first, again) = (once().await, once().await);
    assert_eq!(first, again);
    let regrouping = first.1["regrouping"]["name"].as_str().expect("a name").to_owned();
    assert_eq!((&first.1["regrouping"]["kind"], &first.1["regrouping"]["others"]), (&json!("merge"), &json!([p1])));
    assert_eq!(asked(MERGE, merged(&p1, &[&p0])).await, other(StatusCode::NOT_FOUND, "IDENTITY_MERGED"));
    let named = json!({"regrouping": regrouping});
    let undone = server.expect(Method::POST, &reverting, Some(named.clone())).await;
    assert_eq!(undone["identities"].as_array().map(Vec::len), Some(2));
    assert_eq!(stored(&home).await, before);
    assert_eq!(asked(&reverting, named).await, other(StatusCode::CONFLICT, "ALREADY_REVERTED"));

    // An erased template is told, and what is left comes back on request.
    merge(&server, "p0", &["p1"]).await;
    let all = templates(&server, "p0").await;
    server.expect(Method::DELETE, &format!("/v1/{}", all[1]), None).await;
    let (status, problem) = server.ask(Method::POST, &reverting, Some(json!({}))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("REVERT_BLOCKED")));
    let said = problem["detail"].as_str().expect("a sentence");
    assert!(said.contains("1 of the 2 templates that moved with p1 were erased"), "{said}");
    server.expect(Method::POST, &reverting, Some(json!({"partial": true}))).await;
    assert_eq!((templates(&server, "p0").await.len(), templates(&server, "p1").await.len()), (1, 1));
    drop(server);
    home.tidy().await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn what_one_replica_merges_the_other_answers_and_reverts_on_postgres() {
    let home = Home::new(&postgres()).await;
    let start = Start { env: &[("SEMBLANCE_CONSISTENCY_WAIT_MS_MAX", "25000")], ..Start::default() };
    let (one, other) = (Server::start(&home, &start), Server::start(&home, &start));
    people(&one).await;
    let last = enroll(&one, "p0", values(90), json!({})).await["consistencyToken"].clone();
    let before = (stored(&home).await, answers(&other, &last).await);
    let merged = merge(&one, "p2", &["p5", "p0"]).await;
    let found = answers(&other, &merged["consistencyToken"]).await;
    assert_eq!(found, answers(&one, &Value::Null).await);
    assert!(!json!(found).to_string().contains("identities/p5"), "the other answers the new owner");
    let undone = revert(&other, "p2").await;
    assert_eq!((stored(&home).await, answers(&one, &undone["consistencyToken"]).await), before);

    // Two that merge each other's target: one is told where its own went.
    let opposite = |target: &str, source: &str| json!({"target": name(target), "sources": [name(source)]});
    let (a, b) = tokio::join!(
        one.ask(Method::POST, MERGE, Some(opposite("p1", "p3"))),
        other.ask(Method::POST, MERGE, Some(opposite("p3", "p1")))
    );
    let (done, refused) = if a.0.is_success() { (a, b) } else { (b, a) };
    assert_eq!((done.0, refused.0), (StatusCode::OK, StatusCode::NOT_FOUND), "{done:?} {refused:?}");
    assert_eq!(refused.1["code"], "IDENTITY_MERGED");
    drop((one, other));
    home.tidy().await;
}

/// The states of the pairs that a new operation finds.
async fn states(server: &Server) -> (String, Vec<(Value, Value)>) {
    let find = "/v1/collections/staff/identities:findDuplicates";
    let body = json!({"modality": "face", "minSimilarity": 0.9});
    let begun = server.expect(Method::POST, find, Some(body)).await;
    let operation = format!("/v1/{}", begun["name"].as_str().expect("a name"));
    let shown = async || server.expect(Method::GET, &operation, None).await;
    eventually("the operation ends", async || shown().await["done"] == true).await;
    (operation.clone(), pairs(server, &operation).await)
}

async fn pairs(server: &Server, operation: &str) -> Vec<(Value, Value)> {
    let shown = server.expect(Method::GET, operation, None).await;
    let pairs = shown["duplicates"]["pairs"].as_array().expect("a list").clone();
    pairs.iter().map(|pair| (pair["identities"].clone(), pair["state"].clone())).collect()
}

async fn findings_are_applied_or_dismissed_and_stay_so(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    for (id, values) in [
        ("ann", [1.0, 0.0, 0.0, 0.0]),
        ("ann-again", [1.0, 0.1, 0.0, 0.0]),
        ("bob", [0.0, 0.0, 1.0, 0.0]),
        ("bob-brother", [0.0, 0.0, 1.0, 0.1]),
    ] {
        enroll(&server, id, values, json!({})).await;
    }
    let (operation, found) = states(&server).await;
    let (ann, bob) = (json!([name("ann"), name("ann-again")]), json!([name("bob"), name("bob-brother")]));
    let state = |found: &[(Value, Value)], pair: &Value| {
        found.iter().find(|(identities, _)| identities == pair).map(|(_, state)| state.clone())
    };
    assert_eq!((state(&found, &ann), state(&found, &bob)), (Some(json!("open")), Some(json!("open"))));

    let act =
        async |verb: &str, body: Value| server.ask(Method::POST, &format!("{operation}:{verb}"), Some(body)).await;
    let field = |problem: &Value| problem["violations"][0]["field"].clone();
    let (status, problem) = act("applyFinding", json!({"identities": [name("ann")]})).await;
    assert_eq!((status, field(&problem)), (StatusCode::BAD_REQUEST, json!("identities")));
    let (status, problem) = act("applyFinding", json!({"identities": ann, "target": name("bob")})).await;
    assert_eq!((status, field(&problem)), (StatusCode::BAD_REQUEST, json!("target")));
    let (status, problem) = act("dismissFinding", json!({"identities": [name("ann"), name("bob")]})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("FINDING_NOT_FOUND")));

    let (status, merged) = act("applyFinding", json!({"identities": ann})).await;
    assert_eq!((status, &merged["regrouping"]["identity"]), (StatusCode::OK, &json!(name("ann"))), "the first created");
    let (status, _) = act("dismissFinding", json!({"identities": bob})).await;
    assert_eq!(status, StatusCode::OK);
    let shown = pairs(&server, &operation).await;
    assert_eq!(state(&shown, &bob), Some(json!("dismissed")));
    assert_eq!(state(&shown, &json!([name("ann"), name("ann")])), Some(json!("applied")));
    assert_eq!(act("applyFinding", json!({"identities": ann})).await.0, StatusCode::NOT_FOUND, "it is applied");

    server.kill();
    let server = Server::start(&home, &Start::default());
    let (later, found) = states(&server).await;
    assert_eq!(found, [(bob.clone(), json!("dismissed"))], "a later operation knows");
    revert(&server, "ann").await;
    assert_eq!(state(&pairs(&server, &operation).await, &ann), Some(json!("open")));
    server.expect(Method::POST, &format!("{later}:restoreFinding"), Some(json!({"identities": bob}))).await;
    assert_eq!(state(&pairs(&server, &later).await, &bob), Some(json!("open")));
    server.expect(Method::POST, &format!("{later}:dismissFinding"), Some(json!({"identities": bob}))).await;
    // Whoever comes back under an erased id is another person.
    server.expect(Method::DELETE, &format!("{IDENTITIES}/bob"), None).await;
    enroll(&server, "bob", [0.0, 0.0, 1.0, 0.0], json!({})).await;
    let (_, found) = states(&server).await;
    assert_eq!(state(&found, &bob), Some(json!("open")));
    drop(server);
    home.tidy().await;
}
