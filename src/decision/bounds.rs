//! Confidence bounds of error rates, and the constants of the decision rules.

use domain::IntervalEstimate;

/// 97.5 % quantile of the standard normal distribution, for two-sided 95 % intervals.
const Z: f64 = 1.959_964;
/// Error probability of statements with 95 % confidence.
const CHANCE_MAX: f64 = 0.05;
/// Rule of three (Hanley and Lippman-Hand 1983): without an error in n trials, the error rate is below 3/n with 95 %
/// confidence, because (1 - 3/n)^n = 5 %.
const NONE_SEEN: f64 = 3.0;

/// Minimum number of expected errors. With fewer, not even trials without any error prove the rate with 95 %
/// confidence.
pub(super) const SUPPORT_MIN: f64 = NONE_SEEN;

/// Minimum difference between the similarities of two candidates. Two photographs of one face differ by more.
pub(super) const MARGIN_MIN: f32 = 0.02;

/// In posterior mode, answer NEW when the probability of being enrolled is at most this.
pub(super) const ENROLLED_SHARE_MAX: f64 = 0.02;

/// Error rate with its 95 % interval: Wilson's interval (1927), or the rule of three when no trial or every trial is an
/// error. `errors` and `trials` count independent trials; fractions stand for dependent ones.
pub(super) fn share(errors: f64, trials: f64) -> IntervalEstimate {
    let value = errors / trials;
    if errors <= 0.0 {
        return IntervalEstimate { value: 0.0, lower: 0.0, upper: (NONE_SEEN / trials).min(1.0) };
    }
    if errors >= trials {
        return IntervalEstimate { value: 1.0, lower: (1.0 - NONE_SEEN / trials).max(0.0), upper: 1.0 };
    }
    let spread = Z * Z / trials;
    let middle = (value + spread / 2.0) / (1.0 + spread);
    let half = Z / (1.0 + spread) * (value * (1.0 - value) / trials + spread / (4.0 * trials)).sqrt();
    IntervalEstimate { value, lower: (middle - half).max(0.0), upper: (middle + half).min(1.0) }
}

/// Whether the trials prove with 95 % confidence that the error rate is at most `most`: one-sided test of Clopper and
/// Pearson (1934). A rate of 0.01 needs 299 trials without an error, 473 with one, 628 with two.
pub(super) fn shows_at_most(most: f64, errors: u64, trials: u64) -> bool {
    if errors as f64 > most * trials as f64 {
        return false;
    }
    // Probability of at most `errors` errors at the rate `most`, summed term by term. Logarithms, because the first
    // term of many trials underflows.
    let (mut exactly, mut at_most) = (trials as f64 * (-most).ln_1p(), 0.0);
    for seen in 0..=errors {
        at_most += exactly.exp();
        if at_most > CHANCE_MAX {
            return false;
        }
        exactly += ((trials - seen) as f64 / (seen + 1) as f64 * most / (1.0 - most)).ln();
    }
    true
}

/// Applies a monotone function to an estimate and its bounds.
pub(super) fn map(estimate: IntervalEstimate, to: impl Fn(f64) -> f64) -> IntervalEstimate {
    IntervalEstimate { value: to(estimate.value), lower: to(estimate.lower), upper: to(estimate.upper) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_error_in_a_hundred_is_excluded_by_as_many_trials_as_published() {
        for (errors, trials) in [(0, 299), (1, 473), (2, 628), (3, 773)] {
            assert!(shows_at_most(0.01, errors, trials), "{errors} in {trials}");
            assert!(!shows_at_most(0.01, errors, trials - 1), "{errors} in {trials} less one");
        }
        assert!(shows_at_most(0.01, 9_000, 1_000_000) && !shows_at_most(0.01, 9_900, 1_000_000));
        assert!(!shows_at_most(0.01, 0, 0) && !shows_at_most(0.01, 5, 5));
        assert!(shows_at_most(0.5, 0, 5) && !shows_at_most(0.5, 0, 4));
    }

    #[test]
    fn intervals_equal_published_ones() {
        // Newcombe 1998, table 1: 81 of 263, 15 of 148.
        for (errors, trials, lower, upper) in [(81.0, 263.0, 0.2553, 0.3662), (15.0, 148.0, 0.0624, 0.1605)] {
            let found = share(errors, trials);
            assert!((found.lower - lower).abs() < 1e-4 && (found.upper - upper).abs() < 1e-4, "{found:?}");
        }
        assert_eq!(share(0.0, 300.0), IntervalEstimate { value: 0.0, lower: 0.0, upper: 0.01 });
        assert_eq!(share(300.0, 300.0), IntervalEstimate { value: 1.0, lower: 0.99, upper: 1.0 });
        assert!((share(0.0, 2.0).upper - 1.0).abs() < 1e-12, "two trials show nothing");
    }
}
