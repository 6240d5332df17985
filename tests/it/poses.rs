//! Walks as pose estimators write them, through the server with the gait encoder of the repository.

use std::{fs, path::Path};

use reqwest::{Method, StatusCode, multipart};
use serde_json::{Value, json};

use crate::support::{Database, Home, Server, Start, answer};

const EXTRACT: &str = "/v1/templates:extract?modality=gait";

/// A simulated walk of the repository: its frames of 17 joints.
fn walk() -> Vec<Vec<[f64; 3]>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("tests/data/made-up/gait/psymo_subset/skeletons");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .flat_map(|person| fs::read_dir(person.expect("an entry").path()).expect("walks"))
        .map(|file| file.expect("an entry").path())
        .collect();
    files.sort();
    let frames: Value = serde_json::from_slice(&fs::read(&files[0]).expect("a file")).expect("JSON");
    let numbers = |frame: &Value| -> Vec<f64> { serde_json::from_value(frame["keypoints"].clone()).expect("numbers") };
    frames.as_array().expect("frames").iter().map(|frame| numbers(frame).as_chunks::<3>().0.to_vec()).collect()
}

/// A server with the gait encoder, and the folders that it uses.
async fn server() -> ((Home, tempfile::TempDir), Server) {
    let home = Home::new(&Database::Sqlite).await;
    let models = tempfile::tempdir().expect("a folder");
    let package = models.path().join("gait-walker");
    fs::create_dir(&package).expect("made");
    for file in ["model.toml", "weights.safetensors"] {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/gait-walker").join(file);
        fs::copy(shipped, package.join(file)).expect("copied");
    }
    let server = Server::start(&home, &Start { models: Some(models.path()), ..Start::default() });
    ((home, models), server)
}

async fn extract(server: &Server, query: &str, body: String) -> (StatusCode, Value) {
    let request = server.request(Method::POST, &format!("{EXTRACT}{query}"));
    answer(request.header("content-type", "application/json").body(body)).await
}

fn embedding(extracted: &Value) -> Vec<f64> {
    serde_json::from_value(extracted["templates"][0]["embedding"]["values"].clone()).expect("numbers")
}

fn cosine(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn every_form_of_a_walk_gives_one_embedding() {
    let (_folders, server) = server().await;
    let walk = walk();
    let every = |frame: &dyn Fn(usize, &[[f64; 3]]) -> Value| {
        Value::from(walk.iter().enumerate().map(|(at, joints)| frame(at, joints)).collect::<Vec<_>>())
    };
    let coco = every(&|_, joints| json!({"keypoints": joints.concat()}));
    let (status, expected) = extract(&server, "", coco.to_string()).await;
    assert!(status.is_success(), "{expected}");
    let expected = embedding(&expected);
    let column = |joints: &[[f64; 3]], axis: usize| joints.iter().map(|joint| joint[axis]).collect::<Vec<_>>();
    let forms = [
        (
            "AlphaPose",
            every(&|at, joints| json!({"image_id": format!("{at}.jpg"), "idx": [0.0], "keypoints": joints.concat()})),
        ),
        (
            "MMPose",
            every(&|at, joints| {
                let places: Vec<_> = joints.iter().map(|[x, y, _]| [x, y]).collect();
                json!({"frame_id": at, "instances": [{"keypoints": places, "keypoint_scores": column(joints, 2)}]})
            }),
        ),
        (
            "ultralytics",
            every(&|_, joints| {
                let keypoints = json!({"x": column(joints, 0), "y": column(joints, 1), "visible": column(joints, 2)});
                json!([{"name": "person", "keypoints": keypoints}])
            }),
        ),
        ("frames", json!({"frames": coco})),
        ("skeleton", json!({"skeleton": {"frames": coco}})),
    ];
    for (form, file) in forms {
        let (status, extracted) = extract(&server, "", file.to_string()).await;
        assert!(status.is_success(), "{form}: {extracted}");
        assert!(cosine(&embedding(&extracted), &expected) > 0.999, "{form}");
        assert_eq!(extracted["templates"][0]["report"]["walk"]["layout"], "coco_17", "{form}: {extracted}");
    }
    // A file for each frame, as OpenPose writes them, in one form.
    let frame = |joints: &[[f64; 3]]| {
        let mut body = vec![[0.0; 3]; 18];
        let numbers = [0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10];
        numbers.iter().zip(joints).for_each(|(at, joint)| body[*at] = *joint);
        json!({"people": [{"person_id": [-1], "pose_keypoints_2d": body.concat()}]}).to_string()
    };
    let form = walk.iter().fold(multipart::Form::new(), |form, joints| {
        form.part("sample", multipart::Part::text(frame(joints)).mime_str("application/json").expect("a type"))
    });
    let (status, extracted) = answer(server.request(Method::POST, EXTRACT).multipart(form)).await;
    assert!(status.is_success(), "{extracted}");
    assert_eq!(extracted["templates"].as_array().map(Vec::len), Some(1));
    assert!(cosine(&embedding(&extracted), &expected) > 0.999, "OpenPose");
}

#[tokio::test]
async fn joints_that_were_not_seen_cost_little_and_an_ankle_never_seen_is_refused() {
    let (_folders, server) = server().await;
    let walk = walk();
    let with = |is_missing: &dyn Fn(usize, usize) -> bool, absent: Value| {
        let frame = |(at, joints): (usize, &Vec<[f64; 3]>)| {
            let joint = |(number, joint): (usize, &[f64; 3])| {
                if is_missing(at, number) { absent.clone() } else { json!(joint) }
            };
            json!({"keypoints": joints.iter().enumerate().map(joint).collect::<Vec<_>>()})
        };
        Value::from(walk.iter().enumerate().map(frame).collect::<Vec<_>>()).to_string()
    };
    let (_, whole) = extract(&server, "", with(&|_, _| false, Value::Null)).await;
    let quality =
        |extracted: &Value| extracted["templates"][0]["report"]["quality"]["score"].as_f64().expect("a score");
    // One joint in ten, spread over the walk.
    for absent in [json!([0, 0, 0]), json!([0, 0, 0.7]), json!([-1, -1, 0]), json!([null, null, null])] {
        let (status, extracted) =
            extract(&server, "", with(&|at, number| (7 * at + 3 * number) % 10 == 0, absent.clone())).await;
        assert!(status.is_success(), "{absent}: {extracted}");
        let similarity = cosine(&embedding(&extracted), &embedding(&whole));
        assert!(similarity > 0.95, "{absent}: {similarity}");
        assert!(quality(&extracted) < quality(&whole), "{absent}");
    }
    let (status, problem) = extract(&server, "", with(&|_, number| number == 15, json!([0, 0, 0]))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("left ankle")), "{problem}");
}

#[tokio::test]
async fn one_of_two_people_is_taken_and_the_answer_says_which() {
    let (_folders, server) = server().await;
    let walk = walk();
    let entries = |at: usize, joints: &[[f64; 3]]| {
        let far: Vec<_> = joints.iter().map(|[x, y, score]| [900.0 + x / 3.0, y / 3.0, *score]).collect();
        let entry = |id: usize, joints: &[[f64; 3]]| json!({"image_id": format!("{at}.jpg"), "idx": id, "keypoints": joints.concat()});
        [entry(8, &far), entry(5, joints)]
    };
    let both: Vec<Value> = walk.iter().enumerate().flat_map(|(at, joints)| entries(at, joints)).collect();
    let alone = Value::from(walk.iter().map(|joints| json!(joints)).collect::<Vec<_>>());
    let (_, expected) = extract(&server, "", alone.to_string()).await;
    for (query, track) in [("", "5"), ("&pose.track=8", "8")] {
        let (status, extracted) = extract(&server, query, Value::from(both.clone()).to_string()).await;
        assert!(status.is_success(), "{extracted}");
        let report = &extracted["templates"][0]["report"]["walk"];
        assert_eq!((report["track"].as_str(), report["tracks"].as_i64()), (Some(track), Some(2)), "{report}");
        // The far person is the same walk, smaller: the preparation scales it.
        assert!(cosine(&embedding(&extracted), &embedding(&expected)) > 0.99, "{track}");
    }
    let (status, problem) = extract(&server, "&pose.track=1", Value::from(both).to_string()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("5, 8")), "{problem}");
}

#[tokio::test]
async fn what_is_no_walk_is_refused_with_what_to_do() {
    let (_folders, server) = server().await;
    let walk = walk();
    let changed = |change: &dyn Fn([f64; 3]) -> [f64; 3]| {
        let frame = |joints: &Vec<[f64; 3]>| json!(joints.iter().map(|joint| change(*joint)).collect::<Vec<_>>());
        Value::from(walk.iter().map(frame).collect::<Vec<_>>()).to_string()
    };
    let still = Value::from(vec![json!(walk[0]); 60]).to_string();
    let mixed: Vec<Value> =
        walk.iter().map(|joints| json!((0..17).map(|at| joints[(5 * at + 3) % 17]).collect::<Vec<_>>())).collect();
    for (what, body, said) in [
        ("shares of the picture", changed(&|[x, y, score]| [x / 2000.0, y / 2000.0, score]), "pose.width"),
        ("small", changed(&|[x, y, score]| [x / 40.0 + 3.0, y / 40.0 + 3.0, score]), "multiply"),
        ("y upwards", changed(&|[x, y, score]| [x, 2000.0 - y, score]), "downwards"),
        ("another order", Value::from(mixed).to_string(), "COCO order"),
        ("one pose", still, "a walk moves"),
        ("another scale of scores", changed(&|[x, y, score]| [x, y, 100.0 * score]), "scores of joints are 0 to 1"),
        ("another form", json!([{"points": [1, 2]}]).to_string(), "AlphaPose"),
        ("cut off", "[{\"keypoints\": [1,".to_owned(), "ends before"),
    ] {
        let (status, problem) = extract(&server, "", body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{what}: {problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(said) && !detail.contains("expected a sequence"), "{what}: {detail}");
    }
}
