//! A part of a run: one kind of database, its servers, its faults.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    disk::embeddings_below,
    faults::World,
    load::{Answer, Client},
    random::{DIMENSION, Random},
    say,
};

const CLIENTS: usize = 6;
/// Faults until the next collection: a small one is soon read again.
const FAULTS: usize = 12;
/// A stage ends early after so many.
const VIOLATIONS_MAX: u64 = 3;
/// How long deleted bytes may take to go, once nothing is wrong any more.
const REMOVAL: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    /// SQLite on a file system that fills.
    FullDisk,
    /// Two servers on PostgreSQL.
    Postgres,
    /// The same, behind PgBouncer that pools transactions.
    Pooler,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Sqlite, Self::FullDisk, Self::Postgres, Self::Pooler];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::FullDisk => "full-disk",
            Self::Postgres => "postgres",
            Self::Pooler => "pooler",
        }
    }

    /// Of the time of a run.
    pub(crate) fn share(self) -> u64 {
        match self {
            Self::Sqlite => 4,
            Self::FullDisk => 2,
            Self::Postgres | Self::Pooler => 3,
        }
    }

    pub(crate) fn servers(self) -> usize {
        if self.is_embedded() { 1 } else { 2 }
    }

    pub(crate) fn is_embedded(self) -> bool {
        matches!(self, Self::Sqlite | Self::FullDisk)
    }
}

/// Where a server listens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Address {
    /// The moment of its start, which names it.
    pub(crate) since: u64,
    pub(crate) http: String,
}

/// What the clients of a stage share.
pub(crate) struct Shared {
    pub(crate) servers: Vec<parking_lot::Mutex<Address>>,
    pub(crate) client: reqwest::Client,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) began: Instant,
    pub(crate) tally: Mutex<Tally>,
    moments: AtomicU64,
    token: Mutex<Option<(u64, String)>>,
    /// Erased people by the signs of their embeddings, and whether the answer said that bytes are left.
    erased: Mutex<HashMap<u64, (String, bool)>>,
}

impl Shared {
    fn new(servers: usize) -> Self {
        Self {
            servers: (0..servers).map(|_| parking_lot::Mutex::default()).collect(),
            // A connection to a server that was killed must not be used for its successor.
            client: reqwest::Client::builder().pool_max_idle_per_host(8).build().expect("a client"),
            is_stopping: AtomicBool::new(false),
            began: Instant::now(),
            tally: Mutex::default(),
            moments: AtomicU64::new(1),
            token: Mutex::default(),
            erased: Mutex::default(),
        }
    }

    /// The next moment.
    pub(crate) fn tick(&self) -> u64 {
        self.moments.fetch_add(1, Relaxed)
    }

    pub(crate) fn remember_token(&self, began: u64, token: &str) {
        let mut latest = self.token.lock().expect("nobody panics while holding it");
        if latest.as_ref().is_none_or(|(before, _)| *before < began) {
            *latest = Some((began, token.to_owned()));
        }
    }

    pub(crate) fn latest_token(&self) -> Option<(u64, String)> {
        self.token.lock().expect("nobody panics while holding it").clone()
    }

    /// Remembers that a template was deleted, by an answer.
    pub(crate) fn erased(&self, signs: u64, answer: &Value, person: &str) {
        let is_pending = answer["pendingRemoval"] == true;
        self.erased.lock().expect("nobody panics while holding it").insert(signs, (person.to_owned(), is_pending));
        self.tally.lock().expect("nobody panics while holding it").erased += 1;
    }

    pub(crate) fn violation(&self, what: &str) {
        let mut tally = self.tally.lock().expect("nobody panics while holding it");
        tally.violations += 1;
        say(&format!("VIOLATION: {what}"));
    }

    pub(crate) fn count(&self, is_write: bool, answer: &Answer) {
        let mut tally = self.tally.lock().expect("nobody panics while holding it");
        match answer {
            Answer::Done(_) if is_write => tally.acknowledged += 1,
            Answer::Done(_) => tally.reads += 1,
            Answer::Refused(status, _) if status.as_u16() == 500 => tally.internal += 1,
            Answer::Refused(status, code) => {
                tally.refused += 1;
                *tally.refusals.entry(format!("{} {code}", status.as_u16())).or_default() += 1;
            }
            Answer::Unknown(_) => tally.unknown += 1,
            Answer::NotSent => tally.not_sent += 1,
        }
    }

    fn violations(&self) -> u64 {
        self.tally.lock().expect("nobody panics while holding it").violations
    }

    /// Deleted embeddings that are on disk. Those whose answer said that bytes are left count when `and_pending`.
    fn left(&self, folders: &[PathBuf], and_pending: bool) -> Vec<String> {
        // First who was erased, then what is on disk: a later deletion is not yet answered.
        let erased = self.erased.lock().expect("nobody panics while holding it").clone();
        let found = folders.iter().flat_map(|folder| embeddings_below(folder));
        let left = found.filter_map(|(signs, place)| Some((signs, place, erased.get(&signs)?)));
        let (unused, left): (Vec<_>, Vec<_>) = left.partition(|(_, place, _)| place.is_unused);
        let mut tally = self.tally.lock().expect("nobody panics while holding it");
        tally.copies.extend(unused.iter().map(|(signs, ..)| *signs));
        left.into_iter()
            .filter(|(_, _, (_, is_pending))| and_pending || !is_pending)
            .map(|(signs, place, (person, _))| format!("{person} {signs:016x} in {}", place.file.display()))
            .collect()
    }

    /// What a server that was killed has left. Nothing of those whom an answer called erased may be there.
    pub(crate) fn check_disk(&self, folders: &[PathBuf]) {
        let left = self.left(folders, false);
        if !left.is_empty() {
            self.violation(&format!("erased, and on disk: {left:?}"));
        }
    }
}

/// What a stage did.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) refused: u64,
    pub(crate) internal: u64,
    pub(crate) unknown: u64,
    pub(crate) not_sent: u64,
    pub(crate) server_kills: u64,
    pub(crate) database_kills: u64,
    /// By status and code.
    pub(crate) refusals: HashMap<String, u64>,
    pub(crate) others: HashMap<&'static str, u64>,
    pub(crate) collections: u64,
    /// Deleted embeddings of which SQLite left a copy in the unused part of a page.
    pub(crate) copies: HashSet<u64>,
    /// Embeddings that answers called deleted.
    pub(crate) erased: u64,
    pub(crate) violations: u64,
}

impl Tally {
    pub(crate) const HEAD: &str =
        "stage       writes    reads  refused  500s  unknown  server kills  database kills  violations  other faults";

    pub(crate) fn row(&self, name: &str) -> String {
        let others = sorted(&self.others);
        let Self { acknowledged, reads, refused, internal, unknown, server_kills, database_kills, violations, .. } =
            self;
        format!(
            "{name:<10} {acknowledged:>7} {reads:>8} {refused:>8} {internal:>5} {unknown:>8} {server_kills:>13} \
             {database_kills:>15} {violations:>11}  {}",
            others
        )
    }
}

fn sorted<K: fmt::Display>(counts: &HashMap<K, u64>) -> String {
    let mut counts: Vec<String> = counts.iter().map(|(what, times)| format!("{times} {what}")).collect();
    counts.sort_unstable();
    counts.join(", ")
}

pub(crate) struct Stage {
    kind: Kind,
    shared: Arc<Shared>,
    world: World,
    random: Random,
    number: u64,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.number)
    }
}

impl Stage {
    /// Runs for a time, and says what happened.
    ///
    /// # Errors
    /// Says what is missing here.
    pub(crate) async fn run(kind: Kind, time: Duration, seed: u64) -> Result<Tally, String> {
        let mut random = Random::new(seed ^ kind.share() << 32 ^ kind.name().len() as u64);
        let shared = Arc::new(Shared::new(kind.servers()));
        let world = World::new(kind, Arc::clone(&shared), &mut random).await?;
        let mut stage = Self { kind, shared, world, random, number: 0 };
        let until = Instant::now() + time;
        while Instant::now() < until && stage.shared.violations() < VIOLATIONS_MAX {
            stage.one_collection().await;
        }
        let tally = stage.shared.tally.lock().expect("nobody panics while holding it").clone();
        if tally.violations > 0 {
            let kept = stage.world.keep();
            say(&format!("the folders of {} are kept: {kept:?}", kind.name()));
        }
        let refusals = sorted(&tally.refusals);
        say(&format!("{}: {} collections; refusals: {refusals}", kind.name(), tally.collections));
        if kind.is_embedded() {
            let (copies, erased) = (tally.copies.len(), tally.erased);
            say(&format!(
                "{}: SQLite kept a copy of {copies} of {erased} deleted embeddings in unused parts of pages",
                kind.name()
            ));
        }
        Ok(tally)
    }

    /// A collection from its creation to its deletion.
    async fn one_collection(&mut self) {
        self.number += 1;
        let collection = format!("c{}", self.number);
        let spaces = json!([{"model": "soak", "modality": "face", "dimension": DIMENSION, "external": true}]);
        self.until_done(
            Method::POST,
            &format!("/v1/collections?collectionId={collection}"),
            Some(json!({"spaces": spaces})),
        )
        .await;
        self.shared.is_stopping.store(false, Relaxed);
        *self.shared.token.lock().expect("nobody panics while holding it") = None;
        let mut clients = Vec::new();
        for name in 0..CLIENTS {
            let client = Client::new(Arc::clone(&self.shared), &collection, format!("p{name}"), self.random.bits());
            clients.push(tokio::spawn(client.work()));
        }
        for _ in 0..FAULTS {
            tokio::time::sleep(self.random.milliseconds(60, 350)).await;
            self.world.fault(&mut self.random).await;
        }
        self.shared.is_stopping.store(true, Relaxed);
        let mut everybody = Vec::new();
        for client in clients {
            everybody.push(client.await.expect("a client does not panic"));
        }
        for client in &mut everybody {
            let slot = self.random.index(self.kind.servers());
            client.check_all(slot).await;
        }
        self.until_removed().await;
        let answer = self.until_done(Method::DELETE, &format!("/v1/collections/{collection}"), None).await;
        for client in &everybody {
            for person in &client.people {
                person.shots.iter().for_each(|shot| self.shared.erased(shot.signs, &answer, &person.id));
            }
        }
        self.until_removed().await;
        self.shared.erased.lock().expect("nobody panics while holding it").clear();
        self.shared.tally.lock().expect("nobody panics while holding it").collections += 1;
    }

    /// Repeats a request until it is done, or was done by an attempt without an answer.
    async fn until_done(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let until = Instant::now() + REMOVAL;
        let key = (method == Method::POST).then(|| format!("collection-{}", self.number));
        loop {
            let heard = self.shared.ask(0, method.clone(), path, body.as_ref(), key.as_deref()).await;
            match heard.answer {
                Answer::Done(answer) => return answer,
                Answer::Refused(status, _) if method == Method::DELETE && status.as_u16() == 404 => return Value::Null,
                answer if Instant::now() > until => {
                    self.shared.violation(&format!(
                        "{method} {path} is not done although nothing is wrong any more: {answer:?}"
                    ));
                    return Value::Null;
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Waits until no deleted embedding is on disk.
    async fn until_removed(&self) {
        let until = Instant::now() + REMOVAL;
        let folders = self.world.folders();
        loop {
            let left = self.shared.left(&folders, true);
            if left.is_empty() {
                return;
            }
            if Instant::now() > until {
                return self.shared.violation(&format!("deleted, and still on disk: {left:?}"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
