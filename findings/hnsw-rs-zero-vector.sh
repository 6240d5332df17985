#!/usr/bin/env bash
# hnsw_rs 0.3.5: by its cosine distance, a vector of zeros is a perfect match of every point.
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
TOML
cat >"$work/src/main.rs" <<'RUST'
//! Searches two points for a vector of zeros, which has no direction and so no cosine with anything.
use hnsw_rs::prelude::{DistCosine, Hnsw};

fn main() {
    let graph = Hnsw::<f32, DistCosine>::new(4, 2, 16, 10, DistCosine {});
    for (id, point) in [[1.0, 0.0], [0.0, 1.0]].iter().enumerate() {
        graph.insert((point, id));
    }
    let distances: Vec<f32> = graph.search(&[0.0, 0.0], 2, 10).iter().map(|found| found.distance).collect();
    println!("distances of a vector of zeros: {distances:?}");
    assert_eq!(distances, [0.0, 0.0], "a vector of zeros is no longer a perfect match");
}
RUST
cd "$work"
cargo run --quiet
