//! `semblance doctor` on databases that a server filled and somebody damaged.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    rest::{enroll, make_collection},
    support::{Database, Home, Server, Start, on_both_databases, program},
};

fn doctor(home: &Home) -> Command {
    let mut command = program();
    command.arg("doctor").env("DATABASE_URL", &home.database_url).env("SEMBLANCE_DATA_DIR", home.path());
    command
}

/// Whether it exits 0, and what it says on standard output.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("the program runs");
    (output.status.success(), String::from_utf8(output.stdout).expect("UTF-8"))
}

on_both_databases! {
    damage_is_listed_and_a_sound_database_is_told_so,
    a_database_of_before_the_checksums_is_sound_and_gets_them,
    a_snapshot_that_is_not_what_the_database_says_is_found_and_removed,
}

async fn damage_is_listed_and_a_sound_database_is_told_so(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    let alice = enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({"site": "north"})).await;
    enroll(&server, "bob", [0.0, 1.0, 0.0, 0.0], json!({})).await;
    // Beside a server that runs.
    let (sound, said) = run(&mut doctor(&home));
    assert!(sound && said.contains("1 collections, 2 identities, 2 templates, no findings"), "{said}");
    let template =
        alice["templates"][0]["name"].as_str().expect("a name").rsplit('/').next().expect("an id").to_owned();
    drop(server);

    home.execute("UPDATE template_payloads SET crc32 = 1 WHERE template_id = (SELECT id FROM templates WHERE identity_id = 'alice')").await;
    home.execute("UPDATE collections SET head_position = 3").await;
    home.execute("DELETE FROM log_entries WHERE position = 3").await;
    let (sound, said) = run(&mut doctor(&home));
    assert!(!sound);
    assert!(said.contains(&format!("checksum_mismatch staff/alice template {template} at 2")), "{said}");
    assert!(said.contains("log_gap staff at 4") && said.contains("head_position staff"), "{said}");

    let (sound, said) = run(doctor(&home).args(["--repair", "--json"]));
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((sound, &report["repaired"]["headPositions"]), (false, &json!(1)), "{said}");
    let kinds: Vec<&str> =
        report["store"]["findings"].as_array().expect("a list").iter().filter_map(|f| f["kind"].as_str()).collect();
    assert_eq!(kinds, ["log_gap", "identity_without_entry", "checksum_mismatch"]);
    // A server refuses to serve numbers that are not what was enrolled.
    let refused = program()
        .arg("serve")
        .env("SEMBLANCE_DATA_DIR", home.path())
        .env("DATABASE_URL", &home.database_url)
        .env("SEMBLANCE_NO_PULL", "true")
        .env("SEMBLANCE_HTTP_ADDR", "127.0.0.1:0")
        .env("SEMBLANCE_GRPC_ADDR", "127.0.0.1:0")
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(&template), "{said}");
    home.tidy().await;
}

async fn a_database_of_before_the_checksums_is_sound_and_gets_them(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    drop(server);
    home.execute("UPDATE template_payloads SET crc32 = NULL").await;
    let (sound, said) = run(&mut doctor(&home));
    assert!(sound && said.contains("1 templates have no checksum;"), "{said}");
    let (sound, said) = run(doctor(&home).arg("--repair"));
    assert!(sound && said.contains("repaired: 0 head positions, 1 checksums"), "{said}");
    assert!(!run(&mut doctor(&home)).1.contains("no checksum"));
    home.tidy().await;
}

/// What is derived from the database is compared with it, and made anew where it differs.
async fn a_snapshot_that_is_not_what_the_database_says_is_found_and_removed(database: &Database) {
    let home = Home::new(database).await;
    let mut server = Server::start(&home, &Start::default());
    make_collection(&server, "staff").await;
    enroll(&server, "alice", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    enroll(&server, "bob", [0.0, 1.0, 0.0, 0.0], json!({})).await;
    let (sound, said) = run(&mut doctor(&home));
    assert!(sound && said.contains("in use by a server"), "{said}");
    server.signal("TERM");
    assert!(server.wait().success());
    let (sound, said) = run(&mut doctor(&home));
    assert!(sound && said.contains("1 compared, 0 removed"), "{said}");

    let gallery = home.path().join("gallery");
    let folders = std::fs::read_dir(&gallery).expect("a folder").map(|entry| entry.expect("readable").path());
    let folder = folders.into_iter().find(|path| path.is_dir()).expect("a snapshot");
    let (rows, whole) = (folder.join("0.rows"), std::fs::read(folder.join("0.rows")).expect("readable"));
    let mut flipped = whole.clone();
    flipped[4096] ^= 1;
    std::fs::write(&rows, flipped).expect("written");
    let (sound, said) = run(&mut doctor(&home));
    assert!(!sound && said.contains("snapshot_damaged staff"), "{said}");
    std::fs::write(&rows, whole).expect("written");

    // Somebody changed the database by hand, behind the log's back: what is still sound in itself is not the same.
    home.execute("UPDATE log_entries SET time = time + 1 WHERE position = (SELECT max(position) FROM log_entries)")
        .await;
    let (sound, said) = run(doctor(&home).arg("--json"));
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((sound, &report["gallery"]["findings"][0]["kind"]), (false, &json!("snapshot_foreign")), "{said}");
    let (sound, said) = run(doctor(&home).arg("--repair"));
    assert!(sound && said.contains("1 compared, 1 removed"), "{said}");
    assert!(!folder.exists());
    home.tidy().await;
}
