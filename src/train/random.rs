//! Seeded random numbers, the same on every machine.

use rand_xoshiro::{
    SplitMix64, Xoshiro256PlusPlus,
    rand_core::{RngCore, SeedableRng},
};

/// A stream of random numbers: xoshiro256++ of `rand_xoshiro`. The distributions are written here, because the shipped
/// models follow from their exact numbers: `semblance train` with the same seed makes the same weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Random(Xoshiro256PlusPlus);

impl Random {
    /// Stream `number` of `seed`: each batch of a training has its own stream.
    #[must_use]
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mixed = SplitMix64::seed_from_u64(seed).next_u64() ^ SplitMix64::seed_from_u64(!number).next_u64();
        Self(Xoshiro256PlusPlus::seed_from_u64(mixed))
    }

    /// Uniform in 0..1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u64() >> 40) as f32 / (1_u64 << 24) as f32
    }

    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Approximately standard normal: the scaled sum of four uniform numbers, bounded by 3.5.
    pub(crate) fn normal(&mut self) -> f32 {
        let bits = self.0.next_u64();
        let sum: f32 = (0..4).map(|part| ((bits >> (16 * part)) & 0xffff) as f32).sum();
        (sum / 65_535.0 - 2.0) * 3.0_f32.sqrt()
    }

    pub(crate) fn around(&mut self, mean: f32, spread: f32) -> f32 {
        mean + spread * self.normal()
    }

    pub(crate) fn chance(&mut self, share: f32) -> bool {
        self.unit() < share
    }

    /// Uniform in 0..`count`.
    pub(crate) fn below(&mut self, count: u32) -> u32 {
        let wide = u64::from(count) * (self.0.next_u64() >> 32);
        u32::try_from(wide >> 32).expect("below count")
    }

    /// Uniform angle in 0..2 pi radians.
    pub(crate) fn angle(&mut self) -> f32 {
        self.between(0.0, std::f32::consts::TAU)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_and_number_determine_a_stream() {
        let numbers = |seed, number| {
            let mut random = Random::new(seed, number);
            std::array::from_fn::<u32, 4, _>(|_| random.unit().to_bits())
        };
        assert_eq!(numbers(1, 2), numbers(1, 2));
        assert_ne!(numbers(1, 2), numbers(2, 1));
        assert_ne!(numbers(1, 2), numbers(1, 3));
    }

    #[test]
    fn normal_numbers_have_their_mean_and_spread() {
        let mut random = Random::new(5, 0);
        let numbers: Vec<f32> = (0..20_000).map(|_| random.normal()).collect();
        let mean = numbers.iter().sum::<f32>() / 20_000.0;
        let spread = (numbers.iter().map(|n| (n - mean).powi(2)).sum::<f32>() / 20_000.0).sqrt();
        assert!(mean.abs() < 0.03 && (spread - 1.0).abs() < 0.02, "{mean} {spread}");
    }

    #[test]
    fn every_number_below_a_count_occurs() {
        let mut random = Random::new(6, 0);
        let mut seen = [0; 5];
        (0..1000).for_each(|_| seen[random.below(5) as usize] += 1);
        assert!(seen.iter().all(|count| *count > 120), "{seen:?}");
    }
}
