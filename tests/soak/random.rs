//! Random choices that a seed repeats.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand_xoshiro::{
    SplitMix64,
    rand_core::{RngCore, SeedableRng},
};

/// Numbers of an embedding. Each is +1/8 or -1/8, so its length is exactly 1, and the server stores the bytes that were sent.
pub(crate) const DIMENSION: usize = 64;

pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("it is below a length")
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn milliseconds(&mut self, least: u64, most: u64) -> std::time::Duration {
        std::time::Duration::from_millis(least + self.below(most - least + 1))
    }
}

/// A seed of a run that was not given one.
pub(crate) fn fresh() -> u64 {
    RandomState::new().build_hasher().finish() >> 16
}

/// The numbers of an embedding: the signs are its bits.
pub(crate) fn embedding(signs: u64) -> Vec<f32> {
    (0..DIMENSION).map(|at| if signs >> at & 1 == 1 { 0.125 } else { -0.125 }).collect()
}
