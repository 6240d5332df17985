//! Start, stop, and the errors of wrong settings.

use std::{process::Stdio, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio_stream::StreamExt;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    rest::{embedding, enroll, make_collection},
    support::{Database, Home, Server, Start, program},
};

// The client's own connections need a thread while this one waits for the end of the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_terminate_it_drains_and_ends_well() {
    let home = Home::new(&Database::Sqlite).await;
    let mut server =
        Server::start(&home, &Start { env: &[("SEMBLANCE_DRAIN_NOTICE_SECONDS", "2")], ..Start::default() });
    make_collection(&server, "staff").await;
    // One who watches the health has a call open that never ends by itself; it must not hold up the stop.
    let mut health = HealthClient::new(server.channel().await);
    let mut watched = health.watch(HealthCheckRequest::default()).await.expect("watched").into_inner();
    assert!(watched.next().await.is_some());
    server.signal("TERM");
    // While balancers are given notice it is not ready, and still serves. The loop ends: after the notice no request is
    // answered.
    loop {
        let ready = server.request(Method::GET, "/readyz").send().await.expect("the server still answers").status();
        if ready != StatusCode::OK {
            assert_eq!(ready, StatusCode::SERVICE_UNAVAILABLE);
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    enroll(&server, "late", [1.0, 0.0, 0.0, 0.0], json!({})).await;
    assert!(server.wait().success(), "{}", server.log());

    let server = Server::start(&home, &Start::default());
    let found = server
        .expect(
            Method::POST,
            "/v1/collections/staff/identities:search",
            Some(json!({"samples": [embedding([1.0, 0.0, 0.0, 0.0])]})),
        )
        .await;
    assert_eq!(found["candidates"][0]["identity"], "collections/staff/identities/late");
}

/// Starts the program with wrong settings and answers what it complains of.
fn complaint(env: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = program()
        .arg("serve")
        .env("SEMBLANCE_DATA_DIR", folder.path())
        .env("SEMBLANCE_HTTP_ADDR", "127.0.0.1:0")
        .env("SEMBLANCE_GRPC_ADDR", "127.0.0.1:0")
        .env("SEMBLANCE_NO_PULL", "true")
        .envs(env.iter().copied())
        .stdout(Stdio::null())
        .output()
        .expect("the program runs");
    assert!(!ended.status.success(), "{env:?} must not start");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let last: Vec<&str> = said.lines().filter(|l| l.starts_with("semblance: ")).collect();
    assert_eq!(last.len(), 1, "one sentence, not {said}");
    last[0].to_owned()
}

#[test]
fn a_wrong_setting_is_one_clear_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("bound").to_string();
    assert!(complaint(&[("SEMBLANCE_HTTP_ADDR", &addr)]).contains("set SEMBLANCE_HTTP_ADDR to another"));
    assert!(complaint(&[("SEMBLANCE_GRPC_ADDR", &addr)]).contains("set SEMBLANCE_GRPC_ADDR to another"));
    assert!(complaint(&[("DATABASE_URL", "mysql://x")]).contains("sqlite: or postgres:"));
    let unreachable =
        complaint(&[("DATABASE_URL", "postgres://user:hunter2@127.0.0.1:1/x"), ("SEMBLANCE_STORE_WAIT_MS_MAX", "300")]);
    assert!(unreachable.contains("database") && !unreachable.contains("hunter2"), "{unreachable}");
    assert!(complaint(&[("SEMBLANCE_API_KEY", "short")]).contains("fewer than 8"));
    let nobody = complaint(&[("SEMBLANCE_ALLOW_LOOPBACK", "false")]);
    for choice in ["SEMBLANCE_API_KEY", "SEMBLANCE_ALLOW_LOOPBACK=true", "SEMBLANCE_ALLOW_ANONYMOUS=true"] {
        assert!(nobody.contains(choice), "{nobody}");
    }
    assert!(complaint(&[("SEMBLANCE_BATCH_MAX", "0")]).contains("SEMBLANCE_BATCH_MAX"));

    let models = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(models.path().join("broken")).expect("made");
    std::fs::write(models.path().join("broken/model.toml"), "id = 7").expect("written");
    let folder = models.path().display().to_string();
    assert!(complaint(&[("SEMBLANCE_MODELS_DIR", &folder)]).contains("broken"));
}

#[test]
fn a_wrong_setting_is_told_before_models_are_fetched() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut serve = program();
    serve.arg("serve").env("SEMBLANCE_DATA_DIR", folder.path()).env("SEMBLANCE_MODEL_MIRROR", folder.path());
    let ended = serve.env("SEMBLANCE_BATCH_MAX", "0").output().expect("the program runs");
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(!ended.status.success());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("SEMBLANCE_BATCH_MAX"), "{said}");
}

#[test]
fn a_database_that_is_not_migrated_says_what_to_do() {
    assert!(complaint(&[("SEMBLANCE_AUTO_MIGRATE", "false")]).contains("semblance migrate"));
    let folder = tempfile::tempdir().expect("a folder");
    let migrated =
        program().arg("migrate").env("SEMBLANCE_DATA_DIR", folder.path()).output().expect("the program runs");
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let again = program().arg("migrate").env("SEMBLANCE_DATA_DIR", folder.path()).output().expect("the program runs");
    assert!(again.status.success());
}

/// Core dumps contain embeddings and photos.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_leaves_no_core_dump_unless_it_is_told_to() {
    let core_limit = |server: &Server| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("Linux tells");
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("listed").to_owned();
        line.split_whitespace().skip(4).map(str::to_owned).collect::<Vec<_>>()
    };
    let home = Home::new(&Database::Sqlite).await;
    let server = Server::start(&home, &Start::default());
    assert_eq!(core_limit(&server)[..2], ["0", "0"]);
    drop(server);
    let allowed = Start { env: &[("SEMBLANCE_ALLOW_CORE_DUMPS", "true")], ..Start::default() };
    let server = Server::start(&home, &allowed);
    let own = std::fs::read_to_string("/proc/self/limits").expect("Linux tells");
    let own = own.lines().find(|line| line.starts_with("Max core file size")).expect("listed");
    assert_eq!(core_limit(&server)[..2], own.split_whitespace().skip(4).take(2).collect::<Vec<_>>()[..]);
}
