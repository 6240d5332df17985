//! Calibration of probabilities and likelihood ratios.

use serde::Serialize;

use super::{curve::Sorted, rate::Rate};
pub use decision::cllr;
use decision::cost_bits;

/// Probabilities against outcomes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// Expected calibration error: the mean absolute difference between mean probability and observed share of a bin,
    /// weighted by trials.
    pub ece: f64,
    /// The largest difference of a bin.
    pub mce: f64,
    /// Mean squared error of the probabilities (Brier 1950).
    pub brier: f64,
    /// Non-empty bins of equal width.
    pub bins: Vec<Bin>,
}

/// The trials in a range of probabilities.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    pub low: f64,
    pub high: f64,
    pub mean_probability: f64,
    /// Observed share of positives.
    pub observed: Rate,
}

/// Compares probabilities with outcomes in bins of equal width (Guo et al. 2017).
///
/// # Panics
/// Without a trial or a bin, when the lengths differ, or when a probability is outside of 0 to 1.
#[must_use]
pub fn reliability(probabilities: &[f64], outcomes: &[bool], bins: usize) -> Reliability {
    assert!(!probabilities.is_empty() && bins > 0 && probabilities.len() == outcomes.len(), "one outcome each");
    assert!(probabilities.iter().all(|p| (0.0..=1.0).contains(p)), "a probability lies between 0 and 1");
    let mut sums = vec![(0.0, 0_usize, 0_usize); bins];
    let mut squares = 0.0;
    for (probability, outcome) in probabilities.iter().zip(outcomes) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the number of bins")]
        let bin = ((probability * bins as f64) as usize).min(bins - 1);
        let (sum, came_true, trials) = &mut sums[bin];
        *sum += probability;
        *came_true += usize::from(*outcome);
        *trials += 1;
        squares += (probability - f64::from(u8::from(*outcome))).powi(2);
    }
    let edge = |bin: usize| bin as f64 / bins as f64;
    let filled = sums.iter().enumerate().filter(|(_, (_, _, trials))| *trials > 0);
    let bins: Vec<Bin> = filled
        .map(|(bin, (sum, came_true, trials))| Bin {
            low: edge(bin),
            high: edge(bin + 1),
            mean_probability: sum / *trials as f64,
            observed: Rate::of(*came_true, *trials),
        })
        .collect();
    let off = |bin: &Bin| (bin.mean_probability - bin.observed.rate).abs();
    let total = probabilities.len() as f64;
    Reliability {
        ece: bins.iter().map(|bin| off(bin) * bin.observed.trials as f64 / total).sum(),
        mce: bins.iter().map(off).fold(0.0, f64::max),
        brier: squares / total,
        bins,
    }
}

/// The minimum of [`cllr`] over all monotonic maps from scores to ratios, by pool adjacent violators.
///
/// # Panics
/// When one kind has no score, or a score is not finite.
#[must_use]
pub fn min_cllr(genuine: &[f32], impostor: &[f32]) -> f64 {
    min_cllr_of(&Sorted::new(genuine, impostor))
}

pub(super) fn min_cllr_of(sorted: &Sorted) -> f64 {
    // Blocks of rising scores with their genuine and impostor trials; the genuine share rises.
    let mut blocks: Vec<(usize, usize)> = Vec::new();
    let mut before = (0, 0);
    sorted.sweep(|_, genuine, impostor| {
        let mut block = (genuine - before.0, impostor - before.1);
        before = (genuine, impostor);
        if block == (0, 0) {
            return;
        }
        while let Some(last) = blocks.last().copied()
            && last.0 as u128 * (block.0 + block.1) as u128 >= block.0 as u128 * (last.0 + last.1) as u128
        {
            block = (last.0 + block.0, last.1 + block.1);
            blocks.pop();
        }
        blocks.push(block);
    });
    let (all_genuine, all_impostor) = (sorted.genuine.len() as f64, sorted.impostor.len() as f64);
    let cost = |(genuine, impostor): &(usize, usize)| {
        let shares = (*genuine as f64 / all_genuine, *impostor as f64 / all_impostor);
        // A pure block costs nothing: its ratio is infinite and correct.
        if *genuine == 0 || *impostor == 0 {
            return 0.0;
        }
        let ratio = (shares.0 / shares.1).ln();
        f64::midpoint(shares.0 * cost_bits(-ratio), shares.1 * cost_bits(ratio))
    };
    blocks.iter().map(cost).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn reliability_by_hand() {
        let probabilities = [0.1, 0.15, 0.9, 0.95, 1.0];
        let measured = reliability(&probabilities, &[false, true, true, true, false], 10);
        // Two in the second bin, mean .125, one of them positive; three in the last, mean .95, two positive.
        assert_eq!(measured.bins.len(), 2);
        close(measured.ece, 0.4 * 0.375 + 0.6 * (0.95 - 2.0 / 3.0));
        close(measured.mce, 0.375);
        close(measured.brier, (0.01 + 0.7225 + 0.01 + 0.0025 + 1.0) / 5.0);
        let sure = reliability(&[0.0, 1.0], &[false, true], 15);
        close(sure.ece, 0.0);
    }

    #[test]
    fn uninformative_ratios_cost_one_bit() {
        close(cllr(&[0.0; 3], &[0.0; 5]), 1.0);
        assert!(cllr(&[20.0], &[-20.0]) < 1e-8 && cllr(&[-20.0], &[20.0]) > 20.0);
        // ln 3 for and against: log2(1 + 1/3).
        close(cllr(&[3.0_f64.ln()], &[-3.0_f64.ln()]), (4.0_f64 / 3.0).log2());
    }

    #[test]
    fn least_costs_by_hand() {
        close(min_cllr(&[0.9, 0.8], &[0.1, 0.2]), 0.0);
        close(min_cllr(&[0.5; 3], &[0.5; 7]), 1.0);
        // Reversed scores: the best monotonic map is a constant.
        close(min_cllr(&[0.1, 0.2], &[0.8, 0.9]), 1.0);
        // i g i g: the middle two pool to the ratio 1 and cost one bit for half of each kind.
        close(min_cllr(&[0.2, 0.4], &[0.1, 0.3]), 0.5);
    }

    proptest! {
        #[test]
        fn no_rising_map_costs_less(
            genuine in prop::collection::vec(-9_i8..9, 1..20),
            impostor in prop::collection::vec(-9_i8..9, 1..20),
            steps in prop::collection::vec(0.0_f64..1.0, 19),
            start in -8.0_f64..2.0,
        ) {
            let scores = |trials: &[i8]| trials.iter().map(|s| f32::from(*s)).collect::<Vec<f32>>();
            let least = min_cllr(&scores(&genuine), &scores(&impostor));
            let map = |score: &i8| {
                let place = usize::try_from(score + 9).expect("from 0");
                start + steps[..=place].iter().sum::<f64>()
            };
            let [genuine, impostor] = [genuine, impostor].map(|s| s.iter().map(map).collect::<Vec<f64>>());
            prop_assert!((0.0..=1.0 + 1e-9).contains(&least));
            prop_assert!(least <= cllr(&genuine, &impostor) + 1e-9);
        }
    }
}
