//! A PostgreSQL server of a run, and PgBouncer before it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use sqlx::{Connection, postgres::PgConnectOptions};
use tempfile::TempDir;

use crate::{random::Random, server::signal};

const PORTS: u64 = 12_000;
const FIRST_PORT: u64 = 20_000;
const INITDB: [&str; 5] = ["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"];

/// Stopped when it is dropped.
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    port: u64,
}

impl Postgres {
    /// Starts one that waits for its disk.
    ///
    /// # Errors
    /// Says what is missing.
    pub(crate) async fn new(random: &mut Random) -> Result<Self, String> {
        let programs = programs().ok_or("no PostgreSQL server is installed")?;
        let folder = tempfile::Builder::new().prefix("semblance-soak.").tempdir_in("/tmp").expect("a folder");
        give(folder.path());
        let mut postgres = Self { programs, folder, port: 0 };
        let mut initdb = postgres.program("initdb");
        let made = initdb.arg("--pgdata").arg(postgres.data()).args(INITDB).output().expect("initdb runs");
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into_owned());
        }
        for _ in 0..8 {
            postgres.port = FIRST_PORT + random.below(PORTS);
            if postgres.try_start() {
                return Ok(postgres);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("PostgreSQL does not start".to_owned())
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Kills all its processes at once.
    pub(crate) fn kill(&self) {
        self.signal("KILL");
    }

    /// Starts it after a kill.
    pub(crate) async fn start(&self) {
        for _ in 0..200 {
            // Its shared memory is free when the last of its processes has ended.
            if self.try_start() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("PostgreSQL does not start again");
    }

    /// To all its processes, the first one first: it would replace the others.
    pub(crate) fn signal(&self, name: &str) {
        let Ok(file) = fs::read_to_string(self.data().join("postmaster.pid")) else { return };
        let Some(first) = file.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else { return };
        let listed = Command::new("pgrep").args(["-P", &first.to_string()]).output().expect("pgrep runs");
        signal(name, first);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        listed.lines().filter_map(|line| line.parse().ok()).for_each(|child| signal(name, child));
    }

    /// Whether every new transaction is read-only.
    pub(crate) async fn set_read_only(&self, value: &str) {
        let Ok(mut connection) = sqlx::PgConnection::connect(&self.url()).await else { return };
        for statement in [
            "SET default_transaction_read_only = off".to_owned(),
            format!("ALTER SYSTEM SET default_transaction_read_only = {value}"),
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            let _done = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await;
        }
    }

    fn try_start(&self) -> bool {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories='' -c max_connections=100",
            self.port
        );
        let mut start = self.program("pg_ctl");
        start.args(["start", "--silent", "--wait", "--options", &options, "--pgdata"]).arg(self.data());
        start.arg("--log").arg(self.folder.path().join("server.log"));
        start.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("pg_ctl runs").success()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = unprivileged(&self.programs.join(name));
        command.current_dir(self.folder.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal("CONT");
        let mut stop = self.program("pg_ctl");
        stop.args(["stop", "--silent", "--mode=immediate", "--pgdata"]).arg(self.data());
        let _stopped = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Pools transactions. Killed when it is dropped.
pub(crate) struct PgBouncer {
    program: PathBuf,
    folder: TempDir,
    port: u64,
    child: Option<Child>,
}

impl PgBouncer {
    /// # Errors
    /// Says what is missing.
    pub(crate) async fn new(postgres: &Postgres, random: &mut Random) -> Result<Self, String> {
        let program = super::setting("SOAK_PGBOUNCER").map_or_else(|| PathBuf::from("pgbouncer"), PathBuf::from);
        let version = Command::new(&program).arg("--version").output().map_err(|_| "PgBouncer is not installed")?;
        let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned();
        let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
        if minor.is_none_or(|minor| minor < 21) {
            return Err(format!("{version} loses prepared statements when it pools transactions; 1.21 keeps them"));
        }
        let folder = tempfile::Builder::new().prefix("semblance-soak.").tempdir_in("/tmp").expect("a folder");
        let port = FIRST_PORT + random.below(PORTS);
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             max_prepared_statements = 100\nlogfile = {}\n",
            postgres.port,
            folder.path().join("log").display()
        )
        .replace("dbname=postgres\n", "dbname=postgres user=postgres\n");
        fs::write(folder.path().join("pgbouncer.ini"), settings).expect("written");
        give(folder.path());
        let mut pooler = Self { program, folder, port, child: None };
        pooler.start().await?;
        Ok(pooler)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// # Errors
    /// When it does not answer.
    pub(crate) async fn start(&mut self) -> Result<(), String> {
        let mut command = unprivileged(&self.program);
        command.arg(self.folder.path().join("pgbouncer.ini")).current_dir(self.folder.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|error| error.to_string())?;
        self.child = Some(child);
        for _ in 0..200 {
            // PgBouncer takes no such parameter with its default settings.
            let address: PgConnectOptions = self.url().parse().expect("an address");
            if let Ok(connection) = sqlx::PgConnection::connect_with(&address.extra_float_digits(None)).await {
                let _closed = connection.close().await;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        Err(format!("PgBouncer does not answer: {}", log.lines().last().unwrap_or_default()))
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The child may be the program that changed the user and waits for PgBouncer.
            let listed = Command::new("pgrep").args(["-P", &child.id().to_string()]).output().expect("pgrep runs");
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            listed.lines().filter_map(|line| line.parse().ok()).for_each(|process| signal("KILL", process));
            let _killed = child.kill();
            let _ended = child.wait();
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder of the server's programs, the newest version first.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    let number = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    let given = super::setting("SOAK_POSTGRES").map(PathBuf::from);
    let found = given.into_iter().chain(versions.into_iter().map(|version| version.join("bin")));
    found.into_iter().find(|folder| ["initdb", "pg_ctl", "postgres"].iter().all(|name| folder.join(name).is_file()))
}

/// PostgreSQL and PgBouncer refuse to run as root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", owner(), "--"]).arg(program);
    command
}

/// Gives a folder to the user that [`unprivileged`] programs run as.
fn give(folder: &Path) {
    if is_root() {
        let given = Command::new("chown").arg("-R").arg(owner()).arg(folder).status().expect("chown runs");
        assert!(given.success(), "{} is given away", folder.display());
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn owner() -> &'static str {
    let known = Command::new("id").arg("postgres").output().is_ok_and(|said| said.status.success());
    if known { "postgres" } else { "nobody" }
}
