//! `semblance evaluate` on the real labelled sets reaches what a correct implementation reaches.

use std::{fmt::Write, path::Path};

use serde_json::Value;

use crate::support::{models, program};

pub(crate) fn evaluate(models: &Path, protocol: &str, data: &Path, more: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("report.json");
    let ended = program()
        .args(["evaluate", "--protocol", protocol, "--data"])
        .arg(data)
        .arg("--json")
        .arg(&json)
        .args(more)
        .env("SEMBLANCE_MODELS_DIR", models)
        .output()
        .expect("the program runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    println!("{}", String::from_utf8_lossy(&ended.stdout));
    serde_json::from_slice(&std::fs::read(json).expect("written")).expect("a report")
}

pub(crate) fn number(report: &Value, kind: &str, measure: &str) -> f64 {
    report["results"][kind][measure].as_f64().unwrap_or_else(|| panic!("{report} has no {measure}"))
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn faces_of_lfw_on_real_data() {
    let data = testing::data();
    let set = data.join("face/lfw_devtest");
    let one_view = evaluate(models(), "lfw-pairs", &set, &[]);
    assert_eq!((one_view["samples"].as_u64(), one_view["refused"].as_u64()), (Some(1549), Some(0)));
    assert!(number(&one_view, "verification", "accuracy") >= 0.968, "{one_view}");
    assert!(number(&one_view, "verification", "auc") >= 0.990, "{one_view}");
    let mirrored = evaluate(models(), "lfw-pairs", &set, &["--mirror"]);
    assert!(number(&mirrored, "verification", "accuracy") >= 0.971, "{mirrored}");
    assert!(number(&mirrored, "verification", "auc") >= 0.990, "{mirrored}");
    assert_ne!(mirrored["model_digest"], one_view["model_digest"], "mirroring makes another space");
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn people_of_market_on_real_data() {
    let data = testing::data();
    let report = evaluate(models(), "market", &data.join("person/market1501_query_subset"), &[]);
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
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn walks_of_psymo_on_real_data() {
    let data = testing::data();
    let folder = psymo(&data);
    let report = evaluate(models(), "psymo", &folder.path().join("skeletons"), &["--model", "gait-graph"]);
    assert_eq!(report["samples"].as_u64(), Some(480), "{report}");
    // Chance is 10 %; the published weights transfer weakly to these poses.
    assert!(number(&report, "retrieval", "rank_1") >= 0.38, "{report}");
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn walks_of_psymo_by_the_walker_that_ships_on_real_data() {
    let data = testing::data();
    let folder = psymo(&data);
    let (shipped, silhouettes) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), data.join("gait/psymo_subset/gei"));
    let more = ["--model", "gait-walker", "--silhouettes", silhouettes.to_str().expect("plain")];
    let report = evaluate(&shipped, "psymo", &folder.path().join("skeletons"), &more);
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
    assert!(run(10).expect_err("too few").contains("too few persons"));
}

/// Runs the command on files alone, without a model.
pub(crate) fn on_files(words: &[&str]) -> std::process::Output {
    program().arg("evaluate").args(words).output().expect("the program runs")
}

fn refusal(words: &[&str]) -> String {
    let ended = on_files(words);
    assert!(!ended.status.success(), "{words:?} was measured");
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

fn written(folder: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("written");
    path.to_str().expect("a plain path").to_owned()
}

/// An array of NumPy's, `kind` as its header has it.
fn npy(kind: &str, columns: usize, numbers: &[f32]) -> Vec<u8> {
    let rows = numbers.len() / columns;
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).expect("short").to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

#[test]
fn scores_become_a_page_that_needs_no_network_and_plots() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = "score\tmated\tsite\n".to_owned();
    for trial in 0..400_u16 {
        let (place, site) = (f32::from(trial % 97) / 97.0, if trial % 2 == 0 { "<b>north</b>" } else { "south" });
        writeln!(table, "{}\t1\t{site}\n{}\t0\t{site}", 0.4 + 0.6 * place, 0.7 * place * place).expect("a text grows");
    }
    let scores = written(&folder, "scores.tsv", table);
    let [json, html, plots] =
        ["r.json", "r.html", "plots"].map(|name| folder.path().join(name).to_str().expect("plain").to_owned());
    let model = "a <script>alert(1)</script> & co";
    let ended = on_files(&[
        "--protocol",
        "scores",
        "--scores",
        &scores,
        "--scores-are",
        "probability",
        "--slice",
        "site",
        "--model",
        model,
        "--json",
        &json,
        "--html",
        &html,
        "--plots",
        &plots,
    ]);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(json).expect("written")).expect("a report");
    assert_eq!(report["slices"].as_array().map(Vec::len), Some(2), "{report}");
    assert_eq!(report["results"]["verification"]["at_fmr"][1]["support"]["too_few_trials"]["needed"], 3000, "{report}");
    assert!(report["calibration"]["decisions"]["reliability"]["ece"].as_f64().is_some_and(|ece| ece > 0.1), "{report}");
    let page = std::fs::read_to_string(html).expect("written");
    assert!(!page.contains("<script") && !page.contains("<b>"), "words of others are no markup");
    assert!(page.contains("a &lt;script&gt;") && page.contains("&lt;b&gt;north&lt;/b&gt;"));
    let addresses = page.matches("http").count() - page.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(addresses, page.matches("http-equiv").count(), "nothing is fetched");
    for name in ["det", "roc", "histogram", "reliability"] {
        let svg = std::fs::read_to_string(Path::new(&plots).join(format!("{name}.svg"))).expect("a plot");
        assert!(page.contains(&svg), "the page holds {name}");
        let png = std::fs::read(Path::new(&plots).join(format!("{name}.png"))).expect("a plot");
        assert_eq!(image::load_from_memory(&png).expect("a picture").width(), 1440, "{name}");
    }
}

#[test]
#[ignore = "needs SEMBLANCE_TEST_DATA"]
fn embeddings_of_lfw_find_each_other_from_their_files_on_real_data() {
    let data = testing::data();
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("r.json").to_str().expect("plain").to_owned();
    let [array, names] = ["npy", "names.txt"].map(|ending| data.join(format!("embeddings/lfw_mobilefacenet.{ending}")));
    let ended = on_files(&[
        "--protocol",
        "closed-set",
        "--embeddings",
        array.to_str().expect("plain"),
        "--names",
        names.to_str().expect("plain"),
        "--person",
        "lfw",
        "--json",
        &json,
    ]);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(json).expect("written")).expect("a report");
    assert!((number(&report, "retrieval", "rank_1") - 0.946).abs() <= 0.003, "{report}");
    assert_eq!(report["protocol"], "closed-set");
}

#[test]
fn files_that_cannot_be_measured_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = written(&folder, "names.txt", "Ann_A_0001.jpg\nAnn_A_0002.jpg\nBob_B_0001.jpg\n");
    let few = written(&folder, "few.txt", "Ann_A_0001.jpg\n");
    let numbers = [1.0, 0.0, 0.9, 0.1, 0.0, 1.0];
    let good = written(&folder, "good.npy", npy("<f4", 2, &numbers));
    let wrong = written(&folder, "wrong.npy", npy("<f8", 2, &numbers));
    let broken = written(&folder, "nan.npy", npy("<f4", 2, &[1.0, f32::NAN, 0.9, 0.1, 0.0, 1.0]));
    let verification = |array: &str, more: &[&str]| {
        refusal(&[&["--protocol", "verification", "--embeddings", array][..], more].concat())
    };
    let by_name = ["--names", &names, "--person", "lfw"];
    for (problem, expected) in [
        (verification(&good, &[]), "--names takes a file"),
        (verification(&good, &["--names", &few, "--person", "lfw"]), "1 names for 3 rows"),
        (verification(&wrong, &by_name), "save array.astype('<f4')"),
        (verification(&broken, &by_name), "row 1 of"),
        (verification(&good, &["--names", &names]), "--person sets the rule"),
        (verification(&good, &["--names", &names, "--person", "market"]), "is not named as in Market-1501"),
        (verification(&good, &[&by_name[..], &["--slice", "site"]].concat()), "no sample has the label \"site\""),
        (refusal(&["--protocol", "scores", "--embeddings", &good]), "--embeddings needs --protocol"),
        (refusal(&["--protocol", "scores", "--scores", "no/such.tsv"]), "no/such.tsv"),
        (refusal(&["--protocol", "closed-set", "--data", "no/such"]), "--model is missing"),
    ] {
        assert!(problem.contains(expected), "{expected:?} is not said in {problem:?}");
    }
    let json = folder.path().join("r.json").to_str().expect("plain").to_owned();
    let ended = on_files(&[
        "--protocol",
        "verification",
        "--embeddings",
        &good,
        "--names",
        &names,
        "--person",
        "lfw",
        "--json",
        &json,
    ]);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(json).expect("written")).expect("a report");
    assert_eq!(report["results"]["verification"]["impostor_pairs"], 2, "{report}");
    assert!(report["command"].as_str().is_some_and(|c| c.starts_with("semblance evaluate --protocol verification")));
}
