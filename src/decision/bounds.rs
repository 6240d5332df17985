//! How sure a share can be that was counted in trials.

use domain::IntervalEstimate;

/// The 97.5 % quantile of the normal distribution: 95 % lie between it and its opposite.
const Z: f64 = 1.959_964;
/// What is said with 95 % confidence is wrong this often at most.
const CHANCE_MAX: f64 = 0.05;
/// Where nothing of the kind was seen in n trials, its share is below this over n with 95 % confidence, for
/// (1 - 3/n)^n = 5 % (the rule of three, Hanley and Lippman-Hand 1983).
const NONE_SEEN: f64 = 3.0;

/// Fewer expected errors than this, and not even trials without a single error would show with 95 % confidence that the
/// promise holds.
pub(super) const SUPPORT_MIN: f64 = NONE_SEEN;

/// Two identities this close to each other cannot be told apart by a similarity: the same face photographed twice
/// differs by more.
pub(super) const MARGIN_MIN: f32 = 0.02;

/// By the posterior, NEW is said of whom at most this share of is enrolled.
pub(super) const ENROLLED_SHARE_MAX: f64 = 0.02;

/// The share of so many errors among so many independent trials (fractions of trials where some are not independent):
/// Wilson's interval (1927), and the rule of three where no error or nothing but errors were seen.
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

/// Whether so many errors among so many independent trials show, with 95 % confidence, that their share is at most `most`:
/// the one-sided test of Clopper and Pearson (1934). For one in a hundred it takes 299 trials without an error, 473 with
/// one, 628 with two.
pub(super) fn shows_at_most(most: f64, errors: u64, trials: u64) -> bool {
    if errors as f64 > most * trials as f64 {
        return false;
    }
    // How likely so few errors are, or fewer, where the share is `most`: term by term, as logarithms, for the first of many trials
    // is too small for a number.
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

/// The same estimate in another measure; `to` never falls.
pub(super) fn map(estimate: IntervalEstimate, to: impl Fn(f64) -> f64) -> IntervalEstimate {
    IntervalEstimate { value: to(estimate.value), lower: to(estimate.lower), upper: to(estimate.upper) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_error_in_a_hundred_is_excluded_by_as_many_trials_as_the_books_say() {
        for (errors, trials) in [(0, 299), (1, 473), (2, 628), (3, 773)] {
            assert!(shows_at_most(0.01, errors, trials), "{errors} in {trials}");
            assert!(!shows_at_most(0.01, errors, trials - 1), "{errors} in {trials} less one");
        }
        assert!(shows_at_most(0.01, 9_000, 1_000_000) && !shows_at_most(0.01, 9_900, 1_000_000));
        assert!(!shows_at_most(0.01, 0, 0) && !shows_at_most(0.01, 5, 5));
        assert!(shows_at_most(0.5, 0, 5) && !shows_at_most(0.5, 0, 4));
    }

    #[test]
    fn intervals_are_those_of_the_books() {
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
