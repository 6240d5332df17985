//! Import and export as an operator runs them: killed half way, cut off, with rows that are refused, and there and back.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use domain::{Modality, SampleContent, SpaceName};
use reqwest::Method;
use serde_json::{Value, json};
use transfer::{ImportSource, RowDefaults};

use crate::{
    rest::{embedding, make_collection},
    support::{Database, Home, Server, Start, on_both_databases, program},
};

/// Rows of the space that `make_collection` declares.
fn write_rows(path: &Path, count: u16) {
    let row = |n: u16| {
        let angle = f32::from(n) * 0.01;
        let row = json!({"identity": format!("p{n}"), "labels": {"site": if n.is_multiple_of(2) { "north" } else { "south" }},
                         "modality": "face", "model": "mine", "embedding": [angle.sin(), angle.cos(), 0.5, f32::from(n)]});
        format!("{row}\n")
    };
    fs::write(path, (0..count).map(row).collect::<String>()).expect("written");
}

fn import(file: &Path, collection: &str, server: &str) -> Command {
    let mut command = program();
    command.arg("import").arg(file).args(["--collection", collection, "--server", server]);
    command
}

fn export(home: &Home, collection: &str, out: &Path) -> Command {
    let mut command = program();
    command.args(["export", "--collection", collection, "--embeddings", "--out"]).arg(out);
    command.env("DATABASE_URL", &home.database_url);
    command
}

fn run(command: &mut Command) -> (Output, String) {
    let output = command.output().expect("the program runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, said)
}

fn well(command: &mut Command) -> String {
    let (output, said) = run(command);
    assert!(output.status.success(), "{said}");
    said
}

async fn counts(server: &Server, collection: &str) -> (Value, Value) {
    let shown = server.expect(Method::GET, &format!("/v1/collections/{collection}"), None).await;
    (shown["identityCount"].clone(), shown["templateCount"].clone())
}

on_both_databases! {
    an_import_that_was_killed_goes_on_and_enrolls_everybody_once,
    what_was_exported_is_imported_again_to_the_same_answers,
}

async fn an_import_that_was_killed_goes_on_and_enrolls_everybody_once(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start { env: &[("SEMBLANCE_BULK_IN_FLIGHT_MAX", "1")], ..Start::default() });
    make_collection(&server, "staff").await;
    let file = home.path().join("people.jsonl");
    write_rows(&file, 300);
    let progress = home.path().join("people.jsonl.staff.progress");
    let mut first = import(&file, "staff", &server.grpc).stderr(Stdio::null()).spawn().expect("the program runs");
    while !progress.exists() {
        assert!(first.try_wait().expect("a child").is_none(), "it ended before it began");
        tokio::task::yield_now().await;
    }
    first.kill().expect("it runs");
    assert!(!first.wait().expect("it ends").success(), "it was killed half way");
    let kept: Value = serde_json::from_slice(&fs::read(&progress).expect("kept")).expect("JSON");
    let settled = kept["settled"].as_u64().expect("a number");
    assert!((1..300).contains(&settled), "{kept}");

    let said = well(&mut import(&file, "staff", &server.grpc));
    assert!(said.contains(&format!("{} rows enrolled, {settled} before this run, 0 refused", 300 - settled)), "{said}");
    assert_eq!(counts(&server, "staff").await, (json!(300), json!(300)));
    let said = well(&mut import(&file, "staff", &server.grpc));
    assert!(said.contains("all 300 rows of"), "{said}");
    // Without what it kept, it asks for everything again, and the server knows the rows.
    fs::remove_file(&progress).expect("there");
    well(&mut import(&file, "staff", &server.grpc));
    assert_eq!(counts(&server, "staff").await, (json!(300), json!(300)));

    write_rows(&file, 2);
    let (output, said) = run(&mut import(&file, "staff", &server.grpc));
    assert!(!output.status.success() && said.contains("belongs to another file"), "{said}");
    fs::remove_file(&progress).expect("there");
    well(&mut import(&file, "staff", &server.grpc));
    well(import(&file, "staff", &server.grpc).arg("--again"));
    assert_eq!(counts(&server, "staff").await, (json!(300), json!(304)));
    drop(server);
    home.tidy().await;
}

/// A way to a server that is cut after so many bytes, once.
async fn cut_once(server: &str, after_bytes: u64) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let way = format!("http://{}", listener.local_addr().expect("bound"));
    let target = server.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        let mut is_cut = false;
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::TcpStream::connect(&target).await.expect("the server listens");
            if is_cut {
                tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
                continue;
            }
            is_cut = true;
            let ((near_in, mut near_out), (mut far_in, mut far_out)) = (near.split(), far.split());
            let mut up = near_in.take(after_bytes);
            tokio::select! {
                _ = copy(&mut up, &mut far_out) => {}
                _ = copy(&mut far_in, &mut near_out) => {}
            }
            let _ = far_out.flush().await;
        }
    });
    way
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_is_made_again_and_nobody_is_enrolled_twice() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    let file = home.path().join("people.jsonl");
    write_rows(&file, 200);
    let way = cut_once(&server.grpc, 20_000).await;
    let said = tokio::task::spawn_blocking(move || well(&mut import(&file, "staff", &way))).await.expect("well");
    assert!(said.contains("200 rows enrolled, 0 refused"), "{said}");
    assert_eq!(counts(&server, "staff").await, (json!(200), json!(200)));
}

#[tokio::test]
async fn rows_that_are_refused_are_listed_and_end_nothing_unless_told_to() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start { env: &[("SEMBLANCE_API_KEY", "open-sesame")], ..Start::default() });
    let file = home.path().join("people.jsonl");
    let row = |identity: &str, values: Value| json!({"identity": identity, "embedding": values}).to_string();
    let rows = [
        row("a", json!([1, 0, 0, 0])),
        row("b", json!([1, 0])),
        row("c c", json!([1, 0, 0, 0])),
        "nonsense".to_owned(),
        row("e", json!([0, 0, 0, 0])),
        json!({"identity": "f", "image": "f.jpg", "modality": "person"}).to_string(),
        row("g", json!([0, 1, 0, 0])),
        json!({"identity": "h", "embedding": [0, 1, 0, 0], "digest": "07".repeat(32)}).to_string(),
    ];
    fs::write(&file, rows.join("\n")).expect("written");
    fs::write(home.path().join("f.jpg"), [0xff; 100]).expect("written");
    let rejects = home.path().join("rejects.jsonl");
    let command = |collection: &str| {
        let mut command = import(&file, collection, &server.grpc);
        command.args(["--model", "mine", "--modality", "face", "--api-key", "open-sesame", "--rejects"]).arg(&rejects);
        command
    };
    let (output, said) = run(&mut command("staff"));
    assert!(!output.status.success() && said.contains("there is no collection staff"), "{said}");
    let said = well(command("staff").arg("--declare"));
    assert!(said.contains("2 rows enrolled, 6 refused"), "{said}");
    let listed = fs::read_to_string(&rejects).expect("written");
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let reason = |row: u64| {
        let of = listed.iter().find(|reject| reject["row"] == row).unwrap_or_else(|| panic!("{row} in {listed:?}"));
        of["reason"].as_str().expect("a text").to_owned()
    };
    assert_eq!(listed.len(), 6);
    assert!(reason(2).contains("has 4 numbers, this one has 2"));
    assert!(reason(3).contains("an id is made of"));
    assert!(reason(4).contains("this is not a row"));
    assert!(reason(5).contains("zero or smaller than 0.000001"));
    assert!(reason(6).starts_with("NO_MODEL: "), "{}", reason(6));
    assert!(reason(8).starts_with("OTHER_MODEL: "), "{}", reason(8));

    let (output, said) = run(command("strict").args(["--declare", "--strict"]));
    assert!(!output.status.success() && said.contains("--strict stops the import"), "{said}");
    for (server, says) in [
        ("http://127.0.0.1:1", "does not answer"),
        ("127.0.0.1:1", "is not the URL of a server"),
        (server.grpc.as_str(), "the server refuses"),
    ] {
        let (output, said) = run(import(&file, "staff", server).arg("--progress").arg(home.path().join("other")));
        assert!(!output.status.success() && said.contains(says), "{said}");
    }
    let (output, said) = run(&mut import(Path::new("people.csv"), "staff", &server.grpc));
    assert!(!output.status.success() && said.contains("people.csv"), "{said}");
}

#[tokio::test]
async fn a_first_row_that_is_refused_does_not_hide_the_dimension_to_declare() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    let good = json!({"identity": "b", "embedding": [1, 0, 0, 0]}).to_string();
    let first_rows = [
        ("an-id-with-a-space", json!({"identity": "a a", "embedding": [1, 0, 0, 0]}).to_string()),
        ("not-a-number", r#"{"identity": "a", "embedding": [NaN, 0, 0, 0]}"#.to_owned()),
        ("nonsense", "nonsense".to_owned()),
    ];
    for (collection, first) in first_rows {
        let file = home.path().join(format!("{collection}.jsonl"));
        let declared = |collection: &str| {
            let mut command = import(&file, collection, &server.grpc);
            command.args(["--model", "mine", "--modality", "face", "--declare"]);
            command
        };
        fs::write(&file, format!("{first}\n{good}\n")).expect("written");
        let said = well(&mut declared(collection));
        assert!(said.contains("1 rows enrolled, 1 refused"), "{collection}: {said}");
        // Without a good row, the reason of the first one is told.
        fs::write(&file, format!("{first}\n")).expect("written");
        let (output, said) = run(&mut declared("none"));
        assert!(!output.status.success() && said.contains("row 1 cannot be read"), "{collection}: {said}");
        assert!(!said.contains("expected value"), "{collection}: {said}");
    }
}

/// Whose numbers a file holds, in order.
fn rows(file: &Path) -> Vec<(String, Vec<u32>)> {
    let is_npy = file.extension().is_some_and(|e| e == "npy");
    let source = ImportSource {
        file: file.to_owned(),
        names: is_npy.then(|| file.with_extension("names.txt")),
        defaults: RowDefaults { model: SpaceName::new("mine").ok(), modality: Some(Modality::Face) },
        after: 0,
    };
    let rows = transfer::read(&source).expect("it opens").map(|row| {
        let row = row.expect("whole").expect("good");
        let SampleContent::Embedding { values, .. } = row.sample.content else { panic!("an embedding") };
        (row.identity.to_string(), values.iter().map(|value| value.to_bits()).collect())
    });
    rows.collect()
}

async fn what_was_exported_is_imported_again_to_the_same_answers(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    let file = home.path().join("people.jsonl");
    write_rows(&file, 100);
    well(&mut import(&file, "staff", &server.grpc));
    let original = home.path().join("staff.arrow");
    let said = well(&mut export(&home, "staff", &original));
    assert!(said.contains("biometric data") && said.contains("100 templates written to"), "{said}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&original).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let search = async |collection: &str| {
        let probe = json!({"samples": [embedding([0.3, 0.8, 0.5, 40.0])], "topK": 20,
                           "filter": if collection == "npy" { "" } else { "labels.site = \"north\"" }});
        let path = format!("/v1/collections/{collection}/identities:search");
        let found = server.expect(Method::POST, &path, Some(probe)).await;
        let candidates = found["candidates"].as_array().expect("a list").iter().map(|candidate| {
            let name = candidate["identity"].as_str().expect("a name").rsplit('/').next().expect("an id").to_owned();
            (name, candidate["similarity"].to_string())
        });
        candidates.collect::<Vec<_>>()
    };
    for form in ["arrow", "npy", "jsonl"] {
        let out: PathBuf = home.path().join(format!("copy.{form}"));
        well(&mut export(&home, "staff", &out));
        let mut command = import(&out, form, &server.grpc);
        command.args(["--declare", "--model", "mine", "--modality", "face"]);
        if form == "npy" {
            command.arg("--ids").arg(out.with_extension("names.txt"));
        }
        let said = well(&mut command);
        assert!(said.contains("100 rows enrolled, 0 refused"), "{said}");
        let back = home.path().join(format!("{form}.back.arrow"));
        well(&mut export(&home, form, &back));
        let (mut given, mut got) = (rows(&original), rows(&back));
        given.sort();
        got.sort();
        assert!(given == got, "{form}: every number comes back bit for bit");
        if form != "npy" {
            assert_eq!(search(form).await, search("staff").await, "{form}");
        }
    }
    let names = home.path().join("names.jsonl");
    let mut command = program();
    command.args(["export", "--collection", "staff", "--out"]).arg(&names).env("DATABASE_URL", &home.database_url);
    well(&mut command);
    let listed = fs::read_to_string(&names).expect("written");
    assert_eq!(listed.lines().count(), 100);
    assert!(!listed.contains("embedding") && listed.contains("\"site\":\"north\""));
    let (output, said) = run(&mut export(&home, "nobody", &names));
    assert!(!output.status.success() && said.contains("no collection nobody"), "{said}");
    assert_eq!(fs::read_to_string(&names).expect("still there"), listed);
    drop(server);
    home.tidy().await;
}
