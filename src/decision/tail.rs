//! Upper tail of a sample of similarities, extrapolated beyond the sample.

/// The tail is fitted to the highest 1/10 of the sample; of a large sample, to the highest 1/100, but no fewer than
/// [`TAIL_ENOUGH`]: the farther out, the closer the tail follows its limiting distribution.
const TAIL_PART: usize = 10;
const LARGE_TAIL_PART: usize = 100;
const TAIL_ENOUGH: usize = 1000;
/// Limits of the shape. Values beyond them come from too few trials: an end just above the largest trial, or none at
/// all.
const SHAPE_MIN: f64 = -0.5;
const SHAPE_MAX: f64 = 0.3;
/// Maximum factor by which a target rate is lowered. A larger variance means that nothing is known; reasons report
/// that.
const CARE_MAX: f64 = 3.0;
/// Below this absolute shape the tail is exponential, because the general formula divides by nearly zero.
const SHAPE_ZERO: f64 = 1e-6;

/// Sorted trials with a generalised Pareto distribution over their highest tenth (Pickands 1975).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ParetoTail {
    /// Descending.
    trials: Vec<f64>,
    /// Start of the tail.
    start: f64,
    /// Share of trials beyond the start.
    share: f64,
    shape: f64,
    scale: f64,
}

impl ParetoTail {
    /// Fits by L-moments (Hosking and Wallis 1987). With b0 the mean excess and b1 the mean of excess times the share
    /// of excesses above it: shape = 2 - b0 / (b0 - 2 b1), scale = b0 (1 - shape). The scale follows from the limited
    /// shape, so that the mean excess stays as measured. `None` below 20 trials.
    pub(super) fn fit(trials: impl Iterator<Item = f32>) -> Option<Self> {
        let mut trials: Vec<f64> = trials.map(f64::from).collect();
        trials.sort_by(|a, b| b.total_cmp(a));
        let beyond = (trials.len() / TAIL_PART).min((trials.len() / LARGE_TAIL_PART).max(TAIL_ENOUGH));
        if beyond < 2 {
            return None;
        }
        let start = trials[beyond];
        let excesses = trials[..beyond].iter().map(|trial| trial - start);
        let count = beyond as f64;
        let b0 = excesses.clone().sum::<f64>() / count;
        let b1 = excesses.enumerate().map(|(above, e)| e * above as f64 / (count - 1.0)).sum::<f64>() / count;
        // Without spread the shape is zero.
        let shape = if b0 > 2.0 * b1 { (2.0 - b0 / (b0 - 2.0 * b1)).clamp(SHAPE_MIN, SHAPE_MAX) } else { 0.0 };
        let share = count / trials.len() as f64;
        Some(Self { trials, start, share, shape, scale: b0 * (1.0 - shape) })
    }

    /// Threshold that non-mated probes reach at `rate` on average, when only `independent` of the trials are
    /// independent.
    ///
    /// With few trials the threshold estimate is noisy, and errors are asymmetric: rates fall exponentially, so a
    /// threshold that is too low costs more than one that is too high saves. At a rate of 1 % the mean realised rate is
    /// 1.1 % with 400 people and 1.5 % with 120. The logarithm of the realised rate has variance V, so its mean is
    /// e^(V/2) times the target, and the target is lowered by that factor. In the tail, at z = ln(share / rate), the
    /// delta method gives V = (z^4 / 4 - z^3 + 2 z^2 + 1 - share) / k for k excesses, from the covariance (1, -1; -1,
    /// 2) / k of the shape and the logarithm of the scale at shape zero (Smith 1987). Before the tail V = (1 - rate) /
    /// (n rate).
    pub(super) fn threshold(&self, rate: f64, independent: f64) -> f64 {
        let variance = if rate < self.share {
            let z = (self.share / rate).ln();
            let shape_and_scale = z.powi(4) / 4.0 - z.powi(3) + 2.0 * z * z;
            (shape_and_scale + 1.0 - self.share) / (independent * self.share)
        } else {
            (1.0 - rate) / (independent * rate)
        };
        self.similarity_at(rate * (-variance / 2.0).max(-CARE_MAX.ln()).exp())
    }

    /// Share of the population that reaches a similarity.
    pub(super) fn rate_at(&self, similarity: f64) -> f64 {
        let excess = similarity - self.start;
        if excess <= 0.0 || self.scale <= 0.0 {
            return self.reached(similarity) / self.trials.len() as f64;
        }
        let scaled = excess / self.scale;
        let rarity = if self.shape.abs() < SHAPE_ZERO {
            (-scaled).exp()
        } else {
            (1.0 + self.shape * scaled).max(0.0).powf(-1.0 / self.shape)
        };
        self.share * rarity
    }

    /// Number of trials that reach a similarity.
    pub(super) fn reached(&self, similarity: f64) -> f64 {
        self.trials.partition_point(|trial| *trial >= similarity) as f64
    }

    pub(super) fn trials(&self) -> usize {
        self.trials.len()
    }

    /// Similarity that a share `rate` of the population reaches. Never falls when the rate falls.
    pub(super) fn similarity_at(&self, rate: f64) -> f64 {
        if rate >= self.share {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count, 0 to all")]
            let above = (rate * self.trials.len() as f64) as usize;
            return self.trials[above.min(self.trials.len() - 1)];
        }
        let rarity = rate / self.share;
        let excess = if self.shape.abs() < SHAPE_ZERO {
            -self.scale * rarity.ln()
        } else {
            self.scale / self.shape * (rarity.powf(-self.shape) - 1.0)
        };
        self.start + excess
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sample with exactly the quantiles of a generalised Pareto distribution from `start`.
    fn sample(count: u32, start: f64, shape: f64, scale: f64) -> Vec<f32> {
        let excess =
            |rate: f64| if shape == 0.0 { -scale * rate.ln() } else { scale / shape * (rate.powf(-shape) - 1.0) };
        #[expect(clippy::cast_possible_truncation, reason = "similarities are f32")]
        let at = |number: u32| (start + excess((f64::from(number) + 0.5) / f64::from(count))) as f32;
        (0..count).map(at).collect()
    }

    /// The tail of a generalised Pareto distribution has the same shape.
    #[test]
    fn known_quantiles_are_recovered() {
        for (shape, scale) in [(0.0, 0.05), (0.2, 0.03), (-0.3, 0.08)] {
            let tail = ParetoTail::fit(sample(5000, 0.1, shape, scale).into_iter()).expect("enough trials");
            assert!((tail.shape - shape).abs() < 0.03, "shape {shape} was found as {}", tail.shape);
            for rate in [0.5_f64, 0.1, 0.01, 1e-3, 1e-4] {
                let truth =
                    0.1 + if shape == 0.0 { -scale * rate.ln() } else { scale / shape * (rate.powf(-shape) - 1.0) };
                let found = tail.similarity_at(rate);
                assert!((found - truth).abs() < 0.05 * (truth - 0.1), "{rate}: {found} instead of {truth}");
            }
        }
    }

    #[test]
    fn rates_are_found_from_similarities() {
        for (shape, scale) in [(0.0, 0.05), (0.2, 0.03), (-0.3, 0.08)] {
            let tail = ParetoTail::fit(sample(5000, 0.1, shape, scale).into_iter()).expect("enough trials");
            for rate in [0.5, 0.1, 0.01, 1e-3, 1e-5] {
                let found = tail.rate_at(tail.similarity_at(rate));
                assert!((found - rate).abs() < 0.01 * rate, "{found} instead of {rate}");
            }
        }
    }

    #[test]
    fn fewer_trials_lower_the_target_rate() {
        let tail = ParetoTail::fit(sample(5000, 0.1, 0.0, 0.05).into_iter()).expect("enough trials");
        // z = ln 10: V = (z^4 / 4 - z^3 + 2 z^2 + 0.9) / (300 / 10), so 1 % becomes 0.89 %.
        assert!((tail.rate_at(tail.threshold(0.01, 300.0)) / 0.01 - 0.901).abs() < 0.003);
        assert!(tail.rate_at(tail.threshold(0.01, 1e9)) / 0.01 > 0.999);
        assert!((tail.rate_at(tail.threshold(1e-6, 300.0)) / 1e-6 - 1.0 / 3.0).abs() < 0.01, "and never too little");
    }

    #[test]
    fn too_few_trials_have_no_tail() {
        assert_eq!(ParetoTail::fit(sample(19, 0.0, 0.0, 0.1).into_iter()), None);
        assert!(ParetoTail::fit(sample(20, 0.0, 0.0, 0.1).into_iter()).is_some());
    }

    proptest! {
        #[test]
        fn rarer_is_never_less_similar(
            trials in prop::collection::vec(-1.0_f32..1.0, 20..300), rates in prop::collection::vec(1e-9_f64..1.0, 2),
        ) {
            let tail = ParetoTail::fit(trials.into_iter()).expect("enough trials");
            let (rare, frequent) = (rates[0].min(rates[1]), rates[0].max(rates[1]));
            prop_assert!(tail.similarity_at(rare) >= tail.similarity_at(frequent));
        }

        #[test]
        fn trials_without_spread_have_a_tail_without_length(trial in -1.0_f32..1.0, rate in 1e-9_f64..1.0) {
            let tail = ParetoTail::fit(std::iter::repeat_n(trial, 300)).expect("enough trials");
            prop_assert_eq!(tail.similarity_at(rate).to_bits(), f64::from(trial).to_bits());
        }
    }
}
