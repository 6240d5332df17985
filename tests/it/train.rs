//! `semblance train gait` makes a package that installs, and refuses what leads nowhere.

use std::path::Path;

use serde_json::Value;

use crate::support::program;

/// Runs the command; what it said when it failed.
fn train(out: &Path, flags: &[&str]) -> Result<String, String> {
    let ended = program().args(["train", "gait", "--out"]).arg(out).args(flags).output().expect("the program runs");
    if ended.status.success() {
        Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&ended.stderr).into_owned())
    }
}

const TINY: [&str; 8] = ["--steps", "2", "--people", "2", "--walks", "2", "--trial-people", "2"];

#[test]
fn a_trained_gait_encoder_installs() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("gait-walker");
    let said = train(&out, &TINY).expect("a sound plan");
    assert!(said.contains("static proportions") && said.contains("its frames shuffled"), "{said}");
    let report = std::fs::read(out.join("report.json")).expect("written");
    let report: Value = serde_json::from_slice(&report).expect("a report");
    assert_eq!(report["plan"]["steps"].as_u64(), Some(2), "{report}");
    let installed = program()
        .args(["models", "install"])
        .arg(&out)
        .env("SEMBLANCE_MODELS_DIR", folder.path().join("models"))
        .output()
        .expect("the program runs");
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let again = train(&out, &TINY).expect_err("there is a package");
    assert!(again.contains("already holds a package"), "{again}");
}

#[test]
fn plans_that_lead_nowhere_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    for (flags, why) in [
        (["--steps", "0"], "1 to 10000000 steps"),
        (["--people", "1"], "2 to 1024 people"),
        (["--walks", "1"], "2 to 16 walks"),
        (["--rate", "NaN"], "above 0"),
        (["--trial-people", "1"], "2 to 1000"),
        (["--checkpoint-every", "5"], "--checkpoint"),
        (["--silhouettes", "x"], "--psymo"),
    ] {
        let refused = train(&out, &flags).expect_err("leads nowhere");
        assert!(refused.contains(why), "{flags:?}: {refused}");
    }
    assert!(!out.exists());
}

#[test]
fn a_trained_decider_comes_with_its_card_and_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("decider");
    let run = |flags: &[&str]| {
        let ended = program().args(["train", "decider", "--out"]).arg(&out).args(flags).output().expect("runs");
        let said = if ended.status.success() { &ended.stdout } else { &ended.stderr };
        (ended.status.success(), String::from_utf8_lossy(said).into_owned())
    };
    let (refused, why) = run(&["--worlds", "3"]);
    assert!(!refused && why.contains("16 to 100000 worlds") && !out.exists(), "{why}");
    let (done, said) = run(&["--worlds", "16", "--epochs", "1", "--trial-worlds", "4"]);
    assert!(done && said.contains("simulated shifted worlds") && said.contains("set transformer"), "{said}");
    let report: Value =
        serde_json::from_slice(&std::fs::read(out.join("report.json")).expect("written")).expect("JSON");
    assert_eq!(report["plan"]["worlds"].as_u64(), Some(16), "{report}");
    let card = std::fs::read_to_string(out.join("README.md")).expect("written");
    assert!(card.contains("simulated test worlds") && card.contains("--worlds 16"), "{card}");
    let (again, why) = run(&["--worlds", "16"]);
    assert!(!again && why.contains("already holds a package"), "{why}");
}
