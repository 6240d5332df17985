//! The measures of the field, from scores: verification (ISO/IEC 19795-1) and ranked retrieval.

use serde::Serialize;

/// How well scores tell pairs of one person from pairs of two.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    pub genuine_pairs: usize,
    pub impostor_pairs: usize,
    /// The share of pairs on the right side of `threshold`, the best one *for these same pairs*.
    pub accuracy: f64,
    pub threshold: f32,
    /// The area under the ROC: how often a genuine pair scores above an impostor pair, ties counted half.
    pub auc: f64,
    /// 1 - FNMR at the threshold that lets through at most 1 % of the impostor pairs.
    pub tar_at_fmr_1_percent: f64,
    /// The error rate where FMR and FNMR meet.
    pub equal_error_rate: f64,
    pub genuine_mean: f64,
    pub impostor_mean: f64,
}

/// Measures verification. Scores rise with likeness.
///
/// # Panics
/// When there is no pair of one kind, or a score is not finite.
#[must_use]
pub fn verification(genuine: &[f32], impostor: &[f32]) -> Verification {
    assert!(!genuine.is_empty() && !impostor.is_empty(), "both kinds of pairs are needed");
    let (genuine, impostor) = (sorted(genuine), sorted(impostor));
    let share_below =
        |scores: &[f32], threshold: f32| scores.partition_point(|s| *s < threshold) as f64 / scores.len() as f64;
    let mut accuracy = (0.0, f32::NEG_INFINITY);
    let mut crossing = (f64::INFINITY, 1.0);
    // Every score is a threshold worth trying: a pair at it or above is accepted.
    for threshold in genuine.iter().chain(&impostor).copied() {
        let (fnmr, fmr) = (share_below(&genuine, threshold), 1.0 - share_below(&impostor, threshold));
        let right = (1.0 - fnmr) * genuine.len() as f64 + (1.0 - fmr) * impostor.len() as f64;
        let right = right / (genuine.len() + impostor.len()) as f64;
        if right > accuracy.0 {
            accuracy = (right, threshold);
        }
        let apart = (fnmr - fmr).abs();
        if apart < crossing.0 {
            crossing = (apart, f64::midpoint(fnmr, fmr));
        }
    }
    Verification {
        genuine_pairs: genuine.len(),
        impostor_pairs: impostor.len(),
        accuracy: accuracy.0,
        threshold: accuracy.1,
        auc: auc(&genuine, &impostor),
        tar_at_fmr_1_percent: 1.0 - share_below(&genuine, threshold_at_fmr(&impostor, 0.01)),
        equal_error_rate: crossing.1,
        genuine_mean: mean(&genuine),
        impostor_mean: mean(&impostor),
    }
}

fn sorted(scores: &[f32]) -> Vec<f32> {
    let mut scores = scores.to_vec();
    assert!(scores.iter().all(|s| s.is_finite()), "a score is a finite number");
    scores.sort_unstable_by(f32::total_cmp);
    scores
}

/// The lowest threshold that accepts at most `fmr` of the sorted impostor scores.
fn threshold_at_fmr(impostor: &[f32], fmr: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count is a count")]
    let accepted = (fmr * impostor.len() as f64).floor() as usize;
    match impostor.len().checked_sub(accepted + 1) {
        Some(refused) => impostor[refused].next_up(),
        None => f32::NEG_INFINITY,
    }
}

/// The Mann-Whitney form: for each genuine score, the impostor scores below it and half of those equal to it.
fn auc(genuine: &[f32], impostor: &[f32]) -> f64 {
    let won = |score: &f32| {
        let below = impostor.partition_point(|s| s < score);
        let equal = impostor.partition_point(|s| s <= score) - below;
        below as f64 + equal as f64 / 2.0
    };
    genuine.iter().map(won).sum::<f64>() / (genuine.len() as f64 * impostor.len() as f64)
}

fn mean(scores: &[f32]) -> f64 {
    scores.iter().map(|s| f64::from(*s)).sum::<f64>() / scores.len() as f64
}

/// How well ranked lists put the right person first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retrieval {
    /// Probes that have at least one right answer in the gallery.
    pub probes: usize,
    pub gallery: usize,
    /// The share of probes whose first answer is right.
    pub rank_1: f64,
    pub rank_5: f64,
    pub rank_10: f64,
    /// Mean average precision.
    pub map: f64,
}

/// What one probe found: whether each gallery item is right, the most similar first.
pub type Ranking = Vec<bool>;

/// Measures retrieval. Probes without a right answer in the gallery do not count.
///
/// # Panics
/// When no probe has a right answer.
#[must_use]
pub fn retrieval(rankings: &[Ranking], gallery: usize) -> Retrieval {
    let answerable: Vec<&Ranking> = rankings.iter().filter(|r| r.contains(&true)).collect();
    assert!(!answerable.is_empty(), "some probe must have a right answer");
    let probes = answerable.len();
    let within = |rank: usize| answerable.iter().filter(|r| r.iter().take(rank).any(|right| *right)).count() as f64;
    Retrieval {
        probes,
        gallery,
        rank_1: within(1) / probes as f64,
        rank_5: within(5) / probes as f64,
        rank_10: within(10) / probes as f64,
        map: answerable.iter().map(|r| average_precision(r)).sum::<f64>() / probes as f64,
    }
}

/// The mean, over right answers, of the precision of the list down to each.
fn average_precision(ranking: &[bool]) -> f64 {
    let (mut right, mut sum) = (0.0, 0.0);
    for (rank, _) in ranking.iter().enumerate().filter(|(_, right)| **right) {
        right += 1.0;
        sum += right / (rank + 1) as f64;
    }
    sum / right
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    }

    #[test]
    fn verification_by_hand() {
        // Genuine .9 .8 .4 against impostor .7 .3 .2 .1: one genuine pair lies below one impostor pair.
        let measured = verification(&[0.9, 0.8, 0.4], &[0.7, 0.3, 0.2, 0.1]);
        close(measured.auc, 11.0 / 12.0);
        // At .4: all genuine accepted, one of four impostors too; at .8: one genuine missed. Both leave one wrong.
        close(measured.accuracy, 6.0 / 7.0);
        // No impostor of four may pass at 1 %: the threshold lies just above .7.
        close(measured.tar_at_fmr_1_percent, 2.0 / 3.0);
        close(measured.genuine_mean, 0.7);
    }

    #[test]
    fn ties_count_half_and_constant_scores_tell_nothing() {
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
    fn retrieval_by_hand() {
        let rankings = vec![
            vec![true, false, true, false],  // precision 1 and 2/3
            vec![false, true, false, false], // precision 1/2
            vec![false, false, false, false],
        ];
        let measured = retrieval(&rankings, 4);
        assert_eq!(measured.probes, 2);
        close(measured.rank_1, 0.5);
        close(measured.rank_5, 1.0);
        close(measured.map, f64::midpoint(5.0 / 6.0, 0.5));
    }
}
