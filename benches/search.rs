//! What a search costs, beside the physical limit: a sweep reads every code of the gallery once, so it cannot be faster
//! than memory. The read bandwidth is measured in the same run, and the ratio is what to look at.
//!
//! `cargo bench --bench search`; `SEMBLANCE_BENCH_TEMPLATES=1000000` for other sizes than the usual ones.

mod table;

use std::{hint::black_box, sync::Arc};

use domain::{
    CollectionUid, Embedding, EmbeddingSpace, Identity, Modality, ModelDigest, Pooling, Position, StoredTemplate,
    Timestamp,
};
use gallery::{CollectionIndex, Gallery, GalleryOptions, Query, SCAN_BATCH_MAX, Searched};
use table::{Random, Table, say, seconds};
use uuid::Uuid;

const DIMENSION: u32 = 512;
const TEMPLATES_PER_IDENTITY: usize = 4;

fn main() {
    let bandwidth = read_bandwidth();
    let mut table = Table::new(["templates", "how", "ms a search", "GB/s of codes", "of memory bandwidth"]);
    for templates in sizes() {
        for threads in [1, 2] {
            let index = gallery(templates, usize::MAX, threads);
            let bytes = templates as f64 * f64::from(DIMENSION);
            for together in [1, SCAN_BATCH_MAX] {
                let took = search(&index, together);
                table.row([
                    templates.to_string(),
                    format!("{threads} threads, {together} together"),
                    format!("{:.3}", took * 1e3),
                    format!("{:.1}", bytes / took / 1e9),
                    format!("{:.2}", bytes / took / bandwidth),
                ]);
            }
        }
    }
    let templates = 20_000;
    let index = gallery(templates, 1_000, 1);
    index.maintain();
    let took = search(&index, 1);
    let unread = || "-".to_owned();
    table.row([templates.to_string(), "graph".to_owned(), format!("{:.3}", took * 1e3), unread(), unread()]);
    say(format_args!(
        "search: {DIMENSION} numbers a template, memory reads at {:.1} GB/s on one thread",
        bandwidth / 1e9
    ));
    say(table);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration")]
fn sizes() -> Vec<usize> {
    match std::env::var("SEMBLANCE_BENCH_TEMPLATES") {
        Ok(sizes) => sizes.split(',').map(|size| size.trim().parse().expect("numbers with commas between")).collect(),
        Err(_) => vec![1_000, 20_000, 100_000],
    }
}

/// Bytes a second that one thread reads from memory too large for any cache.
fn read_bandwidth() -> f64 {
    let numbers = vec![1.0_f32; 64 << 20];
    let took = seconds(5, || {
        let mut lanes = [0.0_f32; 64];
        for chunk in black_box(&numbers).chunks_exact(64) {
            for (lane, number) in lanes.iter_mut().zip(chunk) {
                *lane += number;
            }
        }
        lanes.iter().sum::<f32>()
    });
    (numbers.len() * 4) as f64 / took
}

fn space() -> EmbeddingSpace {
    EmbeddingSpace::whole(Modality::Face, ModelDigest([1; 32]), DIMENSION)
}

/// Face-like embeddings: identities far apart, the templates of one at a cosine of about .7.
fn gallery(templates: usize, graph_templates_min: usize, scan_threads: usize) -> Arc<CollectionIndex> {
    let gallery = Gallery::new(GalleryOptions { graph_templates_min, scan_threads, ..GalleryOptions::default() });
    let index = gallery.open(CollectionUid(Uuid::nil()));
    let (identities, templates) = people(templates);
    let mut restore = index.restore(Position(templates.len() as u64), 0);
    restore.identities(&identities);
    restore.templates(templates);
    restore.finish();
    index
}

fn people(templates: usize) -> (Vec<Identity>, Vec<StoredTemplate>) {
    let mut random = Random::new(7);
    let mut identities = Vec::new();
    let mut stored = Vec::new();
    for person in 0..templates / TEMPLATES_PER_IDENTITY {
        let name = format!("person-{person}");
        identities.push(testing::identity(&name));
        let centre = direction(&mut random);
        for _ in 0..TEMPLATES_PER_IDENTITY {
            let position = Position(stored.len() as u64 + 1);
            let embedding = near(&mut random, &centre);
            stored.push(testing::stored_template(position.0.into(), &name, embedding, position));
        }
    }
    (identities, stored)
}

fn near(random: &mut Random, centre: &[f32]) -> Embedding {
    let noise = direction(random);
    let values: Vec<f32> = centre.iter().zip(noise).map(|(c, n)| c + 0.65 * n).collect();
    Embedding::new(space(), &values).expect("random numbers have a direction")
}

fn direction(random: &mut Random) -> Vec<f32> {
    let numbers: Vec<f32> = (0..DIMENSION).map(|_| random.normal()).collect();
    let norm = numbers.iter().map(|n| n * n).sum::<f32>().sqrt();
    numbers.into_iter().map(|n| n / norm).collect()
}

/// Seconds a search, when so many share a sweep.
fn search(index: &CollectionIndex, together: usize) -> f64 {
    let mut random = Random::new(99);
    let centre = direction(&mut random);
    let probes: Vec<Embedding> = (0..16).map(|_| near(&mut random, &centre)).collect();
    let query = Query {
        limit: 10,
        filter: None,
        now: Timestamp::UNIX_EPOCH,
        pooling: Pooling::Best,
        similarity_min: None,
        searched: Searched::Enrolled,
    };
    let searches: Vec<(&Embedding, Query<'_>)> = probes.iter().map(|probe| (probe, query)).collect();
    let mut next = searches.chunks(together).cycle();
    seconds(24, || index.search_all(next.next().expect("it cycles"))) / together as f64
}
