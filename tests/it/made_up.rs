//! Every path that the real data takes, on a made-up set and synthetic weights: nothing here says how good an answer is.

mod packages;
mod set;

use std::{
    fs,
    path::{Path, PathBuf},
};

use image::{ImageFormat, Rgb, RgbImage};
use reqwest::{Method, StatusCode};
use semblance::api::proto::{
    Alignment, EnrollRequest, Image, Modality, Sample, identity_service_client::IdentityServiceClient, sample::Content,
};
use serde_json::{Value, json};

use self::packages::models;
use crate::{
    bad_input::refuses_wrong_pictures_and_walks,
    evaluate::{evaluate, number, on_files},
    recognition::serves_each_modality_in_each_form,
    support::{Database, Home, Server, Start, answer, on_both_databases},
};

/// At most this much is committed.
const BYTES_MAX: u64 = 1 << 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/made-up")
}

fn read(path: &str) -> Vec<u8> {
    fs::read(folder().join(path)).expect("it is in the made-up set")
}

/// All files below a folder, relative to `root`.
fn files_below(folder: &Path, root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is part of the repository");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut files: Vec<PathBuf> = paths
        .flat_map(|path| {
            let relative = || path.strip_prefix(root).expect("below it").to_owned();
            if path.is_dir() { files_below(&path, root) } else { vec![relative()] }
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_set_is_what_its_generator_writes() {
    let (folder, written) = (folder(), set::written());
    if std::env::var_os("SEMBLANCE_TEST_WRITE_MADE_UP").is_some() {
        for (path, bytes) in &written {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("below the set")).expect("writable");
            fs::write(path, bytes).expect("writable");
        }
    }
    let mut files = files_below(&folder, &folder);
    files.retain(|path| path != Path::new("README.md"));
    assert_eq!(files, written.keys().cloned().collect::<Vec<_>>(), "the set's README.md says how to write it");
    for (path, bytes) in &written {
        assert!(fs::read(folder.join(path)).expect("readable") == *bytes, "{} differs", path.display());
    }
    let bytes: u64 = files.iter().map(|path| fs::metadata(folder.join(path)).expect("there").len()).sum();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
}

fn serve(home: &Home) -> Server {
    Server::start(home, &Start { models: Some(models()), ..Start::default() })
}

/// A picture of each drawn person.
fn people() -> Vec<(String, Vec<u8>)> {
    let images = folder().join("face/lfw_devtest/images");
    let mut names: Vec<String> = fs::read_dir(&images)
        .expect("it is in the made-up set")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("ASCII"))
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|name| (name.clone(), read(&format!("face/lfw_devtest/images/{name}/{name}_0001.jpg"))))
        .collect()
}

async fn post(server: &Server, path: &str, kind: &str, body: Vec<u8>) -> (StatusCode, Value) {
    answer(server.request(Method::POST, path).header("content-type", kind).body(body)).await
}

on_both_databases! {
    pictures_are_enrolled_and_found_again_after_a_kill,
    sightings_of_one_picture_at_once_make_one_identity,
}

async fn pictures_are_enrolled_and_found_again_after_a_kill(database: &Database) {
    let home = Home::new(database).await;
    let server = serve(&home);
    server.expect(Method::POST, "/v1/collections?collectionId=drawn", None).await;
    let client = IdentityServiceClient::new(server.channel().await);
    let enroll = async |name: &str, picture: &[u8]| {
        let content = Some(Content::Image(Image { data: picture.to_vec().into() }));
        let (modality, alignment) = (Modality::Face.into(), Alignment::LfwFunneled.into());
        let samples = vec![Sample { modality, alignment, content, ..Sample::default() }];
        let name = format!("collections/drawn/identities/{name}");
        client.clone().enroll(EnrollRequest { name, samples, ..EnrollRequest::default() }).await.expect("enrolled")
    };
    let people = people();
    futures::future::join_all(people.iter().map(|(name, picture)| enroll(name, picture))).await;
    server.kill();

    let server = serve(&home);
    let counts = format!("{} identities, {} templates", people.len(), people.len());
    assert!(server.greeting().contains(&counts), "{}", server.greeting());
    for (name, picture) in people {
        let path = "/v1/collections/drawn/identities:search?modality=face&alignment=lfw_funneled&topK=1";
        let (status, found) = post(&server, path, "image/jpeg", picture).await;
        assert!(status.is_success(), "{found}");
        assert_eq!(found["candidates"][0]["identity"], format!("collections/drawn/identities/{name}"));
        assert!(found["candidates"][0]["similarity"].as_f64().is_some_and(|similarity| similarity > 0.999), "{found}");
    }
    drop(server);
    home.tidy().await;
}

async fn sightings_of_one_picture_at_once_make_one_identity(database: &Database) {
    let home = Home::new(database).await;
    let server = serve(&home);
    server.expect(Method::POST, "/v1/collections?collectionId=drawn", None).await;
    let (_, picture) = people().remove(0);
    let path = "/v1/collections/drawn/identities:resolve?modality=face&alignment=lfw_funneled&mode=enroll_if_new";
    let sightings = (0..16).map(|_| post(&server, path, "image/jpeg", picture.clone()));
    let answers = futures::future::join_all(sightings).await;
    let enrolled: Vec<&Value> = answers.iter().map(|(_, answer)| answer).filter(|a| a["enrolled"] == true).collect();
    assert_eq!(enrolled.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|(_, answer)| answer["identity"] == enrolled[0]["identity"]), "{answers:?}");
    drop(server);
    home.tidy().await;
}

#[tokio::test]
async fn each_modality_is_served_in_each_form() {
    let crop = |name: &str| read(&format!("person/market1501_query_subset/{name}"));
    let crops = [crop("0000_c1s1_000001_00.jpg"), crop("0005_c2s1_000502_00.jpg")];
    let walk = read("gait/psymo_subset/skeletons/0/000_90_0_0_nm.json");
    serves_each_modality_in_each_form(models(), &crops, &walk).await;
}

#[tokio::test]
async fn wrong_pictures_and_walks_are_refused() {
    let (_, picture) = people().remove(0);
    // A whole photo is larger than an aligned one and than LFW's.
    let large = image::load_from_memory(&picture).expect("a picture").thumbnail_exact(640, 480);
    let mut jpeg = std::io::Cursor::new(Vec::new());
    large.write_to(&mut jpeg, ImageFormat::Jpeg).expect("in memory");
    refuses_wrong_pictures_and_walks(models(), &jpeg.into_inner()).await;
}

/// The detector has synthetic weights: it calls everything a face, and its landmarks are arbitrary. Photos whose landmarks do
/// not form a face are refused; the others are measured.
#[tokio::test]
async fn faces_of_a_photo_are_detected_aligned_measured_and_held_against_the_policy() {
    let home = Home::new(&Database::Sqlite).await;
    let server = serve(&home);
    let extract = async |photo: &[u8], selection: &str| {
        let path = format!("/v1/templates:extract?modality=face&faceSelection={selection}");
        post(&server, &path, "image/jpeg", photo.to_vec()).await
    };
    let mut measured = None;
    for (_, photo) in people() {
        for selection in ["largest", "most_central"] {
            let (status, extracted) = extract(&photo, selection).await;
            if status == StatusCode::UNPROCESSABLE_ENTITY {
                assert_eq!(extracted["code"], "UNUSABLE_SAMPLE", "{extracted}");
                continue;
            }
            assert_eq!(status, StatusCode::OK, "{extracted}");
            let [template] = &extracted["templates"].as_array().expect("a list")[..] else { panic!("{extracted}") };
            assert_eq!(template["embedding"]["values"].as_array().map(Vec::len), Some(128));
            let report = &template["report"];
            assert_eq!(report["face"]["landmarks"].as_array().map(Vec::len), Some(10), "{report}");
            for measure in
                ["score", "facePx", "sharpness", "brightness", "yawDegrees", "detectionScore", "embeddingNorm"]
            {
                assert!(report["quality"][measure].is_number(), "{measure}: {report}");
            }
            assert!(report["pad"]["score"].as_f64().is_some_and(|score| (0.0..=1.0).contains(&score)), "{report}");
            measured = Some((photo.clone(), selection, report["pad"]["verdict"].clone()));
        }
    }
    let (photo, selection, verdict) = measured.expect("the landmarks of some photo form a face");
    let (status, problem) = extract(&photo, "exactly_one").await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("AMBIGUOUS_FACE")), "{problem}");

    let strict = json!({"policy": {"pad": {"mode": "require"}, "quality": {"brightnessMin": 0.99}}});
    server.expect(Method::POST, "/v1/collections?collectionId=strict", Some(strict)).await;
    let attack = json!({"policy": {"pad": {"mode": "require"}}});
    server.expect(Method::POST, "/v1/collections?collectionId=pad", Some(attack)).await;
    let enroll = async |collection: &str| {
        let path = format!("/v1/collections/{collection}/identities/p:enroll?modality=face&faceSelection={selection}");
        post(&server, &path, "image/jpeg", photo.clone()).await
    };
    let (status, answered) = enroll("pad").await;
    match verdict.as_str() {
        Some("bona_fide") => assert_eq!(status, StatusCode::OK, "{answered}"),
        _ => assert_eq!((status, &answered["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("PAD_FAILED"))),
    }
    let (status, problem) = enroll("strict").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    // No crop of a face can be seen not to be one of a picture.
    let path = "/v1/collections/pad/identities/q:enroll?modality=face&alignment=lfw_funneled";
    let (status, problem) = post(&server, path, "image/jpeg", photo.clone()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");

    let frame = |picture: &[u8]| json!({"image": {"data": base64(picture)}});
    let mut dot = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(1, 1, Rgb([0; 3])).write_to(&mut dot, ImageFormat::Png).expect("in memory");
    let frames = [frame(&photo), frame(dot.get_ref()), frame(&photo)];
    let track = json!({"samples": [{"modality": "face", "faceSelection": selection, "track": {"frames": frames}}]});
    let extracted = server.expect(Method::POST, "/v1/templates:extract", Some(track)).await;
    let track = &extracted["templates"][0]["report"]["track"];
    assert_eq!((&track["framesUsed"], &track["framesDropped"]), (&json!(2), &json!(1)), "{extracted}");
    drop(server);
    home.tidy().await;
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

/// A rate that was measured, whatever it is.
fn is_a_rate(report: &Value, kind: &str, measure: &str) {
    assert!((0.0..=1.0).contains(&number(report, kind, measure)), "{measure}: {report}");
}

#[test]
fn drawn_faces_are_evaluated_by_the_protocol_of_lfw() {
    let set = folder().join("face/lfw_devtest");
    let one_view = evaluate(models(), "lfw-pairs", &set, &[]);
    assert_eq!((one_view["samples"].as_u64(), one_view["refused"].as_u64()), (Some(30), Some(0)), "{one_view}");
    is_a_rate(&one_view, "verification", "accuracy");
    let mirrored = evaluate(models(), "lfw-pairs", &set, &["--mirror"]);
    assert_ne!(mirrored["model_digest"], one_view["model_digest"], "mirroring makes another space");
}

#[test]
fn drawn_bodies_are_evaluated_by_the_protocol_of_market() {
    let report = evaluate(models(), "market", &folder().join("person/market1501_query_subset"), &[]);
    assert_eq!((report["samples"].as_u64(), report["refused"].as_u64()), (Some(24), Some(0)), "{report}");
    is_a_rate(&report, "retrieval", "rank_1");
    is_a_rate(&report, "retrieval", "map");
}

#[test]
fn simulated_walks_are_evaluated_by_the_protocol_of_psymo() {
    let set = folder().join("gait/psymo_subset");
    let [skeletons, silhouettes] = ["skeletons", "gei"].map(|name| set.join(name));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let beside = ["--silhouettes", silhouettes.to_str().expect("plain")];
    for (models, model, more) in [(models(), "gait-graph", &[][..]), (&*shipped, "gait-walker", &beside[..])] {
        let report = evaluate(models, "psymo", &skeletons, &[&["--model", model], more].concat());
        assert_eq!((report["samples"].as_u64(), report["refused"].as_u64()), (Some(24), Some(0)), "{report}");
        is_a_rate(&report, "retrieval", "rank_1");
        let methods: Vec<&str> =
            report["beside"].as_array().expect("rows").iter().filter_map(|row| row["method"].as_str()).collect();
        assert!(methods.contains(&"static proportions"), "{report}");
        assert_eq!(methods.contains(&"gait-energy images"), !more.is_empty(), "{report}");
    }
}

#[test]
fn embeddings_in_numpys_half_precision_are_evaluated_from_their_files() {
    let out = tempfile::tempdir().expect("a folder");
    let json = out.path().join("report.json");
    for (set, rule) in [("lfw_made_up", "lfw"), ("market_made_up", "market")] {
        let [array, names] = ["npy", "names.txt"].map(|ending| folder().join(format!("embeddings/{set}.{ending}")));
        let [array, names, json] = [&array, &names, &json].map(|path| path.to_str().expect("plain"));
        let files = ["--embeddings", array, "--names", names, "--person", rule, "--json", json];
        for (protocol, kind, measure) in
            [("closed-set", "retrieval", "rank_1"), ("verification", "verification", "accuracy")]
        {
            let ended = on_files(&[&["--protocol", protocol][..], &files[..]].concat());
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            let report: Value = serde_json::from_slice(&fs::read(json).expect("written")).expect("a report");
            assert_eq!(report["samples"].as_u64(), Some(160), "{report}");
            is_a_rate(&report, kind, measure);
        }
    }
}
