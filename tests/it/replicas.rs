//! Two servers on one PostgreSQL: what one wrote the other shows, early, surely, and decided once.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    rest::{embedding, enroll, make_collection},
    support::{Home, Server, Start, eventually, postgres},
};

const SEARCH: &str = "/v1/collections/staff/identities:search";
/// So rarely is asked, unless a test says otherwise, that what arrives was told.
const NEVER_ASKED: (&str, &str) = ("SEMBLANCE_FOLLOW_INTERVAL_MS", "3600000");
/// The longest that a read waits for its token.
const WAIT: (&str, &str) = ("SEMBLANCE_CONSISTENCY_WAIT_MS_MAX", "25000");

fn replica(home: &Home, env: &[(&str, &str)]) -> Server {
    let env: Vec<(&str, &str)> = [NEVER_ASKED, WAIT].iter().chain(env).copied().collect();
    Server::start(home, &Start { env: &env, ..Start::default() })
}

/// An angle of its own for each number.
fn values(number: u16) -> [f32; 4] {
    let angle = f32::from(number) * 0.01;
    [angle.cos(), angle.sin(), 0.0, 0.0]
}

async fn search(server: &Server, number: u16, token: Option<&Value>) -> (StatusCode, Value) {
    let mut body = json!({"samples": [embedding(values(number))], "topK": 1});
    if let Some(token) = token {
        body["consistencyToken"] = token.clone();
    }
    server.ask(Method::POST, SEARCH, Some(body)).await
}

/// Whether a search of that server, with no token, finds exactly this one.
async fn finds(server: &Server, number: u16, identity: &str) -> bool {
    let (status, found) = search(server, number, None).await;
    let best = &found["candidates"][0];
    status.is_success()
        && best["identity"] == format!("collections/staff/identities/{identity}")
        && best["similarity"].as_f64().is_some_and(|similarity| similarity > 0.999_999)
}

async fn execute(home: &Home, statement: String) {
    let mut connection = PgConnection::connect(&home.database_url).await.expect("connected");
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.expect("executed");
}

/// The servers' processes of the database that listen.
async fn listeners(home: &Home) -> Vec<i32> {
    let mut connection = PgConnection::connect(&home.database_url).await.expect("connected");
    sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' ORDER BY pid",
    )
    .fetch_all(&mut connection)
    .await
    .expect("rows")
}

/// A token of a place further down the same log.
fn later(token: &Value, further: u64) -> Value {
    let mut bytes = URL_SAFE_NO_PAD.decode(token.as_str().expect("a token")).expect("base64");
    let position = u64::from_be_bytes(bytes[16..].try_into().expect("eight bytes")) + further;
    bytes[16..].copy_from_slice(&position.to_be_bytes());
    json!(URL_SAFE_NO_PAD.encode(bytes))
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn what_one_replica_writes_the_other_shows_at_once_and_waits_for_by_its_token_on_postgres() {
    let home = Home::new(&postgres()).await;
    let (one, other) = (replica(&home, &[]), replica(&home, &[]));
    make_collection(&one, "staff").await;
    for number in 0..20 {
        let name = format!("p{number}");
        let (writer, reader) = if number % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let enrolled = enroll(writer, &name, values(number), json!({})).await;
        let (status, found) = search(reader, number, Some(&enrolled["consistencyToken"])).await;
        assert!(status.is_success(), "{found}");
        assert_eq!(found["candidates"][0]["identity"], format!("collections/staff/identities/{name}"));
    }
    // Nobody asks within the hour, so what comes now is told.
    let last = enroll(&one, "told", values(100), json!({})).await;
    eventually("a search finds what the other was told of", async || finds(&other, 100, "told").await).await;

    // A read may be there before the write that it waits for: its token is of two entries further on.
    let waiting = async { search(&other, 200, Some(&later(&last["consistencyToken"], 2))).await };
    let writing = async { enroll(&one, "late", values(200), json!({})).await };
    let ((status, found), _) = tokio::join!(waiting, writing);
    assert!(status.is_success(), "{found}");
    assert_eq!(found["candidates"][0]["identity"], "collections/staff/identities/late");

    one.expect(Method::DELETE, "/v1/collections/staff/identities/late", None).await;
    eventually("an erased one is found no more", async || !finds(&other, 200, "late").await).await;
    one.expect(Method::DELETE, "/v1/collections/staff", None).await;
    let gone = async || search(&other, 0, None).await.0 == StatusCode::NOT_FOUND;
    eventually("a deleted collection is gone", gone).await;
    make_collection(&one, "staff").await;
    enroll(&one, "again", values(0), json!({})).await;
    eventually("its next life is found", async || finds(&other, 0, "again").await).await;

    let page = other.request(Method::GET, "/metrics").send().await.expect("there").text().await.expect("a page");
    assert!(page.contains("semblance_gallery_lag_positions 0"), "{page}");
    drop((one, other));
    home.tidy().await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_token_that_nobody_reaches_is_refused_after_a_while_on_postgres() {
    let home = Home::new(&postgres()).await;
    let server = replica(&home, &[("SEMBLANCE_CONSISTENCY_WAIT_MS_MAX", "100")]);
    make_collection(&server, "staff").await;
    let enrolled = enroll(&server, "alice", values(1), json!({})).await;
    let (status, problem) = search(&server, 1, Some(&later(&enrolled["consistencyToken"], 1))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("NOT_CAUGHT_UP")), "{problem}");
    drop(server);
    home.tidy().await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn what_was_not_told_is_asked_for_on_postgres() {
    let home = Home::new(&postgres()).await;
    let one = replica(&home, &[]);
    make_collection(&one, "staff").await;
    // One who listens on the channel of another schema is told of nothing.
    execute(&home, "CREATE SCHEMA deaf".to_owned()).await;
    let deaf_url = format!("{}?options=-c%20search_path%3Ddeaf,public", home.database_url);
    let deaf = replica(
        &home,
        &[("DATABASE_URL", &deaf_url), ("SEMBLANCE_AUTO_MIGRATE", "false"), ("SEMBLANCE_FOLLOW_INTERVAL_MS", "100")],
    );
    for number in 0..3 {
        let name = format!("p{number}");
        enroll(&one, &name, values(number), json!({})).await;
        eventually("a search finds what was asked for", async || finds(&deaf, number, &name).await).await;
    }
    let page = deaf.request(Method::GET, "/metrics").send().await.expect("there").text().await.expect("a page");
    assert!(page.contains("semblance_gallery_notifications_total 1\n"), "it only heard that it listens: {page}");
    drop((one, deaf));
    home.tidy().await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_replica_whose_line_was_cut_catches_up_as_soon_as_it_listens_again_on_postgres() {
    let home = Home::new(&postgres()).await;
    let other = replica(&home, &[]);
    eventually("it listens", async || listeners(&home).await.len() == 1).await;
    let cut = listeners(&home).await;
    let one = replica(&home, &[]);
    make_collection(&one, "staff").await;
    enroll(&one, "alice", values(1), json!({})).await;
    eventually("it follows", async || finds(&other, 1, "alice").await).await;

    // While it is held it can neither hear nor listen again: what is written now is told to nobody.
    other.signal("STOP");
    execute(&home, format!("SELECT pg_terminate_backend({})", cut[0])).await;
    eventually("the line is cut", async || !listeners(&home).await.contains(&cut[0])).await;
    enroll(&one, "bob", values(2), json!({})).await;
    other.signal("CONT");
    eventually("it asked for what it missed", async || finds(&other, 2, "bob").await).await;
    drop((one, other));
    home.tidy().await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn a_replica_that_was_paused_answers_true_again_on_postgres() {
    let home = Home::new(&postgres()).await;
    let (one, other) = (replica(&home, &[]), replica(&home, &[]));
    make_collection(&one, "staff").await;
    enroll(&other, "before", values(0), json!({})).await;
    other.signal("STOP");
    let mut last = Value::Null;
    for number in 1..40 {
        last = enroll(&one, &format!("p{number}"), values(number), json!({})).await["consistencyToken"].clone();
    }
    one.expect(Method::DELETE, "/v1/collections/staff/identities/p1", None).await;
    // Asked while it sleeps, it answers when it wakes, and by then it knows.
    let asked = search(&other, 39, Some(&last));
    let woken = async { other.signal("CONT") };
    let ((status, found), ()) = tokio::join!(asked, woken);
    assert!(status.is_success(), "{found}");
    assert_eq!(found["candidates"][0]["identity"], "collections/staff/identities/p39");
    eventually("what was erased meanwhile is gone", async || !finds(&other, 1, "p1").await).await;
    drop((one, other));
    home.tidy().await;
}

/// How long embeddings of strangers are: long enough that one in twenty draws is unlike a thousand others.
const STRANGER_DIMENSION: usize = 128;
/// Strangers of the test resemble nobody more than this, so that none of them is taken for somebody else.
const ALIKE_MAX: f32 = 0.25;

fn drawn(state: &mut u64) -> Vec<f32> {
    let mut uniform = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 40) as f32 / (1 << 24) as f32
    };
    let numbers: Vec<f32> = (0..STRANGER_DIMENSION).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
    let norm = numbers.iter().map(|n| n * n).sum::<f32>().sqrt();
    numbers.into_iter().map(|n| n / norm).collect()
}

fn alike(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

fn sample(values: &[f32]) -> Value {
    json!({"modality": "face", "embedding": {"model": "mine", "values": values}})
}

async fn sighting(server: &Server, values: &[f32], mode: &str) -> Value {
    let body = json!({"samples": [sample(values)], "mode": mode, "topK": 1});
    server.expect(Method::POST, "/v1/collections/staff/identities:resolve", Some(body)).await
}

/// Two replicas with a crowd that is large enough to tell how alike strangers are. Each person has two images that tell how
/// alike mates are: `noise` of a number from 0 to 1 says how much the second one differs.
struct Crowd {
    home: Home,
    servers: [Server; 2],
    people: Vec<Vec<f32>>,
    /// Somebody who is not enrolled.
    nobody: Vec<f32>,
    state: u64,
}

impl Crowd {
    async fn new(policy: Value, noise: impl Fn(f32) -> f32) -> Self {
        const SIZE: usize = 320;
        let home = Home::new(&postgres()).await;
        let servers = [replica(&home, &[]), replica(&home, &[])];
        let spaces = json!([{"model": "mine", "modality": "face", "dimension": STRANGER_DIMENSION, "external": true}]);
        let collection = json!({"spaces": spaces, "policy": policy});
        servers[0].expect(Method::POST, "/v1/collections?collectionId=staff", Some(collection)).await;
        let mut state = 7;
        let people: Vec<Vec<f32>> = (0..SIZE).map(|_| drawn(&mut state)).collect();
        let images: Vec<[Vec<f32>; 2]> = people
            .iter()
            .enumerate()
            .map(|(at, values)| {
                let (beside, share) = (drawn(&mut state), noise(at as f32 / SIZE as f32));
                [values.clone(), values.iter().zip(beside).map(|(value, beside)| value + share * beside).collect()]
            })
            .collect();
        let enrolling = images.iter().enumerate().map(|(at, images)| {
            let body = json!({"samples": [sample(&images[0]), sample(&images[1])]});
            let server = &servers[0];
            async move {
                let path = format!("/v1/collections/staff/identities/crowd-{at}:enroll");
                server.expect(Method::POST, &path, Some(body)).await
            }
        });
        futures::future::join_all(enrolling).await;
        let nobody = drawn(&mut state);
        for server in &servers {
            let calibrated = async || {
                let source = sighting(server, &nobody, "dry_run").await["operatingPoint"]["source"].clone();
                source.is_string() && source != "none"
            };
            eventually("it has thresholds", calibrated).await;
        }
        Self { home, servers, people, nobody, state }
    }

    /// A person who resembles nobody of the crowd.
    fn stranger(&mut self) -> Vec<f32> {
        let (people, state) = (&self.people, &mut self.state);
        std::iter::repeat_with(|| drawn(state))
            .find(|drawn| people.iter().all(|person| alike(person, drawn) < ALIKE_MAX))
            .expect("an endless supply")
    }

    /// The answers to sixteen simultaneous sightings, half of them by each server.
    async fn sixteen_sightings(&self, stranger: &[f32]) -> Vec<Value> {
        let sightings = (0..16).map(|at| sighting(&self.servers[at % 2], stranger, "enroll_if_new"));
        futures::future::join_all(sightings).await
    }
}

fn assert_same_decision(answers: &[Value]) {
    let decided = |answer: &Value| -> [Value; 3] {
        ["decision", "identity", "provisionalIdentity"].map(|field| answer[field].clone())
    };
    for answer in answers {
        assert_eq!(decided(answer), decided(&answers[0]), "{answer}");
        assert_ne!(answer["decision"], "new", "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn sixteen_sightings_of_one_stranger_on_two_replicas_make_one_identity_round_after_round_on_postgres() {
    let rounds = testing::number("SEMBLANCE_TEST_ROUNDS", 60);
    let mut crowd = Crowd::new(json!({}), |_| 0.5).await;
    let mut others = 0;

    let began = std::time::Instant::now();
    for round in 0..rounds {
        let stranger = crowd.stranger();
        let answers = crowd.sixteen_sightings(&stranger).await;
        let enrolled: Vec<&Value> = answers.iter().filter(|answer| answer["enrolled"] == true).collect();
        if enrolled.is_empty() {
            // The promised share of strangers is not new; then nobody is enrolled, and all answers are the same.
            others += 1;
            assert_same_decision(&answers);
            continue;
        }
        assert_eq!(enrolled.len(), 1, "round {round}: {answers:?}");
        for answer in &answers {
            assert_eq!(answer["identity"], enrolled[0]["identity"], "round {round}: {answer}");
            let is_new = answer["enrolled"] == true;
            assert_eq!(answer["decision"], if is_new { "new" } else { "known" }, "round {round}: {answer}");
        }
        crowd.people.push(stranger);
    }
    println!(
        "{rounds} rounds of 16 sightings on two replicas in {:?}, {others} without a new identity",
        began.elapsed()
    );
    assert!(others * 20 <= rounds, "{others} of {rounds} strangers are not new");
    let everybody = async || {
        let body = json!({"samples": [sample(&crowd.nobody)], "topK": 1});
        let mut sizes = Vec::new();
        for server in &crowd.servers {
            sizes.push(server.expect(Method::POST, SEARCH, Some(body.clone())).await["gallerySize"].as_u64());
        }
        sizes.iter().all(|size| *size == Some(crowd.people.len() as u64))
    };
    eventually("both hold the crowd and one for each round", everybody).await;
    let Crowd { home, servers, .. } = crowd;
    drop(servers);
    home.tidy().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn sixteen_undecided_sightings_on_two_replicas_make_one_provisional_identity_on_postgres() {
    let rounds = testing::number("SEMBLANCE_TEST_ROUNDS", 20);
    let policy = json!({"uncertain": "provisional", "openSet": "thresholds"});
    // From nearly equal to hardly similar: much is uncertain.
    let mut crowd = Crowd::new(policy, |at| 0.2 + 10.0 * at * at).await;
    let mut others = 0;
    for round in 0..rounds {
        let stranger = crowd.stranger();
        let answers = crowd.sixteen_sightings(&stranger).await;
        let first = &answers[0]["provisionalIdentity"];
        if first == "" {
            // The promised share of strangers is known.
            others += 1;
            assert_same_decision(&answers);
            continue;
        }
        for answer in &answers {
            assert_eq!((&answer["decision"], &answer["provisionalIdentity"]), (&json!("uncertain"), first), "{answer}");
        }
        let mut counts: Vec<i64> = answers.iter().filter_map(|answer| answer["sightingCount"].as_i64()).collect();
        counts.sort_unstable();
        assert_eq!(counts, (1..=16).collect::<Vec<_>>(), "round {round}");
        crowd.people.push(stranger);
    }
    assert!(others * 20 <= rounds, "{others} of {rounds} strangers are known");
    let path = "/v1/collections/staff/identities?provisional=true&pageSize=1000";
    for server in &crowd.servers {
        let listed = server.expect(Method::GET, path, None).await;
        assert_eq!(listed["identities"].as_array().map(Vec::len), Some((rounds - others).min(1000)), "{listed}");
    }
    let Crowd { home, servers, .. } = crowd;
    drop(servers);
    home.tidy().await;
}
