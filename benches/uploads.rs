//! Small requests beside large uploads: the latency of searches and GETs while clients send multipart pictures of 16 MB.
//!
//! `cargo bench --bench uploads`. `SEMBLANCE_BENCH_SERVERS=before=PATH,after=PATH` compares other builds of the program, in
//! turns. No model is loaded: the server reads, translates and hashes a picture, then refuses it, so the figures show the
//! request path and not an encoder.

mod table;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Client, header::CONTENT_TYPE};
use serde_json::json;
use table::{Random, Table, say};
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 3;
const MEASURED: Duration = Duration::from_secs(10);
/// The interval of small requests: 200 per second.
const SMALL_INTERVAL: Duration = Duration::from_millis(5);
const UPLOADERS: usize = 4;
/// The interval of the uploads of one client.
const UPLOAD_INTERVAL: Duration = Duration::from_millis(500);
const PICTURE_BYTES: usize = 16_000_000;
const DIMENSION: usize = 512;
const BOUNDARY: &str = "a-boundary";

#[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration")]
fn main() {
    let own = format!("this build={}", env!("CARGO_BIN_EXE_semblance"));
    let servers = std::env::var("SEMBLANCE_BENCH_SERVERS").unwrap_or(own);
    let servers: Vec<(String, PathBuf)> = servers
        .split(',')
        .map(|server| server.split_once('=').expect("NAME=PATH"))
        .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
        .collect();
    let mut measured = vec![Measured::default(); servers.len()];
    for _ in 0..ROUNDS {
        for ((_, path), measured) in servers.iter().zip(&mut measured) {
            measured.add(&round(path));
        }
    }
    let mut table = Table::new([
        "server",
        "alone p50 ms",
        "p99",
        "beside uploads p50 ms",
        "p99",
        "max",
        "p99 of first",
        "uploads",
        "CPU ms an upload",
    ]);
    let first = measured[0].beside.at(99);
    for ((name, _), measured) in servers.iter().zip(&measured) {
        let ms = |took: &Latencies, percent: usize| format!("{:.2}", took.at(percent) * 1e3);
        table.row([
            name.clone(),
            ms(&measured.alone, 50),
            ms(&measured.alone, 99),
            ms(&measured.beside, 50),
            ms(&measured.beside, 99),
            ms(&measured.beside, 100),
            format!("{:.2}", measured.beside.at(99) / first),
            measured.uploads.to_string(),
            format!("{:.1}", (measured.cpu_beside - measured.cpu_alone) * 1e3 / measured.uploads as f64),
        ]);
    }
    say(format_args!(
        "{} small requests per second, {UPLOADERS} clients with a picture of {PICTURE_BYTES} bytes every {UPLOAD_INTERVAL:?}; \
         {ROUNDS} rounds of {MEASURED:?} each way",
        Duration::from_secs(1).as_micros() / SMALL_INTERVAL.as_micros()
    ));
    say(table);
}

/// Seconds of many requests.
#[derive(Debug, Clone, Default)]
struct Latencies(Vec<f64>);

impl Latencies {
    fn at(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[(sorted.len() - 1) * percent / 100]
    }
}

#[derive(Debug, Clone, Default)]
struct Measured {
    alone: Latencies,
    beside: Latencies,
    uploads: usize,
    /// Seconds of the server's threads.
    cpu_alone: f64,
    cpu_beside: f64,
}

impl Measured {
    fn add(&mut self, other: &Self) {
        self.alone.0.extend_from_slice(&other.alone.0);
        self.beside.0.extend_from_slice(&other.beside.0);
        self.uploads += other.uploads;
        self.cpu_alone += other.cpu_alone;
        self.cpu_beside += other.cpu_beside;
    }
}

fn round(program: &Path) -> Measured {
    let home = tempfile::tempdir().expect("a folder");
    let server = Server::start(program, home.path());
    // Uploads have threads of their own, so that they do not delay the measured requests within this program.
    let small = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let large = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    small.block_on(fill(&server.http));
    let began = server.cpu_seconds();
    let alone = small.block_on(small_requests(&server.http));
    let cpu_alone = server.cpu_seconds() - began;

    let stop = CancellationToken::new();
    let body = multipart_body();
    let uploaders: Vec<_> = (0..UPLOADERS)
        .map(|number| large.spawn(upload(server.http.clone(), number, body.clone(), stop.clone())))
        .collect();
    let began = server.cpu_seconds();
    let beside = small.block_on(small_requests(&server.http));
    let cpu_beside = server.cpu_seconds() - began;
    stop.cancel();
    let uploads = uploaders.into_iter().map(|task| large.block_on(task).expect("no panic")).sum();
    server.stop();
    Measured { alone, beside, uploads, cpu_alone, cpu_beside }
}

/// A collection with a few embeddings.
async fn fill(http: &str) {
    let client = Client::new();
    let spaces = json!([{"model": "mine", "modality": "face", "dimension": DIMENSION, "external": true}]);
    let made = client.post(format!("{http}/v1/collections?collectionId=bench")).json(&json!({"spaces": spaces})).send();
    assert!(made.await.expect("answered").status().is_success());
    let mut random = Random::new(7);
    for person in 0..50 {
        let path = format!("{http}/v1/collections/bench/identities/person-{person}:enroll");
        let enrolled = client.post(path).json(&json!({"samples": [embedding(&mut random)]})).send().await;
        assert!(enrolled.expect("answered").status().is_success());
    }
}

fn embedding(random: &mut Random) -> serde_json::Value {
    let values: Vec<f32> = (0..DIMENSION).map(|_| random.normal()).collect();
    json!({"modality": "face", "embedding": {"model": "mine", "values": values}})
}

/// Sends a search or a GET at each tick, whether or not earlier ones are answered. Latency counts from the tick.
async fn small_requests(http: &str) -> Latencies {
    let client = Client::new();
    let mut random = Random::new(11);
    let search = json!({"samples": [embedding(&mut random)], "topK": 5}).to_string();
    let (models, searches) = (format!("{http}/v1/models"), format!("{http}/v1/collections/bench/identities:search"));
    let mut ticks = tokio::time::interval(SMALL_INTERVAL);
    let began = Instant::now();
    let mut tasks = Vec::new();
    while began.elapsed() < MEASURED {
        let tick = ticks.tick().await;
        let request = if tasks.len() % 2 == 0 {
            client.get(&models)
        } else {
            client.post(&searches).header(CONTENT_TYPE, "application/json").body(search.clone())
        };
        tasks.push(tokio::spawn(async move {
            let answer = request.send().await.expect("answered");
            assert!(answer.status().is_success(), "{}", answer.status());
            answer.bytes().await.expect("a body");
            tick.elapsed().as_secs_f64()
        }));
    }
    let mut took = Latencies::default();
    for task in tasks {
        took.0.push(task.await.expect("no panic"));
    }
    took
}

fn multipart_body() -> Bytes {
    let mut body = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"sample\"; filename=\"a.jpg\"\r\ncontent-type: image/jpeg\r\n\r\n"
    )
    .into_bytes();
    let mut random = Random::new(3);
    body.extend(std::iter::repeat_with(|| random.bits().to_le_bytes()[0]).take(PICTURE_BYTES));
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    body.into()
}

/// The number of uploads until `stop`.
async fn upload(http: String, number: usize, body: Bytes, stop: CancellationToken) -> usize {
    let client = Client::new();
    let path = format!("{http}/v1/collections/bench/identities/upload-{number}:enroll?modality=face&alignment=aligned");
    let mut ticks = tokio::time::interval(UPLOAD_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for count in 0.. {
        tokio::select! {
            biased;
            () = stop.cancelled() => return count,
            _ = ticks.tick() => {}
        }
        let request = client
            .post(&path)
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
            .header("idempotency-key", format!("upload-{number}-{count}"))
            .body(body.clone());
        let answer = request.send().await.expect("answered");
        assert_eq!(answer.status(), reqwest::StatusCode::CONFLICT, "no model is loaded");
        answer.bytes().await.expect("a body");
    }
    unreachable!("it counts until the stop")
}

struct Server {
    child: Child,
    http: String,
}

impl Server {
    fn start(program: &Path, home: &Path) -> Self {
        let mut child = Command::new(program)
            .args(["serve", "--no-pull"])
            .env("SEMBLANCE_DATA_DIR", home)
            .env_remove("DATABASE_URL")
            .env("SEMBLANCE_ALLOW_LOOPBACK", "true")
            .env("SEMBLANCE_HTTP_ADDR", "127.0.0.1:0")
            .env("SEMBLANCE_GRPC_ADDR", "127.0.0.1:0")
            .env("SEMBLANCE_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let http = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.trim().strip_prefix("REST")?.split_whitespace().next()?.to_owned()))
            .expect("it prints its address");
        Self { child, http }
    }

    /// Seconds of processor time of all its threads.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        // utime and stime, in ticks of 10 ms.
        fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("a number") / 100.0).sum()
    }

    fn stop(mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}
