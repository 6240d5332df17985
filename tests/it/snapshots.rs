//! Snapshots as an operator meets them: taken at the stop, read at the start, removed when they are of no use.

use std::{fs, path::PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    rest::{embedding, enroll, make_collection},
    support::{Database, Home, Server, Start, eventually, on_both_databases},
};

const PEOPLE: usize = 40;

/// Somebody's direction; far enough apart to be told.
fn person(number: usize) -> [f32; 4] {
    let angle = number as f32 * 0.15;
    [angle.cos(), angle.sin(), (angle * 1.7).cos(), (angle * 2.3).sin()]
}

async fn people(server: &Server) {
    make_collection(server, "staff").await;
    for number in 0..PEOPLE {
        enroll(server, &format!("p{number}"), person(number), json!({"number": number.to_string()})).await;
    }
}

async fn answers(server: &Server) -> Vec<Value> {
    let mut all = Vec::new();
    for number in 0..PEOPLE {
        let asked = json!({"samples": [embedding(person(number))], "topK": 5});
        all.push(server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(asked)).await);
    }
    all
}

async fn metric(server: &Server, line: &str) -> f64 {
    let page = server.request(Method::GET, "/metrics").send().await.expect("answered").text().await.expect("text");
    let value = page.lines().find_map(|l| l.strip_prefix(line)).map(|value| value.trim().parse::<f64>());
    value.transpose().expect("a number").unwrap_or(0.0)
}

async fn outcomes(server: &Server, outcome: &str) -> f64 {
    metric(server, &format!("semblance_gallery_snapshots_total{{outcome=\"{outcome}\"}}")).await
}

fn stop(mut server: Server) {
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
}

fn files(home: &Home) -> Vec<PathBuf> {
    let Ok(folders) = fs::read_dir(home.path().join("gallery")) else { return Vec::new() };
    let folders = folders.map(|entry| entry.expect("readable").path()).filter(|path| path.is_dir());
    folders.flat_map(|folder| fs::read_dir(folder).expect("a folder")).map(|e| e.expect("readable").path()).collect()
}

on_both_databases! {
    a_start_reads_the_snapshot_and_the_log_since,
}

/// Changes that were made after the snapshot, by hand: the log since is followed, whatever it says.
async fn a_start_reads_the_snapshot_and_the_log_since(database: &Database) {
    let home = Home::new(database).await;
    let server = Server::start(&home, &Start::default());
    people(&server).await;
    let before = answers(&server).await;
    stop(server);
    assert!(!files(&home).is_empty(), "one was taken at the stop");

    let server = Server::start(&home, &Start::default());
    assert!((outcomes(&server, "recalled").await - 1.0).abs() < 0.5);
    assert_eq!(answers(&server).await, before);
    server.expect(Method::DELETE, "/v1/collections/staff/identities/p3", None).await;
    enroll(&server, "late", [0.0, 0.0, 1.0, 0.0], json!({})).await;
    let changed = answers(&server).await;
    server.kill();

    let server = Server::start(&home, &Start::default());
    assert!((outcomes(&server, "recalled").await - 1.0).abs() < 0.5);
    assert_eq!(answers(&server).await, changed);
    let late = json!({"samples": [embedding([0.0, 0.0, 1.0, 0.0])], "topK": 1});
    let found = server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(late)).await;
    assert_eq!(found["candidates"][0]["identity"], "collections/staff/identities/late");
    assert!(files(&home).iter().all(|file| !holds(file, b"\"p3\"")), "who was deleted is in no file");
    server.expect(Method::DELETE, "/v1/collections/staff", None).await;
    assert_eq!(files(&home), Vec::<PathBuf>::new(), "and neither is a collection that was");
    drop(server);
    home.tidy().await;
}

fn holds(file: &PathBuf, bytes: &[u8]) -> bool {
    fs::read(file).expect("readable").windows(bytes.len()).any(|window| window == bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_told_and_the_store_read() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    people(&server).await;
    let before = answers(&server).await;
    stop(server);
    let rows = files(&home).into_iter().find(|file| file.extension().is_some_and(|e| e == "rows")).expect("a space's");
    let mut bytes = fs::read(&rows).expect("readable");
    bytes[4096 + 77] ^= 4;
    fs::write(&rows, bytes).expect("written");

    let server = Server::start(&home, &Start::default());
    assert!((outcomes(&server, "damaged").await - 1.0).abs() < 0.5);
    assert!(server.log().contains("the checksum of row 4 does not match"), "{}", server.log());
    assert_eq!(answers(&server).await, before);
    stop(server);
    let server = Server::start(&home, &Start::default());
    assert!((outcomes(&server, "recalled").await - 1.0).abs() < 0.5, "it was made again");
    assert_eq!(answers(&server).await, before);
}

/// Nobody would erase from what is not in use, so who is told to keep none removes what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_keeps_no_snapshots_leaves_no_old_ones_behind() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    people(&server).await;
    let before = answers(&server).await;
    stop(server);
    assert!(!files(&home).is_empty());
    let server =
        Server::start(&home, &Start { env: &[("SEMBLANCE_SNAPSHOT_INTERVAL_SECONDS", "0")], ..Start::default() });
    assert_eq!(files(&home), Vec::<PathBuf>::new());
    assert_eq!(answers(&server).await, before);
    stop(server);
    assert_eq!(files(&home), Vec::<PathBuf>::new());
}

/// A database that was put back to an earlier state, and went on from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_another_log_is_told_and_the_store_read() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    people(&server).await;
    stop(server);
    let database = home.path().join("semblance.db");
    let backup = fs::read(&database).expect("readable");
    let server = Server::start(&home, &Start::default());
    enroll(&server, "forgotten-by-the-backup", [0.0, 1.0, 0.0, 0.0], json!({})).await;
    stop(server);
    for rest in ["semblance.db-wal", "semblance.db-shm"] {
        let _ = fs::remove_file(home.path().join(rest));
    }
    fs::write(&database, backup).expect("written");

    let server = Server::start(&home, &Start::default());
    assert!((outcomes(&server, "foreign").await - 1.0).abs() < 0.5, "{}", server.log());
    let asked = json!({"samples": [embedding([0.0, 1.0, 0.0, 0.0])], "topK": 100});
    let found = server.expect(Method::POST, "/v1/collections/staff/identities:search", Some(asked)).await;
    assert_eq!(found["candidates"].as_array().expect("a list").len(), PEOPLE);
}

/// A start that can neither read nor remove a snapshot: the deletion of a person was answered, and the files kept the
/// person's embedding and id for as long as the server ran.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unusable_snapshot_that_could_not_be_removed_is_removed_by_a_sweep() {
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    people(&server).await;
    stop(server);
    let rows = files(&home).into_iter().find(|file| file.extension().is_some_and(|e| e == "rows")).expect("a space's");
    let folder = rows.parent().expect("of the snapshot").to_owned();
    // A folder in place of the file: nobody reads or deletes it as a file, not even root.
    let away = home.path().join("rows");
    fs::rename(&rows, &away).expect("moved");
    fs::create_dir(&rows).expect("made");
    fs::rename(&away, rows.join("held")).expect("moved");

    let server = Server::start(&home, &Start { env: &[("SEMBLANCE_SWEEP_INTERVAL_SECONDS", "1")], ..Start::default() });
    assert!((outcomes(&server, "damaged").await - 1.0).abs() < 0.5, "{}", server.log());
    assert!(metric(&server, "semblance_gallery_pending_removals").await > 0.0);
    assert!(server.log().contains("an unused snapshot could not be deleted"), "{}", server.log());
    server.expect(Method::DELETE, "/v1/collections/staff/identities/p3", None).await;
    // A sweep may come between the two.
    fs::rename(rows.join("held"), folder.join("held")).expect("the removal leaves what is in the folder");
    fs::remove_dir(&rows).expect("empty");
    eventually("a sweep removes it", async || !folder.exists()).await;
    eventually("nothing is pending", async || metric(&server, "semblance_gallery_pending_removals").await < 0.5).await;
    stop(server);
    assert!(files(&home).iter().all(|file| !holds(file, b"\"p3\"")), "who was deleted is in no file");
}

/// Two descriptors per collection filled the limit after the first snapshots, and no connection was accepted any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_collections_than_open_files_are_served() {
    const OPEN_FILES_MAX: u32 = 200;
    const COLLECTIONS: usize = 220;
    let home = Home::new(&Database::Sqlite).await;
    // Without core dumps, only root may list the open files of another process.
    let env: &[(&str, &str)] = &[("SEMBLANCE_SNAPSHOT_INTERVAL_SECONDS", "1"), ("SEMBLANCE_ALLOW_CORE_DUMPS", "true")];
    let start = Start { env, open_files_max: Some(OPEN_FILES_MAX), ..Start::default() };
    let server = Server::start(&home, &start);
    for number in 0..COLLECTIONS {
        make_collection(&server, &format!("c{number}")).await;
        let enroll = format!("/v1/collections/c{number}/identities/anna:enroll");
        server.expect(Method::POST, &enroll, Some(json!({"samples": [embedding(person(number))]}))).await;
    }
    eventually("each has a snapshot", async || outcomes(&server, "taken").await >= COLLECTIONS as f64).await;
    let open_files = |server: &Server| {
        let listed = fs::read_dir(format!("/proc/{}/fd", server.id())).expect("this user's process");
        listed.count()
    };
    assert!(open_files(&server) < COLLECTIONS / 2, "{} open files", open_files(&server));
    stop(server);

    let server = Server::start(&home, &start);
    assert!((outcomes(&server, "recalled").await - COLLECTIONS as f64).abs() < 0.5, "{}", server.log());
    assert!(open_files(&server) < COLLECTIONS / 2, "{} open files", open_files(&server));
    // New connections, each of them kept.
    let clients: Vec<reqwest::Client> = (0..20).map(|_| reqwest::Client::new()).collect();
    for client in &clients {
        let answered = client.get(format!("{}/livez", server.http)).send().await.expect("a connection is accepted");
        assert!(answered.status().is_success());
    }
    server.expect(Method::DELETE, "/v1/collections/c7/identities/anna", None).await;
    assert!(metric(&server, "semblance_gallery_pending_removals").await < 0.5);
}

/// Whatever the disk does to snapshots, the server serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_no_files_costs_snapshots_and_nothing_else() {
    let home = Home::new(&Database::Sqlite).await;
    let server =
        Server::start(&home, &Start { env: &[("SEMBLANCE_SNAPSHOT_INTERVAL_SECONDS", "1")], ..Start::default() });
    // In a file nobody makes a folder, not even root.
    let (gallery, away) = (home.path().join("gallery"), home.path().join("gallery.away"));
    fs::rename(&gallery, &away).expect("the server has made it");
    fs::write(&gallery, b"").expect("written");
    people(&server).await;
    eventually("two snapshots fail", async || outcomes(&server, "failed").await >= 2.0).await;
    assert!(server.log().contains("snapshot"), "{}", server.log());
    assert_eq!(answers(&server).await.len(), PEOPLE);
    enroll(&server, "late", [0.0, 0.0, 1.0, 0.0], json!({})).await;
    stop(server);
    fs::remove_file(&gallery).expect("it is still a file");
    fs::rename(&away, &gallery).expect("put back");
    let server = Server::start(&home, &Start::default());
    assert!(server.greeting().contains(&format!("{} identities", PEOPLE + 1)), "{}", server.greeting());
    assert_eq!(answers(&server).await.len(), PEOPLE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_in_the_same_folder_goes_without() {
    let home = Home::new(&Database::Sqlite).await;
    let first = Server::start(&home, &Start::default());
    people(&first).await;
    let second = Server::start(&home, &Start::default());
    assert!(second.log().contains("another server uses this snapshot folder"), "{}", second.log());
    assert_eq!(answers(&second).await, answers(&first).await);
    stop(second);
    assert_eq!(files(&home), Vec::<PathBuf>::new());
    stop(first);
    assert!(!files(&home).is_empty());
}
