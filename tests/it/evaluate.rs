//! `semblance evaluate` on the real labelled sets reaches what a correct implementation reaches.

use std::path::Path;

use serde_json::Value;

use crate::support::{data, models, program};

fn evaluate(protocol: &str, data: &Path, more: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("report.json");
    let ended = program()
        .args(["evaluate", "--protocol", protocol, "--data"])
        .arg(data)
        .arg("--json")
        .arg(&json)
        .args(more)
        .env("SEMBLANCE_MODELS_DIR", models().expect("checked before"))
        .output()
        .expect("the program runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    println!("{}", String::from_utf8_lossy(&ended.stdout));
    serde_json::from_slice(&std::fs::read(json).expect("written")).expect("a report")
}

fn number(report: &Value, kind: &str, measure: &str) -> f64 {
    report["results"][kind][measure].as_f64().unwrap_or_else(|| panic!("{report} has no {measure}"))
}

#[test]
fn faces_of_lfw() {
    let (Some(data), Some(_)) = (data(), models()) else { return };
    let set = data.join("face/lfw_devtest");
    let one_view = evaluate("lfw-pairs", &set, &[]);
    assert_eq!((one_view["samples"].as_u64(), one_view["refused"].as_u64()), (Some(1549), Some(0)));
    assert!(number(&one_view, "verification", "accuracy") >= 0.968, "{one_view}");
    assert!(number(&one_view, "verification", "auc") >= 0.990, "{one_view}");
    let mirrored = evaluate("lfw-pairs", &set, &["--mirror"]);
    assert!(number(&mirrored, "verification", "accuracy") >= 0.971, "{mirrored}");
    assert!(number(&mirrored, "verification", "auc") >= 0.990, "{mirrored}");
    assert_ne!(mirrored["model_digest"], one_view["model_digest"], "mirroring makes another space");
}

#[test]
fn people_of_market() {
    let (Some(data), Some(_)) = (data(), models()) else { return };
    let report = evaluate("market", &data.join("person/market1501_query_subset"), &[]);
    assert!((number(&report, "retrieval", "rank_1") - 0.883).abs() <= 0.003, "{report}");
    assert!((number(&report, "retrieval", "map") - 0.817).abs() <= 0.003, "{report}");
}

/// PsyMo's skeletons, unpacked into a folder that goes with the value.
fn psymo(data: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let unpacked = std::process::Command::new("tar")
        .arg("-xJf")
        .arg(data.join("gait/psymo_subset/skeletons.tar.xz"))
        .arg("-C")
        .arg(folder.path())
        .status()
        .expect("tar runs");
    assert!(unpacked.success());
    folder
}

#[test]
fn walks_of_psymo() {
    let (Some(data), Some(_)) = (data(), models()) else { return };
    let folder = psymo(&data);
    let report = evaluate("psymo", &folder.path().join("skeletons"), &["--model", "gait-graph"]);
    assert_eq!(report["samples"].as_u64(), Some(480), "{report}");
    // Chance is 10 %; the published weights transfer weakly to these poses.
    assert!(number(&report, "retrieval", "rank_1") >= 0.45, "{report}");
}

#[test]
fn walks_of_psymo_by_the_walker_that_ships() {
    let Some(data) = data() else { return };
    let folder = psymo(&data);
    let json = folder.path().join("report.json");
    let ended = program()
        .args(["evaluate", "--protocol", "psymo", "--model", "gait-walker", "--data"])
        .arg(folder.path().join("skeletons"))
        .arg("--silhouettes")
        .arg(data.join("gait/psymo_subset/gei"))
        .arg("--json")
        .arg(&json)
        .env("SEMBLANCE_MODELS_DIR", Path::new(env!("CARGO_MANIFEST_DIR")).join("models"))
        .output()
        .expect("the program runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    println!("{}", String::from_utf8_lossy(&ended.stdout));
    let report: Value = serde_json::from_slice(&std::fs::read(json).expect("written")).expect("a report");
    assert!(number(&report, "retrieval", "rank_1") >= 0.5, "{report}");
    let beside = |method: &str, gallery: &str| {
        let rows = report["beside"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["method"] == method && row["gallery"] == gallery).expect("the row");
        row["retrieval"]["rank_1"].as_f64().expect("a number")
    };
    assert!(beside("this model", "other views") > 1.2 * beside("static proportions", "other views"), "{report}");
    assert!((beside("gait-energy images", "same view") - 0.667).abs() < 0.02, "{report}");
}

#[test]
fn open_set_reads_people_from_a_file_and_refuses_one_of_few() {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = |people: u32| {
        let row = |person: u32, sample: u32| {
            let numbers: Vec<u32> = (0..12).map(|n| (person * 31 + n * 17).pow(2) % 101 + (sample * n) % 5).collect();
            format!("{{\"identity\": \"p{person}\", \"embedding\": {numbers:?}}}\n")
        };
        (0..people).flat_map(|person| (0..3).map(move |sample| row(person, sample))).collect::<String>()
    };
    let run = |people: u32| {
        let file = folder.path().join("people.jsonl");
        std::fs::write(&file, lines(people)).expect("writable");
        let json = folder.path().join("report.json");
        let ended = program()
            .args(["evaluate", "--protocol", "open-set", "--trial-worlds", "5", "--embeddings"])
            .arg(&file)
            .arg("--json")
            .arg(&json)
            .output()
            .expect("the program runs");
        let refusal = String::from_utf8_lossy(&ended.stderr).into_owned();
        if ended.status.success() { Ok(std::fs::read(json).expect("written")) } else { Err(refusal) }
    };
    let report: Value = serde_json::from_slice(&run(80).expect("enough people")).expect("a report");
    assert_eq!(report["sets"].as_array().map(Vec::len), Some(3), "{report}");
    assert_eq!(report["sets"][2]["name"], "people", "{report}");
    assert!(run(10).expect_err("too few").contains("too few people"));
}
