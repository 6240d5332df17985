//! What the benchmarks share: a clock, seeded random numbers, and a table to print.

#![expect(clippy::print_stdout, reason = "a benchmark answers on standard output")]
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::{fmt, hint::black_box, time::Instant};

use rand_xoshiro::{
    SplitMix64,
    rand_core::{RngCore, SeedableRng},
};

/// The median time of one run, in seconds, after runs to warm up.
pub(crate) fn seconds<T>(runs: usize, mut work: impl FnMut() -> T) -> f64 {
    for _ in 0..runs.div_ceil(8) {
        black_box(work());
    }
    let mut took: Vec<f64> = (0..runs)
        .map(|_| {
            let began = Instant::now();
            black_box(work());
            began.elapsed().as_secs_f64()
        })
        .collect();
    took.sort_unstable_by(f64::total_cmp);
    took[took.len() / 2]
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers in every run.
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Between 0 and 1.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    /// About normal: the sum of twelve uniform numbers less their mean.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

/// Prints what was measured.
pub(crate) fn say(line: impl fmt::Display) {
    println!("{line}");
}

/// Rows under a heading, in columns.
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self(vec![heading.map(str::to_owned).to_vec()])
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.0[0].len();
        let widths: Vec<usize> =
            (0..columns).map(|c| self.0.iter().map(|row| row[c].len()).max().unwrap_or_default()).collect();
        for row in &self.0 {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "{cell:>width$}  ")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
