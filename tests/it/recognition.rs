//! Recognition of real people: encoders, both interfaces, a kill -9, and simultaneous samples of one new person.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Method;
use semblance::api::proto::{
    Alignment, EnrollRequest, Image, Modality, ResolveRequest, Sample, identity_service_client::IdentityServiceClient,
    recognition_service_client::RecognitionServiceClient, resolve_request::Mode, resolve_response::Decision,
    sample::Content,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Database, Home, Server, Start, answer, models, on_both_databases};

/// People of the set with at least two pictures, in order: id and pictures.
fn people(data: &Path, at_most: usize) -> Vec<(String, Vec<PathBuf>)> {
    let folder = data.join("face/lfw_devtest/images");
    let mut people = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("it is in the data") {
        let person = entry.expect("readable").path();
        let mut pictures: Vec<PathBuf> =
            std::fs::read_dir(&person).expect("a folder").map(|p| p.expect("readable").path()).collect();
        pictures.sort();
        let id: String = person.file_name().expect("a name").to_string_lossy().into_owned();
        // Ids are ASCII; some names of the set are not.
        if pictures.len() >= 2 && id.chars().all(|c| c.is_ascii_alphanumeric() || "._~-".contains(c)) {
            people.insert(id, pictures);
        }
    }
    people.into_iter().take(at_most).collect()
}

fn face(picture: &Path) -> Sample {
    Sample {
        modality: Modality::Face.into(),
        alignment: Alignment::LfwFunneled.into(),
        content: Some(Content::Image(Image { data: std::fs::read(picture).expect("readable").into() })),
        ..Sample::default()
    }
}

fn resolve(sample: Sample, mode: Mode) -> ResolveRequest {
    let parent = "collections/lfw".to_owned();
    ResolveRequest { parent, samples: vec![sample], mode: mode.into(), ..ResolveRequest::default() }
}

async fn search(server: &Server, picture: &Path) -> Value {
    let request = server
        .request(Method::POST, "/v1/collections/lfw/identities:search?modality=face&alignment=lfw_funneled&topK=1")
        .header("content-type", "image/jpeg")
        .body(std::fs::read(picture).expect("readable"));
    let (status, found) = answer(request).await;
    assert!(status.is_success(), "{status} {found}");
    found["candidates"][0].clone()
}

on_both_databases! {
    real data: a_hundred_people_are_found_again_after_a_kill_on_real_data,
    many_sightings_of_one_stranger_make_one_identity_on_real_data,
}

async fn a_hundred_people_are_found_again_after_a_kill_on_real_data(database: &Database) {
    let (data, models) = (testing::data(), models());
    let people = people(&data, 100);
    assert_eq!(people.len(), 100);
    let home = Home::new(database).await;
    let start = Start { models: Some(models), ..Start::default() };
    let server = Server::start(&home, &start);
    // Among a hundred good photos one or two resemble squeezed ones.
    let open = json!({"policy": {"quality": {"atypicalityMax": 1000}}});
    server.expect(Method::POST, "/v1/collections?collectionId=lfw", Some(open)).await;
    let client = IdentityServiceClient::new(server.channel().await);
    let mut enrolling = JoinSet::new();
    for (id, pictures) in &people {
        let (mut client, name, sample) =
            (client.clone(), format!("collections/lfw/identities/{id}"), face(&pictures[0]));
        enrolling.spawn(async move {
            let request = EnrollRequest { name, samples: vec![sample], ..EnrollRequest::default() };
            client.enroll(request).await.expect("enrolled").into_inner()
        });
    }
    let enrolled = enrolling.join_all().await;
    assert_eq!(enrolled.iter().map(|e| e.templates.len()).sum::<usize>(), 100);
    server.kill();

    let server = Server::start(&home, &start);
    assert!(server.greeting().contains("100 identities, 100 templates"), "{}", server.greeting());
    let mut second_right = 0;
    for (id, pictures) in &people {
        let name = format!("collections/lfw/identities/{id}");
        let first = search(&server, &pictures[0]).await;
        assert_eq!(first["identity"], name, "the enrolled picture finds its person");
        assert!(first["similarity"].as_f64().expect("a number") > 0.999);
        second_right += usize::from(search(&server, &pictures[1]).await["identity"] == name);
    }
    println!("{database:?}: a second picture finds {second_right} of 100");
    assert!(second_right >= 88, "a second picture finds {second_right} of 100");
    drop(server);
    home.tidy().await;
}

async fn many_sightings_of_one_stranger_make_one_identity_on_real_data(database: &Database) {
    let (data, models) = (testing::data(), models());
    let people = people(&data, 60);
    let (known, strangers) = people.split_at(11);
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start { models: Some(models), ..Start::default() });
    server.expect(Method::POST, "/v1/collections?collectionId=lfw", None).await;
    // Some who are known already, so that there is a gallery to be a stranger to.
    let mut client = IdentityServiceClient::new(server.channel().await);
    for (id, pictures) in known {
        let name = format!("collections/lfw/identities/{id}");
        let request = EnrollRequest { name, samples: vec![face(&pictures[0])], ..EnrollRequest::default() };
        client.enroll(request).await.expect("enrolled");
    }
    // A stranger whom the server, asked without consequences, calls new.
    let ask = RecognitionServiceClient::new(server.channel().await);
    let mut stranger = None;
    for (_, pictures) in strangers {
        let request = resolve(face(&pictures[0]), Mode::DryRun);
        let answer = ask.clone().resolve(request).await.expect("resolved").into_inner();
        assert!(!answer.enrolled, "a dry run changes nothing");
        if answer.decision() == Decision::New {
            stranger = Some(face(&pictures[0]));
            break;
        }
    }
    let stranger = stranger.expect("one of so many is unlike everybody here");
    let mut sightings = JoinSet::new();
    for _connection in 0..8 {
        let client = RecognitionServiceClient::new(server.channel().await);
        for _call in 0..8 {
            let (mut client, request) = (client.clone(), resolve(stranger.clone(), Mode::EnrollIfNew));
            sightings.spawn(async move { client.resolve(request).await.expect("resolved").into_inner() });
        }
    }
    let answers = sightings.join_all().await;
    assert_eq!(answers.len(), 64);
    let enrolled: Vec<_> = answers.iter().filter(|a| a.enrolled).collect();
    assert_eq!(enrolled.len(), 1, "exactly one sighting enrolls");
    assert_eq!(enrolled[0].decision(), Decision::New);
    for seen in answers.iter().filter(|a| !a.enrolled) {
        assert_eq!(seen.decision(), Decision::Known);
        assert_eq!(seen.identity, enrolled[0].identity);
    }
    let listed = server.expect(Method::GET, "/v1/collections/lfw/identities", None).await;
    assert_eq!(listed["identities"].as_array().expect("a list").len(), known.len() + 1);
    drop(server);
    home.tidy().await;
}

#[tokio::test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
async fn each_modality_is_served_in_each_form_on_real_data() {
    let data = testing::data();
    let mut crops: Vec<PathBuf> = std::fs::read_dir(data.join("person/market1501_query_subset"))
        .expect("it is in the data")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jpg"))
        .collect();
    crops.sort();
    let read = |path: &Path| std::fs::read(path).expect("readable");
    let folder = tempfile::tempdir().expect("a folder");
    let unpacked = std::process::Command::new("tar")
        .args(["-xJf", &data.join("gait/psymo_subset/skeletons.tar.xz").display().to_string(), "-C"])
        .arg(folder.path())
        .status()
        .expect("tar runs");
    assert!(unpacked.success());
    let walk = std::fs::read_dir(folder.path().join("skeletons/0")).expect("a person").next().expect("a walk");
    let walk = read(&walk.expect("readable").path());
    let crops = [read(&crops[0]), read(&crops[crops.len() - 1])];
    let similarity = serves_each_modality_in_each_form(models(), &crops, &walk).await;
    assert!(similarity < 0.9, "{similarity}");
}

/// `crops` are of two people. Answers how similar they are.
pub(crate) async fn serves_each_modality_in_each_form(models: &Path, crops: &[Vec<u8>; 2], walk: &[u8]) -> f64 {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start { models: Some(models), ..Start::default() });
    server.expect(Method::POST, "/v1/collections?collectionId=c", None).await;

    // A person: as a raw body, then as a part of a form, then as base64.
    let raw = server
        .request(Method::POST, "/v1/collections/c/identities/p1:enroll?modality=person")
        .header("content-type", "image/jpeg")
        .header("idempotency-key", "a")
        .body(crops[0].clone());
    assert!(answer(raw).await.0.is_success());
    let part = reqwest::multipart::Part::bytes(crops[0].clone()).mime_str("image/jpeg").expect("a type");
    let form = reqwest::multipart::Form::new().part("sample", part);
    let (status, verified) =
        answer(server.request(Method::POST, "/v1/collections/c/identities/p1:verify?modality=person").multipart(form))
            .await;
    assert!(status.is_success(), "{verified}");
    assert_eq!(verified["match"], true, "{verified}");
    assert_eq!(verified["reasons"], json!(["package_calibration"]));
    let body = json!({"probes": [{"modality": "person", "image": {"data": STANDARD.encode(&crops[0])}}],
                      "references": [{"modality": "person", "image": {"data": STANDARD.encode(&crops[0])}},
                                     {"modality": "person", "image": {"data": STANDARD.encode(&crops[1])}}]});
    let compared = server.expect(Method::POST, "/v1/samples:compare", Some(body)).await;
    let row = compared["rows"][0]["similarities"].as_array().expect("a row");
    let [same, other] = [0, 1].map(|at| row[at].as_f64().expect("a number"));
    assert!(same > 0.9999 && other < same, "{row:?}");

    // A walk: as pose estimators write it, and what extract says of it can be sent back as an embedding.
    let post =
        |path: &str| server.request(Method::POST, path).header("content-type", "application/json").body(walk.to_vec());
    let (status, extracted) = answer(post("/v1/templates:extract?modality=gait")).await;
    assert!(status.is_success(), "{extracted}");
    let embedding = &extracted["templates"][0]["embedding"];
    assert_eq!(
        (embedding["model"].as_str(), embedding["values"].as_array().map(Vec::len)),
        (Some("gait-graph"), Some(128))
    );
    assert!(answer(post("/v1/collections/c/identities/p1:enroll?modality=gait")).await.0.is_success());
    let probe = json!({"samples": [{"modality": "gait", "embedding": embedding}]});
    let found = server.expect(Method::POST, "/v1/collections/c/identities:search", Some(probe)).await;
    assert!(found["candidates"][0]["similarity"].as_f64().expect("a number") > 0.9999, "{found}");

    // An embedding of one space does not meet a gallery of another.
    let mut elsewhere = embedding.clone();
    elsewhere["model"] = json!("person-osnet-x0-25");
    let probe = json!({"samples": [{"modality": "gait", "embedding": elsewhere}]});
    let (status, problem) = server.ask(Method::POST, "/v1/collections/c/identities:search", Some(probe)).await;
    assert_eq!(status.as_u16(), 400, "{problem}");

    // A space of one's own must not take the name of a model.
    let spaces = json!([{"model": "face-mobilefacenet", "modality": "face", "dimension": 4, "external": true}]);
    let (status, problem) =
        server.ask(Method::POST, "/v1/collections?collectionId=d", Some(json!({"spaces": spaces}))).await;
    assert_eq!(status.as_u16(), 400, "{problem}");

    let models = server.expect(Method::GET, "/v1/models", None).await;
    for model in models["models"].as_array().expect("a list") {
        for field in ["licence", "provenance", "intendedUse", "notFor", "digest"] {
            assert!(model[field].as_str().is_some_and(|text| !text.is_empty()), "{model} does not say its {field}");
        }
    }
    other
}
