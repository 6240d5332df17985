//! The kept inputs of the fuzz targets, and whether the targets, their list and their inputs agree. Without the fuzzer.

// The package of the targets shares this file.
#[path = "../fuzz/src/readers.rs"]
#[allow(unreachable_pub, reason = "the package of the targets needs its functions")]
mod readers;

use std::{collections::BTreeSet, fs, path::Path};

/// Runs a target's kept inputs.
fn run(target: &str, read: fn(&[u8])) {
    let inputs = names(&format!("tests/fuzz/corpus/{target}"));
    assert!(!inputs.is_empty(), "{target} has no inputs");
    for input in inputs {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target).join(input);
        read(&fs::read(path).expect("readable"));
    }
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect(folder);
    entries.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_fuzz_target_has_its_source_its_entry_and_its_inputs() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/Cargo.toml"));
    let manifest: toml::Table = manifest.expect("readable").parse().expect("TOML");
    let entries = manifest["bin"].as_array().expect("a list").iter();
    let entries: BTreeSet<String> = entries.map(|entry| entry["name"].as_str().expect("a name").to_owned()).collect();
    // tools/fuzz.sh runs what lies in this folder.
    let sources: BTreeSet<String> =
        names("tests/fuzz/targets").iter().map(|name| name.trim_end_matches(".rs").to_owned()).collect();
    assert_eq!(sources, entries);
    assert_eq!(names("tests/fuzz/corpus"), entries);
}

#[test]
fn no_kept_input_breaks_its_reader() {
    run("checkpoint", readers::checkpoint);
    run("filter", readers::filter);
    run("gallery_snapshot", readers::gallery_snapshot);
    run("model_package", readers::model_package);
    run("picture", readers::picture);
    run("skeleton", readers::skeleton);
}
