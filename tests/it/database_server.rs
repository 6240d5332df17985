//! A PostgreSQL server of one test, for tests that stop and start it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::support::Database;

/// Stopped and removed when it is dropped.
pub(crate) struct Cluster {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Cluster {
    /// Starts one that waits for its disk, as in production.
    pub(crate) fn start() -> Self {
        let programs = programs().expect("initdb, pg_ctl and postgres are installed");
        // Not where the user's own temporary files are: another user may have to reach it.
        let folder = tempfile::Builder::new().prefix("semblance-faults.").tempdir_in("/tmp").expect("a folder");
        let mut cluster = Self { programs, folder, port: 0 };
        if is_root() {
            run(Command::new("chown").arg(owner()).arg(cluster.folder.path()));
        }
        let data = cluster.data();
        let said = cluster.program("initdb").arg("--pgdata").arg(&data).args(INITDB).output().expect("initdb runs");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        // A port may be taken between choosing and listening, so the server itself is the judge.
        for _ in 0..8 {
            // Below the range that the kernel lends to outgoing connections, for it must still be free after a stop.
            cluster.port = 20_000 + u16::try_from(uuid::Uuid::now_v7().as_u128() % 12_000).expect("it is small");
            if cluster.try_begin() {
                return cluster;
            }
        }
        panic!("the database does not start: {}", cluster.log());
    }

    pub(crate) fn database(&self) -> Database {
        Database::Postgres(format!("postgres://postgres@127.0.0.1:{}/postgres", self.port))
    }

    /// As a power cut would: no checkpoint, every connection cut.
    pub(crate) fn stop(&self) {
        let mut stop = self.program("pg_ctl");
        run(stop.args(["stop", "--silent", "--mode=immediate", "--pgdata"]).arg(self.data()));
    }

    /// On the same port as before.
    pub(crate) fn begin(&self) {
        assert!(self.try_begin(), "the database does not start again: {}", self.log());
    }

    fn try_begin(&self) -> bool {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories='' -c max_connections=100",
            self.port
        );
        let mut start = self.program("pg_ctl");
        start.args(["start", "--silent", "--wait", "--options", &options, "--pgdata"]).arg(self.data());
        start.arg("--log").arg(self.folder.path().join("server.log"));
        // Its output is not piped: the server would keep the pipe open.
        start.status().expect("pg_ctl runs").success()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    /// One of PostgreSQL's programs. It refuses to run as root, who becomes somebody who may do less.
    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", owner(), "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.folder.path());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            let mut stop = self.program("pg_ctl");
            let _ = stop.args(["stop", "--silent", "--mode=immediate", "--pgdata"]).arg(self.data()).status();
        }
    }
}

const INITDB: [&str; 6] =
    ["--username=postgres", "--auth=trust", "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C"];

/// The folder of the server's programs, the newest version first.
fn programs() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<PathBuf> = versions.filter_map(|version| Some(version.ok()?.path())).collect();
        let number = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
        folders.extend(versions.into_iter().map(|version| version.join("bin")));
    }
    folders.into_iter().find(|folder| ["initdb", "pg_ctl", "postgres"].iter().all(|name| folder.join(name).is_file()))
}

fn is_root() -> bool {
    let said = Command::new("id").arg("-u").output().expect("id runs");
    said.stdout.trim_ascii() == b"0"
}

fn owner() -> &'static str {
    let known = Command::new("id").arg("postgres").output().is_ok_and(|said| said.status.success());
    if known { "postgres" } else { "nobody" }
}

fn run(command: &mut Command) {
    assert!(command.status().expect("it runs").success(), "{command:?}");
}
