//! Levels for looks at everybody: how alike two people must be where each is compared with all the others.
//!
//! The rate at which a verification errs is made for one claim at a time. A gallery of thousands makes millions of
//! comparisons, and at that rate nearly all that came back would be strangers.

use super::calibration::{Calibration, limited};
use domain::{IntervalEstimate, Policy, Reason, Similarity};

const HALF: f64 = 0.5;

/// From which similarity on two people count as one where so many comparisons are made.
#[derive(Debug, Clone, PartialEq)]
pub struct PairLevel {
    pub similarity: Similarity,
    /// How far the trials carry it.
    pub reasons: Vec<Reason>,
}

impl Calibration {
    /// The threshold of verifications at the policy's rate, or a higher one: of so many comparisons of strangers less than
    /// one is to be expected to reach it. Where no trial is so rare, it lies on the fitted tail, and the reasons say so.
    ///
    /// But not so high that half of acquaintances would stay below it. A tail that was fitted to a thousand trials and is
    /// read at one in ten million may end above all similarities there are (pedestrians: at 1.2), and such a level finds
    /// nobody. [`Calibration::false_pairs`] then says that more than one is to be expected.
    ///
    /// Strangers' highest similarities would reach further with as many trials. They are of no use here: of a gallery in
    /// which one in fifty is enrolled twice they show duplicates and not strangers, and would hide what is looked for.
    #[must_use]
    pub fn pair_level(&self, policy: Policy, comparisons: f64) -> PairLevel {
        let rate = policy.target_fmr.min(1.0 / comparisons.max(1.0));
        let threshold = self.strangers.threshold_verify(rate);
        let verify = self.strangers.threshold_verify(policy.target_fmr).similarity;
        let half_missed = self.genuine.as_ref().map_or(1.0, |genuine| genuine.quantile(HALF));
        PairLevel {
            similarity: limited(threshold.similarity.min(half_missed.max(verify))),
            reasons: self.strangers.reasons(&threshold, false),
        }
    }

    /// How many of so many comparisons of strangers reach a similarity: FMR times their number.
    #[must_use]
    pub fn false_pairs(&self, similarity: Similarity, comparisons: f64) -> IntervalEstimate {
        let IntervalEstimate { value, lower, upper } = self.strangers.fmr(similarity.0.into());
        IntervalEstimate { value: value * comparisons, lower: lower * comparisons, upper: upper * comparisons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{PackageCalibration, Rehearsal};

    /// 500 people whose strangers are as alike as a normal distribution about zero says.
    fn calibration() -> Calibration {
        let quantiles = (1..=500).map(|n: u16| f32::from(n) / 501.0);
        // Logit instead of probit: the tail is exponential, so its end is known.
        let trials: Vec<Similarity> = quantiles.map(|share| Similarity((share / (1.0 - share)).ln() / 20.0)).collect();
        let rehearsal = Rehearsal {
            identities: 500,
            templates: 500,
            nonmated_best: trials.clone(),
            impostor: trials,
            mated_best: Vec::new(),
            reviewed: domain::ReviewedSimilarities::default(),
        };
        Calibration::from_rehearsal(&rehearsal, None).expect("enough trials")
    }

    #[test]
    fn the_level_rises_with_the_comparisons_until_less_than_one_error_is_left() {
        let (calibration, policy) = (calibration(), Policy::default());
        let few = calibration.pair_level(policy, 10.0);
        let verify = calibration.terms(policy, 500).point.threshold_verify;
        assert_eq!(Some(few.similarity), verify, "never below what verifications ask for");
        let mut before = few.similarity;
        for comparisons in [1e4, 1e6, 1e8] {
            let level = calibration.pair_level(policy, comparisons);
            assert!(level.similarity > before && level.similarity < Similarity(1.1));
            assert!(level.reasons.contains(&Reason::Extrapolated) && level.reasons.contains(&Reason::Unsupported));
            let expected = calibration.false_pairs(level.similarity, comparisons);
            assert!(expected.value > 0.0 && expected.value < 1.0, "{expected:?}");
            // 500 people show nothing that is so rare.
            assert!(expected.upper > comparisons / 500.0);
            before = level.similarity;
        }
    }

    #[test]
    fn half_of_acquaintances_reach_the_level_whatever_the_tail_says() {
        let mut trials = calibration();
        trials.genuine =
            Some(crate::calibration::Genuine::Trials((0..100_u8).map(f64::from).map(|n| n / 100.0).collect(), 100.0));
        let level = trials.pair_level(Policy::default(), 1e8);
        assert_eq!(level.similarity, Similarity(0.5));
        assert!(trials.false_pairs(level.similarity, 1e8).value > 1.0, "and it is said what that costs");
        let verify = trials.pair_level(Policy { target_fmr: 1e-9, ..Policy::default() }, 1.0);
        assert!(verify.similarity > Similarity(0.5), "what the operator asked for holds");
    }

    #[test]
    fn what_the_trials_carry_is_not_called_into_question() {
        let policy = Policy { target_fmr: 0.02, ..Policy::default() };
        let level = calibration().pair_level(policy, 20.0);
        assert_eq!(level.reasons, []);
        let expected = calibration().false_pairs(level.similarity, 20.0);
        assert!(expected.lower > 0.0 && expected.upper < 1.0, "{expected:?}");
    }

    #[test]
    fn a_package_speaks_where_there_are_no_trials() {
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
