//! The real program as a child process, on ports of its own, with a data folder of its own.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Channel;

/// How long a start or a stop may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Debug, Clone)]
pub(crate) enum Database {
    Sqlite,
    /// The address of a server; each test makes a database of its own there.
    Postgres(String),
}

/// The PostgreSQL server that the tests were given.
pub(crate) fn postgres() -> Database {
    Database::Postgres(testing::postgres_url())
}

/// Makes two tests of each function from `&Database`: one on SQLite, one on PostgreSQL. Once a file.
macro_rules! on_both_databases {
    (real data: $($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs SEMBLANCE_TEST_DATA"]
            async fn $name() { super::$name(&crate::support::Database::Sqlite).await; })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs SEMBLANCE_TEST_DATA and SEMBLANCE_TEST_POSTGRES_URL"]
            async fn $name() { super::$name(&crate::support::postgres()).await; })+
        }
    };
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&crate::support::Database::Sqlite).await; })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs SEMBLANCE_TEST_POSTGRES_URL"]
            async fn $name() { super::$name(&crate::support::postgres()).await; })+
        }
    };
}
pub(crate) use on_both_databases;

/// The program itself, with nothing of this process's environment that it would read. A server of it takes requests of this
/// machine without a key.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_semblance"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("SEMBLANCE_") || name == "DATABASE_URL" {
            command.env_remove(&*name);
        }
    }
    command.env("SEMBLANCE_ALLOW_LOOPBACK", "true").env("SEMBLANCE_LOG", "warn").env("NO_COLOR", "1");
    command
}

/// A folder with the starter packages, made from the real data once for all tests.
pub(crate) fn models() -> &'static Path {
    static MODELS: OnceLock<TempDir> = OnceLock::new();
    let folder = MODELS.get_or_init(|| {
        let mirror = testing::data();
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["face-mobilefacenet", "face-mtcnn", "face-minifasnet", "person-osnet-x0-25", "gait-graph"] {
            let pulled = program()
                .args(["models", "pull", name])
                .env("SEMBLANCE_MODELS_DIR", folder.path())
                .env("SEMBLANCE_MODEL_MIRROR", &mirror)
                .output()
                .expect("the program runs");
            assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
        }
        folder
    });
    folder.path()
}

/// Where a server keeps its things; outlives the server, so that another can be started on them.
pub(crate) struct Home {
    folder: TempDir,
    pub(crate) database_url: String,
    /// Dropped with the home.
    postgres: Option<(String, String)>,
}

impl Home {
    pub(crate) async fn new(database: &Database) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        match database {
            Database::Sqlite => {
                let database_url = format!("sqlite:{}", folder.path().join("semblance.db").display());
                Self { folder, database_url, postgres: None }
            }
            Database::Postgres(server) => {
                let name = format!("semblance_it_{}", uuid::Uuid::now_v7().simple());
                execute(server, &format!("CREATE DATABASE {name}")).await;
                let (base, _) = server.rsplit_once('/').expect("an address names a database");
                let database_url = format!("{base}/{name}");
                Self { folder, database_url, postgres: Some((server.clone(), name)) }
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Does to the database what no server would.
    pub(crate) async fn execute(&self, statement: &str) {
        use sqlx::Connection;
        if self.postgres.is_some() {
            return execute(&self.database_url, statement).await;
        }
        let mut connection = sqlx::SqliteConnection::connect(&self.database_url).await.expect("the database opens");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.expect(statement);
    }

    /// The rows of a query with one text column.
    pub(crate) async fn rows(&self, on_sqlite: &str, on_postgres: &str) -> Vec<String> {
        use sqlx::Connection;
        if self.postgres.is_some() {
            let mut connection = sqlx::PgConnection::connect(&self.database_url).await.expect("the database opens");
            let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(on_postgres)).fetch_all(&mut connection).await;
            return rows.expect(on_postgres);
        }
        let mut connection = sqlx::SqliteConnection::connect(&self.database_url).await.expect("the database opens");
        sqlx::query_scalar(sqlx::AssertSqlSafe(on_sqlite)).fetch_all(&mut connection).await.expect(on_sqlite)
    }

    /// Removes what a folder does not remove by itself.
    pub(crate) async fn tidy(self) {
        if let Some((server, name)) = &self.postgres {
            execute(server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

async fn execute(server: &str, statement: &str) {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(server).await.expect("the tests' PostgreSQL answers");
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.expect(statement);
}

/// A server that runs. Killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) http: String,
    pub(crate) grpc: String,
    client: reqwest::Client,
    greeting: String,
    errors: std::sync::Arc<Mutex<String>>,
}

/// How to start one.
#[derive(Default)]
pub(crate) struct Start<'s> {
    pub(crate) models: Option<&'s Path>,
    pub(crate) env: &'s [(&'s str, &'s str)],
    /// The most open files of the process; as here when it is none.
    pub(crate) open_files_max: Option<u32>,
}

impl Server {
    pub(crate) fn start(home: &Home, start: &Start<'_>) -> Self {
        let empty = home.path().join("no-models");
        let mut command = program();
        command.arg("serve");
        if let Some(files) = start.open_files_max {
            let limited = format!("ulimit -n {files} && exec \"$0\" serve");
            let mut shell = Command::new("sh");
            shell.args(["-c", &limited]).arg(command.get_program());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => shell.env(name, value),
                    None => shell.env_remove(name),
                };
            }
            command = shell;
        }
        command
            .env("SEMBLANCE_DATA_DIR", home.path())
            .env("SEMBLANCE_MODELS_DIR", start.models.unwrap_or(&empty))
            .env("DATABASE_URL", &home.database_url)
            .env("SEMBLANCE_HTTP_ADDR", "127.0.0.1:0")
            .env("SEMBLANCE_GRPC_ADDR", "127.0.0.1:0")
            .env("SEMBLANCE_NO_PULL", "true")
            .envs(start.env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let errors = std::sync::Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn({
            let errors = errors.clone();
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    let mut errors = errors.lock().expect("nobody panics while holding it");
                    errors.push_str(&line);
                    errors.push('\n');
                }
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut greeting = String::new();
        // The greeting comes when requests are served; its last line is the last curl.
        while !greeting.contains(":resolve") {
            let read = stdout.read_line(&mut greeting).expect("readable");
            let said = || errors.lock().expect("nobody panics while holding it").clone();
            assert!(read > 0, "the server ended before it served: {greeting}{}", said());
        }
        let word_after = |name: &str| {
            let line = greeting.lines().find_map(|l| l.trim().strip_prefix(name)).expect("the greeting says it");
            line.split_whitespace().next().expect("an address").to_owned()
        };
        let (http, grpc) = (word_after("REST"), format!("http://{}", word_after("gRPC")));
        Self { child, http, grpc, client: reqwest::Client::new(), greeting, errors }
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn greeting(&self) -> &str {
        &self.greeting
    }

    /// What the server logged so far.
    pub(crate) fn log(&self) -> String {
        self.errors.lock().expect("nobody panics while holding it").clone()
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(self.grpc.clone()).expect("an address").connect().await.expect("gRPC answers")
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.http))
    }

    /// Sends JSON and reads JSON.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    /// The same, for what must go well.
    pub(crate) async fn expect(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.ask(method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for the end; the exit status tells how.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child of this process") {
                return status;
            }
            assert!(Instant::now() < until, "the server does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// As a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until it is so, for as long as a busy machine may need.
pub(crate) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < until, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Numbers of 16 dimensions without preference for a direction, the same for the same seed: the sum of a few even ones.
pub(crate) fn direction(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut even = move || {
        // Knuth's linear congruential generator; its upper bits are good enough here.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    for _ in 0..8 {
        even();
    }
    (0..16).map(|_| (0..4).map(|_| even()).sum()).collect()
}

/// Status and JSON body of an answer.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.expect("the server answers");
    let status = response.status();
    let body = response.bytes().await.expect("a body");
    let json = serde_json::from_slice(&body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body)));
    (status, json)
}
