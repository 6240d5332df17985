//! Error rates with confidence intervals.

use serde::Serialize;

/// The 97.5 % quantile of the normal distribution, for two-sided 95 % intervals.
const Z: f64 = 1.959_963_984_540_054;
/// Rule of three: without an error in n trials the rate is below 3 / n at 95 % confidence (Hanley and Lippman-Hand
/// 1983).
const RULE_OF_THREE: f64 = 3.0;

/// An error rate and its counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    pub errors: usize,
    pub trials: usize,
    /// `errors / trials`, 0 to 1.
    pub rate: f64,
    /// 95 % interval for independent trials.
    pub interval: Interval,
}

/// A 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Whether the number of trials supports a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Support {
    Supported,
    /// Fewer trials than 3 / rate: even zero errors would not show the rate.
    TooFewTrials {
        needed: usize,
    },
}

impl Rate {
    /// With the interval of Wilson (1927), which stays within 0 and 1 and has a width without errors too.
    ///
    /// # Panics
    /// Without trials, or with more errors than trials.
    #[must_use]
    pub fn of(errors: usize, trials: usize) -> Self {
        assert!(trials > 0 && errors <= trials, "{errors} errors of {trials} trials are no rate");
        let (n, rate) = (trials as f64, errors as f64 / trials as f64);
        let middle = (rate + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        // Rounding must not exclude the observed rate.
        let interval = Interval { low: (middle - half).clamp(0.0, rate), high: (middle + half).clamp(rate, 1.0) };
        Self { errors, trials, rate, interval }
    }
}

impl Support {
    /// Whether this number of trials supports a rate.
    #[must_use]
    pub fn of(rate: f64, trials: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are 1e-9 and more")]
        let needed = (RULE_OF_THREE / rate - 1e-6).ceil() as usize;
        if trials >= needed { Self::Supported } else { Self::TooFewTrials { needed } }
    }

    #[must_use]
    pub fn is_enough(self) -> bool {
        self == Self::Supported
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wilson_by_hand() {
        // 10 of 100, by the published formula: 0.0552 to 0.1744.
        let rate = Rate::of(10, 100);
        assert!((rate.interval.low - 0.055_229).abs() < 1e-5, "{rate:?}");
        assert!((rate.interval.high - 0.174_366).abs() < 1e-5, "{rate:?}");
        // No error in n: z^2 / (n + z^2).
        let none = Rate::of(0, 300);
        assert!((none.interval.high - Z * Z / (300.0 + Z * Z)).abs() < 1e-12 && none.interval.low == 0.0, "{none:?}");
    }

    #[test]
    fn a_rate_needs_three_trials_per_expected_error() {
        assert_eq!(Support::of(0.001, 3000), Support::Supported);
        assert_eq!(Support::of(0.001, 2999), Support::TooFewTrials { needed: 3000 });
        assert_eq!(Support::of(1e-5, 10), Support::TooFewTrials { needed: 300_000 });
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_rate_and_narrows(errors in 0_usize..50, more in 0_usize..500) {
            let trials = errors + more + 1;
            let (few, many) = (Rate::of(errors, trials), Rate::of(10 * errors, 10 * trials));
            prop_assert!((0.0..=few.rate).contains(&few.interval.low) && (few.rate..=1.0).contains(&few.interval.high));
            prop_assert!(many.interval.high - many.interval.low < few.interval.high - few.interval.low);
        }
    }
}
