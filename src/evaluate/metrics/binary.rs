//! Binary decisions from probabilities.

use serde::Serialize;

use super::{Rate, Reliability, curve::Sorted, reliability, verification::auc};

/// Number of bins of the expected calibration error.
const BINS: usize = 15;

/// Performance of decisions and of their probabilities.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decisions {
    /// Probabilities of at least this value are decided positive.
    pub threshold: f64,
    /// The mean of sensitivity and specificity, independent of the numbers of both kinds.
    pub balanced_accuracy: f64,
    /// False negatives among positives.
    pub missed: Rate,
    /// False positives among negatives.
    pub false_alarms: Rate,
    /// Probability that a positive scores above a negative, ties counted half.
    pub auc: f64,
    pub reliability: Reliability,
}

/// Calibration of probabilities or likelihood ratios.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalibrationResults {
    /// Log-likelihood-ratio cost in bits.
    pub cllr: f64,
    /// Minimum cost after the best monotonic map of the scores: the difference is miscalibration.
    pub min_cllr: f64,
    /// Decisions at even odds.
    pub decisions: Decisions,
}

/// Measures decisions at a probability threshold.
///
/// # Panics
/// When one kind is missing, the lengths differ, or a probability is outside of 0 to 1.
#[must_use]
pub fn decisions(probabilities: &[f64], outcomes: &[bool], threshold: f64) -> Decisions {
    let reliability = reliability(probabilities, outcomes, BINS);
    let of = |kind: bool| -> Vec<f64> {
        probabilities.iter().zip(outcomes).filter(|(_, outcome)| **outcome == kind).map(|(p, _)| *p).collect()
    };
    let (so, not) = (of(true), of(false));
    let decided_for = |of: &[f64]| of.iter().filter(|p| **p >= threshold).count();
    let missed = Rate::of(so.len() - decided_for(&so), so.len());
    let false_alarms = Rate::of(decided_for(&not), not.len());
    #[expect(clippy::cast_possible_truncation, reason = "an order by seven digits")]
    let narrow = |of: &[f64]| of.iter().map(|p| *p as f32).collect::<Vec<f32>>();
    let sorted = Sorted::new(&narrow(&so), &narrow(&not));
    Decisions {
        threshold,
        balanced_accuracy: 1.0 - f64::midpoint(missed.rate, false_alarms.rate),
        missed,
        false_alarms,
        auc: auc(&sorted.genuine, &sorted.impostor),
        reliability,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_by_hand() {
        let outcomes = [true, true, false, false, false, false];
        let measured = decisions(&[0.9, 0.4, 0.6, 0.1, 0.2, 0.3], &outcomes, 0.5);
        assert!((measured.balanced_accuracy - 0.625).abs() < 1e-12, "{measured:?}");
        assert_eq!((measured.missed.errors, measured.false_alarms.errors), (1, 1));
        assert!((measured.auc - 7.0 / 8.0).abs() < 1e-12, "{measured:?}");
        assert!((decisions(&[0.5; 6], &outcomes, 0.5).balanced_accuracy - 0.5).abs() < 1e-12);
    }
}
