//! The database away, and the server killed: what goes on, what is refused, what comes back.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::{Method, StatusCode, header::RETRY_AFTER};
use serde_json::{Value, json};

use crate::{
    database_server::Cluster,
    rest::{embedding, enroll, make_collection},
    support::{Database, Home, Server, Start, eventually, on_both_databases},
};

const SEARCH: &str = "/v1/collections/staff/identities:search";
/// A server that soon says that the database is not there, and asks rarely what others wrote.
const IMPATIENT: [(&str, &str); 3] = [
    ("SEMBLANCE_STORE_WAIT_MS_MAX", "500"),
    ("SEMBLANCE_FOLLOW_INTERVAL_MS", "3600000"),
    ("SEMBLANCE_CONSISTENCY_WAIT_MS_MAX", "300"),
];

fn probe(values: [f32; 4]) -> Value {
    json!({"samples": [embedding(values)], "topK": 1})
}

async fn finds(server: &Server, values: [f32; 4], identity: &str) -> bool {
    let (status, found) = server.ask(Method::POST, SEARCH, Some(probe(values))).await;
    status.is_success() && found["candidates"][0]["identity"] == format!("collections/staff/identities/{identity}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn without_its_database_a_server_searches_on_refuses_writes_and_recovers_by_itself_on_postgres() {
    const ALICE: [f32; 4] = [1.0, 0.0, 0.0, 0.0];
    const BOB: [f32; 4] = [0.0, 1.0, 0.0, 0.0];
    let cluster = Cluster::start();
    let home = Home::new(&cluster.database()).await;
    let start = Start { env: &IMPATIENT, ..Start::default() };
    let (one, other) = (Server::start(&home, &start), Server::start(&home, &start));
    make_collection(&one, "staff").await;
    let enrolled = enroll(&one, "alice", ALICE, json!({})).await;
    eventually("the other follows", async || finds(&other, ALICE, "alice").await).await;

    cluster.stop();
    for server in [&one, &other] {
        assert!(finds(server, ALICE, "alice").await, "searches go on");
        let claim = json!({"samples": [embedding(ALICE)]});
        let path = "/v1/collections/staff/identities/alice:verify";
        let verified = server.ask(Method::POST, path, Some(claim)).await;
        assert!(verified.0.is_success(), "so does verify: {}", verified.1);
        let resolved = server.ask(Method::POST, "/v1/collections/staff/identities:resolve", Some(probe(ALICE))).await;
        assert!(resolved.0.is_success(), "so does resolve without consequences: {}", resolved.1);
    }
    // All who wait for the turn hear of it when the first of them does.
    let writes = (0..24).map(|at| {
        let path = format!("/v1/collections/staff/identities/p{at}:enroll");
        one.request(Method::POST, &path).json(&json!({"samples": [embedding(BOB)]})).send()
    });
    for refused in futures::future::join_all(writes).await {
        let refused = refused.expect("the server answers");
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(RETRY_AFTER), "{:?}", refused.headers());
    }
    // What it holds already it shows with its token; what it cannot hold it does not wait for in vain.
    let mut at_once = probe(ALICE);
    at_once["consistencyToken"] = enrolled["consistencyToken"].clone();
    assert!(one.ask(Method::POST, SEARCH, Some(at_once)).await.0.is_success());
    let removed = one.ask(Method::DELETE, "/v1/collections/staff/identities/alice", None).await;
    assert_eq!(removed.0, StatusCode::SERVICE_UNAVAILABLE);

    cluster.begin();
    let body = json!({"samples": [embedding(BOB)]});
    let path = "/v1/collections/staff/identities/bob:enroll";
    let written = async || one.ask(Method::POST, path, Some(body.clone())).await.0.is_success();
    eventually("writes go on by themselves", written).await;
    assert!(finds(&one, BOB, "bob").await && finds(&one, ALICE, "alice").await);
    // Nobody asks within the hour: the other listens again, and asked for all when it began to.
    eventually("the other follows again", async || finds(&other, BOB, "bob").await).await;
    enroll(&one, "carol", [0.0, 0.0, 1.0, 0.0], json!({})).await;
    eventually("and goes on following", async || finds(&other, [0.0, 0.0, 1.0, 0.0], "carol").await).await;
}

/// What clients saw of their enrolls, by identity.
#[derive(Default)]
struct Seen {
    /// The template that was answered.
    acknowledged: BTreeMap<String, String>,
    /// Sent, and cut off before an answer came.
    unanswered: Vec<String>,
}

/// An enroll that is asked once, however often it is sent.
async fn send(server: &Server, identity: &str, number: usize) -> Option<String> {
    let angle = number as f32 * 1e-3;
    let body = json!({"samples": [embedding([angle.cos(), angle.sin(), 0.0, 0.0])]});
    let request = server
        .request(Method::POST, &format!("/v1/collections/staff/identities/{identity}:enroll"))
        .header("idempotency-key", identity)
        .json(&body);
    let answer = request.send().await.ok()?;
    let answer: Value = answer.json().await.ok()?;
    answer["templates"][0]["name"].as_str().map(str::to_owned)
}

/// Enrolls from many clients at once and kills the server once `enough` of them were answered.
async fn load_and_kill(server: Server, round: usize, enough: usize, seen: &Mutex<Seen>) {
    const CLIENTS: usize = 16;
    let answered = AtomicUsize::new(0);
    let killed = tokio::sync::Notify::new();
    let client = |client: usize| {
        let (server, answered, killed) = (&server, &answered, &killed);
        async move {
            for turn in 0.. {
                let number = turn * CLIENTS + client;
                let identity = format!("r{round}-{number}");
                let template = send(server, &identity, number).await;
                let mut seen = seen.lock().expect("nobody panics while holding it");
                let Some(template) = template else {
                    seen.unanswered.push(identity);
                    return;
                };
                seen.acknowledged.insert(identity, template);
                if answered.fetch_add(1, Ordering::Relaxed) + 1 == enough {
                    killed.notify_one();
                }
            }
        }
    };
    let kill = async {
        killed.notified().await;
        server.signal("KILL");
    };
    tokio::join!(futures::future::join_all((0..CLIENTS).map(client)), kill);
}

async fn templates_of(server: &Server, identity: &str) -> Vec<String> {
    let path = format!("/v1/collections/staff/identities/{identity}/templates");
    let (status, page) = server.ask(Method::GET, &path, None).await;
    assert!(status.is_success(), "{identity} was acknowledged and is not there: {page}");
    let listed = page["templates"].as_array().expect("a list");
    listed.iter().map(|template| template["name"].as_str().expect("a name").to_owned()).collect()
}

on_both_databases! {
    killed_amid_enrolls_a_server_comes_back_with_every_acknowledged_template_and_none_twice,
}

async fn killed_amid_enrolls_a_server_comes_back_with_every_acknowledged_template_and_none_twice(database: &Database) {
    let rounds = testing::number("SEMBLANCE_TEST_KILLS", 4);
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    drop(server);
    let everything = Mutex::new(Seen::default());
    for round in 0..rounds {
        let seen = Mutex::new(Seen::default());
        // Another number each time, so that the kill comes at another moment of a commit.
        load_and_kill(Server::start(&home, &Start::default()), round, 20 + 7 * (round % 13), &seen).await;
        let server = Server::start(&home, &Start::default());
        let mut seen = seen.into_inner().expect("nobody panicked");
        assert!(!seen.unanswered.is_empty(), "it was killed amid enrolls");
        // Who heard nothing asks again, and gets what was written then, if it was.
        for identity in std::mem::take(&mut seen.unanswered) {
            let number = identity.rsplit('-').next().and_then(|n| n.parse().ok()).expect("a number");
            let template = send(&server, &identity, number).await.expect("answered now");
            seen.acknowledged.insert(identity, template);
        }
        for (identity, template) in &seen.acknowledged {
            assert_eq!(templates_of(&server, identity).await, [template.as_str()], "round {round}: {identity}");
        }
        everything.lock().expect("nobody panicked").acknowledged.append(&mut seen.acknowledged);
        server.kill();
    }
    let server = Server::start(&home, &Start::default());
    let people = everything.into_inner().expect("nobody panicked").acknowledged.len();
    println!("{database:?}: {rounds} kills, {people} enrolls");
    let greeting = server.greeting();
    assert!(greeting.contains(&format!("{people} identities, {people} templates")), "{people}: {greeting}");
    drop(server);
    home.tidy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_server_that_restarts_while_its_database_is_read_only_searches_on_postgres() {
    const ALICE: [f32; 4] = [1.0, 0.0, 0.0, 0.0];
    let home = Home::new(&crate::support::postgres()).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    enroll(&server, "alice", ALICE, json!({})).await;
    server.kill();
    let name = home.database_url.rsplit_once('/').expect("a database").1.to_owned();
    home.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;

    let server = Server::start(&home, &Start::default());
    assert!(finds(&server, ALICE, "alice").await);
    let body = json!({"samples": [embedding(ALICE)]});
    let path = "/v1/collections/staff/identities/bob:enroll";
    let (status, problem) = server.ask(Method::POST, path, Some(body)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("STORE_UNAVAILABLE")));
    drop(server);
    home.tidy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_beside_a_reader_says_that_bytes_are_left_and_removes_them_when_it_ends() {
    use sqlx::Connection;
    const ALICE: [f32; 4] = [0.36, 0.48, 0.0, 0.8];
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    enroll(&server, "alice", ALICE, json!({})).await;
    let bytes: Vec<u8> = ALICE.iter().flat_map(|value| value.to_le_bytes()).collect();
    let holds_bytes = || {
        let files = ["semblance.db", "semblance.db-wal"].map(|name| std::fs::read(home.path().join(name)));
        files.iter().flatten().any(|file| file.windows(bytes.len()).any(|window| window == bytes))
    };
    assert!(holds_bytes(), "the test knows the bytes");
    let mut other = sqlx::SqliteConnection::connect(&home.database_url).await.expect("the database opens");
    let mut reader = other.begin().await.expect("begun");
    let _: i64 = sqlx::query_scalar("SELECT count(*) FROM templates").fetch_one(&mut *reader).await.expect("read");

    let path = "/v1/collections/staff/identities/alice";
    assert_eq!(server.expect(Method::DELETE, path, None).await, json!({"pendingRemoval": true}));
    assert!(!finds(&server, ALICE, "alice").await);
    assert!(holds_bytes());
    enroll(&server, "bob", [0.0, 1.0, 0.0, 0.0], json!({})).await;

    reader.rollback().await.expect("ended");
    eventually("the bytes are removed", async || !holds_bytes()).await;
    let removed = server.expect(Method::DELETE, "/v1/collections/staff/identities/bob", None).await;
    assert_eq!(removed, json!({"pendingRemoval": false}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_database_was_moved_away_says_so_and_does_not_begin_empty() {
    const ALICE: [f32; 4] = [1.0, 0.0, 0.0, 0.0];
    let home = Home::new(&Database::Sqlite).await;
    let mut server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    enroll(&server, "alice", ALICE, json!({})).await;
    let (database, elsewhere) = (home.path().join("semblance.db"), home.path().join("moved.db"));
    std::fs::rename(&database, &elsewhere).expect("moved");
    let body = json!({"samples": [embedding(ALICE)]});
    let path = "/v1/collections/staff/identities/bob:enroll";
    let (status, _) = server.ask(Method::POST, path, Some(body)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(server.log().contains("was moved, removed or replaced"), "{}", server.log());
    assert!(finds(&server, ALICE, "alice").await, "searches go on");
    let ready = server.request(Method::GET, "/readyz").send().await.expect("answered");
    assert_eq!(ready.status(), StatusCode::OK);
    assert!(ready.text().await.expect("text").contains("writes fail"));
    let writes = server.request(Method::GET, "/readyz/writes").send().await.expect("answered");
    assert_eq!(writes.status(), StatusCode::SERVICE_UNAVAILABLE);
    server.signal("TERM");
    server.wait();

    let start = || {
        let mut serve = crate::support::program();
        serve.arg("serve").env("SEMBLANCE_DATA_DIR", home.path()).env("DATABASE_URL", &home.database_url);
        serve
            .env("SEMBLANCE_ALLOW_LOOPBACK", "true")
            .env("SEMBLANCE_NO_PULL", "true")
            .env("SEMBLANCE_HTTP_ADDR", "127.0.0.1:0");
        serve.env("SEMBLANCE_GRPC_ADDR", "127.0.0.1:0").output().expect("it runs")
    };
    let ended = start();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("holds snapshots of 1 collections"), "{said}");
    std::fs::rename(&elsewhere, &database).expect("put back");
    let server = Server::start(&home, &Start::default());
    assert!(finds(&server, ALICE, "alice").await);
}
