//! Calibrations as a resource: made, pinned, named by answers, outgrown, kept over a restart, followed by replicas.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Database, Home, Server, Start, direction, eventually, on_both_databases, postgres};

const CALIBRATIONS: &str = "/v1/collections/staff/calibrations";

/// A picture of a person: near to all others of the same.
fn picture(person: u64, number: u64) -> Value {
    let noise = direction(1_000_000 + person * 100 + number);
    let values: Vec<f32> = direction(person).iter().zip(noise).map(|(own, noise)| own + 0.2 * noise).collect();
    json!({"modality": "face", "embedding": {"model": "mine", "values": values}})
}

async fn enroll(server: &Server, people: std::ops::Range<u64>) {
    let one = async |person: u64| {
        let body = json!({"samples": [picture(person, 0), picture(person, 1)]});
        server.expect(Method::POST, &format!("/v1/collections/staff/identities/p{person}:enroll"), Some(body)).await;
    };
    let people: Vec<u64> = people.collect();
    for some in people.chunks(20) {
        futures::future::join_all(some.iter().map(|person| one(*person))).await;
    }
}

/// A server whose requests wait for a rehearsal as long as they may, however busy the machine is.
fn start(home: &Home) -> Server {
    Server::start(home, &Start { env: &[("SEMBLANCE_CALIBRATION_WAIT_MS_MAX", "30000")], ..Start::default() })
}

async fn make(server: &Server) {
    let spaces = json!([
        {"model": "mine", "modality": "face", "dimension": 16, "external": true},
        {"model": "other", "modality": "face", "dimension": 16, "external": true},
    ]);
    server.expect(Method::POST, "/v1/collections?collectionId=staff", Some(json!({"spaces": spaces}))).await;
}

async fn resolve(server: &Server, person: u64) -> Value {
    let body = json!({"samples": [picture(person, 9)]});
    server.expect(Method::POST, "/v1/collections/staff/identities:resolve", Some(body)).await
}

async fn create(server: &Server, body: Value) -> Value {
    server.expect(Method::POST, CALIBRATIONS, Some(body)).await
}

fn reasons(answer: &Value) -> Vec<&str> {
    answer["reasons"].as_array().expect("reasons").iter().filter_map(Value::as_str).collect()
}

async fn stale(server: &Server) -> String {
    let page = server.request(Method::GET, "/metrics").send().await.expect("answered").text().await.expect("a page");
    let line = page.lines().find_map(|line| line.strip_prefix("semblance_calibration_stale "));
    line.unwrap_or_else(|| panic!("no such metric in {page}")).to_owned()
}

on_both_databases! {
    a_calibration_is_made_pinned_named_outgrown_and_kept_over_a_restart,
}

async fn a_calibration_is_made_pinned_named_outgrown_and_kept_over_a_restart(database: &Database) {
    let home = Home::new(database).await;
    let server = start(&home);
    make(&server).await;
    enroll(&server, 0..200).await;

    let made = create(&server, json!({"modality": "face"})).await;
    let name = made["name"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("collections/staff/calibrations/"), "{name}");
    assert_eq!(
        (&made["state"], &made["active"], &made["source"]),
        (&json!("inactive"), &json!(false), &json!("rehearsal"))
    );
    assert_eq!((&made["model"], &made["pooling"]), (&json!("mine"), &json!({"mode": "best"})));
    for (field, count) in
        [("gallerySize", 200), ("currentGallerySize", 200), ("trials", 400), ("matedTrials", 400), ("outsiders", 0)]
    {
        assert_eq!(made[field], count, "{field} of {made}");
    }
    assert_eq!(made["modelDigest"].as_str().map(str::len), Some(64));
    let level = made["levels"].as_array().expect("levels").iter().find(|level| level["targetFpir"] == 0.05);
    let level = level.expect("5 % is a rate that people ask for");
    for (error, least) in [("fpir", 0.02), ("fmr", 0.0), ("fnir", 0.0)] {
        let at = |end: &str| level[error][end].as_f64().unwrap_or_else(|| panic!("{error}.{end} of {level}"));
        assert!(at("lower") <= at("value") && at("value") <= at("upper") && at("value") >= least, "{error} of {level}");
    }
    let llr = |end: &str| level["logLikelihoodRatio"][end].as_f64().expect("hundreds of trials of either kind");
    assert!(llr("lower") <= llr("value") && llr("value") <= llr("upper"), "{level}");
    assert_eq!((&level["extrapolated"], &level["unsupported"]), (&json!(false), &json!(false)));
    let rarest = made["levels"].as_array().and_then(|levels| levels.last()).expect("levels");
    assert_eq!((&rarest["extrapolated"], &rarest["unsupported"]), (&json!(true), &json!(true)), "{rarest}");
    assert_eq!(server.expect(Method::GET, &format!("/v1/{name}"), None).await, made);

    // It is kept, and answers go by the automatic one until it is pinned.
    let automatic = resolve(&server, 3).await;
    assert_eq!((&automatic["decision"], &automatic["operatingPoint"]["calibration"]), (&json!("known"), &json!("")));
    assert_eq!(automatic["operatingPoint"]["source"], "rehearsal");
    let bound = automatic["operatingPoint"]["fpirUpperBound"].as_f64().expect("a bound");
    assert!(bound > 0.01 && bound < 0.1, "{bound}");
    assert_eq!(
        reasons(&automatic),
        ["learnt_decision", "unsupported"],
        "two errors are to be expected among 200 people"
    );
    let pinned = server.expect(Method::POST, &format!("/v1/{name}:activate"), None).await;
    assert_eq!((&pinned["state"], &pinned["active"]), (&json!("active"), &json!(true)));
    assert_eq!(resolve(&server, 3).await["operatingPoint"]["calibration"], name);

    // A fifth more people and one: stale, and still in force.
    enroll(&server, 200..241).await;
    let outgrown = server.expect(Method::GET, &format!("/v1/{name}"), None).await;
    assert_eq!((&outgrown["state"], &outgrown["active"]), (&json!("stale"), &json!(true)));
    assert_eq!(outgrown["moved"], json!(["gallery_size"]));
    assert_eq!(outgrown["currentGallerySize"], 241);
    let answer = resolve(&server, 3).await;
    assert_eq!(answer["operatingPoint"]["calibration"], name);
    assert!(reasons(&answer).contains(&"calibration_stale"), "{answer}");
    assert_eq!(stale(&server).await, "1");

    // A restart keeps it; another one takes its place, and its deletion leaves the automatic one.
    server.kill();
    let server = start(&home);
    let answer = resolve(&server, 3).await;
    assert_eq!(
        (&answer["operatingPoint"]["calibration"], &answer["operatingPoint"]["gallerySize"]),
        (&json!(name), &json!(241))
    );
    let second = create(&server, json!({"model": "mine"})).await["name"].as_str().expect("a name").to_owned();
    server.expect(Method::POST, &format!("/v1/{second}:activate"), None).await;
    assert_eq!(stale(&server).await, "0");
    let listed = server.expect(Method::GET, CALIBRATIONS, None).await;
    let states: Vec<(&Value, &Value)> =
        listed["calibrations"].as_array().expect("a list").iter().map(|c| (&c["name"], &c["active"])).collect();
    assert_eq!(states, [(&json!(name), &json!(false)), (&json!(second), &json!(true))]);
    let page = server.expect(Method::GET, &format!("{CALIBRATIONS}?pageSize=1"), None).await;
    let token = page["nextPageToken"].as_str().expect("a token");
    let page = server.expect(Method::GET, &format!("{CALIBRATIONS}?pageSize=1&pageToken={token}"), None).await;
    assert_eq!(page["calibrations"][0]["name"], second);
    server.expect(Method::DELETE, &format!("/v1/{second}"), None).await;
    assert_eq!(resolve(&server, 3).await["operatingPoint"]["calibration"], "");
    assert_eq!(server.ask(Method::GET, &format!("/v1/{second}"), None).await.0, StatusCode::NOT_FOUND);
    drop(server);
    home.tidy().await;
}

#[tokio::test]
async fn outsiders_speak_for_strangers_and_other_pooling_lets_a_pinned_calibration_rest() {
    let home = Home::new(&Database::Sqlite).await;
    let server = start(&home);
    make(&server).await;
    enroll(&server, 0..160).await;
    // Two of them are no outsiders: their very pictures are enrolled.
    let outsiders: Vec<Value> =
        (500..820).map(|person| picture(person, 0)).chain((0..2).map(|p| picture(p, 0))).collect();
    let asked = server
        .request(Method::POST, CALIBRATIONS)
        .header("idempotency-key", "once")
        .json(&json!({"modality": "face", "outsiders": outsiders}));
    let again = asked.try_clone().expect("a body that is there");
    let (status, made) = crate::support::answer(asked).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    assert_eq!((&made["source"], &made["trials"], &made["outsiders"]), (&json!("outsiders"), &json!(320), &json!(320)));
    assert_eq!(crate::support::answer(again).await.1["name"], made["name"], "asking again makes no other");
    let listed = server.expect(Method::GET, CALIBRATIONS, None).await;
    assert_eq!(listed["calibrations"].as_array().map(Vec::len), Some(1));

    let name = made["name"].as_str().expect("a name");
    server.expect(Method::POST, &format!("/v1/{name}:activate"), None).await;
    let answer = resolve(&server, 3).await;
    assert_eq!(
        (&answer["operatingPoint"]["source"], &answer["operatingPoint"]["calibration"]),
        (&json!("outsiders"), &json!(name))
    );

    // Similarities that are pooled in another way are no business of its.
    let pooled = json!({"policy": {"pooling": {"mode": "mean_of_best", "best": 2}}});
    server.expect(Method::PATCH, "/v1/collections/staff", Some(pooled)).await;
    let answer = resolve(&server, 3).await;
    assert_eq!(
        (&answer["operatingPoint"]["source"], &answer["operatingPoint"]["calibration"]),
        (&json!("rehearsal"), &json!(""))
    );
    assert!(reasons(&answer).contains(&"calibration_stale"), "{answer}");
    let rests = server.expect(Method::GET, &format!("/v1/{name}"), None).await;
    assert_eq!((&rests["state"], &rests["moved"]), (&json!("stale"), &json!(["pooling"])));
    let best = json!({"policy": {"pooling": {"mode": "best"}}});
    server.expect(Method::PATCH, "/v1/collections/staff", Some(best)).await;
    assert_eq!(resolve(&server, 3).await["operatingPoint"]["calibration"], name);
    let off = server.expect(Method::POST, &format!("/v1/{name}:deactivate"), None).await;
    assert_eq!((&off["state"], &off["active"]), (&json!("inactive"), &json!(false)));
    assert_eq!(resolve(&server, 3).await["operatingPoint"]["calibration"], "");
}

#[tokio::test]
async fn what_cannot_be_calibrated_is_refused_with_the_reason() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(
        &home,
        &Start { env: &[("SEMBLANCE_CALIBRATIONS_MAX", "2"), ("SEMBLANCE_OUTSIDERS_MAX", "3")], ..Start::default() },
    );
    make(&server).await;
    let refused = async |body: Value| {
        let (status, problem) = server.ask(Method::POST, CALIBRATIONS, Some(body)).await;
        (status, problem["code"].as_str().unwrap_or_default().to_owned(), problem["detail"].to_string())
    };
    let (status, code, detail) = refused(json!({"modality": "face"})).await;
    assert_eq!((status, code.as_str()), (StatusCode::CONFLICT, "TOO_FEW_TRIALS"), "nobody is enrolled: {detail}");
    enroll(&server, 0..149).await;
    let (status, code, detail) = refused(json!({"modality": "face"})).await;
    assert_eq!((status, code.as_str()), (StatusCode::CONFLICT, "TOO_FEW_TRIALS"));
    assert!(detail.contains("298") && detail.contains("300"), "{detail}");
    enroll(&server, 149..150).await;
    for (body, field) in [
        (json!({}), "modality"),
        (json!({"model": "nobody's"}), "model"),
        (json!({"model": "unheard-of"}), "model"),
        (json!({"model": "mine", "modality": "gait"}), "modality"),
        (json!({"modality": "face", "outsiders": (0..4).map(|p| picture(p, 0)).collect::<Vec<_>>()}), "outsiders"),
        (json!({"modality": "face", "outsiders": [{}]}), "outsiders[0]"),
    ] {
        let (status, problem) = server.ask(Method::POST, CALIBRATIONS, Some(body.clone())).await;
        assert_eq!(
            (status, &problem["violations"][0]["field"]),
            (StatusCode::BAD_REQUEST, &json!(field)),
            "{body}: {problem}"
        );
    }
    let (_, code, _) = refused(json!({"model": "other"})).await;
    assert_eq!(code, "TOO_FEW_TRIALS", "nobody is enrolled in that space");
    let mut stranger = picture(500, 0);
    stranger["embedding"]["model"] = json!("other");
    let (status, code, detail) = refused(json!({"modality": "face", "outsiders": [stranger]})).await;
    assert_eq!((status, code.as_str()), (StatusCode::CONFLICT, "OTHER_EMBEDDING_SPACE"), "{detail}");

    for _ in 0..2 {
        create(&server, json!({"modality": "face"})).await;
    }
    let (status, code, detail) = refused(json!({"modality": "face"})).await;
    assert_eq!((status, code.as_str()), (StatusCode::CONFLICT, "TOO_MANY_CALIBRATIONS"), "{detail}");
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (method, path) in [
        (Method::GET, format!("{CALIBRATIONS}/{nobody}")),
        (Method::DELETE, format!("{CALIBRATIONS}/{nobody}")),
        (Method::POST, format!("{CALIBRATIONS}/{nobody}:activate")),
        (Method::POST, format!("{CALIBRATIONS}/{nobody}:deactivate")),
    ] {
        let (status, problem) = server.ask(method, &path, None).await;
        assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("CALIBRATION_NOT_FOUND")), "{path}");
    }
    assert_eq!(server.ask(Method::GET, &format!("{CALIBRATIONS}/seven"), None).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn rates_that_are_no_rates_are_refused_and_change_nothing() {
    let home = Home::new(&Database::Sqlite).await;
    let server = start(&home);
    make(&server).await;
    let path = "/v1/collections/staff";
    let set = server.expect(Method::PATCH, path, Some(json!({"policy": {"targetDuplicates": 0.1}}))).await;
    assert_eq!(set["policy"]["targetDuplicates"], 0.1);
    for field in ["targetDuplicates", "targetFpir", "targetFmr"] {
        for wrong in [json!(0), json!(1), json!(-0.1), json!("NaN"), json!(0.6)] {
            let (status, problem) = server.ask(Method::PATCH, path, Some(json!({"policy": {field: wrong}}))).await;
            let violation = &problem["violations"][0]["field"];
            assert_eq!((status, violation), (StatusCode::BAD_REQUEST, &json!(format!("policy.{field}"))), "{problem}");
        }
    }
    let kept = server.expect(Method::GET, path, None).await;
    assert_eq!(kept["policy"], set["policy"]);
    let mask = format!("{path}?updateMask=policy.targetDuplicates");
    let (status, problem) = server.ask(Method::PATCH, path, Some(json!({"policy": {"maxUncertain": 0.1}}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    // Rates that leave no band between known and new are a policy like any other.
    let lax = json!({"policy": {"targetDuplicates": 0.5, "targetFpir": 0.5}});
    let lax = server.expect(Method::PATCH, &format!("{mask},policy.targetFpir"), Some(lax)).await;
    assert_eq!((&lax["policy"]["targetDuplicates"], &lax["policy"]["targetFpir"]), (&json!(0.5), &json!(0.5)));
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
async fn replicas_go_by_what_another_one_pinned_on_postgres() {
    let home = Home::new(&postgres()).await;
    let (one, other) = (start(&home), start(&home));
    make(&one).await;
    enroll(&one, 0..150).await;
    let made = create(&one, json!({"modality": "face"})).await;
    let name = made["name"].as_str().expect("a name");
    let follows = async |expected: &str| {
        let body = json!({"samples": [picture(3, 9)]});
        let (status, answer) = other.ask(Method::POST, "/v1/collections/staff/identities:resolve", Some(body)).await;
        status.is_success() && answer["operatingPoint"]["calibration"] == expected
    };
    one.expect(Method::POST, &format!("/v1/{name}:activate"), None).await;
    eventually("the other replica goes by it", async || follows(name).await).await;
    one.expect(Method::DELETE, &format!("/v1/{name}"), None).await;
    eventually("the other replica lets it go", async || follows("").await).await;
    drop((one, other));
    home.tidy().await;
}
