//! Verification: separation of genuine and impostor pairs.

use serde::Serialize;

use super::{
    bootstrap::ByPerson,
    calibration::min_cllr_of,
    curve::{CurvePoint, Histogram, Sorted},
    folds::Folds,
    rate::{Interval, Rate, Support},
};

/// The FMRs at which FNMRs are reported.
const FMR_TARGETS: [f64; 4] = [1e-2, 1e-3, 1e-4, 1e-5];

/// Verification (ISO/IEC 19795-1).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    pub genuine_pairs: usize,
    pub impostor_pairs: usize,
    /// Accuracy at `threshold`, which is the best one *for these same pairs*.
    pub accuracy: f64,
    pub threshold: f32,
    /// Area under the ROC: the probability that a genuine pair scores above an impostor pair, ties counted half.
    pub auc: f64,
    /// 1 - FNMR at the threshold with an FMR of at most 1 %.
    pub tar_at_fmr_1_percent: f64,
    /// Equal error rate.
    pub equal_error_rate: f64,
    /// Threshold at which FMR and FNMR are equal or closest.
    pub equal_error_threshold: f32,
    pub genuine_mean: f64,
    pub impostor_mean: f64,
    /// Decidability d' (Daugman): distance of the means in standard deviations. Absent for constant scores.
    pub decidability: Option<f64>,
    /// Minimum Cllr in bits over all monotonic maps of the scores; 1 is uninformative.
    pub min_cllr: f64,
    pub at_fmr: Vec<AtFmr>,
    /// 95 % intervals over persons, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_person: Option<ByPerson>,
    /// Cross-validated accuracy, if the set has folds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<Folds>,
    pub curve: Vec<CurvePoint>,
    pub histogram: Histogram,
}

/// FNMR at a maximum FMR.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AtFmr {
    pub target_fmr: f64,
    pub support: Support,
    /// The lowest threshold with at most the target FMR on these pairs.
    pub threshold: f32,
    pub fmr: Rate,
    pub fnmr: Rate,
    /// Interval over persons instead of pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fnmr_by_person: Option<Interval>,
}

/// Measures verification from similarity scores.
///
/// # Panics
/// When one kind of pair is missing, or a score is not finite.
#[must_use]
pub fn verification(genuine: &[f32], impostor: &[f32]) -> Verification {
    let sorted = Sorted::new(genuine, impostor);
    let (genuine, impostor) = (&sorted.genuine, &sorted.impostor);
    let mut accuracy = (0, f32::NEG_INFINITY);
    let mut crossing = (f64::INFINITY, 1.0, f32::NEG_INFINITY);
    sorted.sweep(|threshold, missed, refused| {
        let right = genuine.len() - missed + refused;
        if right > accuracy.0 {
            accuracy = (right, threshold);
        }
        let fnmr = missed as f64 / genuine.len() as f64;
        let fmr = (impostor.len() - refused) as f64 / impostor.len() as f64;
        let apart = (fnmr - fmr).abs();
        if apart < crossing.0 {
            crossing = (apart, f64::midpoint(fnmr, fmr), threshold);
        }
    });
    let (genuine_mean, genuine_variance) = moments(genuine);
    let (impostor_mean, impostor_variance) = moments(impostor);
    let spread = f64::midpoint(genuine_variance, impostor_variance).sqrt();
    Verification {
        genuine_pairs: genuine.len(),
        impostor_pairs: impostor.len(),
        accuracy: accuracy.0 as f64 / (genuine.len() + impostor.len()) as f64,
        threshold: accuracy.1,
        auc: auc(genuine, impostor),
        tar_at_fmr_1_percent: 1.0 - sorted.at(sorted.threshold_at(0.01)).false_negative,
        equal_error_rate: crossing.1,
        equal_error_threshold: crossing.2,
        genuine_mean,
        impostor_mean,
        decidability: (spread > 0.0).then(|| (genuine_mean - impostor_mean).abs() / spread),
        min_cllr: min_cllr_of(&sorted),
        at_fmr: FMR_TARGETS.iter().map(|target| at_fmr(&sorted, *target)).collect(),
        by_person: None,
        folds: None,
        curve: sorted.curve(),
        histogram: sorted.histogram(),
    }
}

fn at_fmr(sorted: &Sorted, target_fmr: f64) -> AtFmr {
    let threshold = sorted.threshold_at(target_fmr);
    AtFmr {
        target_fmr,
        support: Support::of(target_fmr, sorted.impostor.len()),
        threshold,
        fmr: Rate::of(sorted.accepted_impostors(threshold), sorted.impostor.len()),
        fnmr: Rate::of(sorted.missed(threshold), sorted.genuine.len()),
        fnmr_by_person: None,
    }
}

/// The Mann-Whitney statistic: for each genuine score, the impostor scores below it and half of those equal to it.
pub(super) fn auc(genuine: &[f32], impostor: &[f32]) -> f64 {
    let won = |score: &f32| {
        let below = impostor.partition_point(|s| s < score);
        let equal = impostor.partition_point(|s| s <= score) - below;
        below as f64 + equal as f64 / 2.0
    };
    genuine.iter().map(won).sum::<f64>() / (genuine.len() as f64 * impostor.len() as f64)
}

/// Mean and variance.
fn moments(scores: &[f32]) -> (f64, f64) {
    let mean = scores.iter().map(|s| f64::from(*s)).sum::<f64>() / scores.len() as f64;
    let variance = scores.iter().map(|s| (f64::from(*s) - mean).powi(2)).sum::<f64>() / scores.len() as f64;
    (mean, variance)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    }

    #[test]
    fn verification_by_hand() {
        // Genuine .9 .8 .4 against impostor .7 .3 .2 .1: one genuine pair lies below one impostor pair.
        let measured = verification(&[0.9, 0.8, 0.4], &[0.7, 0.3, 0.2, 0.1]);
        close(measured.auc, 11.0 / 12.0);
        // At .4, all genuine and one of four impostors are accepted; at .8, one genuine is rejected. Both have one
        // error.
        close(measured.accuracy, 6.0 / 7.0);
        // No impostor of four may be accepted at 1 %: the threshold is just above .7.
        close(measured.tar_at_fmr_1_percent, 2.0 / 3.0);
        close(measured.genuine_mean, 0.7);
    }

    #[test]
    fn ties_count_half_and_constant_scores_are_uninformative() {
        let measured = verification(&[0.5; 4], &[0.5; 6]);
        close(measured.auc, 0.5);
        close(measured.tar_at_fmr_1_percent, 0.0);
    }

    #[test]
    fn perfect_scores_are_perfect() {
        let measured = verification(&[0.9, 0.8], &[0.1, 0.2]);
        close(measured.auc, 1.0);
        close(measured.accuracy, 1.0);
        close(measured.equal_error_rate, 0.0);
        close(measured.tar_at_fmr_1_percent, 1.0);
    }

    #[test]
    fn rates_without_enough_pairs_are_marked() {
        let genuine = [0.9; 50];
        let impostor: Vec<f32> = (0_u16..1000).map(|i| f32::from(i) / 2000.0).collect();
        let measured = verification(&genuine, &impostor);
        let supported: Vec<bool> = measured.at_fmr.iter().map(|at| at.support.is_enough()).collect();
        assert_eq!(supported, [true, false, false, false], "1000 pairs show one in a hundred, not one in a thousand");
        let first = &measured.at_fmr[0];
        assert_eq!((first.fmr.errors, first.fnmr.errors), (10, 0), "{first:?}");
        close(f64::from(first.threshold), 0.4945);
        assert_eq!(measured.at_fmr[3].fmr.errors, 0, "the threshold lies above all impostors");
    }

    proptest! {
        /// Compared with a direct evaluation of every threshold.
        #[test]
        fn the_sweep_matches_the_definition(
            genuine in prop::collection::vec(-9_i8..9, 1..30),
            impostor in prop::collection::vec(-9_i8..9, 1..30),
        ) {
            let [genuine, impostor] = [genuine, impostor].map(|s| s.into_iter().map(f32::from).collect::<Vec<f32>>());
            let measured = verification(&genuine, &impostor);
            let rates = |threshold: f32| {
                let missed = genuine.iter().filter(|s| **s < threshold).count() as f64;
                let passed = impostor.iter().filter(|s| **s >= threshold).count() as f64;
                (missed / genuine.len() as f64, passed / impostor.len() as f64)
            };
            let tries: Vec<f32> = (-10_i8..=10).map(f32::from).collect();
            let pairs = (genuine.len() + impostor.len()) as f64;
            let right = tries.iter().map(|t| {
                let (fnmr, fmr) = rates(*t);
                ((1.0 - fnmr) * genuine.len() as f64 + (1.0 - fmr) * impostor.len() as f64) / pairs
            });
            close(measured.accuracy, right.fold(0.0, f64::max));
            let apart = tries.iter().map(|t| rates(*t)).map(|(fnmr, fmr)| (fnmr - fmr).abs()).fold(1.0, f64::min);
            let (fnmr, fmr) = rates(measured.equal_error_threshold);
            close((fnmr - fmr).abs(), apart);
            close(measured.equal_error_rate, f64::midpoint(fnmr, fmr));
            let won: f64 = genuine.iter().flat_map(|g| impostor.iter().map(move |i| (g, i)))
                .map(|(g, i)| if g > i { 1.0 } else if g < i { 0.0 } else { 0.5 }).sum();
            close(measured.auc, won / (genuine.len() * impostor.len()) as f64);
        }
    }
}
