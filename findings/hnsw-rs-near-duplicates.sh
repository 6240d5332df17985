#!/usr/bin/env bash
# hnsw_rs 0.3.5: a crowd of near-duplicates makes the graph lose points.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"
[dependencies]
hnsw_rs = "=0.3.5"
[profile.release]
opt-level = 2
TOML
cat >"$work/src/main.rs" <<'RUST'
//! Builds a graph of distinct points, one by one, and asks for each of them by its own numbers.
use hnsw_rs::prelude::{DistL2, Hnsw};

const DIMENSION: usize = 64;
const DISTINCT: usize = 4000;
const CROWD: usize = 1000;
const LINKS: usize = 16;
const BUILD_WIDTH: usize = 100;
const SEARCH_WIDTH: usize = 64;

/// Numbers from -1 to 1 by SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn point(&mut self) -> Vec<f32> {
        (0..DIMENSION).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }
}

/// How many of the distinct points and how many of the others do not find themselves among the nearest `SEARCH_WIDTH`.
fn lost(points: &[Vec<f32>]) -> (usize, usize) {
    let graph = Hnsw::<f32, DistL2>::new(LINKS, points.len(), 16, BUILD_WIDTH, DistL2 {});
    for (id, point) in points.iter().enumerate() {
        graph.insert((point, id));
    }
    let is_lost = |id: &usize| {
        !graph.search(&points[*id], SEARCH_WIDTH, SEARCH_WIDTH).iter().any(|found| found.d_id == *id)
    };
    let distinct = (0..DISTINCT).filter(is_lost).count();
    (distinct, (DISTINCT..points.len()).filter(is_lost).count())
}

fn main() {
    let mut numbers = Numbers(1);
    let distinct: Vec<Vec<f32>> = (0..DISTINCT).map(|_| numbers.point()).collect();
    let mut with_crowd = distinct.clone();
    for _ in 0..CROWD {
        let noise = numbers.point();
        with_crowd.push(distinct[17].iter().zip(&noise).map(|(value, noise)| value + 1e-3 * noise).collect());
    }
    let alone = lost(&distinct).0;
    let (beside, members) = lost(&with_crowd);
    println!("{alone} of {DISTINCT} distinct points lost without the crowd, {beside} beside it; {members} of {CROWD} members of the crowd lost");
    assert!(members > CROWD / 2, "the graph keeps most of the crowd");
    assert!(beside > 2 * alone, "the crowd costs the other points nothing");
}
RUST
cd "$work"
cargo run --quiet --release
