//! Thresholds for all-pairs comparisons, as in duplicate search.
//!
//! A verification threshold holds its error rate for one comparison. A gallery of thousands makes millions of
//! comparisons; at the same rate nearly all reported pairs would be false.

use super::calibration::{Calibration, limited};
use domain::{IntervalEstimate, Policy, Reason, Similarity};

const HALF: f64 = 0.5;

/// Similarity threshold for pairs among many comparisons.
#[derive(Debug, Clone, PartialEq)]
pub struct PairLevel {
    pub similarity: Similarity,
    /// How well the trials support it.
    pub reasons: Vec<Reason>,
}

impl Calibration {
    /// The verification threshold at the policy's rate, or a higher one: less than one false match is expected among
    /// `comparisons` non-mated comparisons. Where no trial is so rare, the threshold follows from the fitted tail, and
    /// the reasons say so.
    ///
    /// The threshold never exceeds the median of mated similarities. A tail fitted to a thousand trials and read at one
    /// in ten million may lie above every possible similarity (1.2 for pedestrians), which would find no pair.
    /// [`Calibration::false_pairs`] then reports more than one expected false match.
    ///
    /// Non-mated identification trials are not used, although they cover rarer events: when one identity in fifty is
    /// enrolled twice, their highest similarities are duplicates, and a threshold from them would hide the duplicates.
    #[must_use]
    pub fn pair_level(&self, policy: Policy, comparisons: f64) -> PairLevel {
        let rate = policy.target_fmr.min(1.0 / comparisons.max(1.0));
        let threshold = self.nonmated_scores.threshold_verify(rate);
        let verify = self.nonmated_scores.threshold_verify(policy.target_fmr).similarity;
        let half_missed = self.mated.as_ref().map_or(1.0, |mated| mated.quantile(HALF));
        PairLevel {
            similarity: limited(threshold.similarity.min(half_missed.max(verify))),
            reasons: self.nonmated_scores.reasons(&threshold, false),
        }
    }

    /// Expected number of false matches among `comparisons` non-mated comparisons: FMR times their number.
    #[must_use]
    pub fn false_pairs(&self, similarity: Similarity, comparisons: f64) -> IntervalEstimate {
        let IntervalEstimate { value, lower, upper } = self.nonmated_scores.fmr(similarity.0.into());
        IntervalEstimate { value: value * comparisons, lower: lower * comparisons, upper: upper * comparisons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{PackageCalibration, Rehearsal};

    /// 500 people with a logistic distribution of non-mated similarities about zero.
    fn calibration() -> Calibration {
        let quantiles = (1..=500).map(|n: u16| f32::from(n) / 501.0);
        // Logit instead of probit: the tail is exponential, so its extrapolation is known.
        let trials: Vec<Similarity> = quantiles.map(|share| Similarity((share / (1.0 - share)).ln() / 20.0)).collect();
        let rehearsal = Rehearsal {
            identities: 500,
            templates: 500,
            nonmated_best: trials.clone(),
            impostor: trials,
            impostor_independent: 500.0,
            mated_best: Vec::new(),
            reviewed: domain::ReviewedSimilarities::default(),
        };
        Calibration::from_rehearsal(&rehearsal, None).expect("enough trials")
    }

    #[test]
    fn the_level_rises_with_the_comparisons_until_less_than_one_error_is_left() {
        let (calibration, policy) = (calibration(), Policy::default());
        let few = calibration.pair_level(policy, 10.0);
        let verify = calibration.thresholds(policy, 500).point.threshold_verify;
        assert_eq!(Some(few.similarity), verify, "never below what verifications ask for");
        let mut before = few.similarity;
        for comparisons in [1e4, 1e6, 1e8] {
            let level = calibration.pair_level(policy, comparisons);
            assert!(level.similarity > before && level.similarity < Similarity(1.1));
            assert!(level.reasons.contains(&Reason::Extrapolated) && level.reasons.contains(&Reason::Unsupported));
            let expected = calibration.false_pairs(level.similarity, comparisons);
            assert!(expected.value > 0.0 && expected.value < 1.0, "{expected:?}");
            // 500 people prove nothing at such a rare rate.
            assert!(expected.upper > comparisons / 500.0);
            before = level.similarity;
        }
    }

    #[test]
    fn half_of_mated_pairs_reach_the_level_for_any_tail() {
        let mut trials = calibration();
        trials.mated = Some(crate::calibration::MatedScores::Trials(
            (0..100_u8).map(f64::from).map(|n| n / 100.0).collect(),
            100.0,
        ));
        let level = trials.pair_level(Policy::default(), 1e8);
        assert_eq!(level.similarity, Similarity(0.5));
        assert!(trials.false_pairs(level.similarity, 1e8).value > 1.0, "the cost is reported");
        let verify = trials.pair_level(Policy { target_fmr: 1e-9, ..Policy::default() }, 1.0);
        assert!(verify.similarity > Similarity(0.5), "what the operator asked for holds");
    }

    #[test]
    fn supported_levels_have_no_reasons() {
        let policy = Policy { target_fmr: 0.02, ..Policy::default() };
        let level = calibration().pair_level(policy, 20.0);
        assert_eq!(level.reasons, []);
        let expected = calibration().false_pairs(level.similarity, 20.0);
        assert!(expected.lower > 0.0 && expected.upper < 1.0, "{expected:?}");
    }

    #[test]
    fn a_package_is_used_without_trials() {
        let package = PackageCalibration {
            impostor_pairs: 1_000_000,
            impostor: vec![(0.01, 0.2), (0.001, 0.3), (0.0001, 0.4)],
            genuine: vec![(0.1, 0.5), (0.01, 0.4)],
            ..PackageCalibration::default()
        };
        let calibration = Calibration::from_package(&package).expect("a table");
        let level = calibration.pair_level(Policy::default(), 1e5);
        assert!((level.similarity.0 - 0.5).abs() < 1e-4, "{level:?}");
        assert_eq!(level.reasons, [Reason::PackageCalibration, Reason::Extrapolated]);
        let expected = calibration.false_pairs(level.similarity, 1e5).value;
        assert!((expected - 1.0).abs() < 0.01, "{expected}");
    }
}
