//! The half of `make bench-graph` that is ours: a gallery whose every template is an identity of its own, so that what
//! it answers can be compared with what an index of vectors answers.
//!
//! Takes orders on standard input, one a line, and answers each with one line. See compare.py.

#![expect(clippy::print_stdout, reason = "the other half listens to standard output")]

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use domain::{CollectionUid, Embedding, EmbeddingSpace, Modality, ModelDigest, Pooling, Position, Timestamp};
use gallery::{CollectionIndex, Gallery, GalleryOptions, GraphKind, Query, Searched};
use uuid::Uuid;

const DIMENSION: usize = 512;
const SPACE_DIMENSION: u32 = 512;
/// So many of the nearest are compared.
const NEAREST: usize = 10;
const PAGE: usize = 10_000;

fn main() {
    // Cargo adds a word of its own at the end.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let [folder, kind, from, links, build_width, threads] = words.as_slice() else {
        panic!("FOLDER compact|hnsw-rs GRAPH_FROM M EF_CONSTRUCTION THREADS")
    };
    let number = |word: &String| word.parse().expect("a number");
    let folder = PathBuf::from(folder);
    let options = GalleryOptions {
        graph_templates_min: number(from),
        graph: if kind == "compact" { GraphKind::Compact } else { GraphKind::HnswRs },
        graph_links: number(links),
        graph_build_width: number(build_width),
        graph_build_threads: number(threads),
        templates_max: u64::MAX,
        ..GalleryOptions::default()
    };
    let gallery = Gallery::new(options);
    let index = load(&gallery, &folder);
    let before = cpu_seconds();
    index.maintain();
    let took = cpu_seconds() - before;
    let bytes = gallery.bytes();
    println!("{took} {} {}", bytes.codes, bytes.graph);

    let probes: Vec<Embedding> = numbers(&folder.join("probes"), f32::from_le_bytes)
        .chunks_exact(DIMENSION)
        .map(|values| Embedding::new(space(), values).expect("the other half wrote a direction"))
        .collect();
    let nearest = numbers(&folder.join("nearest"), u32::from_le_bytes);
    for order in std::io::stdin().lock().lines().map_while(Result::ok) {
        gallery.set_graph_search_width(order.trim().parse().expect("a width"));
        println!("{}", search(&index, &probes, &nearest));
    }
}

/// What all threads of this process have computed. Time on the wall would also count what else the machine does.
fn cpu_seconds() -> f64 {
    /// Of a clock that Linux fixes for all programs.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
    // The program's name is the second field, in brackets, and may hold blanks.
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// Recall of the nearest and of the ten nearest, and the microseconds of half of the searches and of all but a hundredth.
fn search(index: &CollectionIndex, probes: &[Embedding], nearest: &[u32]) -> String {
    let query = Query {
        limit: NEAREST,
        filter: None,
        now: Timestamp::UNIX_EPOCH,
        similarity_min: None,
        pooling: Pooling::Best,
        searched: Searched::Enrolled,
    };
    let (mut first, mut found, mut took) = (0, 0, Vec::new());
    for (probe, nearest) in probes.iter().zip(nearest.chunks_exact(NEAREST)) {
        let began = Instant::now();
        let answer = index.search(probe, &query);
        took.push(began.elapsed().as_secs_f64() * 1e6);
        let rows: Vec<u128> = answer.iter().map(|candidate| candidate.template.0.as_u128()).collect();
        first += usize::from(rows.first() == Some(&nearest[0].into()));
        found += nearest.iter().filter(|row| rows.contains(&u128::from(**row))).count();
    }
    took.sort_unstable_by(f64::total_cmp);
    let (count, at) = (probes.len() as f64, |share: usize| took[took.len() * share / 100]);
    format!("{} {} {} {}", first as f64 / count, found as f64 / count / NEAREST as f64, at(50), at(99))
}

fn load(gallery: &Gallery, folder: &Path) -> Arc<CollectionIndex> {
    let rows = numbers(&folder.join("rows"), f32::from_le_bytes);
    let count = rows.len() / DIMENSION;
    let index = gallery.open(CollectionUid(Uuid::nil()));
    let mut restore = index.restore(Position(count as u64), 0);
    for page in (0..count).collect::<Vec<_>>().chunks(PAGE) {
        let identity = |row: &usize| testing::identity(&name(*row));
        restore.identities(&page.iter().map(identity).collect::<Vec<_>>());
    }
    for page in (0..count).collect::<Vec<_>>().chunks(PAGE) {
        let template = |row: &usize| {
            let embedding = Embedding::new(space(), &rows[row * DIMENSION..][..DIMENSION]).expect("a direction");
            testing::stored_template(*row as u128, &name(*row), embedding, Position(*row as u64 + 1))
        };
        restore.templates(page.iter().map(template).collect());
    }
    restore.finish();
    index
}

fn name(row: usize) -> String {
    format!("row-{row}")
}

fn space() -> EmbeddingSpace {
    EmbeddingSpace::whole(Modality::Face, ModelDigest([1; 32]), SPACE_DIMENSION)
}

/// Little-endian numbers of four bytes.
fn numbers<T>(path: &Path, read: impl Fn([u8; 4]) -> T) -> Vec<T> {
    let bytes = std::fs::read(path).expect("the other half wrote it");
    bytes.as_chunks::<4>().0.iter().map(|number| read(*number)).collect()
}
