//! The server as its operators and callers meet it: how long a start takes from the database and from a snapshot, how much
//! memory it takes, and how many searches it answers to so many clients over gRPC.
//!
//! `cargo bench --bench service`; `SEMBLANCE_BENCH_TEMPLATES=1000000` for another size than 100 000, `DATABASE_URL` for
//! another database than an embedded one in a temporary folder.

mod table;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use domain::{
    Change, Collection, CollectionUid, Embedding, EmbeddingSpace, Modality, ModelDigest, Position, SpaceBinding,
    SpaceName, SpaceRole, StoredTemplate, Template, Timestamp,
};
use semblance::api::proto::{
    Sample, SearchRequest, recognition_service_client::RecognitionServiceClient, sample::Content,
};
use store::{Store, StoreOptions};
use table::{Random, Table, say, seconds};
use tonic::transport::{Channel, Endpoint};

const DIMENSION: u32 = 512;
const TEMPLATES_PER_IDENTITY: usize = 4;
const COLLECTION: &str = "bench";
const SPACE: &str = "bench-embeddings";
/// People written in one turn.
const TURN_PEOPLE: usize = 250;
const MEASURED: Duration = Duration::from_secs(8);

#[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration")]
fn main() {
    let templates = std::env::var("SEMBLANCE_BENCH_TEMPLATES").map_or(100_000, |n| n.parse().expect("a number"));
    let home = tempfile::tempdir().expect("a folder");
    let embedded = format!("sqlite:{}", home.path().join("semblance.db").display());
    let url = std::env::var("DATABASE_URL").unwrap_or(embedded);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(fill(&url, templates));

    let mut starts = Table::new(["start", "seconds", "anonymous bytes a template", "file bytes a template"]);
    let (server, took) = Server::start(home.path(), &url);
    let (anonymous, file) = server.memory();
    let each = |bytes: u64| format!("{:.0}", bytes as f64 / templates as f64);
    starts.row(["from the database".to_owned(), format!("{took:.2}"), each(anonymous), each(file)]);
    let stopping = Instant::now();
    server.stop();
    let stopped = stopping.elapsed().as_secs_f64();
    let (server, took) = Server::start(home.path(), &url);
    let (anonymous, file) = server.memory();
    starts.row(["from a snapshot".to_owned(), format!("{took:.2}"), each(anonymous), each(file)]);
    let nothing = || "-".to_owned();
    let read = format!("{:.2}", seconds(3, || read_all(&home.path().join("gallery"))));
    starts.row(["reading its files, no more".to_owned(), read, nothing(), nothing()]);

    let mut searches = Table::new(["clients", "searches/s", "p50 ms", "p99 ms"]);
    for clients in [1, 8, 64] {
        let took = runtime.block_on(search(&server.grpc, clients));
        let at = |percent: usize| format!("{:.1}", took[took.len() * percent / 100] * 1e3);
        let rate = took.len() as f64 / MEASURED.as_secs_f64();
        searches.row([clients.to_string(), format!("{rate:.0}"), at(50), at(99)]);
    }
    say(format_args!("{templates} templates of {DIMENSION} numbers; the stop with its snapshot took {stopped:.2} s"));
    say(starts);
    say("search over gRPC, ten candidates, clients on the same cores");
    say(searches);
    server.stop();
}

/// Bytes of all files below a folder, read into memory.
fn read_all(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map_while(Result::ok).map(|entry| entry.path());
    entries.map(|path| if path.is_dir() { read_all(&path) } else { std::fs::read(path).map_or(0, |b| b.len()) }).sum()
}

struct Server {
    child: Child,
    grpc: String,
}

impl Server {
    /// A server that has said where it listens, and how many seconds that took.
    fn start(home: &Path, url: &str) -> (Self, f64) {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_semblance"))
            .args(["serve", "--no-pull"])
            .env("SEMBLANCE_DATA_DIR", home)
            .env("DATABASE_URL", url)
            .env("SEMBLANCE_ALLOW_LOOPBACK", "true")
            .env("SEMBLANCE_HTTP_ADDR", "127.0.0.1:0")
            .env("SEMBLANCE_GRPC_ADDR", "127.0.0.1:0")
            .env("SEMBLANCE_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let grpc = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.trim().strip_prefix("gRPC")?.split_whitespace().next()?.to_owned()))
            .expect("it says where it listens");
        (Self { child, grpc: format!("http://{grpc}") }, began.elapsed().as_secs_f64())
    }

    /// Resident bytes that belong to no file, and those of files.
    fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        (of("RssAnon:"), of("RssFile:"))
    }

    fn stop(mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// Seconds of every search that so many clients make one after the other, in rising order.
async fn search(server: &str, clients: u64) -> Vec<f64> {
    let channel = Endpoint::from_shared(server.to_owned()).expect("an address").connect().await.expect("it listens");
    let until = Instant::now() + MEASURED;
    let tasks: Vec<_> = (0..clients).map(|client| tokio::spawn(one_client(channel.clone(), client, until))).collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("no panic"));
    }
    all.sort_unstable_by(f64::total_cmp);
    all
}

async fn one_client(channel: Channel, seed: u64, until: Instant) -> Vec<f64> {
    let (mut client, mut random) = (RecognitionServiceClient::new(channel), Random::new(1000 + seed));
    let mut took = Vec::new();
    while Instant::now() < until {
        let values = direction(&mut random);
        let embedding = semblance::api::proto::Embedding { model: SPACE.to_owned(), values };
        let sample = Sample { content: Some(Content::Embedding(embedding)), ..Sample::default() };
        let parent = format!("collections/{COLLECTION}");
        let began = Instant::now();
        let asked = SearchRequest { parent, samples: vec![sample], modality: 1, ..SearchRequest::default() };
        let found = client.search(asked).await.expect("answered").into_inner();
        took.push(began.elapsed().as_secs_f64());
        assert_eq!(found.candidates.len(), 10);
    }
    took
}

/// Writes a collection of face-like embeddings straight into the database.
async fn fill(url: &str, templates: usize) {
    let options = StoreOptions { url: url.to_owned(), connections_max: 4, acquire_timeout: Duration::from_secs(30) };
    let store = store::connect(&options).await.expect("a database");
    store.migrate().await.expect("a schema");
    let name = SpaceName::new(SPACE).expect("a valid name");
    let digest = ModelDigest::of_external(&name, Modality::Face, DIMENSION);
    let space = EmbeddingSpace::whole(Modality::Face, digest, DIMENSION);
    let spaces = vec![SpaceBinding { name: name.clone(), space, role: SpaceRole::Active, external: true }];
    let collection = Collection { spaces, ..testing::collection(1, COLLECTION) };
    let uid = collection.uid;
    store.create_collection(&collection, None).await.expect("a new collection");
    let mut random = Random::new(7);
    let people: Vec<usize> = (0..templates / TEMPLATES_PER_IDENTITY).collect();
    for people in people.chunks(TURN_PEOPLE) {
        write(&*store, uid, people, |person| person_of(&mut random, person, space, &name)).await;
    }
    store.close().await;
}

async fn write(
    store: &dyn Store,
    uid: CollectionUid,
    people: &[usize],
    mut changes_of: impl FnMut(usize) -> Vec<Change>,
) {
    let mut turn = store.take_turn(uid).await.expect("nobody else writes");
    let mut changes: Vec<Change> = people.iter().flat_map(|person| changes_of(*person)).collect();
    let head = turn.head().0;
    for (place, change) in (head + 1..).zip(&mut changes) {
        if let Change::Admit(stored) = change {
            stored.template.position = Position(place);
        }
    }
    turn.append(&changes, Timestamp::UNIX_EPOCH).await.expect("appended");
    turn.commit().await.expect("committed");
}

/// Somebody with templates at a cosine of about .7 of each other.
fn person_of(random: &mut Random, person: usize, space: EmbeddingSpace, model: &SpaceName) -> Vec<Change> {
    let id = format!("person-{person}");
    let mut changes = vec![Change::PutIdentity(testing::identity(&id))];
    let centre = direction(random);
    for number in 0..TEMPLATES_PER_IDENTITY {
        let values: Vec<f32> = centre.iter().zip(direction(random)).map(|(c, n)| c + 0.65 * n).collect();
        let number = (person * TEMPLATES_PER_IDENTITY + number + 1) as u128;
        let template = Template { model: model.clone(), ..testing::template(number, &id, space) };
        let embedding = Embedding::new(space, &values).expect("random numbers have a direction");
        changes.push(Change::Admit(StoredTemplate { template, embedding }));
    }
    changes
}

fn direction(random: &mut Random) -> Vec<f32> {
    let numbers: Vec<f32> = (0..DIMENSION).map(|_| random.normal()).collect();
    let norm = numbers.iter().map(|n| n * n).sum::<f32>().sqrt();
    numbers.into_iter().map(|n| n / norm).collect()
}
