//! What goes wrong in a stage, and how it ends.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sqlx::Connection;
use tempfile::TempDir;

use crate::{
    database::{PgBouncer, Postgres},
    disk::SmallDisk,
    random::Random,
    server::{Server, Start},
    stage::{Kind, Shared},
};

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillServer,
    KillServers,
    StopServer,
    /// Another process reads the SQLite file.
    Reader,
    FillDisk,
    /// The server is killed while the disk is full.
    KillOnFullDisk,
    KillDatabase,
    /// Both at once, as a power cut of the whole machine.
    KillServersAndDatabase,
    FreezeDatabase,
    /// The server is killed while the database does not move.
    KillByFrozenDatabase,
    ReadOnly,
    KillPooler,
}

/// Faults of a kind of stage, each with its weight.
fn faults(kind: Kind) -> &'static [(Fault, u64)] {
    match kind {
        Kind::Sqlite => &[(Fault::KillServer, 88), (Fault::StopServer, 5), (Fault::Reader, 7)],
        Kind::FullDisk => {
            &[(Fault::FillDisk, 40), (Fault::KillOnFullDisk, 30), (Fault::KillServer, 25), (Fault::StopServer, 5)]
        }
        Kind::Postgres => &[
            (Fault::KillServer, 30),
            (Fault::KillServers, 15),
            (Fault::StopServer, 3),
            (Fault::KillDatabase, 20),
            (Fault::KillServersAndDatabase, 10),
            (Fault::FreezeDatabase, 8),
            (Fault::KillByFrozenDatabase, 7),
            (Fault::ReadOnly, 7),
        ],
        Kind::Pooler => &[
            (Fault::KillServer, 25),
            (Fault::KillServers, 10),
            (Fault::KillDatabase, 17),
            (Fault::KillServersAndDatabase, 8),
            (Fault::KillPooler, 25),
            (Fault::FreezeDatabase, 8),
            (Fault::ReadOnly, 7),
        ],
    }
}

/// The servers of a stage and what they stand on.
pub(crate) struct World {
    kind: Kind,
    shared: Arc<Shared>,
    starts: Vec<Start>,
    running: Vec<Option<Server>>,
    homes: Vec<TempDir>,
    disk: Option<SmallDisk>,
    pooler: Option<PgBouncer>,
    postgres: Option<Postgres>,
}

impl World {
    /// Starts everything.
    ///
    /// # Errors
    /// Says what is missing here.
    pub(crate) async fn new(kind: Kind, shared: Arc<Shared>, random: &mut Random) -> Result<Self, String> {
        let disk = if kind == Kind::FullDisk { Some(SmallDisk::mount()?) } else { None };
        let postgres = if kind.is_embedded() { None } else { Some(Postgres::new(random).await?) };
        let pooler = match &postgres {
            Some(postgres) if kind == Kind::Pooler => Some(PgBouncer::new(postgres, random).await?),
            _ => None,
        };
        let database_url = pooler.as_ref().map(PgBouncer::url).or_else(|| postgres.as_ref().map(Postgres::url));
        let homes: Vec<TempDir> = (0..kind.servers()).map(|_| tempfile::tempdir().expect("a folder")).collect();
        let home = |own: &TempDir| disk.as_ref().map_or_else(|| own.path().to_owned(), |disk| disk.path().to_owned());
        let starts: Vec<Start> =
            homes.iter().map(|own| Start { home: home(own), database_url: database_url.clone() }).collect();
        let running = starts.iter().map(|_| None).collect();
        let mut world = Self { kind, shared, starts, running, homes, disk, pooler, postgres };
        for slot in 0..world.starts.len() {
            world.start(slot).await;
        }
        Ok(world)
    }

    /// Where the servers keep their data.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.starts.iter().map(|start| start.home.join("data")).collect()
    }

    /// Keeps the folders for a look at them.
    pub(crate) fn keep(&mut self) -> Vec<PathBuf> {
        self.homes.drain(..).map(TempDir::keep).collect()
    }

    /// One fault, and its end.
    pub(crate) async fn fault(&mut self, random: &mut Random) {
        let faults = faults(self.kind);
        let mut draw = random.below(faults.iter().map(|(_, weight)| weight).sum());
        let fault = faults.iter().find(|(_, weight)| {
            let is_it = draw < *weight;
            draw = draw.saturating_sub(*weight);
            is_it
        });
        let slot = random.index(self.starts.len());
        let while_it_lasts = random.milliseconds(50, 600);
        match fault.expect("the draw is below the sum").0 {
            Fault::KillServer => self.kill_server(slot),
            Fault::KillServers => (0..self.starts.len()).for_each(|slot| self.kill_server(slot)),
            Fault::StopServer => self.stop_server(slot).await,
            Fault::Reader => self.read_the_file(while_it_lasts).await,
            Fault::FillDisk => self.fill_disk(while_it_lasts, None).await,
            Fault::KillOnFullDisk => self.fill_disk(while_it_lasts, Some(slot)).await,
            Fault::KillDatabase => self.kill_database().await,
            Fault::KillServersAndDatabase => {
                (0..self.starts.len()).for_each(|slot| self.kill_server(slot));
                self.kill_database().await;
            }
            Fault::FreezeDatabase => self.freeze(random.milliseconds(100, 2500), None).await,
            Fault::KillByFrozenDatabase => self.freeze(random.milliseconds(100, 1000), Some(slot)).await,
            Fault::ReadOnly => self.read_only(while_it_lasts).await,
            Fault::KillPooler => self.kill_pooler(while_it_lasts / 4).await,
        }
        if self.kind.is_embedded() && self.running.iter().all(Option::is_none) {
            self.shared.check_disk(&self.folders());
        }
        for slot in 0..self.starts.len() {
            if self.running[slot].is_none() {
                self.start(slot).await;
            }
        }
    }

    /// Starts a server, and again while it ends by itself.
    async fn start(&mut self, slot: usize) {
        for attempt in 0..100 {
            let since = self.shared.tick();
            if let Some(server) = Server::start(&self.starts[slot]).await {
                *self.shared.servers[slot].lock() = crate::stage::Address { since, http: server.http.clone() };
                self.running[slot] = Some(server);
                return;
            }
            // Its database may still recover.
            assert!(attempt < 99, "the server does not start: {}", self.log(slot));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn log(&self, slot: usize) -> String {
        let log = std::fs::read_to_string(self.starts[slot].home.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn kill_server(&mut self, slot: usize) {
        if let Some(server) = self.running[slot].take() {
            server.kill();
            self.shared.tally.lock().expect("nobody panics while holding it").server_kills += 1;
        }
    }

    async fn stop_server(&mut self, slot: usize) {
        self.count("stops");
        if let Some(server) = self.running[slot].take() {
            let ended = server.stop().await;
            if !ended.is_some_and(|status| status.success()) {
                self.shared.violation(&format!("a stop ends with {ended:?}: {}", self.log(slot)));
            }
        }
    }

    async fn read_the_file(&self, time: Duration) {
        self.count("readers");
        let url = format!("sqlite:{}", self.folders()[0].join("semblance.db").display());
        let Ok(mut reader) = sqlx::SqliteConnection::connect(&url).await else { return };
        for statement in ["BEGIN", "SELECT count(*) FROM sqlite_master"] {
            let _read = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut reader).await;
        }
        tokio::time::sleep(time).await;
        let _closed = reader.close().await;
    }

    async fn fill_disk(&mut self, time: Duration, killed: Option<usize>) {
        self.count("full disks");
        let disk = self.disk.as_ref().expect("the stage has a disk");
        disk.fill();
        tokio::time::sleep(time).await;
        if let Some(slot) = killed {
            self.kill_server(slot);
        }
        self.disk.as_ref().expect("the stage has a disk").free();
    }

    async fn kill_database(&self) {
        let postgres = self.postgres.as_ref().expect("the stage has PostgreSQL");
        postgres.kill();
        self.shared.tally.lock().expect("nobody panics while holding it").database_kills += 1;
        postgres.start().await;
    }

    async fn freeze(&mut self, time: Duration, killed: Option<usize>) {
        self.count("freezes");
        let postgres = self.postgres.as_ref().expect("the stage has PostgreSQL");
        postgres.signal("STOP");
        tokio::time::sleep(time).await;
        if let Some(slot) = killed {
            self.kill_server(slot);
        }
        self.postgres.as_ref().expect("the stage has PostgreSQL").signal("CONT");
    }

    async fn read_only(&self, time: Duration) {
        self.count("read-only");
        let postgres = self.postgres.as_ref().expect("the stage has PostgreSQL");
        postgres.set_read_only("on").await;
        tokio::time::sleep(time).await;
        postgres.set_read_only("off").await;
    }

    async fn kill_pooler(&mut self, time: Duration) {
        self.count("pooler kills");
        let pooler = self.pooler.as_mut().expect("the stage has a pooler");
        pooler.kill();
        tokio::time::sleep(time).await;
        pooler.start().await.expect("it started before");
    }

    fn count(&self, fault: &'static str) {
        *self.shared.tally.lock().expect("nobody panics while holding it").others.entry(fault).or_default() += 1;
    }
}
