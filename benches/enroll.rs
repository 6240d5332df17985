//! What a durable enroll costs, beside one-row commits of pgbench (a row of 2 kB, as large as an embedding of 512
//! numbers) by as many clients on the same server, which obeys its disk. Takes turns with it, and the ratio is what to
//! look at.
//!
//! `make bench-enroll`

mod table;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{CollectionId, IdentityId, Labels, MemoryBudget, Modality, Sample, SampleContent, SpaceName};
use encoder::{AdmissionLimits, EncoderOptions, Encoders, Placements, SampleLimits, Urgency};
use gallery::{Gallery, GalleryOptions};
use semblance::{
    app::{SystemClock, TimedIds},
    matcher::{
        CollectionDraft, Context, DeclaredSpace, Enrollment, HousekeepingOptions, Matcher, MatcherOptions,
        MatcherParts, Principal, ReplicaOptions, WriteOptions,
    },
};
use store::{Store, StoreOptions};
use table::{Random, Table, say};
use tokio_util::sync::CancellationToken;

const DIMENSION: u32 = 512;
const CLIENTS: [usize; 3] = [1, 8, 64];
const ROUNDS: usize = 3;
const STRETCH: Duration = Duration::from_secs(4);
/// Enrolls that share a commit at most, as the server has it.
const TOGETHER: usize = 128;

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration")]
async fn main() {
    let Ok(url) = std::env::var("SEMBLANCE_BENCH_POSTGRES_URL") else {
        say("skipped: SEMBLANCE_BENCH_POSTGRES_URL names no PostgreSQL; `make bench-enroll` starts one");
        return;
    };
    let (store, together) = server(&url, TOGETHER).await;
    let (_, alone) = server(&url, 1).await;
    let pgbench = Pgbench::prepare(&url);
    let mut table =
        Table::new(["clients", "enrolls/s", "each its own commit", "pgbench commits/s", "enrolls/pgbench", "range"]);
    for clients in CLIENTS {
        let (mut ours, mut single, mut theirs, mut ratios) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            ours.push(enrolls(&together, clients).await);
            theirs.push(pgbench.commits(clients));
            single.push(enrolls(&alone, clients).await);
            ratios.push(ours[ours.len() - 1] / theirs[theirs.len() - 1]);
        }
        let ratio = median(&mut ratios);
        table.row([
            clients.to_string(),
            format!("{:.0}", median(&mut ours)),
            format!("{:.0}", median(&mut single)),
            format!("{:.0}", median(&mut theirs)),
            format!("{ratio:.2}"),
            format!("{:.2}-{:.2}", ratios[0], ratios[ratios.len() - 1]),
        ]);
    }
    say(format_args!(
        "durable enrolls on {}: embeddings of {DIMENSION} numbers, a new identity each; medians of {ROUNDS} rounds of {} s",
        store.kind(),
        STRETCH.as_secs()
    ));
    say(table);
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The use cases on a database, with their housekeeping, as `serve` has them.
async fn server(url: &str, commit_writes_max: usize) -> (Arc<dyn Store>, Matcher) {
    let options = StoreOptions { connections_max: 16, ..StoreOptions::new(url) };
    let store = store::connect(&options).await.expect("the database answers");
    store.migrate().await.expect("an empty database");
    let encoders = EncoderOptions {
        models_dir: "none".into(),
        batch_max: 1,
        linger: Duration::ZERO,
        queue_max: 1,
        workers_per_model: 1,
        placements: Placements::default(),
        preparation_threads: 1,
        admission: AdmissionLimits { in_work_max: 256, wait_max: Duration::MAX },
        limits: SampleLimits::default(),
        memory: MemoryBudget::new(usize::MAX),
    };
    let parts = MatcherParts {
        store: Arc::clone(&store),
        gallery: Arc::new(Gallery::new(GalleryOptions::default())),
        encoders: Arc::new(Encoders::start(encoders).await.expect("none to start")),
        clock: Arc::new(SystemClock),
        ids: Arc::new(TimedIds),
    };
    let options = MatcherOptions {
        writes: WriteOptions { commit_writes_max, ..WriteOptions::default() },
        replica: ReplicaOptions { snapshot_interval: Duration::ZERO, ..ReplicaOptions::default() },
        housekeeping: HousekeepingOptions { sweep_interval: Duration::ZERO },
        ..MatcherOptions::default()
    };
    let matcher = Matcher::new(parts, options);
    tokio::spawn({
        let matcher = matcher.clone();
        async move { matcher.run_housekeeping(CancellationToken::new()).await }
    });
    (store, matcher)
}

/// Enrolls a second that were answered to so many clients, each of whom waits for an answer before it sends again.
async fn enrolls(matcher: &Matcher, clients: usize) -> f64 {
    let model = SpaceName::new("bench").expect("a name");
    let space = DeclaredSpace { name: model.clone(), modality: Modality::Face, dimension: DIMENSION };
    let draft = CollectionDraft { spaces: vec![space], ..CollectionDraft::default() };
    let collection = matcher.create_collection(&context(), draft).await.expect("created").id;
    let answered = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let clients = (0..clients).map(|client| {
        let (matcher, collection, answered) = (matcher.clone(), collection.clone(), Arc::clone(&answered));
        let mut random = Random::new(client as u64);
        let model = model.clone();
        tokio::spawn(async move {
            for turn in 0.. {
                if began.elapsed() > STRETCH {
                    return;
                }
                let values = (0..DIMENSION).map(|_| random.uniform() - 0.5).collect();
                let identity = format!("{client}-{turn}");
                enroll(&matcher, &collection, &identity, SampleContent::Embedding { model: model.clone(), values })
                    .await;
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    for client in futures::future::join_all(clients).await {
        client.expect("no client failed");
    }
    answered.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

async fn enroll(matcher: &Matcher, collection: &CollectionId, identity: &str, content: SampleContent) {
    let enrollment = Enrollment {
        collection: collection.clone(),
        identity: IdentityId::new(identity).expect("an id"),
        samples: vec![Sample { modality: Modality::Face, content }],
        labels: Labels::default(),
    };
    matcher.enroll(&context(), enrollment).await.expect("enrolled");
}

fn context() -> Context {
    let deadline = Instant::now() + Duration::from_mins(1);
    Context { principal: Principal::new("bench"), deadline, idempotent: None, urgency: Urgency::Interactive }
}

/// PostgreSQL's own benchmark, told to commit one row at a time.
struct Pgbench {
    url: String,
    script: tempfile::NamedTempFile,
}

impl Pgbench {
    fn prepare(url: &str) -> Self {
        let script = tempfile::NamedTempFile::new().expect("a file");
        let mut random = Random::new(1);
        let bytes: Vec<u8> = (0..DIMENSION * 4).map(|_| random.bits().to_le_bytes()[0]).collect();
        let row = hex::encode(bytes);
        std::fs::write(script.path(), format!("INSERT INTO bench_rows (bytes) VALUES ('\\x{row}');\n"))
            .expect("written");
        let table = "CREATE TABLE bench_rows (id bigserial PRIMARY KEY, bytes bytea NOT NULL)";
        let made = Command::new("psql").args([url, "--quiet", "--command", table]).status().expect("psql runs");
        assert!(made.success());
        Self { url: url.to_owned(), script }
    }

    /// Commits a second.
    fn commits(&self, clients: usize) -> f64 {
        let ran = Command::new("pgbench")
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
            .args([format!("--client={clients}"), format!("--time={}", STRETCH.as_secs())])
            .arg("--file")
            .arg(self.script.path())
            .arg(&self.url)
            .output()
            .expect("pgbench runs");
        let said = String::from_utf8_lossy(&ran.stdout);
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok());
        rate.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&ran.stderr)))
    }
}
