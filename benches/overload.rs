//! More samples than the server can encode: photos of 12 megapixels at multiples of its capacity, and one photo beside a
//! client that sends large requests.
//!
//! `SEMBLANCE_MODELS_DIR=MODELS SEMBLANCE_BENCH_PHOTO=FACE.jpg cargo bench --bench overload`.
//! `SEMBLANCE_BENCH_SERVERS=before=PATH,after=PATH` compares other builds of the program. Requests are sent at their time,
//! whether or not earlier ones are answered. An answer that was worked for is 200, or 422 for a picture without a face.

mod server;
mod table;

use std::{
    io::Cursor,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use image::{ImageFormat, RgbImage};
use reqwest::{Client, StatusCode, header::CONTENT_TYPE};
use serde_json::json;
use server::{Latencies, Server, servers};
use table::{Table, say};
use tokio_util::sync::CancellationToken;

/// How long each rate is offered.
const OFFERED: Duration = Duration::from_secs(20);
/// The rates, as multiples of the capacity.
const RATES: [f64; 4] = [0.5, 1.0, 3.0, 10.0];
/// Clients that measure the capacity: each sends its next photo after the answer.
const CLOSED_CLIENTS: usize = 4;
/// Tracks and frames of the greedy client's requests.
const TRACKS: usize = 32;
const FRAMES: usize = 8;
/// Photos of the honest client.
const HONEST: usize = 20;

#[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration")]
fn main() {
    let models =
        PathBuf::from(std::env::var("SEMBLANCE_MODELS_DIR").expect("SEMBLANCE_MODELS_DIR: the starter packages"));
    let photo = std::env::var("SEMBLANCE_BENCH_PHOTO").expect("SEMBLANCE_BENCH_PHOTO: a JPEG of a face");
    let face = Bytes::from(std::fs::read(photo).expect("readable"));
    let large = twelve_megapixels();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let mut rates = Table::new([
        "server",
        "offered/s",
        "of capacity",
        "answered/s",
        "of best",
        "refused",
        "too late",
        "refusal p99 ms",
        "answer p50 s",
        "answer p99 s",
        "peak MiB",
    ]);
    let mut fairness = Table::new(["server", "one photo alone p50 ms", "beside a greedy client p50", "p99", "times"]);
    for (name, program, settings) in programs() {
        let home = tempfile::tempdir().expect("a folder");
        let env: Vec<(&str, &Path)> = settings.iter().map(|(name, value)| (*name, Path::new(*value))).collect();
        let env = [&env[..], &[("SEMBLANCE_MODELS_DIR", models.as_path())]].concat();
        let server = Server::start(&program, home.path(), &env);
        let [alone, beside] = runtime.block_on(honest_beside_greedy(&server, &face));
        let ms = |took: &Latencies, percent| format!("{:.0}", took.at(percent) * 1e3);
        let times = format!("{:.1}", beside.at(50) / alone.at(50));
        fairness.row([name.clone(), ms(&alone, 50), ms(&beside, 50), ms(&beside, 99), times]);
        let capacity = runtime.block_on(capacity(&server, &large));
        let mut best = capacity;
        for times in RATES {
            let offered = runtime.block_on(offer(&server, &large, capacity * times));
            let answered = offered.answers.0.len() as f64 / OFFERED.as_secs_f64();
            best = best.max(answered);
            rates.row([
                name.clone(),
                format!("{:.1}", capacity * times),
                format!("{times}"),
                format!("{answered:.1}"),
                format!("{:.2}", answered / best),
                offered.refusals.0.len().to_string(),
                offered.late.to_string(),
                ms(&offered.refusals, 99),
                format!("{:.2}", offered.answers.at(50)),
                format!("{:.2}", offered.answers.at(99)),
                format!("{:.0}", offered.peak_mib),
            ]);
        }
        server.stop();
    }
    say(format_args!("photos of 12 megapixels ({} bytes), each rate for {OFFERED:?}", large.len()));
    say(rates);
    say(format_args!(
        "one photo of a face, alone and beside a client with requests of {TRACKS} tracks of {FRAMES} photos"
    ));
    say(fairness);
}

/// Settings that begin every sample at once, and let the encoder queues alone refuse.
const NO_ADMISSION: &[(&str, &str)] =
    &[("SEMBLANCE_SAMPLES_IN_WORK_MAX", "1000000"), ("SEMBLANCE_WAIT_MS_MAX", "1000000000")];

/// Name, path and settings of a server.
type Started = (String, PathBuf, &'static [(&'static str, &'static str)]);

/// Each program without and with admission.
fn programs() -> Vec<Started> {
    let both = |(name, path): (String, PathBuf)| {
        let without = format!("{name}, without admission");
        [(without, path.clone(), NO_ADMISSION), (name, path, &[][..])]
    };
    servers().into_iter().flat_map(both).collect()
}

/// What a phone makes: 4000 x 3000 pixels, with detail and without a face.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the shade is clamped")]
fn twelve_megapixels() -> Bytes {
    let drawn = RgbImage::from_fn(4000, 3000, |x, y| {
        let wave = (f64::from(x) / 37.0).sin() + (f64::from(y) / 23.0).cos() + (f64::from(x * y % 4093) / 2000.0).sin();
        let shade = (127.0 + 40.0 * wave).clamp(0.0, 255.0) as u8;
        image::Rgb([shade, shade / 2 + (x % 64) as u8, shade / 3 + (y % 64) as u8])
    });
    let mut jpeg = Cursor::new(Vec::new());
    drawn.write_to(&mut jpeg, ImageFormat::Jpeg).expect("memory");
    jpeg.into_inner().into()
}

/// The status of one extraction.
async fn extract(client: &Client, http: &str, photo: &Bytes) -> StatusCode {
    let request = client.post(format!("{http}/v1/templates:extract?modality=face"));
    let answer = request.header(CONTENT_TYPE, "image/jpeg").body(photo.clone()).send().await.expect("answered");
    let status = answer.status();
    answer.bytes().await.expect("a body");
    status
}

fn is_worked_for(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::UNPROCESSABLE_ENTITY
}

/// Answers per second to clients that wait for their answers.
async fn capacity(server: &Server, photo: &Bytes) -> f64 {
    let began = Instant::now();
    let clients = (0..CLOSED_CLIENTS).map(|_| async {
        let client = Client::new();
        let mut answers = 0;
        while began.elapsed() < OFFERED {
            answers += usize::from(is_worked_for(extract(&client, &server.http, photo).await));
        }
        answers
    });
    let answers: usize = futures::future::join_all(clients).await.into_iter().sum();
    answers as f64 / began.elapsed().as_secs_f64()
}

/// What became of the requests of one rate.
struct Offered {
    answers: Latencies,
    refusals: Latencies,
    late: usize,
    peak_mib: f64,
}

async fn offer(server: &Server, photo: &Bytes, per_second: f64) -> Offered {
    let client = Client::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
    let began = Instant::now();
    let (mut tasks, mut peak_mib) = (Vec::new(), 0_f64);
    while began.elapsed() < OFFERED {
        let tick = ticks.tick().await;
        peak_mib = peak_mib.max(server.memory_mib());
        let (client, http, photo) = (client.clone(), server.http.clone(), photo.clone());
        tasks.push(tokio::spawn(async move {
            let status = extract(&client, &http, &photo).await;
            (status, tick.elapsed().as_secs_f64())
        }));
    }
    let mut offered = Offered { answers: Latencies::default(), refusals: Latencies::default(), late: 0, peak_mib };
    for task in tasks {
        let (status, took) = task.await.expect("no panic");
        match status {
            StatusCode::TOO_MANY_REQUESTS => offered.refusals.0.push(took),
            status if is_worked_for(status) => offered.answers.0.push(took),
            _ => offered.late += 1,
        }
        offered.peak_mib = offered.peak_mib.max(server.memory_mib());
    }
    offered
}

/// The times of an honest client's photos: alone, and beside a greedy client.
async fn honest_beside_greedy(server: &Server, face: &Bytes) -> [Latencies; 2] {
    let client = Client::new();
    let made = client.post(format!("{}/v1/collections?collectionId=bench", server.http)).json(&json!({})).send().await;
    assert!(made.expect("answered").status().is_success());
    let enroll = format!("{}/v1/collections/bench/identities/somebody:enroll?modality=face", server.http);
    let enrolled = client.post(enroll).header(CONTENT_TYPE, "image/jpeg").body(face.clone()).send().await;
    assert!(enrolled.expect("answered").status().is_success());
    let alone = honest(&client, server, face).await;
    let stop = CancellationToken::new();
    let frame = json!({"image": {"data": BASE64_STANDARD.encode(face)}});
    let track = json!({"modality": "face", "track": {"frames": vec![frame; FRAMES]}});
    let body = Arc::new(json!({"samples": vec![track; TRACKS]}).to_string());
    let greedy = tokio::spawn({
        let (client, http, stop) = (client.clone(), server.http.clone(), stop.clone());
        async move {
            while !stop.is_cancelled() {
                let request = client.post(format!("{http}/v1/collections/bench/identities:search"));
                let request = request.header(CONTENT_TYPE, "application/json").body(body.as_str().to_owned());
                let status = request.send().await.expect("answered").status();
                assert!(status.is_success() || status == StatusCode::TOO_MANY_REQUESTS, "{status}");
            }
        }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let beside = honest(&client, server, face).await;
    stop.cancel();
    greedy.await.expect("no panic");
    [alone, beside]
}

async fn honest(client: &Client, server: &Server, face: &Bytes) -> Latencies {
    let mut took = Latencies::default();
    for _ in 0..HONEST {
        let began = Instant::now();
        let request = client.post(format!("{}/v1/collections/bench/identities:search?modality=face", server.http));
        let answer = request.header(CONTENT_TYPE, "image/jpeg").body(face.clone()).send().await.expect("answered");
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.bytes().await.expect("a body");
        took.0.push(began.elapsed().as_secs_f64());
    }
    took
}
