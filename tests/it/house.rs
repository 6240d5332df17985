//! The rules that neither the compiler nor cargo checks, read from the sources: imports between modules of the root package,
//! crates with one home, the comment that opens a module. Cargo checks the imports between packages.
//! docs/ARCHITECTURE.md has the import table and the reasons.

mod ignored;
mod paths;
mod table;

use std::{fs, path::Path, process::Command};

use paths::{NamedPath, named_paths};
use table::{imports_of, is_package};

/// Crates, each with its family (`tonic` and `tonic_health`), that live in one folder or file of their package.
const HOMES: [(&str, &str); 6] = [
    ("tonic", "src/api/"),
    ("prost", "src/api/"),
    ("hnsw_rs", "src/gallery/graph/hnsw.rs"),
    ("csv", "src/evaluate/names.rs"),
    ("resvg", "src/evaluate/figure/raster.rs"),
    ("epaint_default_fonts", "src/evaluate/figure/raster.rs"),
];

/// What `domain` does without: it holds values and rules, and does nothing by itself.
const NEVER_IN_DOMAIN: [&[&str]; 5] =
    [&["tokio"], &["std", "fs"], &["std", "net"], &["std", "process"], &["std", "thread"]];

/// Words for work that was put off. An issue is the place for it.
const PUT_OFF: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// The two databases that compile one folder of SQL, each against its own connections; src/store/sql/mod.rs says why.
const SHARE_A_MODULE: [&str; 2] = ["src/store/postgres/mod.rs", "src/store/sqlite/mod.rs"];

#[test]
fn every_source_keeps_the_house_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources_below(root, "src");
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the sources were not found");
    let faults: Vec<String> = sources.iter().flat_map(faults_of).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_room_reaches_itself_through_others() {
    for room in table::modules() {
        let mut reached = imports_of(room).expect("the room is in the table");
        let mut next = 0;
        while let Some(other) = reached.get(next) {
            // Cargo allows no circle of packages.
            let further = imports_of(other).unwrap_or_default();
            let unseen: Vec<&str> = further.into_iter().filter(|room| !reached.contains(room)).collect();
            reached.extend(unseen);
            next += 1;
        }
        assert!(!reached.contains(&room), "{room} reaches itself");
    }
}

struct Source {
    /// From the project's root, with `/`.
    path: String,
    text: String,
}

fn sources_below(root: &Path, folder: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(root.join(folder)).expect("the folder is part of the project") {
        let entry = entry.expect("the folder can be listed");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            sources.extend(sources_below(root, &path));
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(entry.path()).expect("a source is UTF-8");
            sources.push(Source { path, text });
        }
    }
    sources
}

/// Everything that is wrong with a source, each as `file:line: what`.
fn faults_of(source: &Source) -> Vec<String> {
    let module = module_of(&source.path);
    let room = room_of(&source.path);
    let imports = imports_of(room);
    if imports.is_none() && !is_package(room) {
        return vec![format!("{}:1: `{room}` is no room of the house", source.path)];
    }
    let paths = match named_paths(&source.text, &module) {
        Ok(paths) => paths,
        Err(error) => return vec![format!("{}:1: not read as Rust: {error}", source.path)],
    };
    let mut faults = Vec::new();
    for path in &paths {
        let wrong = (imports.as_ref().and_then(|imports| wrong_import(room, imports, path)))
            .or_else(|| away_from_home(&source.path, path))
            .or_else(|| (room == "domain").then(|| doing_in_domain(path)).flatten());
        faults.extend(wrong.map(|wrong| format!("{}:{}: {wrong}", source.path, path.line)));
    }
    faults.extend(silent_door(source));
    faults.extend(wrong_words(source));
    faults
}

/// `src/store/mod.rs` -> `store`, `src/app.rs` -> `app`.
fn room_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

/// `src/store/postgres/turn.rs` -> `[store, postgres, turn]`; the crate's root is empty.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    match inside {
        "lib" | "main" => Vec::new(),
        _ => inside.split('/').filter(|part| *part != "mod").map(str::to_owned).collect(),
    }
}

fn wrong_import(room: &str, imports: &[&str], path: &NamedPath) -> Option<String> {
    let target = match path.segments.strip_prefix(&["crate".to_owned()]) {
        Some(inside) => match inside.first().filter(|target| imports_of(target).is_some()) {
            Some(target) => target,
            // A name at the crate's root would be a way around the rooms.
            None => return Some(format!("`{}` does not go through the door of a room", path.segments.join("::"))),
        },
        None => path.segments.first().filter(|first| is_package(first) && *first != "testing")?,
    };
    let allowed = target == room || imports.contains(&target.as_str());
    (!allowed).then(|| format!("`{room}` must not import `{target}`"))
}

fn away_from_home(file: &str, path: &NamedPath) -> Option<String> {
    let first = path.segments.first()?;
    let (_, home) = HOMES.iter().find(|(name, _)| {
        first.strip_prefix(name).is_some_and(|family| family.is_empty() || family.starts_with('_'))
    })?;
    (!file.starts_with(home)).then(|| format!("`{first}` is named in {home} only"))
}

fn doing_in_domain(path: &NamedPath) -> Option<String> {
    let never = NEVER_IN_DOMAIN.iter().find(|never| {
        path.segments.len() >= never.len() && path.segments.iter().zip(never.iter()).all(|(one, other)| one == other)
    })?;
    Some(format!("`domain` does nothing by itself and must not name `{}`", never.join("::")))
}

/// A room's door opens with what the room is for.
fn silent_door(source: &Source) -> Option<String> {
    let is_door =
        source.path.ends_with("/mod.rs") || source.path.ends_with("/lib.rs") || source.path.matches('/').count() == 1;
    let silent = is_door && source.path != "src/main.rs" && !source.text.starts_with("//! ");
    silent.then(|| format!("{}:1: a door opens with `//!`, what it is for and what it must never do", source.path))
}

fn wrong_words(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, number) in source.text.lines().zip(1..) {
        let words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        for word in words.filter(|word| PUT_OFF.contains(word)) {
            faults.push(format!("{}:{number}: {word}: work is put off in issues, not in sources", source.path));
        }
        // It would let a file stand in one room and belong to another.
        if line.trim_start().starts_with("#[path") && !SHARE_A_MODULE.contains(&source.path.as_str()) {
            faults.push(format!("{}:{number}: a module lies where its name says", source.path));
        }
    }
    faults
}

fn faults_in(path: &str, text: &str) -> Vec<String> {
    let is_door = path.ends_with("/mod.rs") || path.ends_with("/lib.rs");
    let door = if is_door { "//! A door. " } else { "" };
    faults_of(&Source { path: path.to_owned(), text: format!("{door}\n{text}") })
}

#[test]
fn what_breaks_the_rules_is_found() {
    let wrong = [
        ("src/matcher/scan.rs", "use store::Store; use torch::Network;", "2: `matcher` must not import `torch`"),
        ("src/matcher/scan.rs", "use crate::{matcher::Id, api::{self, Page}};", "must not import `api`"),
        ("src/matcher/scan.rs", "use {std::fmt, crate::api};", "must not import `api`"),
        ("src/matcher/scan.rs", "fn f() { let _ = crate::api::connect(); }", "must not import `api`"),
        ("src/matcher/scan.rs", "fn f() { let _ = ::torch::connect(); }", "must not import `torch`"),
        ("src/matcher/scan.rs", "fn f() { assert!(crate::api::up()); }", "must not import `api`"),
        ("src/matcher/scan.rs", "macro_rules! m { () => { $crate::api::up() } }", "must not import `api`"),
        ("src/matcher/scan.rs", "use super::super::api::Api;", "must not import `api`"),
        ("src/matcher/scan.rs", "mod tests { use super::super::super::api::A; }", "must not import `api`"),
        ("src/matcher/scan.rs", "use crate::r#api::Api as Rows;", "must not import `api`"),
        ("src/matcher/mod.rs", "pub use super::api::Api;", "must not import `api`"),
        ("src/matcher/mod.rs", "\n\nuse semblance::api;", "4: `matcher` must not import `api`"),
        ("src/matcher/mod.rs", "struct A<T: crate::api::Api>(T);", "must not import `api`"),
        ("src/matcher/mod.rs", "use super::*;", "does not go through the door"),
        ("src/matcher/mod.rs", "use crate as house;", "does not go through the door"),
        ("src/matcher/mod.rs", "use crate::Store;", "does not go through the door"),
        ("src/lib.rs", "pub use api::Api; use crate::api::Api;", "`lib` must not import `api`"),
        ("src/main.rs", "fn main() { semblance::api::connect(); }", "`main` must not import `api`"),
        ("src/app.rs", "use evaluate::report;", "`app` must not import `evaluate`"),
        ("src/api/mod.rs", "use gallery::Gallery;", "`api` must not import `gallery`"),
        ("src/api/mod.rs", "use crate::config::Config;", "`api` must not import `config`"),
        ("src/api/mod.rs", "use crate::telemetry;", "`api` must not import `telemetry`"),
        ("src/domain/id.rs", "use std::{fmt, thread};", "must not name `std::thread`"),
        ("src/domain/id.rs", "async fn f() { tokio::task::yield_now().await }", "must not name `tokio`"),
        ("src/gallery/scan.rs", "use hnsw_rs::prelude::*;", "`hnsw_rs` is named in src/gallery/graph/hnsw.rs only"),
        ("src/gallery/scan.rs", "fn f(_: ::hnsw_rs::Hnsw) {}", "`hnsw_rs` is named in src/gallery/graph/hnsw.rs only"),
        ("src/gallery/scan.rs", "extern crate hnsw_rs;", "`hnsw_rs` is named in src/gallery/graph/hnsw.rs only"),
        ("src/matcher/fault.rs", "#[derive(prost::Message)] struct A;", "`prost` is named in src/api/ only"),
        ("src/app.rs", "use tonic_health::server;", "`tonic_health` is named in src/api/ only"),
        ("src/helpers/mod.rs", "", "`helpers` is no room"),
        ("src/app.rs", "fn main() {}", "a door opens with"),
        ("src/store/rows.rs", "// TODO later", "2: TODO"),
        ("src/store/rows.rs", "fn f() {} // (FIXME)", "2: FIXME"),
        ("src/store/rows.rs", "#[path = \"../api/mod.rs\"] mod api;", "a module lies where its name says"),
        ("src/store/rows.rs", "fn f() { (", "not read as Rust"),
    ];
    for (path, text, fault) in wrong {
        let faults = faults_in(path, text);
        assert!(faults.iter().any(|found| found.contains(fault)), "{path}: {text}\nfound only {faults:?}");
    }
}

#[test]
fn what_keeps_the_rules_is_left_alone() {
    let right = [
        ("src/matcher/mod.rs", "pub(crate) mod scan; pub(super) use self::scan::Scan; use domain::Id;"),
        ("src/matcher/scan.rs", "mod tests { use super::*; use testing::embeddings; }"),
        ("src/matcher/scan.rs", "use super::fault::Fault; use crate::matcher::turn;"),
        ("src/matcher/scan.rs", "// use crate::api::Api;\n/* torch::A */ const A: &str = \"crate::api::A\";"),
        ("src/matcher/scan.rs", "/// Not [`crate::api::Api`].\nfn f<'torch>(torch: &'torch str) { torch.len(); }"),
        ("src/matcher/scan.rs", "fn f() { let torch = r#\"use crate::api\"#; torch(':', b'\"'); }"),
        ("src/matcher/scan.rs", "fn f<'a>() -> impl Sized + use<'a> {}"),
        ("src/gallery/lib.rs", "mod scan; pub use scan::Scan; use crate::scan::Other;"),
        ("src/gallery/graph/hnsw.rs", "use hnsw_rs::prelude::*;"),
        ("src/torch/lib.rs", "use tch::{nn, Tensor}; const XXXL: u8 = 1;"),
        ("src/domain/id.rs", "use std::{fmt, sync::Arc};"),
        ("src/cli/mod.rs", "use crate::app; use evaluate::report; use store;"),
        ("src/api/grpc.rs", "use crate::matcher::{self, Fault}; use domain::Id; use tonic::{Request, Status};"),
        ("src/main.rs", "use semblance::{cli, config::Config, telemetry}; fn main() {}"),
    ];
    for (path, text) in right {
        assert_eq!(faults_in(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn no_test_passes_without_having_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src", "tests"].into_iter().flat_map(|folder| sources_below(root, folder));
    let faults: Vec<String> = sources
        .flat_map(|Source { path, text }| {
            ignored::faults(&text).into_iter().map(move |(line, fault)| format!("{path}:{line}: {fault}"))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_test_that_may_pass_without_having_run_is_found() {
    let ignore = |reason: &str| format!("#[ignore{reason}]");
    let on = |reason: &str, name: &str| format!("#[test]\n{}\nfn {name}() {{}}", ignore(reason));
    let (data, postgres) = ("= \"needs SEMBLANCE_TEST_DATA\"", "= \"needs SEMBLANCE_TEST_POSTGRES_URL\"");
    let (data, postgres) = (format!(" {data}"), format!(" {postgres}"));
    let inside = |module: &str, test: &str| format!("mod {module} {{\n    {}\n}}", test.replace('\n', "\n    "));
    for (text, line) in [
        (on("", "slow"), 2),
        (on(" = \"slow\"", "slow"), 2),
        (on(&data, "faces"), 2),
        (on(&data, "faces_on_postgres"), 2),
        (on(&postgres, "turns"), 2),
        (on(&postgres, "turns_on_real_data"), 2),
        (on(&data, "turns_on_real_data_on_postgres"), 2),
        (inside("on_sqlite", &on(&postgres, "turns")), 3),
        ("#[test]\nfn f() {\n    let Some(a) = b() else { return };\n}".to_owned(), 3),
        ("#[tokio::test]\nasync fn f() {\n    if a {\n        return;\n    }\n}".to_owned(), 4),
    ] {
        let faults = ignored::faults(&text);
        assert_eq!(faults.iter().map(|fault| fault.0).collect::<Vec<_>>(), [line], "{text}: {faults:?}");
    }
    for text in [
        on(&data, "faces_on_real_data"),
        on(&postgres, "turns_on_postgres"),
        inside("on_postgres", &on(&postgres, "turns")),
        inside(
            "on_postgres",
            &on(" = \"needs SEMBLANCE_TEST_DATA and SEMBLANCE_TEST_POSTGRES_URL\"", "x_on_real_data"),
        ),
        "#[test]\nfn f() {}\nfn g() {\n    return;\n}".to_owned(),
    ] {
        assert_eq!(ignored::faults(&text), [], "{text}");
    }
}

#[test]
fn build_and_test_compile_the_same_features() {
    let served = resolved_features("normal,build");
    let tested = resolved_features("normal,build,dev");
    let differing: Vec<&String> = served.iter().filter(|package| !tested.contains(package)).collect();
    assert!(served.len() > 300, "cargo tree lists the dependencies, not {}", served.len());
    assert!(
        differing.is_empty(),
        "a dependency of the tests switches features on; pin them in Cargo.toml: {differing:?}"
    );
}

/// Every package of the workspace's builds with its version and features, as cargo resolves them for these edges.
fn resolved_features(edges: &str) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--workspace",
            "--prefix",
            "none",
            "--format",
            "{p} {f}",
            "--edges",
            edges,
        ])
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8(tree.stdout).expect("UTF-8");
    let mut packages: Vec<String> = lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect();
    packages.sort();
    packages.dedup();
    packages
}
