//! One server as a child process.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) home: PathBuf,
    /// The embedded database when it is none.
    pub(crate) database_url: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) http: String,
}

impl Server {
    /// Starts it and waits until it answers. `None` when it ended instead, as it may without its database.
    pub(crate) async fn start(start: &Start) -> Option<Self> {
        let said = start.home.join("said");
        let out = File::create(&said).expect("a file in the folder");
        let log = File::options().create(true).append(true).open(start.home.join("log")).expect("a file in the folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_semblance"));
        command.args(["serve", "--no-pull"]).env_remove("DATABASE_URL").env_remove("SEMBLANCE_CONFIG");
        if let Some(url) = &start.database_url {
            command.env("DATABASE_URL", url);
        }
        let child = command
            .env("SEMBLANCE_DATA_DIR", start.home.join("data"))
            .env("SEMBLANCE_HTTP_ADDR", "127.0.0.1:0")
            .env("SEMBLANCE_GRPC_ADDR", "127.0.0.1:0")
            .env("SEMBLANCE_ALLOW_LOOPBACK", "true")
            .env("SEMBLANCE_LOG", "warn")
            .env("NO_COLOR", "1")
            // Soon: a snapshot, a sweep, the end of a wait for the database.
            .env("SEMBLANCE_SNAPSHOT_INTERVAL_SECONDS", "1")
            .env("SEMBLANCE_SWEEP_INTERVAL_SECONDS", "1")
            .env("SEMBLANCE_STORE_WAIT_MS_MAX", "1500")
            .env("SEMBLANCE_FOLLOW_INTERVAL_MS", "200")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut server = Self { child, http: String::new() };
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(http) = address(&said) {
                server.http = http;
                return Some(server);
            }
            if server.child.try_wait().expect("it is a child of this process").is_some() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// As a power cut would.
    pub(crate) fn kill(mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }

    /// Asks it to stop. `None` when it does not.
    pub(crate) async fn stop(mut self) -> Option<ExitStatus> {
        signal("TERM", self.child.id());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("it is a child of this process") {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The address in what a server said, once it has said all.
fn address(said: &Path) -> Option<String> {
    let text = std::fs::read_to_string(said).ok().filter(|text| text.contains(":resolve"))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("REST"))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// Sends a signal to a process. It may have ended.
pub(crate) fn signal(name: &str, process: u32) {
    let mut kill = Command::new("kill");
    let _sent = kill.args([format!("-{name}"), process.to_string()]).stderr(Stdio::null()).status();
}
